"""Compile what a pipeline runs, before anybody waits for it."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from sokuji.analyze.compile import Compiled
from sokuji.analyze.pipeline import Pipeline
from sokuji.analyze.state.base import Position, States
from sokuji.analyze.state.layout import RowLayout
from sokuji.compiled import is_compiled
from sokuji.dedup.rule import Places
from sokuji.events import EVENT_SCHEMA, EventType, TimeRule
from sokuji.features.kernel.strings import Vocabulary

_NOWHERE = Position(0, {}, {})
_PLACES = Places(np.zeros(2, np.int32), np.arange(2))


def warm(compiled: Compiled, layout: RowLayout, states: States) -> None:
    """Process two events with a temporary state. The second event merges profiles."""
    if not is_compiled():
        print("sokuji: compiling the feature kernel, once per machine (about 20 s) ...", file=sys.stderr, flush=True)  # noqa: T201
    with (
        tempfile.TemporaryDirectory() as name,
        states.open(Path(name) / "state", compiled.kernels, layout, Vocabulary(), serves=False) as state,
    ):
        pipeline = Pipeline(compiled, state)
        pipeline.commit(pipeline.work(_events(compiled.expressions.names), _PLACES, 0), 0)
        state.checkpoint(_NOWHERE, {}, wait=True)
        state.expire(1)
        state.checkpoint(_NOWHERE, {}, wait=True)


def _events(properties: Iterable[str]) -> pa.RecordBatch:
    """An event with numbers in these properties, then one with texts."""
    common = {"dataset": "", "source": "", "type": EventType.PAGE, "event_name": EventType.PAGE, "visitor_id": "v", "historical": False}
    common |= {"event_time": 0, "received_at": 0, "time_rule": TimeRule.RECEIVED}
    said = [json.dumps(dict.fromkeys(sorted(properties), value)) for value in (1, "")]
    rows = [{**common, "message_id": "1", "properties": said[0]}, {**common, "message_id": "2", "user_id": "u", "properties": said[1]}]
    return pa.RecordBatch.from_pylist(rows, schema=EVENT_SCHEMA)

"""The conditions of rules, each distinct one evaluated once a batch, with the features and scores at each event."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze.scores import SCORES, Scores
from sokuji.features.expressions import Expressions
from sokuji.rules.spec import Actions

Mask = npt.NDArray[np.bool_]


class Judged(NamedTuple):
    """What the rules are given."""

    events: pa.RecordBatch  # with the features and scores in columns of their own
    truth: Mask  # [events, conditions], in Fortran order
    failed: dict[int, str]  # why, for events that a condition failed on


class Conditions:
    """The conditions of a project's rules over one dataset."""

    def __init__(self, actions: Actions, expressions: Expressions, scores: Scores) -> None:
        """`expressions` are the distinct conditions, which may name features and `scores`."""
        self._expressions, self._scores = expressions, scores
        self._triggers = (
            None if any(not rule.on for rule in actions.rules) else sorted({name for rule in actions.rules for name in rule.on})
        )
        """The events that some rule waits for; None: all."""

    def evaluate(self, events: pa.RecordBatch, features: Callable[[npt.NDArray[np.intp]], pa.RecordBatch], live: Mask) -> Judged:
        """Which conditions are true at which event. Only events that a rule waits for are looked at; `features` gives those at some."""
        texts = list(self._expressions.types)
        truth = np.zeros((events.num_rows, len(texts)), np.bool_, order="F")
        wanted = np.flatnonzero(self._wanted(events) & live)
        there = features(wanted)
        scores = self._scores.score(there)
        failed: dict[int, str] = {}
        if len(wanted) and texts:
            batch = _joined(events.take(pa.array(wanted)), there, scores)
            evaluated, by_row = self._expressions.evaluate(batch)
            failed = {int(wanted[row]): reason for row, reason in by_row.items()}
            for place, column in enumerate(evaluated.columns):
                truth[wanted, place] = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
            truth[list(failed)] = False
        # Templates may name a feature or a score at an event that a condition looked at.
        at = np.full(events.num_rows, -1)
        at[wanted] = np.arange(len(wanted))
        places = pa.array(at, mask=at < 0)
        return Judged(_joined(events, there.take(places), scores.take(places)), truth, failed)

    def close(self) -> None:
        """Release the database."""
        self._expressions.close()

    def _wanted(self, events: pa.RecordBatch) -> Mask:
        if self._triggers is None:
            return np.ones(events.num_rows, np.bool_)
        mask: Mask = pc.is_in(events.column("event_name"), pa.array(self._triggers, pa.string())).to_numpy(zero_copy_only=False)
        return mask


def _joined(events: pa.RecordBatch, features: pa.RecordBatch, scores: pa.Array) -> pa.RecordBatch:
    columns = [*events.columns, *features.columns, scores]
    return pa.RecordBatch.from_arrays(columns, names=[*events.schema.names, *features.schema.names, SCORES])

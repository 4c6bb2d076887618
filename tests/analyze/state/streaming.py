"""A state with a pipeline over it, fed batch by batch without logs: batch `k` is event `k`, at offset `k` of partition 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sokuji.analyze.compile import Declared, compile_for
from sokuji.analyze.pipeline import BatchOutcome, Pipeline
from sokuji.analyze.state.base import DatasetState, Position, States
from sokuji.dedup.rule import Places
from sokuji.events import BAD_EVENTS_LOG, DECISIONS_LOG, IDENTITIES_LOG
from sokuji.features.kernel.strings import STRINGS_FILE, Vocabulary
from sokuji.lake.memory import MemoryLake
from sokuji.meta.memory import MemoryCatalog
from sokuji.models.memory import MemoryModelStore
from tests.analyze.side import declare
from tests.lake.platform import START_US, log_rows

FEATURES = """
from sokuji.features import events, view

buys = events("buy")
view("shopper", entity="visitor", n=events().count(), spend=buys.sum("revenue").over("1d", "all"), last_item=buys.last("item"))
"""
ACTIONS = """
from sokuji.rules import rule, webhook

one = webhook("https://shop.example/")
rule("second_buy", on="buy", when="spend >= 30", do=one, at_most="1 ever")
rule("left", on="cart", after="30m", unless="buy", do=one)
"""
MINUTE_US = 60_000_000


def event(number: int, name: str, visitor: str, revenue: int = 0, user: str | None = None, message: str | None = None) -> dict[str, Any]:
    return {
        "message_id": message or f"m{number}",
        "event_name": name,
        "visitor_id": visitor,
        "user_id": user,
        "received_at": START_US + number * MINUTE_US,
        "properties": {"revenue": revenue, "item": f"i{number}"},
    }


STREAM = [
    event(0, "buy", "a", 10),
    event(1, "cart", "b"),
    event(2, "buy", "b", 20),  # the timer of b is gone
    event(3, "buy", "a", 5, message="m0"),  # a repeat
    event(4, "cart", "c"),  # whose timer stays
    event(5, "buy", "a", 30, user="u"),  # who a is
    event(6, "buy", "a", 7),
    event(7, "buy", "b", 8, user="u"),  # and b too
]
AT_US = START_US + 10 * MINUTE_US
NOTHING = {"n": 0, "spend_1d": 0.0, "spend": 0.0, "last_item": None}
ENDS: list[dict[str, dict[str, Any]]] = [
    {},
    {"v:a": {"n": 1, "spend_1d": 10.0, "spend": 10.0, "last_item": "i0"}},
    {"v:b": {"n": 1, "spend_1d": 0.0, "spend": 0.0, "last_item": None}},
    {"v:b": {"n": 2, "spend_1d": 20.0, "spend": 20.0, "last_item": "i2"}},
    {},
    {"v:c": {"n": 1, "spend_1d": 0.0, "spend": 0.0, "last_item": None}},
    {"u:u": {"n": 2, "spend_1d": 40.0, "spend": 40.0, "last_item": "i5"}, "v:a": NOTHING},
    {"u:u": {"n": 3, "spend_1d": 47.0, "spend": 47.0, "last_item": "i6"}},
    {"u:u": {"n": 6, "spend_1d": 75.0, "spend": 75.0, "last_item": "i7"}, "v:b": NOTHING},
]
"""What each batch changes of whom, from the batch before the first on."""
COUNTING = "counting"
"""The visitor of `Stream.count`."""
KEYS = ("v:a", "v:b", "v:c", "u:u")


def expected(batches: int) -> list[dict[str, Any]]:
    """The features of `KEYS` after so many batches."""
    found: dict[str, dict[str, Any]] = dict.fromkeys(KEYS, NOTHING)
    for change in ENDS[: batches + 1]:
        found |= change
    return [found[key] for key in KEYS]


def place(batches: int) -> Position:
    """Where so many batches end."""
    return Position(batches, {0: batches} if batches else {}, {DECISIONS_LOG: batches, IDENTITIES_LOG: 2 * batches, BAD_EVENTS_LOG: 0})


class Streaming:
    """Opens one and the same state each time, as a worker does that starts again."""

    def __init__(self, folder: Path, states: States) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self._states = folder, states
        self._declared: Declared = declare(folder, FEATURES, ACTIONS)
        self._lake, self._models = MemoryLake(), MemoryModelStore(folder / "models", MemoryCatalog())
        self.path = folder / "shop" / "state"

    def open(self, **more: Any) -> Stream:
        """The state as it is at its last checkpoint, and what works with it."""
        vocabulary = Vocabulary(self.folder / "shop" / STRINGS_FILE)
        compiled = compile_for("shop", self._declared, self._lake, self._models, vocabulary)
        try:
            state = self._states.open(self.path, compiled.kernels, compiled.layout(), vocabulary, **more)
        except BaseException:
            vocabulary.close()
            compiled.close()
            raise
        return Stream(state, Pipeline(compiled, state))


class Stream:
    """A state that is open."""

    def __init__(self, state: DatasetState, pipeline: Pipeline) -> None:
        self.state, self._pipeline = state, pipeline

    def work(self, first: int, last: int) -> list[BatchOutcome]:
        """The batches from `first` to before `last`."""
        return [self._batch(number, STREAM[number]) for number in range(first, last)]

    def count(self, number: int) -> BatchOutcome:
        """A batch of another stream, that has no end: its `number`th event."""
        return self._batch(number, event(number, "buy", COUNTING))

    def _batch(self, number: int, what: Mapping[str, Any]) -> BatchOutcome:
        rows, now_us = log_rows([what]), START_US + number * MINUTE_US
        outcome = self._pipeline.work(rows, Places(np.zeros(1, np.int32), np.array([number])), now_us)
        self._pipeline.commit(outcome, now_us)
        self.state.serve(outcome, number)
        return outcome

    def save(self, batches: int, versions: Mapping[str, int] | None = None, *, wait: bool = True) -> None:
        self.state.checkpoint(place(batches), versions or {}, wait=wait)

    def features(self) -> list[dict[str, Any]]:
        return self.state.features(KEYS, AT_US)

    def close(self) -> None:
        self._pipeline.close()
        self.state.close()

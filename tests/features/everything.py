"""A view with every function over every kind of window, and events for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from sokuji.features import events, sessions, view
from sokuji.features.kernel.columns import EventColumns
from sokuji.features.kernel.kernel import Kernel, Segment
from sokuji.features.kernel.strings import Vocabulary
from sokuji.features.spec import ViewSpec
from sokuji.types import BOOL, FLOAT64, STRING, Type
from tests.features.oracle import US, Event

TIMES = ("5s", "90s", "1h", "1d", "8d", "today in Asia/Tokyo", "all")
WINDOWS = (*TIMES, "session", "previous session")
BUY = "event_name = 'buy'"
BIG = "event_name = 'buy' AND (amount > 1)"
# The vocabulary numbers strings as they come; ties between categories go to the one that came first, which so is the smaller one.
SHELVES = ("a", "b", "c", "d", "e", "f")
PAGES = ("/", "/cart", "/item/1", "/item/2", "/é")
START = 1_767_225_600 * US  # 2026-01-01


def everything(windows: Sequence[str] = WINDOWS) -> ViewSpec:
    """Every function over every window."""
    all_, buys = events(), events("buy")
    big = buys.where("amount > 1")
    made = {
        "n": all_.count(),
        "big": big.count(),
        "sum": buys.sum("amount"),
        "mean": buys.mean("amount"),
        "min": big.min("amount"),
        "max": buys.max("amount"),
        "variance": buys.variance("amount"),
        "stddev": all_.stddev("amount"),
        "first": buys.first("page"),
        "first_amount": all_.first("amount"),
        "last": buys.last("page").default("none"),
        "last_amount": all_.last("amount"),
        "pages": buys.last(3, "page"),
        "amounts": all_.last(2, "amount"),
        "distinct": all_.distinct("page"),
        "distinct_amounts": buys.distinct("amount"),
        "top": buys.top(2, "shelf"),
        "since_first": buys.since_first(),
        "since_last": big.since_last().default(-1),
        "shelf_n": all_.count().by("shelf", top=3),
        "shelf_sum": buys.sum("amount").by("shelf", top=3),
        "shelf_mean": all_.mean("amount").by("shelf", top=2),
        "shelf_min": all_.min("amount").by("shelf", top=2),
        "shelf_max": all_.max("amount").by("shelf", top=2),
    }
    features: dict[str, Any] = {name: aggregation.over(*windows) for name, aggregation in made.items()}
    spend = made["sum"].over(*windows)
    features["ratio"] = spend[windows[0]] / (spend[windows[-1]] + 1)
    features["share"] = -made["big"] / all_.count()
    times = [window for window in windows if "session" not in window]
    visits = [window for window in windows if "session" in window]
    if times:
        features["visits"] = sessions.count().over(*times)
    features["visit"] = sessions.number()
    if visits:
        features["visit_events"] = sessions.events().over(*visits)
        features["visit_seconds"] = sessions.duration().over(*visits)
    return view("everything", entity="visitor", features=features)


TYPES: dict[str, Type] = {BUY: BOOL, BIG: BOOL, "amount": FLOAT64, "page": STRING, "shelf": STRING}


def kernel(spec: ViewSpec) -> Kernel:
    """Its kernel, with a vocabulary that has the categories in their order."""
    vocabulary = Vocabulary()
    vocabulary.encode(pa.array([*SHELVES, *PAGES]))
    return Kernel(spec, TYPES, vocabulary)


def rows_of(made: Kernel, profiles: int) -> Segment:
    """The rows of profiles never seen, as a slice of wider ones."""
    return np.zeros((profiles, made.width + 64), np.uint8)[:, 24 : 24 + made.width]


def columns(made: Kernel, happened: Sequence[Event]) -> EventColumns:
    """What the kernel reads of events."""
    schema = pa.schema([(BUY, pa.bool_()), (BIG, pa.bool_()), ("amount", pa.float64()), ("page", pa.string()), ("shelf", pa.string())])
    return made.columns(pa.RecordBatch.from_pylist([event.says for event in happened], schema=schema))


def feed(made: Kernel, segment: Segment, happened: Sequence[Event], profiles: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Update by one batch; the features at each event."""
    of = np.zeros(len(happened), np.int32) if profiles is None else np.array(profiles, np.int32)
    times = np.array([event.time for event in happened], np.int64)
    found: list[dict[str, Any]] = made.update(segment, of, times, columns(made, happened)).batch().to_pylist()
    return found


@st.composite
def histories(draw: st.DrawFn, *, late: bool = True, most: int = 20) -> list[Event]:
    """Events in the order of arrival: mostly later and later, some late by up to weeks."""
    steps = st.sampled_from([0, 1, 3, 40, 300, 1799, 1800, 1801, 4000, 40_000, 86_400, 700_000, 3_000_000])
    delays = st.sampled_from([0, 0, 0, 0, 2, 60, 1700, 2000, 7200, 90_000, 800_000] if late else [0])
    clock, happened = START, []
    for _ in range(draw(st.integers(1, most))):
        clock += draw(steps) * US + draw(st.integers(0, 2))
        happened.append(Event(clock - draw(delays) * US, draw(said())))
    return happened


@st.composite
def said(draw: st.DrawFn) -> dict[str, Any]:
    """What an event's expressions are."""
    amount = draw(st.sampled_from([None, float("nan"), float("inf"), -2.5, 0.0, 1.0, 1.5, 3.25, 1e9]))
    buy = draw(st.sampled_from([True, True, False, None]))
    return {
        BUY: buy,
        BIG: buy and (None if amount is None else amount > 1),
        "amount": amount,
        "page": draw(st.sampled_from([None, *PAGES])),
        "shelf": draw(st.sampled_from([None, *SHELVES])),
    }

"""Suggest fixes for mistakes in a `features.py` that Python or the GoogleSQL analyzer reports."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from sokuji.features.language import Aggregation, Events, Sessions

_VIEW = 'view("shopper", entity="visitor", buys=events("buy").count().over("7d"))'
_CALLS = {
    "count": "count()",
    "distinct": 'distinct("url")',
    "first": 'first("url")',
    "last": 'last("url") or last(20, "url")',
    "max": 'max("revenue")',
    "mean": 'mean("revenue")',
    "min": 'min("revenue")',
    "since_first": "since_first()",
    "since_last": "since_last()",
    "stddev": 'stddev("revenue")',
    "sum": 'sum("revenue")',
    "top": 'top(3, "category")',
    "variance": 'variance("revenue")',
    "where": 'where("revenue > 10")',
}
"""A sample call of each method of `Events`."""

_OTHER_NAMES = {
    "approx_count_distinct": "distinct",
    "average": "mean",
    "avg": "mean",
    "count_distinct": "distinct",
    "filter": "where",
    "latest": "last",
    "mode": "top",
    "n_unique": "distinct",
    "nunique": "distinct",
    "size": "count",
    "std": "stddev",
    "top_k": "top",
    "total": "sum",
    "unique": "distinct",
    "var": "variance",
}
_OF_SESSIONS = ("count", "duration", "events", "number")
_OF_AGGREGATIONS = {"over": 'over("1h", "7d")', "by": 'by("category", top=5)', "default": "default(0)"}
_VOCABULARY = ("events", "sessions", "view")


def hint(error: BaseException | None) -> str | None:
    """A suggestion what to write instead; None if there is none."""
    suggestion = None
    match error:
        case AttributeError(name=str(name), obj=Events()):
            suggestion = _of_events(name)
        case AttributeError(name=str(name), obj=Aggregation()):
            suggestion = _of_aggregation(name)
        case AttributeError(obj=Sessions()):
            suggestion = f"of sessions there are {', '.join(f'{each}()' for each in _OF_SESSIONS)}"
        case NameError(name=str(name)) if name not in _VOCABULARY:
            suggestion = f'the name of an event is text: write "{name}", in quotes'
        case NameError() | ImportError():
            suggestion = f"write from sokuji.features import {', '.join(_VOCABULARY)}"
        case TypeError():
            suggestion = next((fix(match) for pattern, fix in _TYPE_ERRORS if (match := re.search(pattern, str(error)))), None)
    return suggestion


def _of_events(name: str) -> str:
    if name in _OF_AGGREGATIONS:
        return f'first choose an aggregation of the events: events("buy").count().{_OF_AGGREGATIONS[name]}'
    near = _OTHER_NAMES.get(name) or next(iter(difflib.get_close_matches(name, _CALLS, 1)), None)
    return f"the aggregations of events are {', '.join(_CALLS)}" if near is None else f'write events("buy").{_CALLS[near]}'


def _of_aggregation(name: str) -> str:
    if name == "where":
        return 'filter the events, not what is made of them: events("buy").where("revenue > 10").count()'
    if name in _CALLS or name in _OTHER_NAMES:
        call = _CALLS[_OTHER_NAMES.get(name, name)]
        return f'one function at a time: events("buy").{call}.over("1h"); or compute with two, as a["1h"] / b["1h"]'
    near = next(iter(difflib.get_close_matches(name, _OF_AGGREGATIONS, 1)), "over")
    return f'write events("buy").count().{_OF_AGGREGATIONS[near]}'


_TYPE_ERRORS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"\bview\(\)", lambda _: f"write {_VIEW}"),
    (r"\bevents\(\)", lambda _: 'events() takes names alone: events("buy", "refund").where("revenue > 10")'),
    (r"\bEvents\.(\w+)\(\)", lambda match: f'write events("buy").{_CALLS.get(match[1], match[1] + "(...)")}'),
    (r"\bAggregation\.(\w+)\(\)", lambda match: f"write {_OF_AGGREGATIONS.get(match[1], match[1] + '(...)')}"),
    (r"'Sessions' object is not callable", lambda _: "write sessions.count(), without brackets after sessions"),
    (r"'Events' object is not subscriptable", lambda _: 'a window belongs to an aggregation: events("buy").count().over("1h")'),
    (r"'Aggregation' object is not iterable", lambda _: 'compute with + - * /: a["1h"] + b["1h"]'),
    (r"not supported between", lambda _: 'features are not compared here; rules compare them: rule(..., when="buys_7d > 3")'),
)
"""Suggestions by Python's error message."""

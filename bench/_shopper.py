"""The view that benchmarks of features compute: 24 features, 13 functions, 5 windows."""

from __future__ import annotations

from sokuji.features import events, sessions, view
from sokuji.features.spec import ViewSpec
from sokuji.types import BOOL, FLOAT64, STRING, Type

BUY, PAGE = "event_name = 'buy'", "event_name = 'page'"
TYPES: dict[str, Type] = {BUY: BOOL, PAGE: BOOL, "revenue": FLOAT64, "url": STRING, "category": STRING}


def shopper() -> ViewSpec:
    """What a shop asks of its visitors."""
    views, buys = events("page"), events("buy")
    return view(
        "shopper",
        entity="visitor",
        views=views.count().over("1h", "1d", "7d", "session"),
        buys=buys.count().over("7d", "all"),
        spend=buys.sum("revenue").over("1h", "7d", "all"),
        basket=buys.mean("revenue").over("7d"),
        cheapest=buys.min("revenue").over("7d"),
        dearest=buys.max("revenue").over("7d"),
        spread=buys.stddev("revenue").over("7d"),
        landing=views.first("url").over("session"),
        page=views.last("url"),
        pages=views.last(5, "url"),
        variety=views.distinct("url").over("1d"),
        favourites=views.top(3, "category").over("1d"),
        shelf=views.count().by("category", top=3).over("1d"),
        since_view=views.since_last(),
        since_buy=buys.since_last(),
        visit=sessions.number(),
        visit_events=sessions.events(),
        visit_seconds=sessions.duration(),
    )

"""The features that benchmarks compute: 24 features, 13 functions, 5 windows."""

from sokuji.features import events, sessions, view

views, buys = events("page"), events("buy")

view(
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

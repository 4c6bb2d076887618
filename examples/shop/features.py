"""The shop's features of each visitor, updated at every event."""

from sokuji.features import events, sessions, view

views, carts, buys = events("view"), events("cart"), events("buy")
spend = buys.sum("revenue").over("1h", "7d")

view(
    "shopper",
    entity="visitor",
    views=views.count().over("session", "1d"),
    seen=views.distinct("item").over("session"),
    last_seen=views.last(5, "item"),
    carts=carts.count().over("1h", "7d"),
    buys=buys.count().over("7d", "all"),
    spend=spend,
    spend_share=spend["1h"] / (spend["7d"] + 1),
    visit=sessions.number(),
)

"""The live demo's project: a shop's settings, features and rules."""

from __future__ import annotations

DATASET = "shop"
WRITE_KEY = "shop"

SETTINGS = """\
{mark}
data = "data"

[track]
port = {ports[track.port]}
health_port = {ports[track.health_port]}

[act]
port = {ports[act.port]}
health_port = {ports[act.health_port]}

[analyze]
health_port = {ports[analyze.health_port]}
checkpoint_seconds = 1.0
served_sample = {sample} # a large share, as the demo has few visitors

[webhooks]
health_port = {ports[webhooks.health_port]}

[lake]
health_port = {ports[lake.health_port]}

[sources.web]
write_key = "shop"
dataset = "shop"
"""

FEATURES = '''\
"""What the shop knows of each visitor, from one event to the next."""

from sokuji.features import events, sessions, view

views, carts, buys = events("view"), events("cart"), events("buy")
spend = buys.sum("revenue").over("1h", "7d")

view(
    "shopper",
    entity="visitor",
    views=views.count().over("session", "1d"),
    seen=views.distinct("item").over("session"),
    last_seen=views.last(5, "item"),
    shelves=views.count().by("category", top=3).over("1d"),
    carts=carts.count().over("1h", "7d"),
    buys=buys.count().over("7d", "all"),
    spend=spend,
    dearest=views.max("price").over("1d"),
    spend_share=spend["1h"] / (spend["7d"] + 1),
    visit=sessions.number(),
)
'''

ACTIONS = '''\
"""What the shop does about it."""

from sokuji.rules import banner, goal, popup, project, rule

project(zone="Asia/Tokyo", gap="5s", goal=goal("buy", within="24h"))

rule(
    "browsing",
    on="view",
    when_becomes="seen_session >= 3 AND buys_7d = 0",
    do=popup(title="Still looking?", body="Free delivery today.", button="To the cart", link="#cart"),
    control=0.1,
    at_most="1 per 1d",
)
rule(
    "big_cart",
    on="cart",
    when="price >= 80",
    do=banner(title="Pay in three parts"),
    at_most="1 per 1d",
)
rule("thanks", on="buy", when_becomes="spend_7d >= 100", do=banner(title="Thank you!"), priority=10)
rule("welcome_back", on="view", when="visit >= 2 AND views_session = 1", do=banner(title="Welcome back"), control=0.1)
rule("left_cart", on="cart", after="30s", unless="buy", do=popup(title="Your cart is waiting", link="#cart"), at_most="1 per 7d")
'''

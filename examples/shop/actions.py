"""The shop's rules: which message to show to which visitor."""

from sokuji.rules import goal, popup, project, rule

project(zone="Asia/Tokyo", gap="10s", goal=goal("buy", within="24h"))

rule(
    "browsing",
    on="view",
    when_becomes="seen_session >= 3 AND buys_7d = 0",
    still="buys_7d = 0",
    do=popup(
        title="Still looking?",
        body="You have looked at {seen_session} teas. Whichever you choose, today we deliver it free.",
        button="Go to the cart",
        link="#cart",
        image="/offer.svg",
    ),
    control=0.1,
    at_most="1 per 1d",
)

rule(
    "left_cart",
    on="cart",
    after="30m",
    unless="buy",
    do=popup(title="Your cart is waiting", button="To the cart", link="#cart"),
    control=0.1,
    at_most="1 per 7d",
)

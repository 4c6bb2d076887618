"""The rules of the pipeline's benchmark: 20, each with a condition of its own, one of them on what a model says."""

from sokuji.rules import banner, popup, project, rule, webhook

project(gap="30s", holdout=0.05)

offer, thanks = popup(title="{category|Something} for you", button="Show", link="#offer"), banner(title="Thank you")
hook = webhook("https://shop.example/hook", visitor="{visitor_id|nobody}", spent="{revenue|0}")
caps = ["1 per 24h", "2 per 7d"]

# As it comes true again and again: a few events in a thousand fire, caps and the gap stop the rest.
rule("hesitates", on="cart", when="scores.buyer < 0.2 AND views_session >= 3", do=offer, control=0.1, at_most=caps, priority=5)
rule("browses", on="page", when="views_session = 5 AND buys_7d = 0", do=offer, control=0.1, at_most=caps)
rule("compares", on="page", when="variety_1d >= 8 AND buys = 0", do=offer, at_most=caps)
rule("returns", on="page", when="visit >= 2 AND visit_events_session = 2", do=offer, at_most=caps)
rule("searches", on="search", when="views_1h >= 4 AND category = 'shelf 3'", do=offer, at_most=caps)
rule("lingers", on="page", when="visit_seconds_session > 600 AND buys_7d = 0", do=offer, at_most="1 per 24h")
rule("bargains", on="cart", when="revenue < 5 AND dearest_7d > 90", do=offer, at_most="1 per 7d")
rule("splurges", on="cart", when="revenue > 95 AND spend_7d > 100", do=offer, at_most="1 per 7d")
# As it becomes true.
rule("spender", on="buy", when_becomes="spend >= 300", do=thanks, control=0.1)
rule("regular", on="buy", when_becomes="buys >= 4", do=thanks)
rule("explorer", on="page", when_becomes="variety_1d >= 12", do=offer)
rule("rises", on="buy", when_becomes="spend_1h > 200", do=thanks)
rule("wide", on="buy", when_becomes="spread_7d > 40", do=thanks)
rule("loyal", on="page", when_becomes="views_7d >= 30", do=thanks)
# Unless something happens in time.
rule("left_cart", on="cart", after="30m", unless="buy", when="revenue > 50", do=offer, at_most="1 per 7d")
rule("left_search", on="search", after="2h", unless=["buy", "cart"], when="since_buy < 86400", do=offer, at_most="1 per 7d")
rule("asks_back", on="buy", after="1d", unless="click", when="buys = 1", do=offer, at_most="1 ever")
# Told to another system.
rule("tells_large", on="buy", when="revenue > 99.5", do=hook)
rule("tells_first", on="buy", when="buys = 1 AND revenue > 98", do=hook, at_most="1 ever")
rule("tells_search", on="search", when="since_buy < 60 AND category = 'shelf 7'", do=hook, at_most="1 per 1h")

"""The language of `features.py`: correct declarations, and errors that say what would be right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sokuji.errors import FeatureError
from sokuji.features import events, sessions, view
from sokuji.features.describe import describe
from sokuji.features.kernel.layout import layout
from sokuji.features.spec import ViewSpec
from sokuji.features.windows import duration, window

BUYS = events("buy")
SPEND = BUYS.sum("revenue").over("1h", "7d")


def names(made: ViewSpec) -> list[str]:
    return [feature.name for feature in made.features]


def test_columns_are_called_after_the_feature_and_its_window() -> None:
    made = view(
        "shopper",
        entity="visitor",
        spend=SPEND,
        seen=events("page").last(20, "url"),
        visit_views=events("page").count().over("session", "previous session", "today in Asia/Tokyo"),
        ratio=SPEND["1h"] / (SPEND["7d"] + 1),
    )
    assert names(made) == [
        "spend_1h", "spend_7d", "seen", "visit_views_session", "visit_views_previous_session", "visit_views_today", "ratio"
    ]  # fmt: skip


def test_filters_are_googlesql_conditions_on_the_event() -> None:
    made = view("v", entity="user", n=events("buy", "it's").where("a > 1").where("b OR c").count(), m=events().sum("price * 2"))
    assert made.expressions == ("event_name IN ('buy', 'it\\'s') AND ((a > 1) AND (b OR c))", "price * 2")


def test_one_window_needs_no_naming_to_compute_with() -> None:
    made = view("v", entity="visitor", share=2 * BUYS.count() / events().count() - 1)
    assert names(made) == ["share"]


@pytest.mark.parametrize(
    ("length", "hop"),
    [
        ("5s", "1s"), ("60s", "5s"), ("90s", "5s"), ("10m", "30s"), ("1h", "5m"), ("12h", "1h"), ("1d", "2h"), ("7d", "12h"), ("28d", "2d"),
        ("365d", "7d"),
    ],
)  # fmt: skip
def test_the_hop_is_a_twelfth_rounded_down_to_a_round_unit(length: str, hop: str) -> None:
    assert duration(window(length).hop_us) == hop


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        (lambda: BUYS.count().over("1x"), r"there is no window '1x'; use \"90s\", \"1h\""),
        (lambda: BUYS.count().over(), r"over\(\) needs a window: count\(...\).over\(\"1h\"\)"),
        (lambda: BUYS.count().over("today in Atlantis"), "there is no time zone 'Atlantis'; write a name such as"),
        (lambda: BUYS.count().over("99999d"), 'longer than 4 years; use "all"'),
        (lambda: BUYS.last(3), r"write last\(\"url\"\) or last\(20, \"url\"\)"),  # type: ignore[call-overload]
        (lambda: BUYS.last(0, "url"), "last is 0; it must be between 1 and 100"),
        (lambda: BUYS.sum(""), r"sum\(\) takes a GoogleSQL expression .* such as \"revenue\""),
        (lambda: BUYS.stddev("x").by("y"), "stddev cannot be kept by category; these can: count, max, mean, min, sum"),
        (lambda: BUYS.top(3, "x").default(1), "top_k of no events is an empty list, never NULL"),
        (lambda: SPEND["1d"], r"sum is not kept over \"1d\", only over \"1h\", \"7d\"; add it to over"),
        (lambda: SPEND / 2, r"name the window to compute with: sum\(...\)\[\"1h\"\]"),
        (lambda: BUYS.last(2, "x") + 1, "last_n is not a number to compute with; make it a feature"),
        (lambda: BUYS.count() + "1", "features are computed from features and numbers"),  # type: ignore[operator]
        (lambda: sessions.number().over("7d"), r"has no window; use sessions.count\(\).over\(\"7d\"\)"),
        (lambda: sessions.events().over("7d"), r"session_events needs one session: use over\(\"session\"\)"),
        (lambda: sessions.count().over("session"), "a session has no sessions to count"),
        (lambda: events(""), r"events\(\) takes names of events"),
        (lambda: view("v", entity="visitor", x=BUYS), r"feature 'x' is events without a function; write x=events\(\"buy\"\).count\(\)"),  # type: ignore[arg-type]
        (lambda: view("v", entity="visitor", x=BUYS.count), "feature 'x' is the method count itself, not called"),  # type: ignore[arg-type]
        (lambda: view("v", entity="visitor"), "view 'v' has no features"),
        (lambda: view("v", entity="shop", x=BUYS.count()), 'write entity="visitor" or entity="user"'),
        (lambda: view("v", entity="visitor", x=BUYS.count(), features={"X": BUYS.count()}), "two features called x; rename"),
        (lambda: view("v", entity="visitor", x=BUYS.count(), features={"x": BUYS.count()}), "feature 'x' is given twice"),
        (lambda: view("no name", entity="visitor", x=BUYS.count()), "a name has letters, digits and _"),
        (lambda: view("v", entity="visitor", session_gap="soon", x=BUYS.count()), "session_gap is 'soon'; write a number and a unit"),
    ],
)
def test_misuse_is_answered_with_what_would_be_right(wrong: Callable[[], object], answer: str) -> None:
    with pytest.raises(FeatureError, match=answer):
        wrong()


def test_features_share_what_they_are_made_of() -> None:
    alone = layout(view("v", entity="visitor", mean=BUYS.mean("revenue").over("7d"))).width
    together = view(
        "v",
        entity="visitor",
        mean=BUYS.mean("revenue").over("7d"),
        spend=BUYS.sum("revenue").over("7d"),
        last=BUYS.last("url"),
        lasts=BUYS.last(5, "url"),
    )
    assert layout(together).width == alone + 8 + 88  # of the list; the window over all of time has a head
    assert [(row.name, row.hop, row.bytes) for row in describe(together)] == [
        ("mean_7d", "12h", 120 + 64), ("spend_7d", "12h", 0), ("last", "", 88), ("lasts", "", 0)
    ]  # fmt: skip


def test_the_error_of_what_is_approximate_is_said() -> None:
    made = view("v", entity="visitor", kinds=BUYS.distinct("url").over("1d", "all"), top=BUYS.top(5, "url"), by=BUYS.sum("x").by("y"))
    assert [row.error for row in describe(made)] == [
        "exact up to 52, then 13.0% (HyperLogLog)",
        "exact up to 32, then 4.6% (HyperLogLog)",
        "exact up to 10 categories, then at most events/10 too many (space-saving)",
        "exact up to 10 categories, then the one with the fewest events starts over",
    ]


def test_equal_declarations_have_one_fingerprint_and_others_another() -> None:
    def of(**features: str) -> str:
        return layout(view("v", entity="visitor", n=BUYS.count().over("1h"), **features)).fingerprint  # type: ignore[arg-type]

    assert of() == of()
    assert of() != layout(view("v", entity="visitor", n=BUYS.count().over("1d"))).fingerprint
    assert of() != layout(view("v", entity="visitor", n=BUYS.count().over("1h"), session_gap="5m")).fingerprint

"""The view `action_results` on the real engine, against SciPy and hand computation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from scipy.stats import binomtest
from scipy.stats.contingency import relative_risk

import sokuji
from sokuji.act.results import keep_results_view
from sokuji.backends import Backends
from sokuji.cli import main
from sokuji.config import load
from sokuji.errors import RuleError
from sokuji.meta.objects import TableKind
from sokuji.platform import Platform
from sokuji.rules import arm, goal, popup, rule
from sokuji.rules.decision import Decision, to_events
from sokuji.rules.spec import Actions, Project
from tests.rules.stream import MINUTE_US, START_US, Event, batch_of

ARMS = {"blue": (40, 12), "red": (60, 9), "control": (50, 5)}
COLUMNS = ("arm", "exposures", "conversions", "rate", "rate_low", "rate_high", "lift", "lift_low", "lift_high", "difference")
RULE = rule(
    "offer", on="cart", do=[arm("blue", popup(title="a")), arm("red", popup(title="b"))], control=0.3, goal=goal("buy", within="1h")
)
DECISION = Decision(
    id="d",
    rule="offer",
    reason="event",
    suppressed=False,
    arm="blue",
    control=False,
    holdout=False,
    action=None,
    at_us=START_US,
    expires_us=START_US,
    trigger_id="m",
    profile="p",
    dataset="main",
    visitor_id=None,
    user_id=None,
)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with sokuji.open(tmp_path) as opened:
        yield opened


def decide(platform: Platform, *decisions: dict[str, Any]) -> None:
    made = [msgspec.structs.replace(DECISION, **{"id": f"d{number}", **each}) for number, each in enumerate(decisions)]
    platform._backends.events_log.append(0, to_events(made, START_US))


def buy(platform: Platform, *events: Event, user_id: str | None = None) -> None:
    made = [Event(**(vars(event) | {"number": f"{event.profile}-{number}"})) for number, event in enumerate(events)]
    batch = batch_of(made)
    if user_id is not None:
        batch = batch.set_column(6, batch.schema.field("user_id"), [user_id] * len(made))
    platform._backends.events_log.append(0, batch)


def keep(platform: Platform, *rules: Any) -> int:
    """Bring the view up to the rules; how many statements that took."""
    backends, statements = platform._backends, list[str]()

    def sql(text: str) -> None:
        statements.append(text)
        platform.sql(text)

    keep_results_view("main", Actions(Project(), rules), backends.catalog, backends.tables, sql)
    return len(statements)


def results(platform: Platform, columns: str, rules: tuple[Any, ...] = (RULE,)) -> list[tuple[Any, ...]]:
    keep(platform, *rules)
    return platform.sql(f"SELECT {columns} FROM main.action_results ORDER BY rule, arm").rows()


def test_rates_lifts_and_intervals_are_those_of_the_books(platform: Platform) -> None:
    people = [(name, f"{name}{number}", number < bought) for name, (count, bought) in ARMS.items() for number in range(count)]
    decide(platform, *({"arm": name, "visitor_id": person} for name, person, _ in people))
    buy(platform, *(Event("buy", START_US + MINUTE_US, profile=person) for _, person, bought in people if bought))
    found = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in results(platform, ", ".join(COLUMNS))}
    assert set(found) == set(ARMS)
    control_count, control_bought = ARMS["control"]
    for name, (count, bought) in ARMS.items():
        row = found[name]
        assert (row["exposures"], row["conversions"]) == (count, bought)
        wilson = binomtest(bought, count).proportion_ci(0.95, method="wilson")
        assert (row["rate"], row["rate_low"], row["rate_high"]) == pytest.approx((bought / count, wilson.low, wilson.high))
        if name != "control":
            risk = relative_risk(bought, count, control_bought, control_count)
            katz = risk.confidence_interval(0.95)
            expected = (risk.relative_risk - 1, katz.low - 1, katz.high - 1)
            assert (row["lift"], row["lift_low"], row["lift_high"]) == pytest.approx(expected)
            assert row["difference"] == pytest.approx(bought / count - control_bought / control_count)
    assert [found["control"][name] for name in ("lift", "lift_low", "difference")] == [None, None, None]


def test_the_interval_of_the_difference_is_newcombes(platform: Platform) -> None:
    # The paper's first example: 56/70 against 48/80 (Newcombe 1998, table II, method 10): 0.0524 to 0.3339.
    people = [("blue", f"b{number}", number < 56) for number in range(70)] + [
        ("control", f"c{number}", number < 48) for number in range(80)
    ]
    decide(platform, *({"arm": name, "visitor_id": person} for name, person, _ in people))
    buy(platform, *(Event("buy", START_US + MINUTE_US, profile=person) for _, person, bought in people if bought))
    [difference] = results(platform, "difference, difference_low, difference_high")[:1]
    assert difference == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_without_conversions_there_is_a_difference_but_no_lift(platform: Platform) -> None:
    decide(platform, {"arm": "blue", "visitor_id": "a"}, {"arm": "control", "visitor_id": "b"})
    [(rate, lift, difference, low, high)] = results(platform, "rate, lift, difference, difference_low, difference_high")[:1]
    assert (rate, lift, difference) == (0.0, None, 0.0)
    assert -1 < low < 0 < high < 1


def test_only_a_goal_after_the_first_decision_and_within_its_time_counts(platform: Platform) -> None:
    hour_us = 60 * MINUTE_US
    bought_us = {"before": -1, "at once": 0, "after": 1, "at the end": hour_us, "too late": hour_us + 1}
    decide(platform, *({"visitor_id": name} for name in bought_us), {"visitor_id": "too late", "at_us": START_US + MINUTE_US})
    buy(platform, *(Event("buy", START_US + after_us, profile=name) for name, after_us in bought_us.items()))
    buy(platform, Event("buy", START_US + 2, profile="after"), Event("cart", START_US + 2, profile="too late"))
    assert results(platform, "exposures, conversions") == [(5, 2)]


def test_a_person_counts_once_and_in_the_arm_of_the_first_decision(platform: Platform) -> None:
    decide(
        platform,
        {"visitor_id": "phone", "arm": "red"},
        {"visitor_id": "laptop", "user_id": "ann", "arm": "blue", "at_us": START_US + MINUTE_US},
    )
    buy(platform, Event("login", START_US + MINUTE_US, profile="phone"), user_id="ann")
    buy(platform, Event("buy", START_US + 2 * MINUTE_US, profile="laptop"), user_id="ann")
    assert results(platform, "arm, exposures, conversions") == [("red", 1, 1)]


def test_the_holdout_is_an_arm_and_the_baseline_where_there_is_no_control_arm(platform: Platform) -> None:
    plain = msgspec.structs.replace(RULE, name="plain")
    made = [
        {"rule": name, "arm": "blue", "visitor_id": f"{name}{number}", "holdout": number < 2}
        for name in ("offer", "plain")
        for number in range(4)
    ]
    decide(platform, *made, {"rule": "offer", "arm": "control", "visitor_id": "c", "control": True})
    buy(platform, Event("buy", START_US + 1, profile="plain0"), Event("buy", START_US + 1, profile="plain3"))
    found = results(platform, "rule, arm, control, exposures, conversions, baseline", (RULE, plain))
    assert found == [
        ("offer", "blue", False, 2, 0, "control"),
        ("offer", "control", True, 1, 0, None),
        ("offer", "holdout", False, 2, 0, "control"),
        ("plain", "blue", False, 2, 1, "holdout"),
        ("plain", "holdout", False, 2, 1, None),
    ]


def test_suppressed_decisions_forged_ones_and_rules_without_a_goal_are_left_out(platform: Platform) -> None:
    decide(platform, {"visitor_id": "a", "suppressed": True, "reason": "gap", "arm": None}, {"visitor_id": "b", "rule": "other"})
    platform.track({"type": "track", "event": "action_decided", "anonymousId": "c", "properties": {"rule": "offer", "arm": "red"}})
    assert results(platform, "arm", (RULE, msgspec.structs.replace(RULE, name="other", goal=None))) == []


def test_the_view_is_there_before_any_event_and_follows_the_rules(platform: Platform) -> None:
    other = msgspec.structs.replace(RULE, name="other")
    assert keep(platform, RULE) == 1
    assert platform.sql("SELECT * FROM main.action_results").rows() == []
    decide(platform, {"visitor_id": "a"}, {"visitor_id": "a", "rule": "other"})
    assert platform.sql("SELECT rule FROM main.action_results").rows() == [("offer",)]
    assert keep(platform, RULE) == 0
    assert keep(platform, RULE, other) == 1
    assert platform.sql("SELECT rule FROM main.action_results ORDER BY rule").rows() == [("offer",), ("other",)]


def test_a_table_of_that_name_is_left_alone(platform: Platform) -> None:
    platform.sql("CREATE TABLE main.action_results AS SELECT 1 AS one")
    with pytest.raises(RuleError, match=r"main\.action_results is a table"):
        keep(platform, RULE)
    assert platform.sql("SELECT * FROM main.action_results").rows() == [(1,)]


def test_names_are_quoted(platform: Platform) -> None:
    name = 'say "hi"\\\n\t\x01 で'
    named = msgspec.structs.replace(RULE, goal=goal(name, within="1h"))
    decide(platform, {"visitor_id": "a"})
    buy(platform, Event(name, START_US + 1, profile="a"))
    assert results(platform, "goal, conversions", (named,)) == [(name, 1)]


def test_the_bounds_are_numbers_whatever_the_counts(platform: Platform) -> None:
    decide(platform, {"arm": "blue", "visitor_id": "a"}, {"arm": "control", "visitor_id": "b"})
    buy(platform, Event("buy", START_US + 1, profile="a"), Event("buy", START_US + 1, profile="b"))
    [(low, high, lift)] = results(platform, "rate_low, rate_high, lift_low")[:1]
    assert 0 < low < high <= 1
    assert math.isfinite(lift)


def test_apply_makes_it_and_the_worker_that_starts_then_runs_no_statement(tmp_path: Path) -> None:
    (tmp_path / "sokuji.toml").write_text('[sources.web]\nwrite_key = "wk_test"\ndataset = "main"\n')
    (tmp_path / "actions.py").write_text(
        'from sokuji.rules import goal, popup, rule\nrule("offer", on="cart", do=popup(title="a"), goal=goal("buy", within="1h"))\n'
    )
    for options, wanted in (["--dry-run"], []), ([], ["action_results"]):
        done = CliRunner().invoke(main, ["apply", *options, "-p", str(tmp_path)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        with Backends(load(tmp_path)) as backends:
            known = backends.catalog.tables("main") if "main" in backends.catalog.datasets() else []
            assert [table.ref.name for table in known if table.kind is TableKind.VIEW] == wanted
    with Backends(load(tmp_path)) as backends:
        backends.keep_results_views(tmp_path, pytest.fail)

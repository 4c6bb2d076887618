"""Assignment to arms: unbiased, sticky, independent between rules."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy.stats import chi2_contingency, chisquare, kstest

from sokuji.errors import RuleError
from sokuji.rules import arm, popup
from sokuji.rules.bucket import bucket_id, choose, control_arm, is_held_out, uniform
from sokuji.rules.spec import Arm

BUCKETS = [bucket_id(f"visitor:{number}") for number in range(40_000)]
POPUP = popup(title="x")


def arms(**weights: float) -> tuple[Arm, ...]:
    return tuple(arm(name, POPUP, weight=weight) for name, weight in weights.items())


def test_numbers_are_uniform_also_for_ids_that_count() -> None:
    assert kstest([uniform("rule", bucket) for bucket in BUCKETS], "uniform").pvalue > 0.001
    assert kstest([uniform(f"rule{number}", BUCKETS[0]) for number in range(10_000)], "uniform").pvalue > 0.001


@pytest.mark.parametrize("weights", [{"a": 1, "b": 1}, {"a": 99.5, "b": 0.5}, {"a": 3, "b": 2, "c": 1, "d": 0.07}])
def test_arms_get_their_shares_whatever_the_weights(weights: dict[str, float]) -> None:
    declared = control_arm(arms(**weights), 0.123)
    assert sum(each.weight for each in declared) == pytest.approx(1)
    counts = Counter(choose(declared, "rule", bucket).name for bucket in BUCKETS)
    assert chisquare([counts[each.name] for each in declared], [each.weight * len(BUCKETS) for each in declared]).pvalue > 0.001
    assert declared[-1].name == "control"
    assert declared[-1].weight == pytest.approx(0.123)


def test_arms_of_two_rules_and_the_holdout_are_independent() -> None:
    declared = arms(a=1, b=1)
    of_two = Counter((choose(declared, "one", bucket).name, choose(declared, "two", bucket).name) for bucket in BUCKETS)
    assert chi2_contingency([[of_two[one, two] for two in "ab"] for one in "ab"]).pvalue > 0.001
    with_holdout = Counter((choose(declared, "one", bucket).name, is_held_out(0.3, "", bucket)) for bucket in BUCKETS)
    assert chi2_contingency([[with_holdout[one, held] for held in (True, False)] for one in "ab"]).pvalue > 0.001


def test_the_order_of_arms_does_not_matter() -> None:
    declared = arms(a=1, b=1, c=2)
    assert all(choose(declared, "rule", bucket) == choose(declared[::-1], "rule", bucket) for bucket in BUCKETS[:2000])


def test_a_changed_weight_moves_only_whom_it_must() -> None:
    """A larger `b` takes from the others; nobody moves between others, and nobody leaves `b`."""
    moves = Counter(
        (choose(arms(a=1, b=1, c=1), "rule", bucket).name, choose(arms(a=1, b=2, c=1), "rule", bucket).name) for bucket in BUCKETS[:5000]
    )
    assert {pair for pair in moves if pair[0] != pair[1]} == {("a", "b"), ("c", "b")}


def test_assignments_are_fixed_for_ever() -> None:
    """Another release that dealt arms again would spoil every running experiment."""
    declared = control_arm(arms(a=1, b=1), 0.2)
    assert bucket_id("visitor:ann") == 5_849_513_158_422_729_356
    assert "".join(choose(declared, "rule", bucket).name[0] for bucket in BUCKETS[:40]) == "cbababbaabbaccabbaacacbacbcbbbcbbcaababa"
    assert [is_held_out(0.25, "", bucket) for bucket in BUCKETS[:8]] == [True, False, True, False, False, False, False, False]


def test_the_holdout_has_its_share_and_another_seed_holds_out_others() -> None:
    held = {seed: {bucket for bucket in BUCKETS if is_held_out(0.02, seed, bucket)} for seed in ("", "2027")}
    for each in held.values():
        assert chisquare([len(each), len(BUCKETS) - len(each)], [0.02 * len(BUCKETS), 0.98 * len(BUCKETS)]).pvalue > 0.001
    assert len(held[""] & held["2027"]) < 0.1 * len(held[""])
    assert not any(is_held_out(0, "", bucket) for bucket in BUCKETS)


def test_a_seed_may_be_long() -> None:
    long = "x" * 100
    assert uniform(long, 1) != uniform(f"{long}y", 1)


def test_a_weight_is_a_number_above_zero() -> None:
    for weight in (0, -1, float("nan"), float("inf"), "1"):
        with pytest.raises(RuleError, match="expected a number above 0"):
            arm("a", POPUP, weight=weight)  # type: ignore[arg-type]

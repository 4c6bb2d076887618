"""The decisions in memory, against an oracle that keeps all decisions and searches them."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.act.decision import Audience, Recorded
from sokuji.act.pages.recent import Recent
from sokuji.rules.decision import Decision

VISITORS = [Audience("visitor", "main", name) for name in "ab"]
USERS = [Audience("user", "main", name) for name in "uv"]

rows = st.lists(
    st.fixed_dictionaries(
        {
            "visitor_id": st.sampled_from([None, "a", "b"]),
            "user_id": st.sampled_from([None, "u", "v"]),
            "profile": st.sampled_from(["v:a", "v:b", "u:u", "u:v"]),
            "rule": st.sampled_from(["r1", "r2", "r3"]),
            "action": st.sampled_from([None, {"kind": "popup"}, {"kind": "webhook"}]),
            "expires_us": st.integers(0, 20),
        }
    ),
    max_size=30,
)


def recorded(offset: int, fields: dict[str, Any]) -> Recorded:
    same: dict[str, Any] = {"arm": "a", "control": False, "holdout": False, "at_us": 0, "trigger_id": "m", "dataset": "main"}
    return Recorded(Decision(id=f"d{offset}", reason="event", suppressed=False, **same, **fields), offset)


def concerns(each: Recorded, people: list[Audience], *, unsigned: bool) -> bool:
    for kind, _, id_ in people:
        if each.decision.profile == f"{kind[0]}:{id_}":
            return True
        if unsigned and kind == "visitor" and each.decision.profile[0] == "u" and each.decision.visitor_id == id_:
            return True
    return False


@given(rows, st.integers(-1, 31), st.integers(0, 20), st.booleans())
def test_what_can_be_shown_is_the_last_of_each_rule_that_is_for_a_page_and_in_time(
    found: list[Any], after: int, now: int, unsigned: bool
) -> None:
    recent = Recent(1 << 30, unsigned_users=unsigned)
    added = [recorded(offset, fields) for offset, fields in enumerate(found)]
    assert all(recent.add(each) for each in added)
    for people in [[VISITORS[0]], [USERS[0]], [VISITORS[1], USERS[1]], VISITORS + USERS]:
        theirs = [each for each in added if concerns(each, people, unsigned=unsigned)]
        last = {each.decision.rule: each for each in theirs}.values()
        shown = [each for each in last if each.decision.action is not None and each.decision.action["kind"] == "popup"]
        held = [each for each in shown if each.offset > after and each.decision.expires_us > now]
        expected = sorted(held, key=lambda each: each.offset)
        assert recent.deliverable(people, after, now) == expected
        for each in added:
            obstacle = recent.obstacle(each.decision.id, people, now)[1]
            assert (obstacle == "unknown") == (each not in theirs)
            assert (obstacle is None) == (each in recent.deliverable(people, -1, now))


@given(rows, st.integers(0, 40_000))
def test_memory_is_bounded_and_holds_the_newest(found: list[Any], bytes_max: int) -> None:
    recent = Recent(bytes_max, unsigned_users=True)
    for offset, fields in enumerate(found):
        recent.add(recorded(offset, fields))
    kept = {f"d{offset}" for offset in range(len(found) - len(recent), len(found))}
    for offset, fields in enumerate(found):
        each = recorded(offset, fields)
        for audience in recent.audiences(each):
            assert (recent.obstacle(each.decision.id, [audience], 0)[1] == "unknown") == (each.decision.id not in kept)
    if not len(recent):
        assert not recent._last


def test_ids_as_long_as_events_take_no_more_memory() -> None:
    recent = Recent(1_000_000, unsigned_users=True)
    fields = {"visitor_id": "a", "user_id": None, "rule": "r1", "action": {"kind": "popup"}, "expires_us": 9}
    for offset in range(300):
        recent.add(recorded(offset, fields | {"profile": f"v:{offset}{'x' * 30_000}"}))
    assert 10 < len(recent) < 40


def test_what_is_said_early_of_decisions_takes_no_more_memory_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone may say that a decision was shown that there is not, of any name and in any name."""
    monkeypatch.setattr("sokuji.act.pages.recent._EARLY_BYTES_MAX", 1_000_000)
    recent = Recent(1 << 20, unsigned_users=False)
    tracemalloc.start()
    for number in range(300):
        recent.show(f"{number}{'x' * 10_000}", [Audience("visitor", "main", f"{number}{'y' * 20_000}")])
        recent.show("one", [Audience("visitor", "main", f"{number}{'y' * 20_000}")])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2_000_000
    recent.show("d0", [VISITORS[0]])
    fields = {"visitor_id": "a", "user_id": None, "profile": "v:a", "rule": "r1", "action": {"kind": "popup"}, "expires_us": 9}
    recent.add(recorded(0, fields))
    assert recent.deliverable(VISITORS, -1, 0) == []


def test_the_same_id_again_is_left_out() -> None:
    recent = Recent(1 << 20, unsigned_users=False)
    fields = {"visitor_id": "a", "user_id": None, "profile": "v:a", "rule": "r1", "action": {"kind": "popup"}, "expires_us": 9}
    assert recent.add(recorded(0, fields))
    assert not recent.add(recorded(0, fields))
    assert len(recent) == 1

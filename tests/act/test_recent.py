"""The decisions in memory, against an oracle that keeps all and searches."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sokuji.act.decision import Audience, Decision
from sokuji.act.recent import Recent

VISITORS = [Audience("visitor", "main", name) for name in "ab"]
USERS = [Audience("user", "main", name) for name in "uv"]

rows = st.lists(
    st.fixed_dictionaries(
        {
            "visitor_id": st.sampled_from([None, "a", "b"]),
            "user_id": st.sampled_from([None, "u", "v"]),
            "rule": st.sampled_from(["r1", "r2", "r3"]),
            "action": st.sampled_from([None, {"kind": "popup"}, {"kind": "webhook"}]),
            "expires_us": st.integers(0, 20),
        }
    ),
    max_size=30,
)


def decision(offset: int, fields: dict[str, Any]) -> Decision:
    return Decision(
        offset=offset,
        id=f"d{offset}",
        reason="event",
        suppressed=False,
        arm="a",
        control=False,
        holdout=False,
        at_us=0,
        trigger_id="m",
        profile="p",
        dataset="main",
        **fields,
    )


def concerns(each: Decision, audience: Audience) -> bool:
    return audience.id == (each.visitor_id if audience.kind == "visitor" else each.user_id)


@given(rows, st.integers(-1, 31), st.integers(0, 20))
def test_what_can_be_shown_is_the_last_of_each_rule_that_is_for_a_page_and_in_time(found: list[Any], after: int, now: int) -> None:
    recent = Recent(1 << 30)
    added = [decision(offset, fields) for offset, fields in enumerate(found)]
    assert all(recent.add(each) for each in added)
    for audience in VISITORS + USERS:
        theirs = [each for each in added if concerns(each, audience)]
        last = {each.rule: each for each in theirs}.values()
        expected = sorted(
            (
                each
                for each in last
                if each.offset > after and each.expires_us > now and each.action is not None and each.action["kind"] == "popup"
            ),
            key=lambda each: each.offset,
        )
        assert recent.deliverable(audience, after, now) == expected
        for each in added:
            obstacle = recent.obstacle(each.id, audience, now)[1]
            assert (obstacle == "unknown") == (each not in theirs)
            assert (obstacle is None) == (each in recent.deliverable(audience, -1, now))


@given(rows, st.integers(0, 40_000))
def test_memory_is_bounded_and_holds_the_newest(found: list[Any], bytes_max: int) -> None:
    recent = Recent(bytes_max)
    for offset, fields in enumerate(found):
        recent.add(decision(offset, fields))
    kept = {f"d{offset}" for offset in range(len(found) - len(recent), len(found))}
    for offset, fields in enumerate(found):
        each = decision(offset, fields)
        for audience in each.audiences:
            assert (recent.obstacle(each.id, audience, 0)[1] == "unknown") == (each.id not in kept)
    if not len(recent):
        assert not recent._last


def test_the_same_id_again_is_left_out() -> None:
    recent = Recent(1 << 20)
    fields = {"visitor_id": "a", "user_id": None, "rule": "r1", "action": {"kind": "popup"}, "expires_us": 9}
    assert recent.add(decision(0, fields))
    assert not recent.add(decision(0, fields))
    assert len(recent) == 1

"""Visitors become users: which profile an event belongs to, and which profiles merge when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.errors import SokujiError
from sokuji.identity.base import VISITORS_PER_USER_MAX, LinkKind
from sokuji.identity.resolve import REFUSED_PER_USER_MAX, Identity, Resolution


@pytest.fixture
def identity(tmp_path: Path) -> Iterator[Identity]:
    opened = Identity(tmp_path, 0)
    yield opened
    opened.close()


def resolve(identity: Identity, *events: tuple[str | None, str | None]) -> Resolution:
    visitors, users = (pa.array(ids, pa.string()) for ids in zip(*events, strict=True))
    return identity.resolve(visitors, users)


def owners(result: Resolution) -> list[str]:
    return [result.keys[profile] for profile in result.profiles]


def test_a_visitor_keeps_a_profile_of_their_own_until_they_are_known(identity: Identity) -> None:
    result = resolve(identity, ("a", None), ("b", None), ("a", "u"), ("a", None), ("b", None))
    assert owners(result) == ["v:a", "v:b", "u:u", "u:u", "v:b"]
    assert {r: [(result.keys[a], result.keys[b]) for a, b in merges] for r, merges in result.merges.items()} == {1: [("v:a", "u:u")]}
    assert result.rounds.tolist() == [0, 0, 1, 1, 0]
    assert [(link.event, link.kind, link.visitor_id, link.user_id) for link in result.links] == [(2, LinkKind.MERGED, "a", "u")]


def test_two_devices_of_one_user_are_merged_one_after_the_other(identity: Identity) -> None:
    result = resolve(identity, ("a", None), ("b", None), ("a", "u"), ("b", "u"), ("b", None))
    assert owners(result) == ["v:a", "v:b", "u:u", "u:u", "u:u"]
    assert result.rounds.tolist() == [0, 0, 1, 2, 2]
    assert [[(result.keys[a], result.keys[b]) for a, b in result.merges[r]] for r in (1, 2)] == [[("v:a", "u:u")], [("v:b", "u:u")]]


def test_events_of_a_round_come_after_all_merges_of_their_profile(identity: Identity) -> None:
    result = resolve(identity, (None, "u"), ("a", "u"), (None, "u"), ("b", "w"), (None, "w"))
    assert result.rounds.tolist() == [0, 1, 1, 0, 0]  # of b and w nothing came before: they can be merged before all events


def test_a_device_that_another_user_takes_over_is_not_merged(identity: Identity) -> None:
    resolve(identity, ("a", "u"))
    result = resolve(identity, ("a", None), ("a", "w"), ("a", None))
    assert owners(result) == ["u:u", "u:w", "u:w"]
    assert not result.merges
    assert [(link.kind, link.previous_user_id) for link in result.links] == [(LinkKind.SWITCHED, "u")]


def test_one_known_user_is_never_merged_into_another(identity: Identity) -> None:
    resolve(identity, ("a", "u"))
    result = resolve(identity, ("u", "w"))
    assert not result.merges
    assert owners(result) == ["u:w"], "a refused merge leaves the event with the user it names"
    assert [link.kind for link in result.links] == [LinkKind.REFUSED]
    assert "never merged" in str(result.links[0].reason)
    assert owners(resolve(identity, ("u", None), ("a", None))) == ["v:u", "u:u"]


def test_an_id_of_visitor_and_user_in_one_is_the_user(identity: Identity) -> None:
    before = resolve(identity, ("a", "u"), ("u", "u"), ("u", None), ("u", "u"))
    assert owners(before) == ["u:u", "u:u", "v:u", "u:u"]
    assert [(link.event, link.kind) for link in before.links] == [(0, LinkKind.MERGED)], "there is nothing to merge"
    assert owners(resolve(identity, ("u", "u"), ("u", None), ("a", None))) == ["u:u", "v:u", "u:u"]
    fresh = resolve(identity, ("w", None), ("w", "w"), ("w", None))
    assert owners(fresh) == ["v:w", "u:w", "u:w"], "who was not known yet becomes known, with what was done before"


def test_a_constant_user_id_does_not_merge_everyone(identity: Identity) -> None:
    events = [(f"v{number}", "guest") for number in range(VISITORS_PER_USER_MAX + 1)]
    result = resolve(identity, *events)
    assert sum(map(len, result.merges.values())) == VISITORS_PER_USER_MAX
    assert owners(result) == ["u:guest"] * (VISITORS_PER_USER_MAX + 1), "its events count all the same"
    assert result.links[-1].kind is LinkKind.REFUSED
    last = f"v{VISITORS_PER_USER_MAX}"
    assert owners(resolve(identity, (last, None), ("v0", None), (last, "guest"), (last, None))) == [
        f"v:{last}", "u:guest", "u:guest", f"v:{last}"
    ]  # fmt: skip


def test_refusals_of_one_user_id_do_not_fill_the_merge_log(identity: Identity) -> None:
    """A server that makes an id a call made a row a call, for good."""
    for start in range(0, 1_000, 100):
        resolve(identity, *((f"v{start + number}", "guest") for number in range(100)))
    result = resolve(identity, *((f"more{number}", "guest") for number in range(100)), ("guest", "other"))
    assert owners(result) == ["u:guest"] * 100 + ["u:other"]
    assert [link.user_id for link in result.links] == ["other"], "whose refusals are few"


def test_the_last_refusal_that_is_told_says_that_there_are_more(identity: Identity) -> None:
    result = resolve(identity, *((f"v{number}", "guest") for number in range(VISITORS_PER_USER_MAX + 100)))
    refused = [str(link.reason) for link in result.links if link.kind is LinkKind.REFUSED]
    assert len(refused) == REFUSED_PER_USER_MAX
    assert [reason.endswith("are left out") for reason in refused] == [False] * (REFUSED_PER_USER_MAX - 1) + [True]


def test_who_is_known_survives_as_far_as_it_was_marked(identity: Identity, tmp_path: Path) -> None:
    resolve(identity, ("a", "u"), ("ひと\n", "w\u2028"))
    mark = identity.mark()
    resolve(identity, ("b", "u"))
    identity.close()
    again = Identity(tmp_path, mark)
    assert [again.profile(visitor) for visitor in ("a", "ひと\n", "b")] == ["u:u", "u:w\u2028", "v:b"]
    again.close()


def test_a_file_that_lost_what_was_durable_is_an_error(identity: Identity, tmp_path: Path) -> None:
    resolve(identity, ("a", "u"))
    mark = identity.mark()
    identity.close()
    (tmp_path / "identities.jsonl").write_bytes(b"")
    with pytest.raises(SokujiError, match="restore it"):
        Identity(tmp_path, mark)


VISITORS, USERS = st.sampled_from(["a", "b", "c", "d", "u"]), st.sampled_from(["u", "w", "x"])
EVENTS = st.lists(st.one_of(st.tuples(VISITORS, st.none()), st.tuples(st.none(), USERS), st.tuples(VISITORS, USERS)), max_size=12)


@given(st.lists(EVENTS, max_size=4))
def test_round_by_round_every_profile_has_the_events_it_would_have_one_by_one(batches: list[list[tuple[str | None, str | None]]]) -> None:
    """The oracle takes one event at a time: it merges histories as dictionaries of lists."""
    histories: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    known: set[str] = set()
    found: dict[str, list[str]] = {}
    with TemporaryDirectory() as folder:
        identity = Identity(Path(folder), 0)
        for number, events in enumerate(batches):
            result = identity.resolve(
                pa.array([who for who, _ in events], pa.string()), pa.array([user for _, user in events], pa.string())
            )
            seen: dict[int, list[str]] = {}
            for at in range(max(result.rounds.tolist(), default=0) + 1):
                for source, target in result.merges.get(at, []):
                    found.setdefault(result.keys[target], []).extend(found.pop(result.keys[source], []))
                for event in [event for event, turn in enumerate(result.rounds.tolist()) if turn == at]:
                    found.setdefault(result.keys[int(result.profiles[event])], []).append(f"{number}.{event}")
                    seen[event] = sorted(found[result.keys[int(result.profiles[event])]])
            for event, (visitor, user) in enumerate(events):
                key = _one_by_one(histories, owners, known, visitor, user)
                histories.setdefault(key, []).append(f"{number}.{event}")
                assert seen[event] == sorted(histories[key])
        identity.close()
    assert {key: sorted(each) for key, each in found.items()} == {key: sorted(each) for key, each in histories.items()}


def _one_by_one(histories: dict[str, list[str]], owners: dict[str, str], known: set[str], visitor: str | None, user: str | None) -> str:
    """The key of the profile that an event belongs to, after what it says of its visitor."""
    owner = owners.get(visitor) if visitor is not None else None
    if visitor is not None and user is not None and owner != user and visitor not in known:
        owners[visitor] = user
        if owner is None:
            known.add(user)
            histories.setdefault(f"u:{user}", []).extend(histories.pop(f"v:{visitor}", []))
    name = user or owner
    return f"v:{visitor}" if name is None else f"u:{name}"

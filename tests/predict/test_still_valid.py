"""Whether a decision still holds, checked in another process against the worker's state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from sokuji.act.decision import Recorded, decisions
from sokuji.act.pages.gate import Eligibility
from sokuji.analyze.compile import Declared, compile_for
from sokuji.analyze.progress import Progress
from sokuji.errors import InvalidRequestError, OnlineStoreError, RuleError
from sokuji.events import IDENTITY_SCHEMA
from sokuji.features.kernel.strings import Vocabulary
from sokuji.identity.current import Merges
from sokuji.predict.still_valid import Recheck, Rechecks
from sokuji.rules.decision import Decision
from sokuji.rules.eligibility import Question
from tests.analyze.side import Side, declare, drain, engine, following, side
from tests.lake.platform import START_US

FEATURES = """
from sokuji.features import events, view

buys, views = events("buy"), events("view")
view("shopper", entity="visitor", seen=views.count().over("1h"), last_item=views.last("item"), spend=buys.sum("revenue").over("1h"))
"""
ACTIONS = """
from sokuji.rules import rule, webhook

hook = webhook("https://shop.example/hook")  # of several messages at one event only the first is decided
rule("cart", on="cart", unless="buy", do=hook, expires="2h")
rule("tea", on="cart", still="last_item = 'tea'", do=hook, expires="2h")
rule("busy", on="cart", still="seen_1h >= 2 AND spend_1h = 0", do=hook, expires="2h")
"""
SECOND = 1_000_000


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Side]:
    with side(tmp_path) as opened:
        yield opened


def event(name: str, at: int, visitor: str | None = "a", **more: Any) -> dict[str, Any]:
    return {
        "event_name": name,
        "type": "track",
        "visitor_id": visitor,
        "message_id": f"{name}{at}{visitor}",
        "received_at": START_US + at * SECOND,
        "properties": {"item": "tea", "revenue": 3},
        **more,
    }


def opened_recheck(shop: Side, declared: Declared) -> Recheck:
    """What asks the state beside the worker."""
    merges, folder = Merges(shop.logs.identities), shop.folder / "analyze"
    return Recheck("shop", following(shop, declared), merges, folder, open_reader=shop.online.read)


Ask = Callable[[Declared], Recheck]


@pytest.fixture
def recheck(shop: Side) -> Iterator[Ask]:
    """Opens the state beside the worker, for declarations."""
    with ExitStack() as stack:

        def opened(declared: Declared) -> Recheck:
            return stack.enter_context(closing(opened_recheck(shop, declared)))

        yield opened


def decided(shop: Side) -> list[Decision]:
    """What the log holds, in the order of the rules' names."""
    rows = [row | row["properties"] | {"id": row["message_id"]} for row in shop.decisions()]
    return sorted((msgspec.convert(row, Decision) for row in rows if row["event_name"] == "action_decided"), key=lambda each: each.rule)


def questions(*decisions: Decision, users: Collection[str] | None = None) -> list[Question]:
    return [Question(decision, users) for decision in decisions]


def asked(shop: Side, state: Recheck, at: int, *, users: Collection[str] | None = None) -> dict[str, str | None]:
    found = decided(shop)
    reasons = state.reasons(questions(*found, users=users), START_US + at * SECOND)
    return {decision.rule: reason for decision, reason in zip(found, reasons, strict=True)}


def test_it_is_asked_of_the_state_as_it_is_now(shop: Side, recheck: Ask, tmp_path: Path) -> None:
    declared = declare(tmp_path, FEATURES, ACTIONS)
    shop.track(event("view", 0), event("view", 1), event("cart", 2))
    with shop.worker(declared) as worker:
        drain(worker)
        state = recheck(declared)
        assert asked(shop, state, 3) == {"busy": None, "cart": None, "tea": None}
        # Time goes by without any event, and windows end.
        assert asked(shop, state, 4000) == {"busy": "no_longer_true", "cart": None, "tea": None}
        shop.track(event("view", 4, properties={"item": "a word that the reader has never seen"}))
        drain(worker)
        assert asked(shop, state, 5) == {"busy": None, "cart": None, "tea": "no_longer_true"}
        shop.track(event("buy", 6))
        drain(worker)
        assert asked(shop, state, 7) == {"busy": "no_longer_true", "cart": "stopped", "tea": "no_longer_true"}
        assert asked(shop, state, 2 * 3600 + 2) == dict.fromkeys(("busy", "cart", "tea"), "expired")


def test_what_a_visitor_buys_as_a_user_counts(shop: Side, recheck: Ask, tmp_path: Path) -> None:
    declared = declare(tmp_path, FEATURES, ACTIONS)
    shop.track(event("view", 0), event("view", 1), event("cart", 2))
    with shop.worker(declared) as worker:
        drain(worker)
        state = recheck(declared)
        shop.track(event("identify", 3, user_id="u", type="identify"))
        drain(worker)
        assert asked(shop, state, 4) == {"busy": None, "cart": None, "tea": None}
        shop.track(event("buy", 5, visitor=None, user_id="u"), partition=1)
        drain(worker)
        expected = {"busy": "no_longer_true", "cart": "stopped", "tea": None}
        assert asked(shop, state, 6) == asked(shop, recheck(declared), 6) == expected


def test_who_only_says_to_be_a_user_learns_nothing_of_the_users_profile(shop: Side, recheck: Ask, tmp_path: Path) -> None:
    declared = declare(tmp_path, FEATURES, ACTIONS)
    shop.track(event("view", 0), event("view", 1), event("cart", 2))
    with shop.worker(declared) as worker:
        drain(worker)
        state = recheck(declared)
        nothing = {"busy": None, "cart": None, "tea": None}
        assert asked(shop, state, 3, users=[]) == nothing, "of the visitor's own profile"
        shop.track(event("identify", 3, user_id="u", type="identify"))
        told = dict.fromkeys(nothing, "unproven_user")
        for at, name in enumerate(("nothing", "view", "buy"), 4):  # whatever the user does
            shop.track(event(name, at, visitor=None, user_id="u", properties={"item": "cup"}), partition=1)
            drain(worker)
            assert asked(shop, state, at, users=[]) == asked(shop, state, at, users=["other"]) == told
        expected = {"busy": None, "cart": "stopped", "tea": "no_longer_true"}
        assert asked(shop, state, 7, users=["other", "u"]) == asked(shop, state, 7) == expected


def test_while_a_worker_repeats_what_was_done_nothing_is_told(shop: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.act.pages.gate._BEHIND_SECONDS", 0.05)
    declared = declare(tmp_path, FEATURES, ACTIONS)
    shop.track(event("view", 0), event("view", 1), event("cart", 2))
    with shop.worker(declared) as worker:
        drain(worker)
        worker.checkpoint(wait=True)
        shop.track(event("buy", 3))
        drain(worker)  # and is killed
    with pytest.raises(InvalidRequestError) as refused:
        shown(shop, declared)
    assert refused.value.status == 503
    with shop.worker(declared) as worker:
        assert worker.is_replaying
        with pytest.raises(InvalidRequestError):
            shown(shop, declared)
        drain(worker)
        assert shown(shop, declared) == {"busy": "no_longer_true", "cart": "stopped", "tea": None}


def shown(shop: Side, declared: Declared) -> dict[str, str | None]:
    """What the `api` role would say at a display."""
    progress = Progress(shop.folder / "analyze" / "progress", shop.logs.events.partitions)
    state = opened_recheck(shop, declared)
    checks = Eligibility(Rechecks({"shop": state}), shop.logs.events, progress.current, shop.logs.decisions, lambda: START_US + 5 * SECOND)
    made = [each.decision for each in decisions(shop.logs.decisions.read(0, 0, 100)) if isinstance(each, Recorded)]
    try:
        reasons = asyncio.run(checks.reasons(made, "1.1.1.1", []))
    finally:
        checks.close()
        progress.close()
    return {decision.rule: reason for decision, reason in zip(made, reasons, strict=True)}


def test_a_rule_that_is_gone_is_off(shop: Side, recheck: Ask, tmp_path: Path) -> None:
    declared = declare(tmp_path, FEATURES, ACTIONS)
    shop.track(event("cart", 2))
    with shop.worker(declared) as worker:
        drain(worker)
        state = recheck(declared)
        [made, *_] = decided(shop)
        renamed = msgspec.structs.replace(made, rule="gone")
        assert state.reasons(questions(renamed), START_US + 3 * SECOND) == ["off"]
        elsewhere = msgspec.structs.replace(made, dataset="gone")
        states = Rechecks({"shop": state})
        assert states.reasons(questions(elsewhere, made, renamed), START_US + 3 * SECOND) == ["off", "no_longer_true", "off"]


def test_without_the_workers_state_it_cannot_be_told(shop: Side, recheck: Ask, tmp_path: Path) -> None:
    declared = declare(tmp_path, FEATURES, ACTIONS)
    shop.track(event("cart", 2))
    with shop.worker(declared) as worker:
        drain(worker)
    others = declare(tmp_path, FEATURES, ACTIONS + '\nrule("more", on="cart", unless="buy", do=hook)\n')
    with pytest.raises(OnlineStoreError, match="is not complete"):
        recheck(others).reasons(questions(*decided(shop)), START_US)
    with shop.worker(declared):
        state = recheck(declared)
        state.reasons(questions(*decided(shop)), START_US)
    with shop.worker(others), pytest.raises(OnlineStoreError, match="other declarations"):
        state.reasons(questions(*decided(shop)), START_US)


def test_a_state_rebuilt_with_other_types_is_followed(shop: Side, recheck: Ask, tmp_path: Path) -> None:
    declared = declare(tmp_path, FEATURES, ACTIONS.replace("last_item = 'tea'", "last_item IS NULL"))
    early = recheck(declared)  # of a process that is up before the worker
    shop.track(event("cart", 2), event("view", 3))
    with shop.worker(declared) as worker:
        drain(worker)
        worker.checkpoint(wait=True)
        shop.sink()
        with engine(shop) as sql:
            sql.execute("ALTER TABLE shop.events ALTER COLUMN item SET DATA TYPE FLOAT64")
        for state in (early, recheck(declared)):
            assert asked(shop, state, 4) == {"busy": "no_longer_true", "cart": None, "tea": "no_longer_true"}
    with shop.worker(declared) as worker:
        drain(worker)
        for state in (early, recheck(declared)):
            assert asked(shop, state, 4) == {"busy": "no_longer_true", "cart": None, "tea": None}


@pytest.mark.parametrize(
    ("still", "message"),
    [("revenue > 3", "still=... names revenue, no feature or score"), ("seen_1h", "is INT64; a condition is true or false")],
)
def test_still_is_about_features_alone(shop: Side, tmp_path: Path, still: str, message: str) -> None:
    declared = declare(tmp_path, FEATURES, ACTIONS.replace("seen_1h >= 2 AND spend_1h = 0", still))
    with pytest.raises(RuleError, match=message):
        compile_for("shop", declared, shop.lake, shop.models, Vocabulary())


def test_merges_of_long_ids_take_no_more_memory(shop: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.identity.current._MERGES_TEXT_MAX", 100_000)
    merges = Merges(shop.logs.identities)
    said = {"dataset": "shop", "source": "web", "message_id": "m", "kind": "merged", "user_id": "u", "known_at": START_US}
    rows = [said | {"visitor_id": f"{number % 30}{'x' * 5_000}"} for number in range(60)]
    shop.logs.identities.append(0, pa.RecordBatch.from_pylist(rows, schema=IDENTITY_SCHEMA))
    merges.refresh()
    assert 10 < len(merges._users) < 21
    assert merges.profile("shop", f"v:{rows[-1]['visitor_id']}") == "u:u"

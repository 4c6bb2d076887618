"""What an event without proof can and cannot do to others: the lines of `docs/security.md` that the worker enforces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sokuji.analyze.worker import Worker
from sokuji.identity.base import VISITORS_PER_USER_MAX
from sokuji.proof import visitor_id_of
from tests.analyze.side import Side, StateInMemory, declare, drain, numbered, read_all, side
from tests.analyze.test_worker import FEATURES, buy, features

ACTIONS = """
from sokuji.rules import popup, rule, webhook

rule("second", on="buy", when="buys_1d = 2", do=popup(title="{item} after {last_item}", link="{link|}", image="{image|}"))
rule("crm", on="lead", do=webhook("https://crm.example/", user="{user_id}"))
"""
VICTIM = visitor_id_of("the victim's secret")
UNPROVEN = {"context": '{"unproven":true}'}  # as the collector marks it


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Side]:
    with side(tmp_path, StateInMemory()) as opened:
        yield opened


@pytest.fixture
def worker(shop: Side, tmp_path: Path) -> Iterator[Worker]:
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as running:
        yield running


def decided(shop: Side) -> list[dict[str, Any]]:
    return [row["properties"] for row in shop.decisions() if row["event_name"] == "action_decided"]


def test_a_user_id_that_is_anothers_visitor_id_is_another_profile(shop: Side, worker: Worker) -> None:
    shop.track(*numbered(buy(VICTIM, at=1), buy(visitor_id_of("attacker"), at=2, user_id=VICTIM), buy(None, at=3, user_id=VICTIM)))
    drain(worker)
    assert [each["buys_1d"] for each in features(worker, f"v:{VICTIM}", f"u:{VICTIM}")] == [1, 2]
    assert [each["profile"] for each in decided(shop)] == [f"u:{VICTIM}"]
    # Nor does it keep the victim from signing in.
    shop.track(*numbered(buy(VICTIM, at=4, user_id="me"), start=9))
    drain(worker)
    assert features(worker, "u:me")[0]["buys_1d"] == 2


def test_naming_anothers_visitor_ones_own_user_takes_nothing_of_the_visitor(shop: Side, worker: Worker) -> None:
    claim = {"visitor_id": VICTIM, "user_id": "attacker", **UNPROVEN}
    alias = {"type": "alias", "event_name": "alias", "visitor_id": None, "user_id": "attacker", "properties": {"previous_id": VICTIM}}
    shop.track(*numbered(buy(VICTIM, at=1), buy(at=2, visitor=VICTIM) | claim | {"event_name": "view"}, alias | UNPROVEN))
    shop.track(*numbered(buy(None, at=5, user_id="attacker"), start=9))
    drain(worker)
    assert features(worker, "u:attacker")[0]["last_item"] == "i5"
    assert [each["buys_1d"] for each in features(worker, f"v:{VICTIM}", "u:attacker")] == [1, 1]
    assert [row["kind"] for row in read_all(shop.logs.identities)] == ["refused", "refused"]


def test_200_fake_visitors_keep_a_users_next_device_apart_and_nothing_else(shop: Side, worker: Worker) -> None:
    fakes = [{"visitor_id": f"fake {number}", "user_id": "victim", "event_name": "view"} for number in range(VISITORS_PER_USER_MAX)]
    shop.track(*numbered(buy("phone", at=1, user_id="victim"), *fakes, buy("phone", at=2)))
    named = buy("tablet", at=3, user_id="victim")
    shop.track(*numbered(buy("tablet", at=3), named, buy(None, at=4, user_id="victim"), start=900))
    drain(worker)
    # What names the user or a device that was known before counts; only the tablet's past stays its own.
    assert [each["buys_1d"] for each in features(worker, "u:victim", "v:tablet")] == [4, 1]


def test_a_message_id_sent_first_takes_the_place_of_the_message(shop: Side, worker: Worker) -> None:
    shop.track(buy("attacker", at=1) | {"message_id": "known"})
    shop.track(buy(VICTIM, at=2) | {"message_id": "known"})
    drain(worker)
    assert [each["buys_1d"] for each in features(worker, "v:attacker", f"v:{VICTIM}")] == [1, 0]


def test_of_an_attackers_text_and_image_only_text_gets_into_a_message(shop: Side, worker: Worker) -> None:
    said = {
        "item": "<img src=x onerror=alert(1)>\u202e",
        "link": "https://evil.example/steal?you",
        "image": "https://evil.example/pixel.gif",
    }
    shop.track(*numbered(buy(VICTIM, at=1), buy(VICTIM, at=2) | {"properties": said}))
    drain(worker)
    [message] = [each["action"] for each in decided(shop)]
    assert message["title"] == "<img src=x onerror=alert(1)> after <img src=x onerror=alert(1)>"  # which the tag shows as text
    assert (message["link"], message["image"]) == ("/steal?you", "")


def test_anyone_can_let_a_webhook_be_called_with_anyones_id(shop: Side, worker: Worker) -> None:
    shop.track(*numbered({"visitor_id": None, "user_id": "victim", "event_name": "lead"}))
    drain(worker)
    assert [each["action"]["body"] for each in decided(shop)] == [{"user": "victim"}]

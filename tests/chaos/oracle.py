"""Expected answers of a shop's platform, computed from the acknowledged events in plain Python, without code of the platform."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sokuji
from sokuji.errors import SokujiError
from tests.act.receiver import Receiver
from tests.chaos.shop import Customer, Event

WAIT_SECONDS = 120.0
COMMAND_SECONDS = 1200.0  # of a long run, on a machine that does other things too
FEATURES_COUNT = 5


@dataclass
class Profile:
    """What is known of a person."""

    bought: list[Event] = field(default_factory=list)

    def features(self) -> dict[str, Any]:
        revenues = [event["properties"]["revenue"] for event in self.bought]
        newest = max(self.bought, key=lambda event: str(event["timestamp"]), default=None)
        return {
            "buys": len(self.bought),
            "spend": float(sum(revenues)),
            "items": len({event["properties"]["item"] for event in self.bought}),
            "last_item": newest and newest["properties"]["item"],
            "dearest": float(max(revenues)) if revenues else None,
        }


class Expected:
    """The answers, by a walk over each customer's events in their order."""

    def __init__(self, customers: Iterable[Customer]) -> None:
        self.events: Counter[tuple[str, int]] = Counter()
        self.decided: dict[tuple[str, int], float] = {}  # (who, number) of the trigger: the spend at it
        self._owners: dict[str, str] = {}
        self._profiles: dict[str, Profile] = {}
        for customer in customers:
            for event in customer.acknowledged:
                self._take(event)

    def _take(self, event: Event) -> None:
        who, number = str(event["anonymousId"]), int(event["properties"]["number"])
        self.events[who, number] += 1
        if "userId" in event and who not in self._owners:
            self._owners[who] = event["userId"]
            self._profile(event["userId"]).bought += self._profiles.pop(who, Profile()).bought
        profile = self._profile(self._owners.get(who, who))
        if event["event"] == "buy":
            profile.bought.append(event)
            if len(profile.bought) == 3:
                self.decided[who, number] = profile.features()["spend"]

    def _profile(self, key: str) -> Profile:
        return self._profiles.setdefault(key, Profile())

    def features(self) -> dict[str, dict[str, Any]]:
        """By visitor."""
        visitors = {who for who, _ in self.events}
        return {who: self._profile(self._owners.get(who, who)).features() for who in sorted(visitors)}


_LAKE = "SELECT keys.visitor_id AS who, number, COUNT(*) AS n, SUM(revenue) AS revenue FROM main.events WHERE source = 'web' GROUP BY 1, 2"
_DECIDED = """
SELECT decided.message_id AS id, web.keys.visitor_id AS who, web.number AS number
FROM main.events AS decided JOIN main.events AS web ON web.message_id = JSON_VALUE(decided.properties.trigger_id) AND web.source = 'web'
WHERE decided.event_name = 'action_decided'
"""


def sql(folder: Path, query: str) -> list[dict[str, Any]]:
    """What `sokuji sql` answers, in a process of its own: nothing to a statement that has no rows."""
    done = _sokuji("sql", "-p", str(folder), "--format", "json", query)
    assert done.returncode == 0, (done.returncode, done.stderr)
    rows: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return rows


def check_running(folder: Path, customers: Sequence[Customer], *, but: Collection[str] = ()) -> None:
    """That online reads say what the oracle says, once the worker has come to the end of what was acknowledged.

    The features `but` are not compared: what was last nobody knows where the platform's clock went to and fro.
    """
    expected, deadline = _without(Expected(customers).features(), but), 0.0
    while True:
        answers = _ask(folder, expected)
        found = {} if isinstance(answers, SokujiError) else _without(answers, but)
        if found == expected:
            return
        deadline = deadline or time.monotonic() + WAIT_SECONDS  # asking for all of a long run may take longer itself
        assert time.monotonic() < deadline, (
            answers if not found else "",
            {who: (found.get(who), each) for who, each in expected.items() if found.get(who) != each},
        )
        time.sleep(0.5)


def _ask(folder: Path, visitors: Iterable[str]) -> dict[str, dict[str, Any]] | SokujiError:
    try:
        with sokuji.open(folder) as platform:
            return {visitor: platform.online_features(visitor) for visitor in visitors}
    except SokujiError as error:
        return error


def _without(features: Mapping[str, Mapping[str, Any]], but: Collection[str]) -> dict[str, dict[str, Any]]:
    return {who: {name: value for name, value in each.items() if name not in but} for who, each in features.items()}


def check(folder: Path, customers: Sequence[Customer], receiver: Receiver) -> None:
    """That the lake, SQL, decisions, deliveries and `features verify` say what the oracle says. The platform may have ended."""
    expected = Expected(customers)
    lake = sql(folder, _LAKE)
    assert {(row["who"], row["number"]): row["n"] for row in lake} == expected.events
    revenue = sum(event["properties"]["revenue"] for customer in customers for event in customer.acknowledged)
    assert sum(row["revenue"] for row in lake) == revenue
    decided = _decided(folder, Counter(expected.decided.keys()))
    _check_delivered({row["id"]: (row["who"], int(row["number"])) for row in decided}, expected.decided, receiver)
    check_verified(folder, features=FEATURES_COUNT)


def _decided(folder: Path, wanted: Counter[tuple[str, int]]) -> list[dict[str, Any]]:
    """The decisions in the lake, once they are those that are wanted: a sink that died of a full disk again and again is waited for."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        decided = sql(folder, _DECIDED)
        found = Counter((row["who"], row["number"]) for row in decided)
        if found == wanted:
            return decided
        assert time.monotonic() < deadline, (found - wanted, wanted - found)
        time.sleep(0.5)


def check_verified(folder: Path, *, features: int) -> None:
    """That `features verify` finds nothing, in something."""
    done = _sokuji("features", "verify", "-p", str(folder), "--json")
    assert done.stdout, done.stderr
    verified = json.loads(done.stdout.splitlines()[-1])
    assert verified | {"rows": 0} == {"rows": 0, "features": features, "mismatches": 0, "missing": 0, "extra": 0}, (verified, done.stdout)
    assert verified["rows"] > 0


def _check_delivered(decided: Mapping[str, tuple[str, int]], spend: Mapping[tuple[str, int], float], receiver: Receiver) -> None:
    """Each decision was delivered at least once, as what it was, and nothing else was."""
    deadline = time.monotonic() + WAIT_SECONDS
    while set(receiver.ids) < set(decided) and time.monotonic() < deadline:
        time.sleep(0.1)
    expected = {id_: {"who": who, "number": number, "spend": spend[who, number]} for id_, (who, number) in decided.items()}
    for request in receiver.received:
        assert json.loads(request.body) == expected[request.id]
    assert set(receiver.ids) == set(expected)


def _sokuji(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sokuji", *arguments], check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS
    )

"""Hostile events through a live platform: lake, SQL, online reads and `features verify` show what was sent.

Messages come again soon and much later, roles are killed, a column is altered; at the end rows are deleted and the state is rebuilt.
"""

from __future__ import annotations

import http.client
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sokuji.roles.up import running
from tests.chaos import oracle, shop
from tests.chaos.shop import KEY
from tests.e2e.killing import kill_role

FEATURES = """
from sokuji.features import events, view
buys = events("buy")
view(
    "shopper", entity="visitor",
    buys=buys.count(), spend=buys.sum("price"), texts=buys.distinct("text"), last_text=buys.last("text"), dearest=buys.max("price"),
    deep=buys.where("price > 5").count(),
)
"""
ACTIONS = """
from sokuji.rules import popup, rule
rule("dear", on="buy", when="price > 90", do=popup(title="{text|nothing} {spend}"))
"""
_TEXTS = (
    "",
    "a",
    "'",
    '"',
    "\\",
    "\0",
    "\ud800",
    "急須",
    "é",
    "x" * 5000,
    "{}",
    "null",
    "9e999",
    "-0",
    "%s",
    "$.a",
    "\u2028",
    "DROP TABLE",
)
_NUMBERS = (
    "0",
    "-0",
    "-0.0",
    "1",
    "99.5",
    "1e308",
    "-1e308",
    "1e309",
    "-9e9999",
    "5e-324",
    "1e-400",
    "9007199254740993",
    "1" * 400,
    "NaN",
    "-Infinity",
)
_TIMES = (
    "",
    "2026-01-01T00:00:00Z",
    "2099-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "yesterday",
    "1970-01-01t00:00:00z",
)
_BATCH = 25
_STRETCH_ROWS = 200
_LOG = ("[log]\n", f"[log]\npartitions = 1\ndeduplication_rows = {2 * _STRETCH_ROWS}\n")
_KILL_SHARE, _ALTER_SHARE = 0.02, 0.01  # of the requests
_WAIT_SECONDS = 120.0
_VISITORS, _USERS = [f"v{number}" for number in range(12)], ["u1", "u2", "u3", "v1", "v2"]
_ALTER = "ALTER TABLE main.events ALTER COLUMN price SET DATA TYPE FLOAT64"
_ASK = """
import json, sys
import sokuji
with sokuji.open(sys.argv[1]) as platform:
    found = {f"v:{id}": platform.online_features(id) for id in sys.argv[2].split(",")}
    found |= {f"u:{id}": platform.online_features(user_id=id) for id in sys.argv[3].split(",")}
print(json.dumps({key: [each["buys"], each["deep"]] for key, each in found.items()}))
"""
_STORED = "SELECT message_id AS id, price FROM main.events WHERE source = 'web' AND message_id != 'warm'"
_READABLE = """
SELECT COUNTIF(JSON_TYPE(properties) = 'object' AND IFNULL(JSON_VALUE(properties, '$.text'), '') IS NOT NULL) AS objects
FROM main.events WHERE source = 'web' AND message_id != 'warm'
"""


class Sender:
    """Makes requests, sends them, and keeps what was taken."""

    def __init__(self, chance: random.Random, port: int) -> None:
        self._chance, self._port = chance, port
        self.count = 0
        self.taken: dict[str, str] = {}  # by message id, the event's text
        self.arrived: list[str] = ["warm"]  # the ids of all that is in the log, in its order
        self._deleted: set[tuple[int, str]] = set()

    def send(self) -> None:
        """Send one batch until it is answered, with some of what was sent before."""
        events = {}
        for _ in range(_BATCH):
            message = f"f{self.count}"
            self.count += 1
            events[message] = self._event(message)
        repeats = self._chance.sample(list(self.taken), min(3, len(self.taken)))
        texts = [*events.values(), *(self.taken[message] for message in repeats)]
        body = '{{"writeKey":"{}","batch":[{}]}}'.format(KEY, ",".join(texts))
        refused = self.post(body.encode("utf-8", "surrogatepass"))
        for place, (message, text) in enumerate(events.items()):
            if str(place) not in refused and message not in refused:
                self.taken[message] = text
                self.arrived.append(message)
        self.arrived += repeats

    def delete(self) -> set[str]:
        """Choose messages that are deleted now."""
        deleted = set(self._chance.sample(list(self.taken), len(self.taken) // 5))
        self._deleted |= {(place, message) for place, message in stored(self.arrived) if message in deleted}
        return deleted

    def left(self) -> list[str]:
        """The messages that the events table has, in their order."""
        return [message for place, message in stored(self.arrived) if message != "warm" and (place, message) not in self._deleted]

    def post(self, body: bytes) -> dict[str, Any]:
        """Send a request until it is taken; the results of what was refused in it."""
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            connection.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            connection.close()
            if response.status == 200:
                results: dict[str, Any] = answer.get("results", {})
                return results
            assert response.status in {429, 503}, (response.status, answer, body[:2000])
            time.sleep(0.1)

    def _event(self, message: str) -> str:
        chance = self._chance
        kind = chance.choice(["track"] * 8 + ["identify", "alias", "page"])
        parts = [f'"type":"{kind}"', f'"messageId":"{message}"', f'"anonymousId":"{chance.choice(_VISITORS)}"']
        if kind == "track":
            parts.append('"event":"{}"'.format(chance.choice(["buy", "buy", "view"])))
        if kind in {"identify", "alias"} or chance.random() < 0.1:
            parts.append(f'"userId":"{chance.choice(_USERS)}"')
        if kind == "alias":
            parts.append(f'"previousId":"{chance.choice(_VISITORS)}"')
        if chance.random() < 0.3:
            parts.append(f'"timestamp":{json.dumps(chance.choice(_TIMES))}')
        inside = "traits" if kind == "identify" else "properties"
        parts.append(f'"{inside}":{self._object(3)}')
        if chance.random() < 0.3:
            parts.append(f'"context":{self._object(2)}')
        return "{" + ",".join(parts) + "}"

    def _object(self, depth: int) -> str:
        names: list[Callable[[], str]] = [
            lambda: f'"price":{self._value(depth - 1, self._chance.choice([_NUMBERS, _NUMBERS, ("50", "95", "7.25")]))}',
            lambda: f'"text":{self._text()}',
            lambda: f'"pr\\u0069ce":{self._chance.choice(_NUMBERS)}',
            lambda: f"{self._text()}:{self._value(depth - 1, _NUMBERS)}",
        ]
        return "{" + ",".join(self._chance.choice(names)() for _ in range(self._chance.randrange(5))) + "}"

    def _value(self, depth: int, numbers: tuple[str, ...]) -> str:
        kind = self._chance.randrange(10)
        if kind < 6:
            return self._chance.choice(numbers)
        if kind < 8 or depth <= 0:
            return self._chance.choice([self._text(), "true", "false", "null"])
        return self._object(depth) if kind == 8 else f"[{self._value(depth - 1, numbers)}]"

    def _text(self) -> str:
        return json.dumps(self._chance.choice(_TEXTS))


def first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of which a name's first value counts, as in BigQuery."""
    return dict(reversed(pairs))


def price(text: str) -> float | None:
    """The property `price` of a tracked event as a number: NULL where it is none, or beyond FLOAT64."""
    value = json.loads(text, object_pairs_hook=first_wins, parse_int=float).get("properties", {}).get("price")
    return value if isinstance(value, float) and math.isfinite(value) else None


def stored(arrived: Sequence[str]) -> list[tuple[int, str]]:
    """The messages that are no repeats, with their places in the log: one counts again if it was not taken in this stretch or the last."""
    taken: set[tuple[str, int]] = set()
    rows: list[tuple[int, str]] = []
    for place, message in enumerate(arrived):
        stretch = place // _STRETCH_ROWS
        if not {(message, stretch), (message, stretch - 1)} & taken:
            taken.add((message, stretch))
            rows.append((place, message))
    return rows


def counts(events: Iterable[str]) -> dict[str, list[int]]:
    """Of each visitor and user, purchases and those above 5: of the person they are known as in the end."""
    owners: dict[str, str] = {}
    known: set[str] = set()  # users that visitors were known as
    of: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text in events:
        event = json.loads(text, object_pairs_hook=first_wins, parse_int=float)
        visitor, user = event.get("previousId", event["anonymousId"]), event.get("userId")
        if user and owners.get(visitor) != user and visitor not in known:  # one known user is never merged into another
            if visitor not in owners:
                of[f"u:{user}"] += of.pop(f"v:{visitor}", Counter())
                known.add(user)
            owners[visitor] = user
        user = user or owners.get(visitor)
        if event.get("event") == "buy":
            of[f"u:{user}" if user else f"v:{visitor}"].update({"buys": 1, "deep": (price(text) or 0) > 5})
    keys = {f"v:{id_}": f"u:{owners[id_]}" if id_ in owners else f"v:{id_}" for id_ in _VISITORS}
    keys |= {f"u:{id_}": f"u:{id_}" for id_ in _USERS}
    return {key: [of[profile]["buys"], of[profile]["deep"]] for key, profile in keys.items()}


def fuzz(seed: int, seconds: float) -> int:
    """As `tests.fuzz` says."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder, chance = Path(name), random.Random(seed)
        port = shop.make(folder, receiver="127.0.0.1:9")  # nobody: no rule here has a webhook
        (folder / "sokuji.toml").write_text((folder / "sokuji.toml").read_text().replace(*_LOG))
        (folder / "features.py").write_text(FEATURES)
        (folder / "actions.py").write_text(ACTIONS)
        sender, log, kills = Sender(chance, port), folder / "log.txt", 0
        with running(folder, log=log) as supervisor:
            warm = '{"type":"track","event":"warm","messageId":"warm","anonymousId":"warm","properties":{"price":1.5,"text":"a"}}'
            sender.post(b'{"writeKey":"%s","batch":[%s]}' % (KEY.encode(), warm.encode()))
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                sender.send()
                if chance.random() < _KILL_SHARE:
                    kill_role(supervisor.pid, chance.choice(["analyze", "sink"]))
                    kills += 1
                if chance.random() < _ALTER_SHARE:
                    oracle.sql(folder, _ALTER)
            _check(folder, sender)
            _delete(folder, sender)
            _check(folder, sender)
        died = re.findall(r"starting it again[^\n]*", log.read_text())
        assert len(died) == kills, died
        _check_lake(folder, sender)
    return sender.count


def _delete(folder: Path, sender: Sender) -> None:
    """Delete some messages, rebuild the state, and send on; what was deleted comes again, too."""
    deleted = sender.delete()
    oracle.sql(folder, f"DELETE FROM main.events WHERE message_id IN ({', '.join(map(repr, sorted(deleted)))})")
    command = [sys.executable, "-m", "sokuji", "apply", "-p", str(folder), "--rebuild"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for _ in range(10):
        sender.send()


def _check(folder: Path, sender: Sender) -> None:
    rows = _check_lake(folder, sender)
    wanted, deadline = counts(sender.taken[message] for message in rows), time.monotonic() + _WAIT_SECONDS
    command = [sys.executable, "-c", _ASK, str(folder), ",".join(_VISITORS), ",".join(_USERS)]
    while True:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        if found == wanted:
            break
        differ = {key: (found.get(key), each) for key, each in wanted.items() if found.get(key) != each}
        assert time.monotonic() < deadline, (done.stderr[-2000:], differ)
        time.sleep(0.5)
    oracle.check_verified(folder, features=6)


def _check_lake(folder: Path, sender: Sender) -> list[str]:
    """The messages that the lake must have, in their order, after a comparison with those that it has."""
    left = sender.left()
    rows = oracle.sql(folder, _STORED)
    assert Counter(row["id"] for row in rows) == Counter(left)
    for row in rows:
        text = sender.taken[row["id"]]
        if '"type":"track"' in text:
            assert (row["price"] or 0.0) == (price(text) or 0.0), (row, text)
    assert oracle.sql(folder, _READABLE) == [{"objects": len(rows)}]
    return left

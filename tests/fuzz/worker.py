"""Hostile events through the worker: none stops it, all are counted, and its decisions can be read."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from sokuji.act.decision import Recorded, decisions
from sokuji.track.check import Limits
from sokuji.track.columns import to_arrow
from sokuji.track.parse import parse_batch
from sokuji.track.skew import ClockOffsets
from sokuji.web.write_keys import EventSource
from tests import hostile
from tests.analyze.side import PARTITIONS, SHARED, Side, declare, drain, read_all, side

FEATURES = """
from sokuji.features import events, view

every = events()
view(
    "all_of_them", entity="visitor", count=every.count().over("all"), spend=every.sum("price").over("all"), last=every.last("name"),
    most=every.max("LAX_FLOAT64(properties.price)").over("7d"), names=every.distinct("name").over("7d"),
    depth=every.mean("LENGTH(TO_JSON_STRING(context))").over("7d"),
)
"""
ACTIONS = """
from sokuji.rules import popup, project, quiet_hours, rule, webhook

project(quiet=quiet_hours("22:00-22:01", zone="visitor"))
rule("shown", on="e", do=popup(title="{name|} {properties.price|} {context.timezone|} {price|}", link="/x?{context.name|}{a b|}"))
rule("sent", on=["page", "alias", "e"], do=webhook("https://x.example/", a="{price|}", b="{name|}", c="{properties.new|}", d="{last|}"))
rule("later", on="e", after="1s", unless="buy", when="JSON_VALUE(properties, '$.name') IS NULL", do=webhook("https://x.example/", a="{a}"))
"""
TRIGGERS = {"shown": {"e"}, "sent": {"page", "alias", "e"}}
ZONES = ["Asia/Tokyo", "..", "Asia", "/etc/passwd", "\0", "x" * 300, "", "posixrules", "日本", "UTC\n"]
TIMES = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59.999999-12:00", "2026-01-01T00:00:00+14:00"]
_NOW_US = 1_767_225_600_000_000
_EVENTS = 40
_STEP_US = 10_000  # so slow that no run comes to quiet hours


def fuzz(seed: int, seconds: float) -> int:
    """Batches into one worker."""
    random, count = Random(seed), 0
    with tempfile.TemporaryDirectory() as folder, side(Path(folder), SHARED) as opened:
        with opened.worker(declare(Path(folder), FEATURES, ACTIONS)) as worker:
            deadline = time.monotonic() + seconds  # compiling took its time
            while time.monotonic() < deadline:
                stored = track(opened, random, count)
                count += stored
                drain(worker)
        check(opened)
    return count


def track(opened: Side, random: Random, number: int) -> int:
    """Put events into the log as the collector does, and say how many."""
    body = f'{{"batch":[{",".join(_event(random, number + each) for each in range(_EVENTS))}]}}'
    request = parse_batch(body.encode())
    request.source, request.received_at = EventSource("web", "shop"), _NOW_US + number * _STEP_US
    batches = to_arrow([request], PARTITIONS, Limits(), ClockOffsets(0))
    opened.logs.events.append_many(batches)
    return sum(batch.num_rows for batch in batches.values())


def check(opened: Side) -> None:
    """Hold what came of it to what must.

    Raises:
        AssertionError: an expression failed on an event, a decision cannot be read, or an event has more or fewer than its rules say.
    """
    failed = read_all(opened.logs.bad_events)
    assert not failed, failed[0]
    made: Counter[tuple[str, str]] = Counter()
    log, offset = opened.logs.decisions, 0
    while offset < log.end(0):
        read = log.read(0, offset, 1_000_000)
        for found in decisions(read):
            assert isinstance(found, Recorded), found
            if found.decision.rule in TRIGGERS:
                made[found.decision.rule, found.decision.trigger_id] += 1
        offset = read.next_offset
    assert made == wanted(opened)


def wanted(opened: Side) -> Counter[tuple[str, str]]:
    """The decisions that there must be, as rule and message: an id that a partition has had is a repeat, and all are in one stretch."""
    first = {
        (partition, row["message_id"]): row["event_name"]
        for partition in range(PARTITIONS)
        for row in reversed(read_all(opened.logs.events, partition))
    }
    return Counter((rule, message) for (_, message), event in first.items() for rule, events in TRIGGERS.items() if event in events)


def _event(random: Random, number: int) -> str:
    type_ = random.choice(["track", "track", "page", "identify", "group", "alias"])
    ids: dict[str, Any] = {"anonymousId": random.choice(hostile.TEXTS) or "v", "userId": random.choice(["", "u", "日本 🙂", "a\\b\0"])}
    ids |= {"groupId": "g", "previousId": random.choice(hostile.TEXTS[:8]) or "p", "messageId": f"m{number}", "event": "e", "type": type_}
    if random.randrange(3) == 0:
        ids["timestamp"] = random.choice(TIMES)
    context = hostile.object_(random)
    if random.randrange(2):
        zone = hostile.string(random, random.choice(ZONES)) if random.randrange(4) else hostile.value(random)
        context = f'{{"timezone":{zone}{"," if len(context.strip("{} ")) else ""}{context[1:]}'
    parts = [f'"{name}":{hostile.string(random, value)}' for name, value in ids.items()]
    parts += [f'"context":{context}', f'"properties":{hostile.object_(random)}', f'"traits":{hostile.object_(random)}']
    return "{" + ",".join(parts) + "}"

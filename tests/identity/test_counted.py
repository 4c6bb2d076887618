"""Which events count, and who their visitors are: the stream, a rebuild, training sets and verify all agree, over generated events."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sokuji.analyze.excluded import Excluded, read
from sokuji.analyze.state.history import history as rebuilt
from sokuji.bots import is_bot
from sokuji.events import BAD_EVENT_SCHEMA, EXCLUDED_KEY, IDENTITY_SCHEMA, STOPPED_WORKER
from sokuji.features.training.history import History
from sokuji.identity.base import is_counted, visitors
from sokuji.meta.objects import Ref
from sokuji.rules.decision import own_events
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.verify import history as verify
from tests.analyze.side import Side, declare, side
from tests.lake.platform import START_US, log_rows
from tests.searching import examples

FEATURES = 'from sokuji.features import events, view\nview("shopper", entity="visitor", n=events().count())\n'
AGENTS = [
    (None, False),
    ("{}", False),
    ('{"userAgent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}', False),
    ('{"userAgent": "Mozilla/5.0 (compatible; Examplebot/1.0; +https://bot.example)"}', True),
    ('{"user_agent" : "curl/8.5.0"}', True),
    ('{"page": {"title": "Googlebot/2.1"}, "userAgent": "Mozilla/5.0 CUBOT X30"}', False),
    ('{"device": {"userAgent": "HeadlessChrome"}}', True),
]
PREVIOUS = {
    '{"previous_id": "b"}': "b",
    '{"previous_id":"b", "plan": "x"}': "b",
    '{"plan": {"previous_id": "c"}, "previous_id": "\\u0062"}': "b",
    '{"previous_id": "ひ \\"q\\""}': 'ひ "q"',
    '{"previous_id": "c", "previous_id": "b"}': "c",
    '{"previous\\u005fid": "c"}': "c",
    '{"amount": 1%s, "previous_id": "b"}' % ("0" * 5_000): "b",
}
NO_PREVIOUS = [
    "{}",
    '{"previous_id": ""}',
    '{"previous_id": null}',
    '{"previous_id": 5}',
    '{"previous_id": ["b"]}',
    '{"plan": {"previous_id": "c"}}',
]
Wanted = dict[str, str | None]
"""The visitor of each event that counts, by message id."""


def generated(chance: random.Random, count: int) -> tuple[list[dict[str, Any]], Wanted, list[str]]:
    """Events, what is right about them, and which of them killed the worker."""
    events, wanted, killers = [], Wanted(), list[str]()
    for number in range(count):
        type_, visitor = chance.choice(["track", "alias", "alias", "identify"]), chance.choice([None, "a", "b"])
        user = chance.choice(["u", "w"]) if chance.random() < 0.5 or not visitor else None
        properties, (context, is_program) = chance.choice([*PREVIOUS, *NO_PREVIOUS]), chance.choice(AGENTS)
        time = START_US + number * 1_000_000
        event = {"type": type_, "visitor_id": visitor, "user_id": user, "properties": properties, "context": context}
        events.append({"message_id": f"m{number}", "event_time": time - 1, "received_at": time, **event})
        if chance.random() < 0.1:
            killers.append(f"m{number}")
        elif not is_program:
            previous = PREVIOUS.get(properties) if type_ == "alias" else None
            wanted[f"m{number}"] = previous or visitor
    return events, wanted, killers


def stream(batch: pa.RecordBatch, excluded: Excluded) -> Wanted:
    kept = is_counted(batch) & ~excluded.mask(batch)
    who = zip(batch.column("message_id").to_pylist(), visitors(batch).to_pylist(), kept.tolist(), strict=True)
    return {message: visitor for message, visitor, is_kept in who if is_kept}


def training(shop: Side, folder: Path) -> Wanted:
    views = declare(folder, FEATURES).views
    with Engine(shop.catalog, shop.lake, DuckDb([folder / "lake"], folder / "tmp")) as engine:
        opened = History(engine.execute, "shop", views, {}, {})
        pieces = list(opened._pieces(START_US + 1_000_000_000))
        opened.close()
    rows = [row for piece in pieces for row in piece.select(["event_time", "visitor_id"]).to_pylist()]
    return {f"m{(round(row['event_time'].timestamp()) - START_US // 1_000_000)}": row["visitor_id"] for row in rows}


def verified(shop: Side, excluded: Excluded) -> Wanted:
    happened = verify.read("shop", shop.lake, shop.lake.snapshot(Ref("shop", "events")), IDENTITY_SCHEMA.empty_table(), 1.0, {}, excluded)
    bots = pc.coalesce(happened.events.column("is_bot"), is_bot(happened.events.column("context").combine_chunks())).to_pylist()
    return {message: key for (_, message), key, is_program in zip(happened.ids, happened.keys, bots, strict=True) if not is_program}


@pytest.mark.parametrize("seed", range(examples(3)))
def test_all_agree(tmp_path: Path, seed: int) -> None:
    events, wanted, killers = generated(random.Random(seed), 300)
    assert len(killers) > 10
    with side(tmp_path) as shop:
        shop.catalog.create_dataset("shop")
        shop.track(*events)
        batch = log_rows(events)
        bad = batch.filter(pc.is_in(batch.column("message_id"), pa.array(killers))).select(EXCLUDED_KEY)
        rows = [row | {"dataset": "shop", "code": STOPPED_WORKER, "reason": "", "payload": ""} for row in bad.to_pylist()]
        shop.logs.bad_events.append(0, pa.RecordBatch.from_pylist(rows, schema=BAD_EVENT_SCHEMA))
        own: dict[str, list[Any]] = {"dataset": ["shop"], "message_id": ["own"], "event_name": ["action_decided"]}
        own |= {"visitor_id": ["a"], "event_time": [START_US]}
        shop.logs.decisions.append(0, own_events(own, START_US))
        excluded = read("shop", shop.logs.bad_events, shop.lake)
        shop.sink()
        assert stream(batch, excluded) == wanted
        assert not is_counted(own_events(own, START_US)).any()
        batches = list(rebuilt("shop", shop.lake, shop.lake.snapshot(Ref("shop", "events")), {}))
        assert sum(each.num_rows for each in batches) == len(events)
        assert {message: visitor for each in batches for message, visitor in stream(each, excluded).items()} == wanted
        assert training(shop, tmp_path) == wanted
        users = {str(event["message_id"]): event["user_id"] for event in events}
        keys = {message: f"v:{visitor or ''}" if users[message] is None else f"u:{users[message]}" for message, visitor in wanted.items()}
        assert verified(shop, excluded) == keys

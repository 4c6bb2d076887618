"""Which user or visitor an event belongs to: all components give the same answer for one stream."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from msgspec import structs

from sokuji.events import TIMESTAMP
from sokuji.features.training.offline import OfflineFeatures
from sokuji.identity.base import VISITORS_PER_USER_MAX, LinkKind
from sokuji.identity.current import Merges, Owners
from sokuji.identity.resolve import known
from sokuji.meta.objects import Ref
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.verify import history
from tests.analyze.side import SETTINGS, Side, declare, drain, numbered, read_all, side, verifier
from tests.lake.platform import START_US
from tests.predict.test_features import lookup

FEATURES = """
from sokuji.features import events, view

view("shopper", entity="visitor", n=events().count())
view("account", entity="user", user_n=events().count())
"""
FRESH = VISITORS_PER_USER_MAX + 3
# Visitor, user, and the profile whose event it is when it comes.
STREAM: list[tuple[str | None, str | None, str]] = [
    ("a", None, "v:a"),
    ("a", "ann", "u:ann"),
    ("ann", "ann", "u:ann"),  # a server's: nothing to merge
    ("ann", None, "v:ann"),
    (None, "ann", "u:ann"),
    ("new", None, "v:new"),
    ("new", "new", "u:new"),  # and this one is not known yet
    ("new", None, "u:new"),
    ("ann", "bob", "u:bob"),  # refused: a known user's id is no visitor of bob's
    ("ann", None, "v:ann"),
    ("a", "bob", "u:bob"),  # the device goes to bob
    ("a", None, "u:bob"),
    *((f"f{number}", "server", "u:server") for number in range(FRESH)),  # a fresh id for each call
    (f"f{FRESH - 1}", None, f"v:f{FRESH - 1}"),
    ("f0", None, "u:server"),
    (None, "server", "u:server"),
]
MERGED = {"v:a": "u:ann", "v:new": "u:new", "v:f0": "u:server"}
NOW = {**MERGED, "v:a": "u:bob", "v:ann": "v:ann", f"v:f{FRESH - 1}": f"v:f{FRESH - 1}", "u:bob": "u:bob"}


def _events(put_back_us: int) -> list[dict[str, Any]]:
    """The stream; the clock is put back before bob is known, and right again behind him."""
    back = range(8, 12)
    times = [START_US + at // 3 - put_back_us * (at in back) for at in range(len(STREAM))]  # three in each microsecond
    who = zip(STREAM, times, strict=True)
    return [*numbered(*({"visitor_id": id_, "user_id": user, "received_at": at, "event_time": at - 1} for (id_, user, _), at in who))]


def _counts() -> Counter[str]:
    """By profile, the events it has at the end."""
    return Counter(MERGED.get(key, key) for _, _, key in STREAM)


def _of_users() -> Counter[str]:
    """As a view of users counts: from the moment on that they are known."""
    return Counter(key for _, _, key in STREAM if key.startswith("u:"))


@pytest.mark.parametrize("put_back_us", [0, 7_200_000_000])
def test_all_agree(tmp_path: Path, put_back_us: int) -> None:
    with side(tmp_path) as shop:
        shop.catalog.create_dataset("shop")
        declared = declare(tmp_path, FEATURES)
        with shop.worker(declared, settings=structs.replace(SETTINGS, served_sample=1.0)) as worker:
            sent = _events(put_back_us)
            for start in range(0, len(sent), 10):
                shop.track(*sent[start : start + 10])
                worker.run_once()
            drain(worker)
            worker.checkpoint(wait=True)
            found = lookup(shop, declared)
            online = {key: found.features(key, START_US) for key in _counts()}
        shop.sink()
        assert {key: each["n"] for key, each in online.items()} == _counts()
        assert {key: each["user_n"] for key, each in online.items() if "user_n" in each} == _of_users()
        _check_the_past(shop)
        _check_the_logs(shop)
        if not put_back_us:  # what a label sees goes by times
            _check_training(shop)
        verified = verifier(shop, declared).verify("shop")
        assert verified.json() == {"rows": verified.rows, "features": verified.features, "mismatches": 0, "missing": 0, "extra": 0}
        assert verified.rows >= len(STREAM), verified
        shutil.rmtree(tmp_path / "analyze")
        with shop.worker(declared) as worker:  # rebuilt from the lake
            drain(worker)
            worker.checkpoint(wait=True)
            _check_the_state(shop)
            found = lookup(shop, declared)
            assert {key: found.features(key, START_US)["n"] for key in _counts()} == _counts()


def test_what_a_deleted_event_said_is_not_known_to_a_state_that_is_rebuilt(tmp_path: Path) -> None:
    """Of a visitor's two users the first is deleted: the visitor becomes the second's."""
    with side(tmp_path) as shop:
        declared, settings = declare(tmp_path, FEATURES), structs.replace(SETTINGS, served_sample=1.0)
        who = [("a", None), ("a", "ann"), ("a", "bob"), ("b", None), ("b", "ann")]
        sent = [{"visitor_id": id_, "user_id": user, "received_at": START_US + at} for at, (id_, user) in enumerate(who)]
        shop.track(*numbered(*sent))
        with shop.worker(declared, settings=settings) as worker:
            drain(worker)
        shop.sink()
        shop.delete("m1")
        shop.delete("m4")
        shutil.rmtree(tmp_path / "analyze")
        with shop.worker(declared, settings=settings) as worker:
            shop.track({"message_id": "x", "visitor_id": "a", "received_at": START_US + 10})
            drain(worker)
            worker.checkpoint(wait=True)
            found = lookup(shop, declared)
            assert [found.features(key, START_US)["n"] for key in ("v:a", "u:bob", "u:ann", "v:b")] == [3, 3, 0, 1]
        shop.sink()
        labels = pa.table({"entity_id": ["a", "b"], "time": pa.array([START_US + 20] * 2, TIMESTAMP)})
        assert _training(shop, labels, "shopper").column("n").to_pylist() == [3, 1]
        verified = verifier(shop, declared).verify("shop")
        assert verified.json() == {"rows": 2, "features": 2, "mismatches": 0, "missing": 0, "extra": 0}, verified.examples


def _training(shop: Side, labels: pa.Table, view: str) -> pa.Table:
    with Engine(shop.catalog, shop.lake, DuckDb([shop.folder / "lake"], shop.folder / "tmp")) as engine:
        return OfflineFeatures(shop.folder, engine.execute, shop.lake, shop.folder / "analyze").training(labels, view=view, dataset="shop")


def _check_the_past(shop: Side) -> None:
    links = pa.Table.from_pylist(read_all(shop.logs.identities), schema=shop.logs.identities.schema)
    happened = history.read("shop", shop.lake, shop.lake.snapshot(Ref("shop", "events")), links, 1.0, {})
    assert dict(zip(happened.ids, happened.keys, strict=True)) == {("web", f"m{at}"): key for at, (_, _, key) in enumerate(STREAM)}


def _check_the_logs(shop: Side) -> None:
    owners, merges = Owners("shop", shop.logs.identities, {}), Merges(shop.logs.identities)
    for each in (owners, merges):
        each.refresh()
    assert {key: owners.profile("shop", key) for key in NOW} == NOW
    _check_the_state(shop)
    assert {key: merges.profile("shop", key) for key in NOW} == {**NOW, "v:a": "u:ann"}, (
        "a decision for a visitor went into the first user's"
    )
    refused = [row for row in read_all(shop.logs.identities) if row["kind"] == LinkKind.REFUSED]
    assert [row["visitor_id"] for row in refused] == ["ann", *(f"f{number}" for number in range(VISITORS_PER_USER_MAX, FRESH))]


def _check_the_state(shop: Side) -> None:
    [file] = (shop.folder / "analyze" / "shop").rglob("identities.jsonl")
    saved = Owners("shop", shop.logs.identities, dict(known(file.read_bytes())))
    saved.refresh()
    assert {key: saved.profile("shop", key) for key in NOW} == NOW


def _check_training(shop: Side) -> None:
    users = [key for key in _counts() if key.startswith("u:")]
    visitors = [key for key in _counts() if key.startswith("v:")]
    with Engine(shop.catalog, shop.lake, DuckDb([shop.folder / "lake"], shop.folder / "tmp")) as engine:
        offline = OfflineFeatures(shop.folder, engine.execute, shop.lake, shop.folder / "analyze")
        for view, name, keys, wanted in (("shopper", "n", visitors, _counts()), ("account", "user_n", users, _of_users())):
            at = pa.array([START_US + len(STREAM)] * len(keys), TIMESTAMP)
            made = offline.training(pa.table({"entity_id": [key[2:] for key in keys], "time": at}), view=view, dataset="shop")
            assert dict(zip(keys, made.column(name).to_pylist(), strict=True)) == {key: wanted[key] for key in keys}
        [row] = engine.execute("SELECT COUNT(*) AS refused FROM shop.identities WHERE kind = 'refused'").rows()
        assert row == (FRESH - VISITORS_PER_USER_MAX + 1,)

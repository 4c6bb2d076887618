"""The next start detects a damaged file of the worker's state, and rebuilds the state from lake and log."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sokuji.analyze.state.folder import read_marks
from sokuji.disk.stored import encode_record
from sokuji.errors import DamagedFileError, FormatError, LogError
from tests.analyze.side import SHARED, Side, declare, drain, side
from tests.lake.platform import START_US
from tests.predict.test_features import lookup

FEATURES = """
from sokuji.features import events, view

buys = events("buy")
view("shopper", entity="visitor", spend=buys.sum("revenue"), last_item=buys.last("item"), items=buys.distinct("item"))
"""
ACTIONS = """
from sokuji.rules import popup, rule

rule("once", on="buy", do=popup(title="x"), at_most="1 ever")
"""
EXPECTED = {
    "v:a": {"spend": 3.0, "last_item": "cup", "items": 2},
    "v:b": {"spend": 7.0, "last_item": "tea", "items": 1},
    "u:u": {"spend": 7.0, "last_item": "tea", "items": 1},
}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Side]:
    with side(tmp_path, SHARED) as opened:
        yield opened


def buy(visitor: str, item: str, revenue: float, **more: Any) -> dict[str, Any]:
    at = int(revenue)
    return {"event_name": "buy", "visitor_id": visitor, "message_id": f"m{at}", "received_at": START_US + at} | {
        "properties": {"item": item, "revenue": revenue},
        **more,
    }


def _flip(content: bytes) -> bytes:
    at = content.index(b"u") if b"u" in content else len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _tear(content: bytes) -> bytes:
    return content[:-3]


@pytest.mark.parametrize(
    ("name", "damage"),
    [("strings.jsonl", _flip), ("strings.jsonl", _tear), ("identities.jsonl", _flip), ("0-0.ids", _tear), ("0-0.ids", _flip)],
)
def test_the_state_is_rebuilt(shop: Side, name: str, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture) -> None:
    declared = declare(shop.folder, FEATURES, ACTIONS)
    with shop.worker(declared) as worker:
        found = lookup(shop, declared)
        shop.track(buy("a", "tea", 1), buy("a", "cup", 2), buy("b", "tea", 4))
        drain(worker)
        assert found.features("v:a", START_US) == EXPECTED["v:a"]
        worker.checkpoint(wait=True)
        shop.sink()  # the rest is in the log alone
        shop.track(buy("b", "tea", 3, user_id="u"), buy("a", "tea", 1))
        worker.run(_stopped())
    [path] = (shop.folder / "analyze").rglob(name)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING), shop.worker(declared) as worker:
        assert f"{path} is damaged" in caplog.text
        assert {key: found.features(key, START_US) for key in EXPECTED} == EXPECTED
        shop.track(buy("a", "tea", 1), buy("a", "pot", 8), buy("b", "tea", 4))
        drain(worker)
        assert found.features("v:a", START_US) == {"spend": 11.0, "last_item": "pot", "items": 3}
        assert found.features("u:u", START_US) == EXPECTED["u:u"]
        worker.run(_stopped())
    assert len([row for row in shop.decisions() if row["event_name"] == "action_decided"]) == 2, "what rules remember is brought along"
    caplog.clear()
    with shop.worker(declared):
        assert not caplog.text
    assert sorted(each.suffix for each in (shop.folder / "analyze" / "shop").iterdir()) == ["", ".jsonl"]


def test_what_others_put_beside_a_state_stays_and_is_not_read(shop: Side) -> None:
    declared = declare(shop.folder, FEATURES, ACTIONS)
    shop.track(buy("a", "tea", 1), buy("a", "cup", 2))
    with shop.worker(declared) as worker:
        worker.run(_stopped())
    folder = shop.folder / "analyze" / "shop"
    [state] = [each for each in folder.iterdir() if each.is_dir()]
    shutil.copytree(state, folder / f"copy of {state.name}")
    (folder / f"copy of {state.name}" / "layout.json").write_bytes(b"damaged")
    shutil.rmtree(state)
    with shop.worker(declared):
        assert lookup(shop, declared).features("v:a", START_US) == EXPECTED["v:a"]
    assert (folder / f"copy of {state.name}" / "layout.json").read_bytes() == b"damaged"


def test_damaged_rows_are_named_with_what_to_do(shop: Side) -> None:
    declared = declare(shop.folder, FEATURES, ACTIONS)
    shop.track(buy("a", "tea", 1), buy("a", "cup", 2))
    with shop.worker(declared) as worker:
        worker.run(_stopped())
    [path] = (shop.folder / "analyze").rglob("manifest.json")
    for content in (_flip(path.read_bytes()), _tear(path.read_bytes())):
        path.write_bytes(content)
        for _ in range(2):  # the second start has the same to say
            with pytest.raises(DamagedFileError, match=f"^{path} is damaged: .*; restore the folder from a backup, or delete it"):
                shop.worker(declared)
    shutil.rmtree(path.parent)
    with shop.worker(declared):
        assert lookup(shop, declared).features("v:a", START_US) == EXPECTED["v:a"]


def test_a_state_of_a_newer_release_is_refused_whatever_it_looks_like(shop: Side, tmp_path: Path) -> None:
    declared = declare(shop.folder, FEATURES, ACTIONS)
    shop.track(buy("a", "tea", 1))
    with shop.worker(declared) as worker:
        worker.run(_stopped())
    [path] = (shop.folder / "analyze").rglob("layout.json")
    newer = encode_record({"columns": [1, 2]}, format=99)
    path.write_bytes(newer)
    with pytest.raises(FormatError, match=f"{path} has format 99"):
        shop.worker(declared)
    assert path.read_bytes() == newer
    with pytest.raises(FormatError, match=f"{tmp_path} has format 99"):
        read_marks(msgspec.msgpack.encode({"format": 99, "messages": "elsewhere", "identity": None}), tmp_path)


def test_marks_of_before_checksums_are_lengths(tmp_path: Path) -> None:
    old = msgspec.msgpack.encode({"deduplicator": {"0": 32}, "identity": 5, "versions": {}, "timers": b""})
    marks = read_marks(old, tmp_path)
    assert (marks.format, marks.messages, marks.identity, marks.strings) == (1, None, 5, 0)


def _stopped() -> threading.Event:
    stop = threading.Event()
    stop.set()
    return stop


def test_a_state_from_before_the_log_begins_is_rebuilt(
    shop: Side, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    declared = declare(shop.folder, FEATURES, ACTIONS)
    shop.track(buy("a", "tea", 1))
    with shop.worker(declared) as worker:
        worker.run(_stopped())
    shutil.copytree(shop.folder / "analyze" / "shop", shop.folder / "copy")
    shop.track(buy("a", "cup", 2))
    with shop.worker(declared) as worker:
        worker.run(_stopped())
    shop.sink()
    shutil.rmtree(shop.folder / "analyze" / "shop")
    (shop.folder / "copy").rename(shop.folder / "analyze" / "shop")
    monkeypatch.setattr(shop.logs.events, "start", lambda partition: 2 if partition == 0 else 0)
    with shop.worker(declared):
        assert "rebuilt the state" in caplog.text
        assert lookup(shop, declared).features("v:a", START_US) == EXPECTED["v:a"]


def test_a_state_that_is_ahead_of_the_log_is_refused_with_what_to_do(shop: Side, tmp_path: Path) -> None:
    declared = declare(shop.folder, FEATURES, ACTIONS)
    shop.track(buy("a", "tea", 1), buy("a", "cup", 2))
    with shop.worker(declared) as worker:
        worker.run(_stopped())
    with side(tmp_path / "other", SHARED) as other:
        shutil.copytree(shop.folder / "analyze", other.folder / "analyze")
        with pytest.raises(
            LogError, match=r"is at offset 2 of partition 0 of the log 'events', which ends at 0: .* or delete .*analyze/shop"
        ):
            other.worker(declared)

"""Changed declarations: their state is built beside the running worker, and the next worker takes it over."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sokuji.analyze.compile import Declared
from sokuji.analyze.state import open as open_
from sokuji.analyze.state.open import Opener
from sokuji.analyze.state.prepared import Prepared
from sokuji.analyze.worker import Worker
from sokuji.disk.stored import encode_record
from sokuji.errors import DamagedFileError, FormatError
from sokuji.features.kernel.strings import Vocabulary
from sokuji.lake.events import EVENTS
from sokuji.meta.objects import Ref
from tests.analyze.side import Side, StateInMemory, declare, drain, side
from tests.log.opening import Opening

OLD = """
from sokuji.features import events, view

view("shopper", entity="visitor", buys=events("buy").count().over("1d"))
"""
NEW = OLD + 'view("reader", entity="visitor", pages=events("page").count(), last_page=events("page").last("url"))\n'
ACTIONS = """
from sokuji.rules import rule, webhook

rule("capped", on="buy", do=webhook("https://shop.example/"), at_most="1 ever")
"""
SECOND = 1_000_000


@pytest.fixture
def shop(tmp_path: Path, opening: Opening) -> Iterator[Side]:
    with side(tmp_path, StateInMemory(), opening) as opened:
        yield opened


class Clock:
    """Events a second apart, that come in now."""

    def __init__(self, shop: Side) -> None:
        self._shop, self._number, self._start = shop, 0, time.time_ns() // 1000

    def track(self, name: str, visitor: str, **more: Any) -> None:
        self._number += 1
        at = self._start + self._number * SECOND
        properties = {"url": f"/{self._number}"}
        event = {"event_name": name, "visitor_id": visitor, "received_at": at, "message_id": f"m{self._number}", "properties": properties}
        self._shop.track(event | more)


def prepare(shop: Side, declared: Declared, *, rebuild: bool = False) -> bool:
    return shop.opener(declared).prepare("shop", rebuild=rebuild)


def decided(shop: Side) -> list[str]:
    """For whom, in turn."""
    return [each["visitor_id"] for each in shop.decisions() if each["event_name"] == "action_decided"]


def pages(worker: Worker, *keys: str) -> list[Mapping[str, Any]]:
    return [{name: row[name] for name in row if "page" in name} for row in worker.stages["shop"].state.features(keys, 0)]


def test_the_worker_goes_on_until_the_next_takes_over(shop: Side, tmp_path: Path) -> None:
    clock = Clock(shop)
    with shop.worker(declare(tmp_path, OLD, ACTIONS)) as worker:
        clock.track("page", "a")
        clock.track("buy", "a")
        clock.track("page", "b")
        clock.track("page", "b", user_id="ann")
        drain(worker)
        shop.sink()
        declared = declare(tmp_path, NEW, ACTIONS)
        assert prepare(shop, declared)
        clock.track("buy", "c")  # what comes meanwhile
        clock.track("page", "a")
        clock.track("buy", "a")
        drain(worker)
        assert decided(shop) == ["a", "c"]
        clock.track("page", "a")  # nobody has worked on it
        worker.checkpoint(wait=True)
    for file in (tmp_path / "lake" / "shop" / EVENTS).rglob("*.parquet"):  # no event is read again
        file.unlink()
    with shop.worker(declared) as worker:
        assert pages(worker, "v:a", "u:ann", "v:b") == [
            {"pages": 2, "last_page": "/6"},
            {"pages": 2, "last_page": "/4"},
            {"pages": 0, "last_page": None},
        ]
        for visitor in ("a", "c", "d"):
            clock.track("buy", visitor)
        drain(worker)
        assert pages(worker, "v:a") == [{"pages": 3, "last_page": "/8"}]
        assert decided(shop) == ["a", "c", "d"]  # the caps of a and c hold
        worker.checkpoint(wait=True)
    with shop.worker(declared) as worker:
        assert pages(worker, "v:a") == [{"pages": 3, "last_page": "/8"}]


def test_taking_over_again_after_a_crash(shop: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(shop)
    with shop.worker(declare(tmp_path, OLD, ACTIONS)) as worker:
        clock.track("buy", "a")
        drain(worker)
        shop.sink()
        declared = declare(tmp_path, NEW, ACTIONS)
        assert prepare(shop, declared)
        clock.track("page", "a")
        drain(worker)
        worker.checkpoint(wait=True)
    with monkeypatch.context() as patch:
        patch.setattr(open_, "Vocabulary", _crash)
        with pytest.raises(RuntimeError, match="crash"):
            shop.worker(declared)
    with shop.worker(declared) as worker:
        assert pages(worker, "v:a") == [{"pages": 1, "last_page": "/2"}]
        clock.track("buy", "a")
        drain(worker)
    assert decided(shop) == ["a"]


def _crash(path: Path | None = None) -> Vocabulary:
    """Once what was prepared is in its place, and before it is up to date."""
    if path is not None:
        raise RuntimeError("crash")
    return Vocabulary()


def test_the_log_keeps_what_a_prepared_state_lacks(shop: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the worker before has read all: retention may go by while the next one starts."""
    clock, take_over = Clock(shop), Opener._take_over
    with shop.worker(declare(tmp_path, OLD, ACTIONS)) as worker:
        clock.track("page", "a")
        shop.sink()
        drain(worker)
        declared = declare(tmp_path, NEW, ACTIONS)
        assert prepare(shop, declared)
        clock.track("page", "a")
        drain(worker)
        worker.checkpoint(wait=True)
        shop.sink()

    def take_over_and_trim(*arguments: Any) -> Any:
        found = take_over(*arguments)
        shop.logs.events.trim(max_bytes=0)
        return found

    monkeypatch.setattr(Opener, "_take_over", take_over_and_trim)
    with shop.worker(declared) as worker:
        assert pages(worker, "v:a") == [{"pages": 2, "last_page": "/2"}]
        worker.checkpoint(wait=True)
        assert shop.logs.events.trim(max_bytes=0)


@pytest.mark.parametrize("is_prepared", [True, False])
def test_what_the_lake_has_and_no_worker_had_is_decided(shop: Side, tmp_path: Path, is_prepared: bool) -> None:
    clock = Clock(shop)
    with shop.worker(declare(tmp_path, OLD, ACTIONS)) as worker:
        clock.track("buy", "a")
        shop.sink()
        drain(worker)
        clock.track("page", "a")
        drain(worker)
        worker.checkpoint(wait=True)
    clock.track("page", "a")
    clock.track("buy", "b")
    shop.sink()
    declared = declare(tmp_path, NEW, ACTIONS)
    assert not is_prepared or prepare(shop, declared)
    with shop.worker(declared) as worker:
        assert pages(worker, "v:a") == [{"pages": 1, "last_page": "/2"}]
        drain(worker)
        assert pages(worker, "v:a") == [{"pages": 2, "last_page": "/3"}]
    assert decided(shop) == ["a", "b"]


@pytest.mark.parametrize("is_in_place", [False, True])
def test_what_was_prepared_and_is_damaged_is_rebuilt(
    shop: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_in_place: bool
) -> None:
    clock = Clock(shop)
    with shop.worker(declare(tmp_path, OLD, ACTIONS)) as worker:
        clock.track("buy", "a")
        clock.track("page", "a")
        drain(worker)
        shop.sink()
        declared = declare(tmp_path, NEW, ACTIONS)
        assert prepare(shop, declared)
        worker.checkpoint(wait=True)
    if is_in_place:
        with monkeypatch.context() as patch:
            patch.setattr(open_, "Vocabulary", _crash)
            with pytest.raises(RuntimeError, match="crash"):
                shop.worker(declared)
    [path] = (tmp_path / "analyze").rglob("prepared.arrow")
    assert path.parent.name == ("shop" if is_in_place else "shop.next")
    content = bytearray(path.read_bytes())
    content[content.index(b"v:a") + 2] ^= 1  # the key of another profile
    path.write_bytes(content)
    with shop.worker(declared) as worker:
        assert f"{path} is damaged: it fails its checksum" in caplog.text
        assert pages(worker, "v:a") == [{"pages": 1, "last_page": "/2"}]
        clock.track("buy", "a")
        drain(worker)
    assert decided(shop) == ["a"]  # the cap holds
    assert not list((tmp_path / "analyze").rglob("prepared.arrow"))


def test_formats_of_what_was_prepared(tmp_path: Path) -> None:
    Prepared(tmp_path, "x", {0: 7}).write(pa.array(["v:a", "v:b"]), [])
    path = tmp_path / "prepared.arrow"
    found = Prepared.find(tmp_path)
    assert found is not None
    assert (found.layout, found.ends, [keys.to_pylist() for keys in found.profiles()]) == ("x", {0: 7}, [["v:a", "v:b"]])
    links = tmp_path / "links.arrow"
    for content in (links.read_bytes()[:-1], None):
        links.unlink() if content is None else links.write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"links\.arrow is damaged"):
            Prepared.find(tmp_path)
    content = path.read_bytes()
    for end in range(len(content)):  # torn anywhere
        path.write_bytes(content[:end])
        with pytest.raises(DamagedFileError, match=r"prepared\.arrow is damaged"):
            Prepared.find(tmp_path)
    record = encode_record({"layout": "x", "ends": {}}, format=99)
    path.write_bytes(record + len(record).to_bytes(4, "little"))
    with pytest.raises(FormatError, match=r"prepared\.arrow has format 99"):
        Prepared.find(tmp_path)
    old = pa.table({"key": ["v:a"]}).replace_schema_metadata({b"prepared": b'{"layout":"y","ends":{"0":1}}'})
    with pa.ipc.new_file(path, old.schema) as writer:
        writer.write_table(old)
    found = Prepared.find(tmp_path)
    assert found is not None
    assert (found.layout, found.ends, [keys.to_pylist() for keys in found.profiles()]) == ("y", {0: 1}, [["v:a"]])


def test_what_was_prepared_for_other_declarations_is_not_taken(shop: Side, tmp_path: Path) -> None:
    clock = Clock(shop)
    with shop.worker(declare(tmp_path, OLD, ACTIONS)) as worker:
        clock.track("page", "a")
        drain(worker)
        shop.sink()
        assert not prepare(shop, declare(tmp_path, OLD, ACTIONS))
        assert prepare(shop, declare(tmp_path, NEW, ACTIONS))
        worker.checkpoint(wait=True)
    newer = declare(tmp_path, NEW.replace("reader", "reading").replace("count()", 'count().over("7d")'), ACTIONS)
    with shop.worker(newer) as worker:
        assert pages(worker, "v:a") == [{"pages_7d": 1, "last_page": "/1"}]
    assert [path.name for path in (tmp_path / "analyze").iterdir() if path.is_dir()] == ["shop"]


def delete(shop: Side, message: str) -> None:
    """Take the event with this id out of the lake."""
    ref = Ref("shop", EVENTS)
    snapshot = shop.lake.snapshot(ref)
    rows = pa.concat_tables([pq.ParquetFile(file).read() for file in snapshot.files], promote_options="default")
    shop.lake.rewrite(ref, snapshot.files, rows.filter(pc.field("message_id") != message).to_reader(), read_version=snapshot.version)


def linked(shop: Side) -> list[tuple[str, str, str]]:
    """The merge log: by which event, how, and which visitor."""
    log = shop.logs.identities
    rows = log.read(0, log.start(0), log.end(0)).batch.to_pylist()
    return [(row["message_id"], row["kind"], row["visitor_id"]) for row in rows]


@pytest.mark.parametrize("is_prepared", [True, False])
def test_who_is_known_by_another_event_after_a_rebuild_is_in_the_merge_log(shop: Side, tmp_path: Path, is_prepared: bool) -> None:
    clock, declared = Clock(shop), declare(tmp_path, NEW, ACTIONS)
    with shop.worker(declared) as worker:
        for user in ("u", "u"):
            clock.track("page", "a", user_id=user)
        drain(worker)
        worker.checkpoint(wait=True)
        assert linked(shop) == [("m1", "merged", "a")]  # the second event said nothing new
        shop.sink()
        delete(shop, "m1")
        if is_prepared:
            assert prepare(shop, declared, rebuild=True)
    if not is_prepared:
        shutil.rmtree(tmp_path / "analyze" / "shop")
    for _ in range(2):
        with shop.worker(declared) as worker:
            assert pages(worker, "u:u") == [{"pages": 1, "last_page": "/2"}]
            assert linked(shop) == [("m1", "merged", "a"), ("m2", "merged", "a")]


def test_what_the_lake_has_no_more_is_gone_after_a_rebuild(shop: Side, tmp_path: Path) -> None:
    clock, declared = Clock(shop), declare(tmp_path, NEW, ACTIONS)
    with shop.worker(declared) as worker:
        for name in ("page", "page", "buy"):
            clock.track(name, "a")
        drain(worker)
        worker.checkpoint(wait=True)
    shop.sink()
    delete(shop, "m1")
    with shop.worker(declared) as worker:
        assert pages(worker, "v:a") == [{"pages": 2, "last_page": "/2"}]  # as it was, until somebody says so
        assert not prepare(shop, declared)
        assert prepare(shop, declared, rebuild=True)
        clock.track("page", "a")
        drain(worker)
        worker.checkpoint(wait=True)
    with shop.worker(declared) as worker:
        assert pages(worker, "v:a") == [{"pages": 2, "last_page": "/4"}]
        clock.track("buy", "a")
        drain(worker)
        assert decided(shop) == ["a"]  # the cap of before holds

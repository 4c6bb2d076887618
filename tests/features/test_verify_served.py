"""Served features agree with the lake in all situations, and verification finds every difference."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sokuji.analyze.compile import Declared
from sokuji.analyze.state.served import SERVED_LOG, SERVED_SCHEMA, sampled
from sokuji.config import AnalyzeSettings
from sokuji.errors import FeatureError
from sokuji.lake.events import property_columns
from sokuji.log.local.log import LocalLog
from sokuji.meta.objects import Ref
from sokuji.sink.fresh import Fresh
from sokuji.sql.scalar.properties import PropertyReader
from sokuji.track.partition import partition_of
from sokuji.verify.compare import Verification
from sokuji.verify.verifier import Verifier
from tests.analyze.side import PARTITIONS, RULE, Side, declare, drain, side
from tests.lake.duck import select
from tests.lake.platform import START_US
from tests.log.opening import on_disk

FEATURES = """
from sokuji.features import events, sessions, view

buys = events("buy")
view(
    "shopper",
    entity="visitor",
    buys=buys.count().over("1h", "1d", "all"),
    rate=buys.sum("100 / revenue").over("1d"),
    last_item=buys.last("item"),
    items=buys.last(5, "item"),
    kinds=buys.distinct("item"),
    tops=buys.top(2, "item"),
    visit=sessions.number(),
)
view("member", entity="user", member_buys=buys.count(), first_item=buys.first("item"))
"""
SECOND = 1_000_000


def keeping(share: float, **more: Any) -> AnalyzeSettings:
    return AnalyzeSettings(profiles_max=10_000, served_sample=share, **more)


ALL = keeping(1.0)


class Story:
    """Events of a few visitors who become users, change them, name ids that are none; of bots, with poison, late, and some twice."""

    def __init__(self, seed: int) -> None:
        self._chance, self._clock_us, self._count = random.Random(seed), START_US, 0

    def go_on(self, shop: Shop, count: int) -> None:
        events = [self._event() for _ in range(count)]
        events += self._chance.sample(events, count // 10)
        parts: dict[int, list[dict[str, Any]]] = {}
        for event in events:
            parts.setdefault(partition_of(event["visitor_id"] or event["user_id"], PARTITIONS), []).append(event)
        for partition, own in parts.items():
            shop.side.track(*own, partition=partition)

    def _event(self) -> dict[str, Any]:
        chance = self._chance
        self._count += 1
        self._clock_us += chance.choice([0, 0, SECOND, 40 * SECOND, 2000 * SECOND]) if self._count % 7 else SECOND
        visitor: str | None = f"v{chance.randrange(12)}"
        user = f"u{chance.randrange(4)}" if chance.random() < 0.1 else None
        event: dict[str, Any] = {"event_name": "buy", "type": "track"}
        match chance.randrange(20):
            case 0:
                visitor, user = None, f"u{chance.randrange(4)}"
            case 1:
                visitor, user = "u1", "u2"  # a known user is nobody's visitor: refused
            case 2:
                event["context"] = '{"userAgent": "Googlebot/2.1"}'
            case 3 | 4 if user:
                event |= {"event_name": "alias", "type": "alias"}
        revenue = chance.choice([10, 20, 50, 0, "much" if self._count > 20 else 5])  # of 0 the expression fails
        properties: dict[str, Any] = {"revenue": revenue, "item": f"i{chance.randrange(6)}"}
        if event["type"] == "alias":
            properties["previous_id"] = f"v{chance.randrange(12)}"
            self._clock_us += SECOND  # in another partition than what that visitor did, and so in no request with it
        times = {"received_at": self._clock_us, "event_time": self._clock_us - chance.choice([0, 0, 0, 0, 10 * SECOND, 7200 * SECOND])}
        return event | times | {"message_id": f"m{self._count}", "visitor_id": visitor, "user_id": user, "properties": properties}


@dataclass
class Shop:
    """Logs, lake and declarations on a folder."""

    side: Side
    fresh: Fresh
    declared: Declared

    def work(self, settings: AnalyzeSettings = ALL, *, crash: bool = False) -> None:
        """A worker from its last checkpoint to the end of the log, which then checkpoints, or not if it is to crash."""
        with self.side.worker(self.declared, settings=settings) as worker:
            drain(worker)  # ends with the replay, if there is one
            drain(worker)
            if not crash:
                worker.checkpoint(wait=True)

    def commit(self) -> None:
        """Bring the logs into the lake."""
        with self.side.make_sink() as sink:
            sink.drain()

    def verify(self, sample: float | None = None) -> Verification:
        side = self.side
        verifier = Verifier(
            self.declared,
            side.logs.identities,
            self.fresh,
            side.lake,
            side.models,
            bad_events=side.logs.bad_events,
            folder=side.folder / "analyze",
            served_log=side.served_log,
        )
        return verifier.verify("shop", sample)

    def change_served(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Write the served log again with other rows."""
        [folder] = (self.side.folder / "analyze" / "shop").glob(f"*/{SERVED_LOG}")
        with LocalLog(folder.parent, SERVED_SCHEMA, name=SERVED_LOG, partitions=1) as log:
            rows = log.read(0, 0, 1_000_000).batch.to_pylist()
        shutil.rmtree(folder)
        with LocalLog(folder.parent, SERVED_SCHEMA, name=SERVED_LOG, partitions=1) as log:
            log.append(0, pa.RecordBatch.from_pylist(change(rows), schema=SERVED_SCHEMA))


@pytest.fixture
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    with side(tmp_path, opening=request.getfixturevalue("opening") if "opening" in request.fixturenames else on_disk) as opened:
        logs = opened.logs
        fresh = Fresh(
            opened.lake,
            logs.events,
            logs.bad_events,
            opened.catalog,
            folder=tmp_path / "sink",
            rule=RULE,
            make_sink=opened.make_sink,
        )
        yield Shop(opened, fresh, declare(tmp_path, FEATURES))
        fresh.close()


def in_lake(shop: Shop) -> int:
    return len(select(shop.side.lake.snapshot(("shop", "events")), ["message_id"]))  # type: ignore[arg-type]


@pytest.mark.usefixtures("opening")
@pytest.mark.parametrize("seed", range(3))
def test_what_was_served_agrees_with_the_lake(shop: Shop, seed: int) -> None:
    """History first, then the present with stops and crashes; the lake has some of it, the log's tail the rest."""
    story = Story(seed)
    story.go_on(shop, 150)
    shop.commit()
    shop.work()  # takes it for history
    assert shop.verify().json() == {"rows": 0, "features": 11, "mismatches": 0, "missing": 0, "extra": 0}
    for crash in (False, True, True, False):
        story.go_on(shop, 90)
        shop.work(crash=crash)
    found = shop.verify()
    assert found.examples == ()
    assert found.json() == {"rows": 2 * 360, "features": 11, "mismatches": 0, "missing": 0, "extra": 0}
    shop.commit()
    assert shop.verify() == found


def test_a_smaller_sample_is_a_part_of_it(shop: Shop) -> None:
    story = Story(9)
    shop.work()
    story.go_on(shop, 300)
    shop.work()
    rows = [shop.verify(sample).rows for sample in (0.0, 0.3, 0.7, 1.0)]
    assert rows[0] == 0 < rows[1] < rows[2] < rows[3] == 2 * 300
    with pytest.raises(FeatureError, match=r"1.5 is asked for.*kept for 1.0: set analyze.served_sample"):
        shop.verify(1.5)


def test_with_another_sample_what_it_kept_before_still_agrees(shop: Shop) -> None:
    story = Story(10)
    for share, crash in ((0.2, False), (1.0, True), (0.5, False), (0.0, False)):
        story.go_on(shop, 100)
        shop.work(keeping(share), crash=crash)
        if share and not crash:
            found = shop.verify()
            assert found.rows > 0
            assert (found.mismatches, found.missing, found.extra) == (0, 0, 0)
    with pytest.raises(FeatureError, match="nothing that was served is kept"):
        shop.verify()


def test_before_the_first_event_there_is_nothing_to_compare(shop: Shop) -> None:
    shop.work()
    assert shop.verify().json() == {"rows": 0, "features": 11, "mismatches": 0, "missing": 0, "extra": 0}


def test_nothing_served_is_told(shop: Shop) -> None:
    Story(1).go_on(shop, 10)
    with pytest.raises(FeatureError, match="is `sokuji up` running"):
        shop.verify()


@pytest.fixture
def served(shop: Shop) -> Shop:
    """A shop with 200 events served, of which none disagrees."""
    shop.work()
    Story(11).go_on(shop, 200)
    shop.work()
    assert shop.verify().json() == {"rows": 400, "features": 11, "mismatches": 0, "missing": 0, "extra": 0}
    return shop


def test_one_wrong_number_is_found(served: Shop) -> None:
    def spoil(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        row = next(row for row in rows if row["key"] and not np.isnan(row["numbers"][0]))
        row["numbers"][0] += 1
        return rows

    served.change_served(spoil)
    found = served.verify()
    assert (found.mismatches, list(found.by_feature), found.missing, found.extra) == (1, ["buys_1h"], 0, 0)


def test_a_fault_of_the_workers_reader_is_found(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is at fault during the check, too: that reads columns of the lake, and one that the lake does not have as the sink reads it."""
    read = PropertyReader.read

    def wrongly(reader: PropertyReader, properties: pa.Array) -> dict[str, pa.Array]:
        found = read(reader, properties)
        return found | {name: pc.replace_substring(column, "i1", "i2") for name, column in found.items() if name == "item"}

    monkeypatch.setattr(PropertyReader, "read", wrongly)
    shop.work()
    Story(11).go_on(shop, 60)
    shop.work()
    assert shop.verify().mismatches > 0
    monkeypatch.setattr("sokuji.verify.history.property_columns", lambda schema: {"revenue": property_columns(schema)["revenue"]})
    assert {"last_item", "items"} <= shop.verify().by_feature.keys()


def test_a_row_that_is_not_there_is_missing_and_one_of_no_event_extra(served: Shop) -> None:
    def spoil(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        place = next(place for place, row in enumerate(rows) if row["key"])
        return [*rows[:place], rows[place] | {"offset": 1 << 40}, *rows[place + 1 :]]

    served.change_served(spoil)
    found = served.verify()
    assert (found.missing, found.extra) == (2, 2)  # of two views each


def test_a_row_served_to_the_wrong_profile_is_both(served: Shop) -> None:
    def spoil(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        place = next(place for place, row in enumerate(rows) if row["key"] and row["key"].startswith("v:"))
        return [*rows[:place], rows[place] | {"key": "v:somebody"}, *rows[place + 1 :]]

    served.change_served(spoil)
    found = served.verify()
    assert (found.missing, found.extra) == (2, 2)


def test_what_was_kept_is_bounded_and_what_is_left_agrees(shop: Shop) -> None:
    story = Story(12)
    shop.side.opening = partial(on_disk, segment_bytes=10_000)  # retention frees whole segments
    with shop.side.worker(shop.declared, settings=keeping(1.0, served_bytes=100_000)) as worker:
        for _ in range(12):
            story.go_on(shop, 100)
            drain(worker)
            worker.checkpoint(wait=True)
    [folder] = (shop.side.folder / "analyze" / "shop").glob(f"*/{SERVED_LOG}")
    assert sum(path.stat().st_size for path in folder.rglob("*.segment")) < 120_000
    found = shop.verify()
    assert 0 < found.rows < 2 * 1200
    assert (found.mismatches, found.missing, found.extra) == (0, 0, 0)


@pytest.mark.usefixtures("opening")
def test_links_of_history_are_published_once(shop: Shop) -> None:
    story, log = Story(13), shop.side.logs.identities

    def work_with(view: str) -> int:
        shop.declared = declare(shop.side.folder, FEATURES + f'view("{view}", entity="visitor", {view}=events().count())\n')
        shop.work()
        return log.end(0)

    story.go_on(shop, 100)
    shop.commit()
    found = work_with("one")
    assert found > 0
    assert work_with("two") == found  # all of it is in the log
    shop.commit()
    story.go_on(shop, 100)
    shop.work()
    more = log.end(0)
    assert more > found
    assert work_with("three") == more  # a part is in the lake, a part in the log only


def test_decisions_are_no_events_of_their_visitor(shop: Shop) -> None:
    """They are in the events table, from which the state is made when declarations change."""
    story, rule = Story(14), 'from sokuji.rules import popup, rule\nrule("all", on="buy", when="buys >= 1", do=popup(title="!"))\n'
    shop.declared = declare(shop.side.folder, FEATURES, rule)
    shop.work()
    story.go_on(shop, 60)
    shop.work()
    shop.commit()
    assert len(shop.side.decisions()) > 30
    shop.declared = declare(shop.side.folder, FEATURES + 'view("any", entity="visitor", n=events().count())\n', rule)
    shop.work()
    story.go_on(shop, 30)
    shop.work()
    assert shop.verify().json() == {"rows": 3 * 30, "features": 12, "mismatches": 0, "missing": 0, "extra": 0}


def test_a_sample_has_its_share_and_is_always_the_same() -> None:
    keys = pa.array([f"v:{number}" for number in range(20_000)], pa.string())
    small, large = sampled(keys, 0.01), sampled(keys, 0.02)
    assert 100 < small.sum() < 300
    assert not (small & ~large).any()
    assert (sampled(keys, 0.01) == small).all()
    assert sampled(keys, 1.0).all()


def test_deleted_rows_are_a_difference_until_the_state_is_rebuilt(shop: Shop) -> None:
    story = Story(11)
    shop.work()
    story.go_on(shop, 120)
    shop.work()
    shop.commit()
    lake, ref = shop.side.lake, Ref("shop", "events")
    snapshot = lake.snapshot(ref)
    rows = pa.concat_tables([pq.ParquetFile(file).read() for file in snapshot.files], promote_options="default")
    kept = rows.filter(pc.not_equal(pc.cast(pc.utf8_slice_codeunits(rows.column("message_id"), 1), pa.int64()), 7))
    lake.rewrite(ref, snapshot.files, kept.to_reader(), read_version=snapshot.version)
    found = shop.verify()
    assert found.extra > 0
    assert shop.side.opener(shop.declared, ALL).prepare("shop", rebuild=True)
    shop.work()
    story.go_on(shop, 60)
    shop.work()
    found = shop.verify()
    assert (found.mismatches, found.missing, found.extra) == (0, 0, 0)
    assert found.rows > 0

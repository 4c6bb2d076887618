"""A replay after a crash does not publish again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from sokuji.analyze.outbox import Outbox
from sokuji.log.local.log import LocalLog
from tests.log.opening import Opening

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("kind", pa.string(), nullable=False)])


def rows(*ids: str, kind: str = "k") -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"id": list(ids), "kind": [kind] * len(ids)}, schema=SCHEMA)


def test_a_replay_publishes_only_what_is_missing(tmp_path: Path, opening: Opening) -> None:
    with opening(tmp_path, SCHEMA, "decisions", 1) as log:
        outbox = Outbox(log, 0, ["id", "kind"])
        outbox.append(rows("a"))
        since = outbox.end()
        outbox.append(rows("b", "c"))
        outbox.append(rows())
        again = Outbox(log, since, ["id", "kind"])
        again.append(rows("b", "c", "d"))
        again.append(rows("c", kind="other"))
        again.caught_up()
        again.append(rows("b"))  # new now, not a repeat
        assert log.read(0, 0, 100).batch.column("id").to_pylist() == ["a", "b", "c", "d", "c", "b"]


def test_what_retention_took_meanwhile_is_not_asked_for(tmp_path: Path) -> None:
    with LocalLog(tmp_path, SCHEMA, name="decisions", partitions=1, segment_bytes=1) as log:
        for each in "abc":
            log.append(0, rows(each))
        log.trim(max_bytes=0)
        assert log.start(0) > 1
        Outbox(log, 1, ["id", "kind"]).append(rows("d"))
        assert log.end(0) == 4

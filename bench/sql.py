"""The RFM query of the demo on ten million events, against DuckDB SQL written by hand for the same files.

Ours is the whole way from GoogleSQL text to Arrow: analysis, snapshot of the table, the query, the types of the result. The peer is one
DuckDB statement that is told the file names. Both run in this process with the same number of threads, in turns; the figure is the
ratio of the medians. The events are synthetic: a shop's pages, carts and purchases over a quarter, one Delta file a day.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from bench._report import report
from sokuji.config import SqlSettings
from sokuji.demo.statements import RFM
from sokuji.lake.delta.tables import DeltaLake
from sokuji.lake.events import FIXED_SCHEMA, table_definition
from sokuji.meta.objects import Ref
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine

EVENTS = Ref("karte", "events")
SCHEMA = pa.schema([*FIXED_SCHEMA, ("revenue", pa.float64()), ("url", pa.string())])
QUERY = RFM[RFM.index("SELECT") :]
BY_HAND = """
SELECT epoch(max(_date))::BIGINT AS recency, count(*) AS frequency, sum(revenue) AS monetary
FROM read_parquet({files})
WHERE event_name = 'buy'
GROUP BY keys.visitor_id
"""

_GENERATED = """
SELECT
  CASE WHEN dice < 0.6 THEN 'page' WHEN dice < 0.8 THEN 'add_to_cart' ELSE 'buy' END AS event_name,
  {{'visitor_id': 'v' || CAST(power(random(), 3) * {visitors} AS BIGINT), 'user_id': CAST(NULL AS VARCHAR)}} AS keys,
  moment AS _date, uuid()::VARCHAR AS message_id, 'track' AS type, 'web' AS source,
  moment AS received_at, moment AS original_time, moment AS sent_at,
  'client' AS time_rule, false AS historical, false AS is_bot, 0 AS log_partition, range AS log_offset,
  '{{"library": {{"name": "analytics.js"}}}}' AS context,
  '{{"url": "https://shop.example/item/' || item || '", "revenue": ' || round(price, 2) || '}}' AS properties,
  CASE WHEN dice >= 0.8 THEN round(price, 2) END AS revenue, 'https://shop.example/item/' || item AS url
FROM (
  SELECT range, random() AS dice, CAST(random() * 5000 AS BIGINT) AS item, random() * 100 AS price,
    TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_days(CAST(range // {per_day} AS INTEGER)) + to_seconds(random() * 86399) AS moment
  FROM range({events})
)
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--visitors", type=int, default=500_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)

    settings = SqlSettings(threads=arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = DeltaLake(folder / "lake")
        _make_events(lake, arguments.events, arguments.visitors, arguments.days)
        with (
            SqlCatalog(f"sqlite:///{folder}/catalog.db") as catalog,
            Engine(catalog, lake, DuckDb([folder / "lake"], folder / "spill", settings)) as engine,
        ):
            catalog.create_dataset(EVENTS.dataset)
            catalog.put_table(table_definition(EVENTS, SCHEMA, None))
            files = lake.snapshot(EVENTS).files
            peer = _peer(files, settings)
            mine, theirs = engine.execute(QUERY).arrow(), peer()
            if mine.num_rows != theirs.num_rows or mine.column("frequency").to_numpy().sum() != theirs.column("frequency").to_numpy().sum():
                raise SystemExit(f"the two queries disagree: {mine.num_rows} and {theirs.num_rows} visitors")
            seconds, peer_seconds = _in_turns([lambda: engine.execute(QUERY).arrow(), peer], arguments.runs)
            statement = engine.analyzer.split(QUERY)[0]
            [analysis_seconds] = _in_turns([lambda: engine.analyzer.analyze(statement)], arguments.runs)
    report(
        "SQL: RFM query over DuckDB by hand",
        statistics.median(seconds) / statistics.median(peer_seconds),
        "times",
        as_json=arguments.json,
        packages=("duckdb", "zetasql", "wasmtime"),
        events=arguments.events,
        files=len(files),
        visitors=mine.num_rows,
        threads=arguments.threads,
        seconds=round(statistics.median(seconds), 4),
        peer_seconds=round(statistics.median(peer_seconds), 4),
        analysis_ms=round(statistics.median(analysis_seconds) * 1000, 2),
    )


def _make_events(lake: DeltaLake, events: int, visitors: int, days: int) -> None:
    lake.create(EVENTS, SCHEMA, day_of="_date")
    with duckdb.connect(config={"preserve_insertion_order": "true"}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SELECT setseed(0.5)").fetchall()
        rows = connection.sql(_GENERATED.format(events=events, visitors=visitors, per_day=-(-events // days)))
        lake.append(EVENTS, rows.to_arrow_reader(100_000).cast(SCHEMA))


def _peer(files: Sequence[str], settings: SqlSettings) -> Callable[[], pa.Table]:
    connection = duckdb.connect(config={"threads": settings.threads})
    sql = BY_HAND.format(files=list(files))
    return lambda: connection.sql(sql).to_arrow_table()


def _in_turns(work: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """The seconds each took: one after another within a round, so that a busy machine is busy for all of them."""
    seconds: list[list[float]] = [[] for _ in work]
    for _ in range(runs):
        for index, run in enumerate(work):
            start = time.perf_counter()
            run()
            seconds[index].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()

"""A training set of 24 features, against an aggregation over a range join written by hand in DuckDB.

Ours is `training`: events from the lake by GoogleSQL, then one sweep of the kernel. The peer is one DuckDB statement over the same
files, that is told their names; its windows begin exactly at T minus their length, where ours begin up to a hop earlier. Both see events
before the label's time that had been received. `agree` is the share of labels for which the features over all of time are the same.
Run each alone (`--only ours`, `--only peer`) for its `memory_mib`, the peak of the process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench._report import report
from bench._shopper import shopper
from sokuji.config import SqlSettings
from sokuji.events import TIMESTAMP
from sokuji.features.kernel.strings import Vocabulary
from sokuji.features.training.sets import training
from sokuji.lake.delta.tables import DeltaLake
from sokuji.lake.events import FIXED_SCHEMA, table_definition
from sokuji.meta.objects import Ref
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine

_EVENTS = Ref("shop", "events")
_SCHEMA = pa.schema([*FIXED_SCHEMA, ("revenue", pa.float64()), ("url", pa.string()), ("category", pa.string())])
_START_US = 1_767_225_600_000_000
_DAY_US = 86_400_000_000

_GENERATED = """
SELECT CASE WHEN dice < 0.1 THEN 'buy' ELSE 'page' END AS event_name,
  {{'visitor_id': 'v' || visitor, 'user_id': CAST(NULL AS VARCHAR)}} AS keys,
  moment AS _date, 'm' || range AS message_id, 'track' AS type, 'web' AS source, moment + to_milliseconds(200) AS received_at,
  moment AS original_time, moment AS sent_at, 'client' AS time_rule, false AS historical, false AS is_bot,
  0 AS log_partition, range AS log_offset, '{{}}' AS context, to_json(struct_pack({properties})) AS properties,
  CASE WHEN dice < 0.1 THEN round(price, 2) END AS revenue, 'https://shop.example/item/' || item AS url, 'shelf ' || item % 30 AS category
FROM (
  SELECT range, random() AS dice, CAST(random() * 5000 AS BIGINT) AS item, random() * 100 AS price,
    -- Visits of six events each, a minute or so apart.
    hash(range // 6) % {visitors} AS visitor,
    TIMESTAMPTZ '2026-01-01 00:00:00+00'
      + to_seconds((range // 6) * 6.0 / {events} * 86400 * {days} + range % 6 * 60 + random() * 50) AS moment
  FROM range({events})
)
"""

_BY_HAND = """
WITH events AS MATERIALIZED (
  SELECT *, sum(CAST(gap AS INT)) OVER (PARTITION BY visitor ORDER BY t ROWS UNBOUNDED PRECEDING) AS visit FROM (
    SELECT keys.visitor_id AS visitor, event_name = 'buy' AS buy, _date AS t,
      greatest(_date + INTERVAL 1 MICROSECOND, received_at) AS visible, revenue, url, category,
      coalesce(_date - lag(_date) OVER (PARTITION BY keys.visitor_id ORDER BY _date) > INTERVAL 30 MINUTE, true) AS gap
    FROM read_parquet({files}) WHERE keys.visitor_id IN (SELECT entity_id FROM labels)
  )
)
SELECT l.n,
  count(*) FILTER (NOT buy AND t >= l.time - INTERVAL 1 HOUR) AS views_1h,
  count(*) FILTER (NOT buy AND t >= l.time - INTERVAL 1 DAY) AS views_1d,
  count(*) FILTER (NOT buy AND t >= l.time - INTERVAL 7 DAY) AS views_7d,
  count(*) FILTER (NOT buy AND visit = last_visit) AS views_session,
  count(*) FILTER (buy AND t >= l.time - INTERVAL 7 DAY) AS buys_7d,
  count(*) FILTER (buy) AS buys,
  coalesce(sum(revenue) FILTER (buy AND t >= l.time - INTERVAL 1 HOUR), 0) AS spend_1h,
  coalesce(sum(revenue) FILTER (buy AND t >= l.time - INTERVAL 7 DAY), 0) AS spend_7d,
  coalesce(sum(revenue) FILTER (buy), 0) AS spend,
  avg(revenue) FILTER (buy AND t >= l.time - INTERVAL 7 DAY) AS basket_7d,
  min(revenue) FILTER (buy AND t >= l.time - INTERVAL 7 DAY) AS cheapest_7d,
  max(revenue) FILTER (buy AND t >= l.time - INTERVAL 7 DAY) AS dearest_7d,
  stddev_samp(revenue) FILTER (buy AND t >= l.time - INTERVAL 7 DAY) AS spread_7d,
  arg_min(url, t) FILTER (NOT buy AND visit = last_visit) AS landing_session,
  arg_max(url, t) FILTER (NOT buy) AS page,
  arg_max(url, t, 5) FILTER (NOT buy) AS pages,
  count(DISTINCT url) FILTER (NOT buy AND t >= l.time - INTERVAL 1 DAY) AS variety_1d,
  approx_top_k(category, 3) FILTER (NOT buy AND t >= l.time - INTERVAL 1 DAY) AS favourites_1d,
  histogram(category) FILTER (NOT buy AND t >= l.time - INTERVAL 1 DAY) AS shelf_1d,
  epoch(l.time - max(t) FILTER (NOT buy)) AS since_view,
  epoch(l.time - max(t) FILTER (buy)) AS since_buy,
  max(visit) AS visit,
  count(*) FILTER (visit = last_visit) AS visit_events,
  epoch(max(t) FILTER (visit = last_visit) - min(t) FILTER (visit = last_visit)) AS visit_seconds
FROM (
  SELECT l.n, l.time, e.visitor, if(l.time - e.t <= INTERVAL 30 MINUTE, e.visit, NULL) AS last_visit
  FROM labels l ASOF JOIN events e ON e.visitor = l.entity_id AND l.time >= e.visible
) AS l JOIN events e ON e.visitor = l.visitor AND e.visible <= l.time
GROUP BY l.n, l.time
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--visitors", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-mib", type=int, default=4096, help="of the peer, which spills to disk beyond")
    parser.add_argument("--only", choices=("ours", "peer"))
    parser.add_argument("--folder", type=Path, help="keep the lake here, and use it again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        _run(arguments, arguments.folder or Path(name))


def _run(arguments: argparse.Namespace, folder: Path) -> None:
    settings = SqlSettings(threads=arguments.threads)
    lake = DeltaLake(folder / "lake")
    with (
        SqlCatalog(f"sqlite:///{folder / 'meta.db'}") as catalog,
        Engine(catalog, lake, DuckDb([folder / "lake"], folder / "tmp", settings)) as engine,
    ):
        if not (folder / "made").exists():
            make_events(lake, catalog, events=arguments.events, visitors=arguments.visitors, days=arguments.days, threads=arguments.threads)
            (folder / "made").touch()
        labels = _labels(arguments)
        seconds: dict[str, float] = {}
        tables: dict[str, pa.Table] = {}
        if arguments.only != "peer":
            _ours(engine, labels.slice(0, 10))  # compiled before, as it is once a machine
            start = time.perf_counter()
            tables["ours"] = _ours(engine, labels)
            seconds["ours"] = time.perf_counter() - start
        if arguments.only != "ours":
            files = list(lake.snapshot(_EVENTS).files)
            start = time.perf_counter()
            tables["peer"] = _peer(files, labels, arguments, folder)
            seconds["peer"] = time.perf_counter() - start
    agree = _agree(tables["ours"], tables["peer"]) if len(tables) == 2 else None
    report(
        "training set: a range join by hand over ours",
        seconds["peer"] / seconds["ours"] if len(seconds) == 2 else next(iter(seconds.values())),
        "times" if len(seconds) == 2 else "s",
        as_json=arguments.json,
        packages=("duckdb", "numba"),
        events=arguments.events,
        labels=arguments.labels,
        threads=arguments.threads,
        agree=agree,
        memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        **{f"{name}_seconds": round(value, 2) for name, value in seconds.items()},
    )


def _ours(engine: Engine, labels: pa.Table) -> pa.Table:
    return training(shopper(), labels, engine.execute, vocabulary=Vocabulary(), dataset=_EVENTS.dataset)


def _peer(files: list[str], labels: pa.Table, arguments: argparse.Namespace, folder: Path) -> pa.Table:
    config = {
        "threads": arguments.threads,
        "memory_limit": f"{arguments.memory_mib}MiB",
        "temp_directory": str(folder / "spill"),
        "max_temp_directory_size": "20GB",
    }
    with duckdb.connect(config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        connection.register("labels", labels)
        found: pa.Table = connection.sql(_BY_HAND.format(files=files)).to_arrow_table()
        return found


def _agree(ours: pa.Table, peer: pa.Table) -> float:
    """Labels of visitors without an event before them are not in the peer's result."""
    names = ["n", "buys", "spend", "page", "visit", "views_session", "since_view"]
    mine = ours.select(names).take(peer.column("n")).to_pylist()
    same = [_row(one) == _row(other) for one, other in zip(mine, peer.select(names).to_pylist(), strict=True)]
    return round(sum(same) / len(same), 6)


def _row(row: dict[str, object]) -> list[object]:
    return [round(value, 3) if isinstance(value, float) else value for value in row.values()]


def make_events(
    lake: DeltaLake, catalog: SqlCatalog, *, events: int, visitors: int, days: int, threads: int, properties: str = "url := NULL"
) -> None:
    """A lake with the events of a shop; `properties` are those that are in the JSON of each, as DuckDB's STRUCT_PACK takes them."""
    lake.create(_EVENTS, _SCHEMA, day_of="_date")
    catalog.create_dataset(_EVENTS.dataset)
    with duckdb.connect(config={"threads": threads}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SELECT setseed(0.5)").fetchall()
        sql = _GENERATED.format(events=events, visitors=visitors, days=days, properties=properties)
        lake.append(_EVENTS, connection.sql(sql).to_arrow_reader(100_000).cast(_SCHEMA))
    catalog.put_table(table_definition(_EVENTS, _SCHEMA, None))


def _labels(arguments: argparse.Namespace) -> pa.Table:
    chance = np.random.default_rng(3)
    times = _START_US + chance.integers(0, arguments.days * _DAY_US, arguments.labels)
    return pa.table(
        {
            "entity_id": [f"v{visitor}" for visitor in chance.integers(0, arguments.visitors, arguments.labels)],
            "time": pa.array(times, TIMESTAMP),
            "n": np.arange(arguments.labels),
        }
    )


if __name__ == "__main__":
    main()

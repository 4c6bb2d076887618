"""Apache Flink by PyFlink's SQL, which runs in Java alone: OVER windows at each event, and the window table functions."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import EnvironmentSettings, StatementSet, TableEnvironment  # type: ignore[import-not-found]

from bench.peers.contract import HOUR, MINUTE, SLIDING, WINDOWS, Window, main

_EVENTS = """
CREATE TEMPORARY TABLE events (
  visitor STRING, `at` BIGINT, price DOUBLE, url STRING, category STRING,
  moment AS TO_TIMESTAMP_LTZ(`at`, 3), WATERMARK FOR moment AS moment
) WITH ('connector' = 'filesystem', 'path' = 'file://{path}', 'format' = 'csv')
"""
_RESULTS = """
CREATE TEMPORARY TABLE results (
  visitor STRING, `at` BIGINT, `window` STRING, `count` BIGINT, `sum` DOUBLE, mean DOUBLE, `max` DOUBLE, last STRING, `distinct` BIGINT
) WITH ('connector' = 'filesystem', 'path' = 'file://{path}', 'format' = 'csv')
"""
_OVER = """
INSERT INTO results
SELECT visitor, `at`, '{name}', COUNT(*) OVER w, SUM(price) OVER w, AVG(price) OVER w, MAX(price) OVER w, LAST_VALUE(url) OVER w,
  COUNT(DISTINCT category) OVER w
FROM events
WINDOW w AS (PARTITION BY visitor ORDER BY moment RANGE BETWEEN {length} PRECEDING AND CURRENT ROW)
"""
_WINDOWS = """
INSERT INTO results
SELECT visitor, TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', window_start) * CAST(1000 AS BIGINT), '{name}',
  COUNT(*), SUM(price), AVG(price), MAX(price), {last}, COUNT(DISTINCT category)
FROM TABLE({function}(TABLE events, DESCRIPTOR(moment), {sizes}))
GROUP BY visitor, window_start, window_end
"""


def _interval(part: int) -> str:
    return f"INTERVAL '{part // HOUR}' HOUR" if part % HOUR == 0 else f"INTERVAL '{part // MINUTE}' MINUTE"


def _sql(task: str, window: Window) -> str:
    length, hop = _interval(window.length), _interval(window.hop)
    if task == SLIDING:
        return _OVER.format(name=window.name, length=length)
    if window.hop == window.length:
        return _WINDOWS.format(name=window.name, function="TUMBLE", sizes=length, last="LAST_VALUE(url)")
    # LAST_VALUE cannot be merged, as hopping windows must be. Times have as many digits.
    last = "SUBSTRING(MAX(CAST(`at` AS STRING) || url), 14)"
    return _WINDOWS.format(name=window.name, function="HOP", sizes=f"{hop}, {length}", last=last)


def run(task: str, events: Path, results: Path) -> None:
    """One task slot in a cluster inside the one process that PyFlink starts; both windows read the events once."""
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for setting, value in {"parallelism.default": "1", "table.local-time-zone": "UTC"}.items():
        environment.get_config().set(setting, value)
    environment.execute_sql(_EVENTS.format(path=events.with_suffix(".rows.csv").resolve()))
    environment.execute_sql(_RESULTS.format(path=results.resolve()))
    statements: StatementSet = environment.create_statement_set()
    for window in WINDOWS[task]:
        statements.add_insert_sql(_sql(task, window))
    statements.execute().wait()


if __name__ == "__main__":
    main(run, "apache-flink")

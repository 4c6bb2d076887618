"""Which files a statement rewrites, and that the table then has the statement's result for all rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sokuji
from sokuji.lake.events import EVENTS
from sokuji.meta.objects import Ref
from sokuji.platform import Platform
from sokuji.sql.engine import Engine
from tests.searching import examples
from tests.sql.opening import opened

T = Ref("shop", "t")

Row = tuple[int | None, int | None, str | None]
"""`k`, `v`, and `s`, which was added after the first files."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with opened(tmp_path_factory.mktemp("shop")) as engine:
        yield engine


def fill(engine: Engine, *parts: Sequence[Row]) -> None:
    """Make `shop.t` of a file for each part; the first ones have a column that is gone, and lack `s`."""
    engine.execute("CREATE OR REPLACE TABLE shop.t (k INT64, gone INT64, v INT64)")
    engine.execute("ALTER TABLE shop.t DROP COLUMN gone")
    half = len(parts) // 2
    for part in parts[:half]:
        engine.lake.append(
            T,
            pa.table({"k": pa.array([k for k, _, _ in part], pa.int64()), "v": pa.array([v for _, v, _ in part], pa.int64())}).to_reader(),
        )
    engine.execute("ALTER TABLE shop.t ADD COLUMN s STRING")
    for part in parts[half:]:
        columns = zip(("k", "v", "s"), (pa.int64(), pa.int64(), pa.string()), zip(*part, strict=True), strict=True)
        engine.lake.append(T, pa.table({name: pa.array(values, type_) for name, type_, values in columns}).to_reader())


def files(engine: Engine, ref: Ref = T) -> set[str]:
    return set(engine.lake.snapshot(ref).files)


def rows(engine: Engine) -> list[Row]:
    return sorted(map(tuple, engine.execute("SELECT k, v, s FROM shop.t").rows()), key=repr)


class Condition(NamedTuple):
    sql: str
    holds: Callable[[Row], bool | None]


def less(value: int | None, limit: int) -> bool | None:
    return None if value is None else value < limit


SOURCE = {1: 10, 3: 30, 20: None, 21: 5}
CONDITIONS = st.one_of(
    st.integers(-1, 12).map(lambda k: Condition(f"t.k = {k}", lambda row: None if row[0] is None else row[0] == k)),
    st.integers(-1, 12).map(lambda v: Condition(f"t.v < {v}", lambda row: less(row[1], v))),
    st.integers(-1, 12).map(lambda k: Condition(f"NOT t.k < {k}", lambda row: None if row[0] is None else row[0] >= k)),
    st.just(Condition("t.v IS NULL", lambda row: row[1] is None)),
    st.just(Condition("t.s = 'x'", lambda row: None if row[2] is None else row[2] == "x")),
    st.just(Condition("t.k IN (SELECT k FROM shop.u)", lambda row: None if row[0] is None else row[0] in SOURCE)),
    st.just(Condition("EXISTS (SELECT 1 FROM shop.t AS other WHERE other.k = t.v)", lambda _: None)),  # what it means, `expected` says
    st.just(Condition("TRUE", lambda _: True)),
    st.just(Condition("NULL", lambda _: None)),
)
VALUES = st.none() | st.integers(0, 11)
TABLES = st.lists(
    st.lists(st.tuples(VALUES, VALUES, st.sampled_from([None, "x", "y"])), min_size=1, max_size=4), min_size=1, max_size=6
).map(lambda parts: [[(k, v, None) if place < len(parts) // 2 else (k, v, s) for k, v, s in part] for place, part in enumerate(parts)])


def hits(condition: Condition, table: Sequence[Row]) -> Callable[[Row], bool]:
    if "EXISTS" in condition.sql:
        keys = {k for k, _, _ in table if k is not None}
        return lambda row: row[1] in keys
    return lambda row: condition.holds(row) is True


def check(
    engine: Engine, parts: Sequence[Sequence[Row]], statement: str, touched: Callable[[Row], bool], after: list[Row], count: int
) -> None:
    """The statement makes `after` of the parts, says so, and leaves the files alone that have no row that it touches."""
    fill(engine, *parts)
    by_part = dict(zip(sorted(files(engine), key=lambda file: Path(file).stat().st_mtime_ns), parts, strict=True))
    assert engine.execute(statement).rows_affected == count
    assert rows(engine) == sorted(after, key=repr)
    assert by_part.keys() - files(engine) == {file for file, part in by_part.items() if any(map(touched, part))}


@pytest.fixture(scope="module")
def source(shop: Engine) -> Engine:
    shop.execute("CREATE TABLE shop.u (k INT64, w INT64)")
    shop.execute("INSERT shop.u VALUES " + ", ".join(f"({k}, {'NULL' if w is None else w})" for k, w in SOURCE.items()))
    return shop


@settings(max_examples=examples(15))
@given(TABLES, CONDITIONS)
def test_a_delete_is_as_if_the_whole_table_were_made_again(source: Engine, parts: list[list[Row]], condition: Condition) -> None:
    table = [row for part in parts for row in part]
    is_hit = hits(condition, table)
    after = [row for row in table if not is_hit(row)]
    check(source, parts, f"DELETE shop.t AS t WHERE {condition.sql}", is_hit, after, len(table) - len(after))


@settings(max_examples=examples(15))
@given(TABLES, CONDITIONS)
def test_an_update_is_as_if_the_whole_table_were_made_again(source: Engine, parts: list[list[Row]], condition: Condition) -> None:
    table = [row for part in parts for row in part]
    is_hit = hits(condition, table)
    most = max((v for _, v, _ in table if v is not None), default=None)

    def changed(row: Row) -> Row:
        k, _, _ = row
        return (most, None if k is None else k + 1, "new") if is_hit(row) else row

    statement = f"UPDATE shop.t AS t SET v = k + 1, k = (SELECT MAX(v) FROM shop.t), s = 'new' WHERE {condition.sql}"
    check(source, parts, statement, is_hit, [changed(row) for row in table], sum(map(is_hit, table)))


@settings(max_examples=examples(15))
@given(TABLES)
def test_an_update_from_another_table_is_as_if_the_whole_table_were_made_again(source: Engine, parts: list[list[Row]]) -> None:
    def is_hit(row: Row) -> bool:
        return row[0] in SOURCE

    table = [row for part in parts for row in part]
    after = [(k, SOURCE[k], s) if k in SOURCE and k is not None else (k, v, s) for k, v, s in table]
    check(source, parts, "UPDATE shop.t SET v = u.w FROM shop.u AS u WHERE t.k = u.k", is_hit, after, sum(map(is_hit, table)))


@settings(max_examples=examples(15))
@given(TABLES, st.integers(0, 12), st.booleans(), st.booleans(), st.sampled_from(["", "DELETE", "UPDATE SET s = 'left'"]))
def test_a_merge_is_as_if_the_whole_table_were_made_again(
    source: Engine, parts: list[list[Row]], limit: int, deletes: bool, inserts: bool, left: str
) -> None:
    clauses = [f"WHEN MATCHED AND t.v < {limit} THEN UPDATE SET v = u.w, s = 'both'"]
    clauses += ["WHEN MATCHED THEN DELETE"] if deletes else []
    clauses += ["WHEN NOT MATCHED AND u.k > 2 THEN INSERT (k, v) VALUES (k, w)"] if inserts else []
    clauses += [f"WHEN NOT MATCHED BY SOURCE AND t.k IS NULL THEN {left}"] if left else []

    def changed(row: Row) -> list[Row] | None:
        """What becomes of a row; None if nothing does."""
        k, v, _ = row
        if k in SOURCE and k is not None:
            if less(v, limit):
                return [(k, SOURCE[k], "both")]
            return [] if deletes else None
        if k is None and left:
            return [] if left == "DELETE" else [(k, v, "left")]
        return None

    table = [row for part in parts for row in part]
    after = [each for row in table for each in (changed(row) if changed(row) is not None else [row]) or []]
    new = [(k, w, None) for k, w in SOURCE.items() if inserts and k > 2 and k not in {key for key, _, _ in table}]
    count = sum(changed(row) is not None for row in table) + len(new)
    statement = f"MERGE shop.t USING shop.u ON t.k = u.k {' '.join(clauses)}"
    check(source, parts, statement, lambda row: changed(row) is not None, [*after, *new], count)


def test_one_row_of_a_table_of_twenty_files_is_one_file(shop: Engine) -> None:
    fill(shop, *([(10 * part + row, 0, "x") for row in range(10)] for part in range(20)))
    before = files(shop)
    shop.execute("UPDATE shop.t SET v = 1 WHERE k = 57")
    assert [len(before), len(before - files(shop)), len(files(shop) - before)] == [20, 1, 1]
    assert shop.execute("SELECT k, v FROM shop.t WHERE v = 1").rows() == [(57, 1)]
    assert shop.execute("SELECT COUNT(*), COUNT(DISTINCT k) FROM shop.t").rows() == [(200, 200)]


def test_rows_of_many_row_groups_are_told_apart(shop: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.lake.delta.files._GROUP_ROWS", 1)
    shop.execute("CREATE OR REPLACE TABLE shop.t (k INT64, v INT64)")
    for first in (0, 100):
        batches = pa.table({"k": range(first, first + 100), "v": [0] * 100}).to_batches(max_chunksize=7)
        shop.lake.append(T, pa.RecordBatchReader.from_batches(batches[0].schema, batches))
    shop.execute("UPDATE shop.t SET v = k WHERE k IN (50, 51, 99, 150)")
    shop.execute("DELETE shop.t WHERE k BETWEEN 20 AND 45 OR k > 190")
    kept = [k for k in range(200) if not (20 <= k <= 45 or k > 190)]
    assert shop.execute("SELECT k, v FROM shop.t ORDER BY k").rows() == [(k, k if k in {50, 51, 99, 150} else 0) for k in kept]


def test_what_chance_chooses_is_chosen_once(shop: Engine) -> None:
    fill(shop, *([(10 * part + row, 0, "x") for row in range(10)] for part in range(20)))
    changed = shop.execute("UPDATE shop.t SET v = 1 WHERE RAND() < 0.5").rows_affected
    assert shop.execute("SELECT SUM(v), COUNT(*), COUNT(DISTINCT k) FROM shop.t").rows() == [(changed, 200, 200)]
    deleted = shop.execute("DELETE shop.t WHERE RAND() < 0.5").rows_affected or 0
    assert shop.execute("SELECT COUNT(*) FROM shop.t").rows() == [(200 - deleted,)]


@pytest.mark.parametrize("name", ["file_index", "FILE_ROW_NUMBER", "filename", "row_", "action", "changes_"])
def test_a_column_may_be_called_as_any_that_rows_are_told_apart_by(shop: Engine, name: str) -> None:
    shop.execute(f"CREATE OR REPLACE TABLE shop.t (k INT64, `{name}` INT64, j JSON, b INTERVAL)")
    for k in range(3):
        shop.execute(f"INSERT shop.t VALUES ({2 * k}, 7, JSON '[1]', INTERVAL 1 DAY), ({2 * k + 1}, 7, NULL, NULL)")
    before = files(shop)
    shop.execute(f"UPDATE shop.t SET `{name}` = 8 WHERE k = 2")
    shop.execute("DELETE shop.t WHERE k = 3")
    shop.execute(
        f"MERGE shop.t USING (SELECT 2 AS k UNION ALL SELECT 9) AS n ON t.k = n.k WHEN MATCHED THEN UPDATE SET `{name}` = 9 "
        "WHEN NOT MATCHED THEN INSERT (k) VALUES (k)"
    )
    found = shop.execute(f"SELECT k, `{name}`, TO_JSON_STRING(j), b > INTERVAL 0 DAY FROM shop.t ORDER BY k").rows()
    full, empty = ("[1]", True), ("null", None)
    assert found == [(0, 7, *full), (1, 7, *empty), (2, 9, *full), (4, 7, *full), (5, 7, *empty), (9, None, *empty)]
    assert len(before & files(shop)) == 2


def run_at_once(*actions: Callable[[], object]) -> None:
    failures: list[BaseException] = []

    def guarded(action: Callable[[], object]) -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - of any kind, for the test to raise
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_merges_at_the_same_time_insert_a_row_once(shop: Engine) -> None:
    """Neither touches a file that the other does; each would have matched what the other inserts."""
    fill(shop, [(1, 0, None)])
    statement = "MERGE shop.t USING (SELECT * FROM UNNEST([7, 8, 9]) AS k) AS n ON t.k = n.k WHEN NOT MATCHED THEN INSERT (k) VALUES (k)"
    run_at_once(*[lambda: shop.execute(statement)] * 4)
    assert [k for k, _, _ in rows(shop)] == [1, 7, 8, 9]


def test_an_update_beside_inserts_and_compaction_loses_and_doubles_nothing(shop: Engine) -> None:
    fill(shop, *([(part, 0, None)] for part in range(8)))

    def add(k: int) -> None:
        for _ in range(3):
            shop.execute(f"UPDATE shop.t SET v = v + 1 WHERE k = {k}")

    def insert() -> None:
        for k in range(100, 104):
            shop.execute(f"INSERT shop.t (k, v) VALUES ({k}, 0)")

    run_at_once(lambda: add(1), lambda: add(5), insert, lambda: shop.lake.maintain([T]))
    expected = dict.fromkeys([*range(8), *range(100, 104)], 0) | {1: 3, 5: 3}
    assert sorted((k, v) for k, v, _ in rows(shop)) == sorted(expected.items())


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with sokuji.open(tmp_path) as platform:
        yield platform


@pytest.mark.parametrize("name", ["revenue", "file_index"])
def test_a_delete_of_events_leaves_other_files_alone(platform: Platform, name: str) -> None:
    """Also those with properties that hide the columns that DuckDB tells rows apart by."""
    for number in range(5):
        for visitor in ("v1", "v2"):
            platform.track({"type": "track", "event": "buy", "anonymousId": visitor, "properties": {name: number}})
        with platform._backends.make_sink() as sink:
            sink.drain()
    platform.track({"type": "track", "event": "buy", "anonymousId": "v1", "properties": {name: 2, "late": True}})
    ref, lake = Ref("main", EVENTS), platform._backends.tables
    before = set(lake.snapshot(ref).files)
    assert platform.sql(f"DELETE FROM main.events WHERE `{name}` = 2 AND keys.visitor_id = 'v1'").rows_affected == 2
    assert len(before - set(lake.snapshot(ref).files)) == 1
    found = platform.sql(f"SELECT keys.visitor_id, `{name}` FROM main.events ORDER BY 1, 2").rows()
    assert found == [*(("v1", float(number)) for number in (0, 1, 3, 4)), *(("v2", float(number)) for number in range(5))]

"""Results as people and programs read them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from sokuji.errors import SqlError
from sokuji.sql.engine import Engine
from sokuji.sql.printing import run_text

SQL = """SELECT n AS id, IF(n = 1, NULL, 'a,"b\\n') AS s, 1.5 AS id, CAST('inf' AS FLOAT64) AS f, [1, 2] AS arr,
    STRUCT(DATE '2026-01-02' AS d) AS st, b'ab' AS b, TIMESTAMP '2026-01-02 03:04:05.5+00' AS ts, JSON '{"k": [1]}' AS j,
    NUMERIC '1.50' AS m, INTERVAL -1 MONTH AS iv
    FROM UNNEST([1, 2]) AS n ORDER BY n"""


def shown(engine: Engine, format_: str, sql: str = SQL) -> str:
    file = io.StringIO()
    run_text(engine, sql, format_, file)
    return file.getvalue()


def test_json_and_json_lines_hold_every_value(engine: Engine) -> None:
    expected = {
        "id": 1,
        "s": None,
        "id_1": 1.5,
        "f": "Infinity",
        "arr": [1, 2],
        "st": {"d": "2026-01-02"},
        "b": "YWI=",
        "ts": "2026-01-02 03:04:05.500000 UTC",
        "j": {"k": [1]},
        "m": "1.5",
        "iv": "-0-1 0 0:0:0",
    }
    rows = json.loads(shown(engine, "json"))
    assert rows == [expected, expected | {"id": 2, "s": 'a,"b\n'}]
    assert [json.loads(line) for line in shown(engine, "jsonl").splitlines()] == rows
    assert json.loads(shown(engine, "json", "SELECT 1 AS x LIMIT 0")) == []


def test_csv_reads_back(engine: Engine) -> None:
    header, first, second = csv.reader(io.StringIO(shown(engine, "csv")))
    assert header == ["id", "s", "id", "f", "arr", "st", "b", "ts", "j", "m", "iv"]
    assert first[:3] == ["1", "", "1.5"]
    assert second[1] == 'a,"b\n'
    assert second[4:6] == ["[1, 2]", '{"d": "2026-01-02"}']


def test_a_table_shows_null_and_aligns_numbers(engine: Engine) -> None:
    lines = shown(engine, "table", "SELECT * FROM UNNEST([STRUCT('[b]x[/b]' AS name, 5 AS n), (NULL, 1000)])").splitlines()
    assert [line.strip("┃│ ") for line in lines if "x" in line or "NULL" in line] == ["[b]x[/b] │    5", "NULL     │ 1000"]


def test_a_long_result_is_cut_in_a_table_only(engine: Engine) -> None:
    sql = "SELECT x FROM UNNEST(GENERATE_ARRAY(1, 1500)) AS x"
    assert "... 500 more rows" in shown(engine, "table", sql)
    assert len(shown(engine, "csv", sql).splitlines()) == 1501


@pytest.mark.parametrize(("format_", "text"), [("table", "Created table shop.t (2 rows)\n"), ("csv", ""), ("json", ""), ("jsonl", "")])
def test_statements_without_rows_say_what_they_did_to_people(engine: Engine, format_: str, text: str) -> None:
    assert shown(engine, format_, "CREATE TABLE shop.t AS SELECT x FROM UNNEST([1, 2]) AS x") == text


def test_results_before_an_error_are_shown(engine: Engine) -> None:
    file = io.StringIO()
    with pytest.raises(SqlError, match="division by zero"):
        run_text(engine, "SELECT 1 AS x; SELECT 1 / 0", "csv", file)
    assert file.getvalue() == "x\n1\n"

"""A statement can reach the catalog and nothing else, whatever its text."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sokuji.config import SqlSettings
from sokuji.errors import SokujiError, SqlError
from sokuji.sql.duckdb.run import Database
from sokuji.sql.engine import Engine

OUT_OF_REACH = [
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM information_schema.character_sets",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM `/etc/passwd`",
    "SELECT * FROM `shop./etc/passwd`",
    "SELECT * FROM `{secret}`",
    "SELECT * FROM `x.{secret}`",
    "SELECT * FROM shop.`{secret}`",
    "SELECT * FROM glob('*')",
    "SELECT * FROM range(3)",
    "SELECT getenv('HOME')",
    "SELECT current_setting('threads')",
    "SELECT query('SELECT 1')",
    "SET threads = 1",
    "PRAGMA database_list",
    "ATTACH '/tmp/x.db'",
    "COPY (SELECT 1) TO '/tmp/x.csv'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPORT DATA OPTIONS(uri='/tmp/x-*.csv', format='CSV') AS SELECT 1",
    "LOAD DATA INTO shop.x FROM FILES(format='CSV', uris=['/etc/passwd'])",
    "CREATE EXTERNAL TABLE shop.x OPTIONS(format='CSV', uris=['/etc/passwd'])",
    "CREATE TEMP FUNCTION f(x INT64) RETURNS INT64 LANGUAGE js AS 'return 1'; SELECT f(1)",
    "CALL pragma_version()",
    "DESCRIBE shop.t",
]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.parquet"
    pq.write_table(pa.table({"word": ["treasure"]}), path)
    return path


@pytest.mark.parametrize("sql", OUT_OF_REACH)
def test_what_is_not_in_the_catalog_cannot_be_named(reading_engine: Engine, secret: Path, sql: str) -> None:
    with pytest.raises(SokujiError) as caught:
        reading_engine.execute(sql.format(secret=secret)).rows()
    assert "treasure" not in str(caught.value)
    assert "defect" not in str(caught.value)


NASTY = [
    "'",
    '"',
    "''",
    "\\",
    "\\'",
    "'; DROP TABLE shop.t; --",
    "'), (SELECT * FROM read_text('/etc/passwd')) --",
    '" FROM read_text(\'/etc/passwd\') --',
    "$$", "$1", "?", "{0}", "%s", "/*", "--", ";", "\n", "\t", "é漢🎉", "\x01", "a\x00b",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_a_string_stays_a_string(reading_engine: Engine, text: str) -> None:
    found = reading_engine.execute("SELECT @text, ['x', @text], STRUCT(@text AS s)", {"text": text}).rows()
    assert found == [(text, ["x", text], {"s": text})]
    literal = "".join(f"\\U{ord(character):08x}" for character in text)
    assert reading_engine.execute(f"SELECT '{literal}', LENGTH('{literal}')").rows() == [(text, len(text))]
    assert reading_engine.execute("SELECT @bytes", {"bytes": text.encode()}).rows() == [(text.encode(),)]


@pytest.mark.parametrize("name", [name for name in NASTY if name.isprintable() and name[0] not in "\\$"])
def test_a_name_stays_a_name(reading_engine: Engine, name: str) -> None:
    result = reading_engine.execute(f"SELECT `{name}` FROM (SELECT 1 AS `{name}`)")
    assert [field.name for field in result.schema] == [name]
    assert result.rows() == [(1,)]
    result = reading_engine.execute(f"SELECT `{name}`.`{name}` FROM (SELECT STRUCT(1 AS `{name}`) AS `{name}`) AS t")
    assert result.rows() == [(1,)]


@pytest.mark.parametrize("name", ["a'b", 'a"b', 'a" FROM x --', "select", "o1", "c1", "t1"])
def test_a_columns_name_stays_a_name_in_a_table(engine: Engine, name: str) -> None:
    engine.execute(f"CREATE TABLE shop.t AS SELECT 1 AS `{name}`, STRUCT(2 AS `{name}`) AS s")
    assert engine.execute(f"SELECT `{name}`, s.`{name}` FROM shop.t WHERE `{name}` = 1").rows() == [(1, 2)]


@pytest.mark.parametrize("path", ["$.a'b", "$['a']", '$.a"', "$.x'); SELECT 1 --"])
def test_a_json_path_stays_a_path(reading_engine: Engine, path: str) -> None:
    with pytest.raises(SqlError, match="JSON"):
        reading_engine.execute(f"""SELECT JSON_VALUE('{{"a": "1"}}', "{path.replace('"', chr(92) + '"')}")""")


def test_a_json_path_may_hold_quotes(reading_engine: Engine) -> None:
    assert reading_engine.execute("""SELECT JSON_VALUE('{"a\\'b": "1", "c": "2"}', '$."a\\'b"')""").rows() == [("1",)]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    (tmp_path / "lake").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "lake" / "mine.parquet")
    return Database([tmp_path / "lake"], tmp_path / "spill", SqlSettings())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_parquet('{secret}')",
        "SELECT * FROM read_parquet('{lake}/../secret.parquet')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/proc/self/environ')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "COPY (SELECT 1) TO '{secret}.csv'",
        "ATTACH '{secret}.db'",
        "EXPORT DATABASE '{secret}.d'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET allowed_directories",
        "PRAGMA threads = 1",
        "SELECT * FROM secret_variable",
    ],
)
def test_even_duckdbs_own_sql_reaches_only_the_lake(database: Database, tmp_path: Path, secret: Path, sql: str) -> None:
    secret_variable = pa.table({"word": ["treasure"]})
    assert secret_variable.num_rows == 1
    cursor = database.cursor()
    assert cursor.execute(f"SELECT x FROM read_parquet('{tmp_path}/lake/mine.parquet')").fetchall() == [(1,)]
    with pytest.raises(duckdb.Error):
        cursor.execute(sql.format(secret=secret, lake=tmp_path / "lake")).fetchall()
    assert not Path(f"{secret}.csv").exists()


def test_times_are_utc_whatever_the_machine_says(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert database.cursor().execute("SELECT current_setting('TimeZone')").fetchall() == [("Etc/UTC",)]

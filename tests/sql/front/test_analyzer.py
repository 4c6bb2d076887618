"""The front end's results for a text: statements, names, types of parameters, and errors with their position."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.public import function_pb2

from sokuji.errors import SqlError
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.meta.store import SqlCatalog
from sokuji.sql.front.analyzer import Analyzer, ProceduralError
from sokuji.sql.front.protos import from_type
from sokuji.sql.front.wasm import AnalyzerCrashError, ZetaSql
from sokuji.types import FLOAT64, INT64, STRING, TIMESTAMP, Field, array, struct

EVENTS = (
    Column("event_name", STRING),
    Column("keys", struct([Field("visitor_id", STRING), Field("user_id", STRING)])),
    Column("_date", TIMESTAMP),
    Column("revenue", FLOAT64),
)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    with SqlCatalog(f"sqlite:///{tmp_path}/catalog.db") as catalog:
        catalog.create_dataset("karte")
        catalog.put_table(Table(Ref("karte", "events"), TableKind.EVENTS, EVENTS))
        yield catalog


@pytest.fixture
def analyzer(catalog: SqlCatalog) -> Analyzer:
    return Analyzer(catalog)


def columns(analyzer: Analyzer, sql: str, parameters: Any = None) -> list[tuple[str, str]]:
    analysis = analyzer.analyze(sql, parameters)
    return [(column.name, str(from_type(column.column.type))) for column in analysis.node.output_column_list]


def analyze_all(analyzer: Analyzer, script: str) -> None:
    for statement in analyzer.split(script):
        analyzer.analyze(statement)


def test_types_are_resolved(analyzer: Analyzer) -> None:
    sql = "SELECT keys.visitor_id, SUM(revenue) AS money, COUNT(*) AS n, MAX(_date) AS last FROM karte.events GROUP BY 1"
    assert columns(analyzer, sql) == [("visitor_id", "STRING"), ("money", "FLOAT64"), ("n", "INT64"), ("last", "TIMESTAMP")]


@pytest.mark.parametrize(
    "name",
    ["karte.events", "`karte.events`", "`karte`.events", "project.karte.events", "`my-project.karte.events`", "my-project.karte.events"],
)
def test_a_table_is_named_with_and_without_a_project(analyzer: Analyzer, name: str) -> None:
    assert columns(analyzer, f"SELECT revenue FROM {name}") == [("revenue", "FLOAT64")]


@pytest.mark.parametrize("name", ["Karte.events", "karte.Events", "karte.nothing", "nothing.events", "`karte.EVENTS`"])
def test_dataset_and_table_names_are_case_sensitive(analyzer: Analyzer, name: str) -> None:
    analyzer.analyze("SELECT 1 FROM karte.events")  # the right spelling is known inside by now
    with pytest.raises(SqlError, match="Table not found"):
        analyzer.analyze(f"SELECT 1 FROM {name}")


def test_a_table_without_its_dataset_is_told_so(analyzer: Analyzer) -> None:
    with pytest.raises(SqlError, match='Table "events" must be qualified with a dataset') as caught:
        analyzer.analyze("SELECT 1 FROM events")
    assert (caught.value.line, caught.value.column) == (1, 15)


def test_two_spellings_of_one_name_are_not_confused(analyzer: Analyzer) -> None:
    with pytest.raises(SqlError, match="in case only"):
        analyzer.analyze("SELECT 1 FROM karte.events, karte.Events")


def test_column_names_are_not_case_sensitive(analyzer: Analyzer) -> None:
    assert columns(analyzer, "SELECT REVENUE, Keys.Visitor_ID FROM karte.events") == [("REVENUE", "FLOAT64"), ("Visitor_ID", "STRING")]


def test_a_changed_table_is_seen_at_once(analyzer: Analyzer, catalog: SqlCatalog) -> None:
    with pytest.raises(SqlError, match="url"):
        analyzer.analyze("SELECT url FROM karte.events")
    catalog.put_table(Table(Ref("karte", "events"), TableKind.EVENTS, (*EVENTS, Column("url", STRING))), replace=True)
    assert columns(analyzer, "SELECT url FROM karte.events") == [("url", "STRING")]
    catalog.drop_table(Ref("karte", "events"))
    with pytest.raises(SqlError, match="Table not found"):
        analyzer.analyze("SELECT url FROM karte.events")


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (True, "BOOL"),
        (1, "INT64"),
        (1.5, "FLOAT64"),
        ("x", "STRING"),
        (b"x", "BYTES"),
        (decimal.Decimal("1.5"), "NUMERIC"),
        (dt.date(2026, 1, 2), "DATE"),
        (dt.time(3, 4), "TIME"),
        (dt.datetime(2026, 1, 2, 3, 4), "DATETIME"),  # noqa: DTZ001 the case in question
        (dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), "TIMESTAMP"),
        ([None, 1.5], "ARRAY<FLOAT64>"),
        ([], "ARRAY<INT64>"),
        ({"a": 1, "b": ["x"]}, "STRUCT<a INT64, b ARRAY<STRING>>"),
    ],
)
def test_parameters_get_their_type_from_their_value(analyzer: Analyzer, value: object, type_: str) -> None:
    assert columns(analyzer, "SELECT @Value AS x", {"value": value}) == [("x", type_)]
    assert columns(analyzer, "SELECT ? AS x", [value]) == [("x", type_)]


def test_a_parameter_without_a_type_is_an_error(analyzer: Analyzer) -> None:
    with pytest.raises(SqlError, match="object has no GoogleSQL type"):
        analyzer.analyze("SELECT @x", {"x": object()})


@pytest.mark.parametrize(
    ("script", "line", "column"),
    [
        ("SELECT nothing", 1, 8),
        ("SELECT 1;\n\n  SELECT nothing;", 3, 10),
        ("SELECT 1; SELECT nothing", 1, 18),
        ("SELECT\n\tnothing", 2, 2),
        ("SELECT\n\t 'x',\tnothing", 2, 8),
        ("SELECT 'é漢', nothing", 1, 14),
        ("-- 漢字\nSELECT 'é'; SELECT 1 +", 2, 23),
    ],
)
def test_an_error_names_its_place_in_the_whole_script(analyzer: Analyzer, script: str, line: int, column: int) -> None:
    with pytest.raises(SqlError) as caught:
        analyze_all(analyzer, script)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert caught.value.sql == script


def test_the_caret_stands_below_the_place(analyzer: Analyzer) -> None:
    with pytest.raises(SqlError) as caught:
        analyzer.analyze("SELECT revenue,\n\tvisitor FROM karte.events")
    assert caught.value.pretty() == "Unrecognized name: visitor [at 2:2]\n\tvisitor FROM karte.events\n\t^"


def test_a_script_is_split_into_statements(analyzer: Analyzer) -> None:
    texts = [statement.text.strip() for statement in analyzer.split("SELECT ';' /* ; */;\n-- a; comment\nSELECT 'é'")]
    assert texts == ["SELECT ';' /* ; */;", "-- a; comment\nSELECT 'é'"]
    assert len(analyzer.split("SELECT 1; # done")) == 1


@pytest.mark.parametrize("text", ["", "  \n", "-- nothing", "/* nothing */ ;"])
def test_a_text_without_a_statement_is_an_error(analyzer: Analyzer, text: str) -> None:
    with pytest.raises(SqlError, match="no statement"):
        analyzer.split(text)


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("DECLARE x INT64; SELECT x", 2),
        ("IF TRUE THEN SELECT 1; ELSE SELECT 2; END IF; SELECT 3", 2),
        ("LOOP BREAK; END LOOP", 1),
        ("EXECUTE IMMEDIATE 'x'", 1),
        ("SELECT 1; SET x = 1", 2),
    ],
)
def test_procedural_scripts_are_no_plain_statements(analyzer: Analyzer, script: str, statements: int) -> None:
    with pytest.raises(ProceduralError, match="cannot stand here") as caught:
        analyzer.split(script)
    assert len(caught.value.tree.statement_list_node.statement_list) == statements


@pytest.mark.parametrize("script", ["IF TRUE THEN SELECT 1;", "BEGIN SELECT 1;", "LOOP", "DECLARE x INT64;", "REPEAT SELECT 1; UNTIL TRUE"])
def test_a_script_may_need_more(analyzer: Analyzer, script: str) -> None:
    assert analyzer.unfinished(script)


@pytest.mark.parametrize("script", ["SELECT 1;", "DECLARE x INT64; SELECT x;", "IF TRUE THEN SELECT 1; END IF;", "SELEC 1;", ""])
def test_a_script_may_be_whole_or_wrong(analyzer: Analyzer, script: str) -> None:
    assert not analyzer.unfinished(script)


def test_the_create_model_statement_of_the_deck_resolves_verbatim(analyzer: Analyzer) -> None:
    sql = """
CREATE OR REPLACE MODEL `karte.rfm_model`
OPTIONS(model_type='kmeans', num_clusters=5, standardize_features=TRUE) AS
SELECT recency, frequency, monetary FROM (
  SELECT keys.visitor_id, UNIX_SECONDS(MAX(_date)) AS recency, COUNT(*) AS frequency, SUM(revenue) AS monetary
  FROM karte.events WHERE event_name = 'buy' GROUP BY keys.visitor_id
)"""
    analysis = analyzer.analyze(sql)
    assert analysis.kind == "resolved_create_model_stmt_node"
    assert list(analysis.node.parent.name_path) == ["karte.rfm_model"]
    assert [option.name for option in analysis.node.option_list] == ["model_type", "num_clusters", "standardize_features"]
    assert [column.name for column in analysis.node.output_column_list] == ["recency", "frequency", "monetary"]


def test_a_transform_clause_resolves(analyzer: Analyzer) -> None:
    sql = (
        "CREATE MODEL karte.m TRANSFORM(revenue * 2 AS doubled, label) OPTIONS(model_type='linear_reg') AS "
        "SELECT revenue, 1.0 AS label FROM karte.events"
    )
    assert [column.name for column in analyzer.analyze(sql).node.transform_output_column_list] == ["doubled", "label"]


def test_constants_are_computed_by_the_reference_implementation(analyzer: Analyzer) -> None:
    assert analyzer.constant("GENERATE_ARRAY(0.5, 1, 0.25)") == ([0.5, 0.75, 1.0], array(FLOAT64))
    value, type_ = analyzer.constant("STRUCT(@share AS share, NUMERIC '1.25' AS n, DATE '2026-01-02' AS d)", {"share": 0.5})
    assert value == {"share": 0.5, "n": decimal.Decimal("1.25"), "d": dt.date(2026, 1, 2)}
    assert str(type_) == "STRUCT<share FLOAT64, n NUMERIC, d DATE>"


def test_after_a_crash_the_analyzer_works_again(catalog: SqlCatalog) -> None:
    zetasql = ZetaSql()
    analyzer = Analyzer(catalog, zetasql=zetasql)
    assert columns(analyzer, "SELECT revenue FROM karte.events") == [("revenue", "FLOAT64")]
    malformed = service.RegisterCatalogRequest()
    malformed.simple_catalog.name = "x"
    function = malformed.simple_catalog.custom_function.add(name_path=["f"], mode=function_pb2.FunctionEnums.SCALAR)
    signature = function.signature.add()
    signature.argument.add(kind=function_pb2.ARG_TYPE_FIXED).type.type_kind = 2
    signature.return_type.kind = function_pb2.ARG_TYPE_FIXED
    signature.return_type.type.type_kind = 2
    with pytest.raises(AnalyzerCrashError, match="internal check"):
        zetasql.call("RegisterCatalog", malformed, service.RegisterResponse)
    assert columns(analyzer, "SELECT revenue FROM karte.events") == [("revenue", "FLOAT64")]


def test_threads_share_an_analyzer(analyzer: Analyzer, catalog: SqlCatalog) -> None:
    for number in range(8):
        catalog.put_table(Table(Ref("karte", f"t{number}"), TableKind.TABLE, (Column(f"c{number}", INT64),)))

    def work(number: int) -> list[tuple[str, str]]:
        return columns(analyzer, f"SELECT c{number % 8} FROM karte.t{number % 8}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(64))) == [[(f"c{number % 8}", "INT64")] for number in range(64)]

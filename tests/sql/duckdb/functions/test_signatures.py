"""Every supported signature gives the result of GoogleSQL's reference implementation, on the same generated values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sokuji.errors import SqlError
from sokuji.sql.duckdb import functions
from sokuji.sql.duckdb.functions.base import Support
from tests.conftest import IS_LONG
from tests.searching import examples
from tests.sql.duckdb.functions.domains import values
from tests.sql.duckdb.functions.forms import AGGREGATES, ANALYTIC, FORMS
from tests.sql.duckdb.functions.known import DEVIATIONS, ULPS, UNTRIED
from tests.sql.duckdb.functions.oracle import DATA_ERRORS, FAILED, Engine, Form, by_reference, parse, same

_WRAPPED = "COALESCE({0}, {0})"  # an argument that is more than a column: it is bound to a name where it is needed twice
_CALL = re.compile(
    r"(?!IF|COALESCE|NULLIF|CAST|SAFE_CAST|EXTRACT|INTERVAL|ARRAY_(FILTER|TRANSFORM|INCLUDES|SUM|AVG|MIN|MAX|FIRST|LAST|REMOVE|SLICE)|NOT|ARRAY<)[A-Z][A-Z0-9_.]*\("
)
_EXAMPLES = 60 if IS_LONG else 3  # fewer would not show all of DEVIATIONS
_FAILING_MAX = examples(9)  # rows that are to fail: each is a query of its own


def _variants() -> Iterator[tuple[str, str]]:
    for texts in FORMS.values():
        for number, text in enumerate(texts):
            yield text, _WRAPPED if number % 2 else "{}"
            if number % 4 == 0 and _CALL.match(text):
                yield f"SAFE.{text}", "{}"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def called() -> set[str]:
    return set()


@pytest.mark.parametrize(("text", "wrap"), list(_variants()))
def test_an_expression_is_what_the_reference_says(text: str, wrap: str, engine: Engine, called: set[str]) -> None:
    form = parse(text, wrap)
    sql, (type_,), signatures = engine.emit(f"SELECT {form.sql} FROM wide ORDER BY n")
    called |= signatures
    rows = _rows(form, 25)
    wanted = by_reference(form, rows)
    right = [number for number, value in enumerate(wanted) if value is not FAILED]
    got = _values(engine, sql, type_, form, [rows[number] for number in right])
    different = [
        (rows[number], wanted[number], value)
        for number, value in zip(right, got, strict=True)
        if not same(wanted[number], value, type_, _ulps(text))
    ]
    failing = [row for row, expected in zip(rows, wanted, strict=True) if expected is FAILED]
    different += [(row, FAILED, value) for row in failing[:_FAILING_MAX] for value in _of_one(engine, sql, type_, form, row)]
    _judge(text, different)


def _values(engine: Engine, sql: str, type_: Any, form: Form, rows: list[tuple[Any, ...]]) -> list[Any]:
    """The value for each row, FAILED where it raises although it should not."""
    try:
        return [row[0] for row in engine.run(sql, [type_], form, rows)]
    except DATA_ERRORS:
        return [next(iter(_of_one(engine, sql, type_, form, row)), FAILED) for row in rows]


def _of_one(engine: Engine, sql: str, type_: Any, form: Form, row: tuple[Any, ...]) -> list[Any]:
    """The value for one row alone, in a list that is empty when it raises as it should."""
    try:
        return [values[0] for values in engine.run(sql, [type_], form, [row])]
    except DATA_ERRORS:
        return []


@pytest.mark.parametrize("text", AGGREGATES)
def test_an_aggregate_of_a_group_is_what_the_reference_says(text: str, engine: Engine, called: set[str]) -> None:
    form = parse(text)
    sql, (type_,), signatures = engine.emit(f"SELECT {form.sql} FROM wide GROUP BY n ORDER BY n")
    called |= signatures
    rows = _rows(form, 40)
    groups = [number // 5 for number in range(len(rows))]
    different = []
    for group in sorted(set(groups)):
        members = [row for row, number in zip(rows, groups, strict=True) if number == group]
        try:
            (wanted,) = by_reference(form, members, "{select} GROUP BY n", [group] * len(members))
        except SqlError:
            wanted = FAILED
        try:
            got: Any = engine.run(sql, [type_], form, members, [group] * len(members))[0][0]
        except DATA_ERRORS:
            got = FAILED
        if not same(wanted, got, type_, _ulps(text)):
            different.append((members, wanted, got))
    _judge(text, different)


@pytest.mark.parametrize("text", ANALYTIC)
def test_a_window_function_is_what_the_reference_says(text: str, engine: Engine, called: set[str]) -> None:
    form = parse(text)
    sql, (type_,), signatures = engine.emit(f"SELECT {form.sql} FROM wide ORDER BY n")
    called |= signatures
    rows = _rows(form, 25)
    wanted = by_reference(form, rows)
    got = [row[0] for row in engine.run(sql, [type_], form, rows)]
    different = [
        (row, right, value) for row, right, value in zip(rows, wanted, got, strict=True) if not same(right, value, type_, _ulps(text))
    ]
    _judge(text, different)


def _ulps(text: str) -> int:
    return max((ulps for name, ulps in ULPS.items() if f"{name}(" in text), default=0)


def _rows(form: Form, count: int) -> list[tuple[Any, ...]]:
    drawn: list[list[tuple[Any, ...]]] = []

    @settings(
        max_examples=_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.tuples(*(values(type_, domain) for _, type_, domain in form.columns)), min_size=count, max_size=count))
    def draw(rows: list[tuple[Any, ...]]) -> None:
        drawn.append(rows)

    draw()
    return [row for rows in drawn for row in rows]


def _judge(text: str, different: list[Any]) -> None:
    if text in DEVIATIONS:
        assert different, f"{text} does not deviate any more: take it off the list"
    else:
        lines = [f"{arguments}: expected {wanted!r}, got {got!r}" for arguments, wanted, got in different[:5]]
        assert not different, "\n".join([f"{text}: {len(different)} values differ", *lines])


def test_no_signature_is_claimed_unproven(called: set[str], request: pytest.FixtureRequest) -> None:
    if len(request.session.items) < len(list(_variants())):
        pytest.skip("only says something after all of the tests above")
    supported = {name for name, function in functions.TABLE.items() if function.support is not Support.UNSUPPORTED}
    assert supported - called == set(UNTRIED)

"""Every supported signature gives the result of GoogleSQL's reference implementation, on the same generated values."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sokuji.errors import SqlError
from sokuji.sql.duckdb import functions
from sokuji.sql.duckdb.functions.base import Support
from sokuji.types import Type
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

Difference = tuple[Any, Any, Any]  # the arguments, what is expected, what there is
Case = tuple[str, Form]
Item = TypeVar("Item")


def _cases(texts: Sequence[str]) -> Iterator[Case]:
    """The forms of a family, every other one with wrapped arguments, and some under `SAFE.`."""
    for number, text in enumerate(texts):
        yield text, parse(text, _WRAPPED if number % 2 else "{}")
        if number % 4 == 0 and _CALL.match(text):
            yield f"SAFE.{text}", parse(f"SAFE.{text}")


SCALARS = {family: list(_cases(texts)) for family, texts in FORMS.items()}
OTHERS = {"aggregates": AGGREGATES, "analytic functions": ANALYTIC}
CASES = SCALARS | {family: [(text, parse(text)) for text in texts] for family, texts in OTHERS.items()}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(form for cases in CASES.values() for _, form in cases)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def called() -> dict[str, set[str]]:
    """The signatures that were called, by family."""
    return {}


@pytest.mark.parametrize("family", CASES)
def test_a_family_of_functions_gives_what_the_reference_says(family: str, engine: Engine, called: dict[str, set[str]]) -> None:
    differences = {"aggregates": _of_groups, "analytic functions": _of_windows}.get(family, _of_rows)
    signatures, wrong = called.setdefault(family, set()), []
    for text, form in CASES[family]:
        try:
            wrong += _judged(text, differences(engine, form, signatures, _ulps(text)))
        except (SqlError, duckdb.Error) as error:
            wrong.append(f"{text}: {error!r}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(CASES[family])} are not what the reference says", *wrong])


def _judged(text: str, different: list[Difference]) -> list[str]:
    """What is wrong with a form, in words; nothing if all is right."""
    if text in DEVIATIONS:
        return [] if different else [f"{text} does not deviate any more: take it off the list"]
    lines = [f"    {arguments}: expected {wanted!r}, got {got!r}" for arguments, wanted, got in different[:5]]
    return ["\n".join([f"{text}: {len(different)} values differ", *lines])] if different else []


def _of_rows(engine: Engine, form: Form, called: set[str], ulps: int) -> list[Difference]:
    """Where an expression is another one than the reference says."""
    sql, type_, signatures = engine.emit(form)
    called |= signatures
    rows = _unlike(_rows(form, 25))
    wanted = by_reference(form, rows)
    right = [number for number, value in enumerate(wanted) if value is not FAILED]
    got = _values(engine, sql, type_, form, [rows[number] for number in right])
    found = [(rows[number], wanted[number], value) for number, value in zip(right, got, strict=True)]
    failing = [row for row, expected in zip(rows, wanted, strict=True) if expected is FAILED]
    found += [(row, FAILED, _of_one(engine, sql, type_, form, row)) for row in failing[:_FAILING_MAX]]
    return _unequal(found, type_, ulps)


def _unequal(found: Iterable[Difference], type_: Type, ulps: int) -> list[Difference]:
    return [(arguments, wanted, got) for arguments, wanted, got in found if not same(wanted, got, type_, ulps)]


def _values(engine: Engine, sql: str, type_: Type, form: Form, rows: list[tuple[Any, ...]]) -> list[Any]:
    """The value for each row, FAILED where it raises although it should not."""
    try:
        return engine.run(sql, type_, form, rows)
    except DATA_ERRORS:
        return [_of_one(engine, sql, type_, form, row) for row in rows]


def _of_one(engine: Engine, sql: str, type_: Type, form: Form, *rows: tuple[Any, ...]) -> Any:
    """The value for one row or one group alone, FAILED if it raises."""
    try:
        return engine.run(sql, type_, form, rows, [0] * len(rows))[0]
    except DATA_ERRORS:
        return FAILED


def _of_groups(engine: Engine, form: Form, called: set[str], ulps: int) -> list[Difference]:
    """Where an aggregate of a group of rows is another one than the reference says.

    A group that gives something else among the others is asked for alone. Among others DuckDB takes its rows in any order, and ties of
    ORDER BY and sums of FLOAT64 depend on it; alone it takes them as they are, as the reference does.
    """
    shape = "{select} GROUP BY n ORDER BY n"
    sql, type_, signatures = engine.emit(form, shape)
    called |= signatures
    rows = _rows(form, 40)
    groups = _unlike(rows[start : start + 5] for start in range(0, len(rows), 5))
    wanted = _expected(form, shape, groups)
    right = [number for number, value in enumerate(wanted) if value is not FAILED]
    try:
        together = engine.run(sql, type_, form, *_flat(groups[number] for number in right))
    except DATA_ERRORS:
        together = [FAILED] * len(right)
    agreed = {number for number, value in zip(right, together, strict=True) if same(wanted[number], value, type_, ulps)}
    others = [number for number in range(len(groups)) if number not in agreed]
    alone = [(groups[number], wanted[number], _of_one(engine, sql, type_, form, *groups[number])) for number in others]
    return _unequal(alone, type_, ulps)


def _expected(form: Form, shape: str, groups: list[list[Any]]) -> list[Any]:
    """The values of all groups at once; where one raises, of each alone, FAILED where it does."""
    rows, numbers = _flat(groups)
    try:
        return by_reference(form, rows, shape, numbers)
    except SqlError:
        return [FAILED] if len(groups) == 1 else [value for group in groups for value in _expected(form, shape, [group])]


def _flat(groups: Iterable[list[Any]]) -> tuple[list[Any], list[int]]:
    """The rows of all groups, and the number of its group for each."""
    numbered = [(number, row) for number, group in enumerate(groups) for row in group]
    return [row for _, row in numbered], [number for number, _ in numbered]


def _of_windows(engine: Engine, form: Form, called: set[str], ulps: int) -> list[Difference]:
    """Where a window function is another one than the reference says."""
    sql, type_, signatures = engine.emit(form)
    called |= signatures
    rows = _rows(form, 25)
    return _unequal(zip(rows, by_reference(form, rows), engine.run(sql, type_, form, rows), strict=True), type_, ulps)


def _ulps(text: str) -> int:
    return max((ulps for name, ulps in ULPS.items() if f"{name}(" in text), default=0)


def _unlike(items: Iterable[Item]) -> list[Item]:
    """Each of the items once."""
    return list({repr(item): item for item in items}.values())


def _rows(form: Form, count: int) -> list[tuple[Any, ...]]:
    return _drawn(Form("", tuple(("", type_, domain) for _, type_, domain in form.columns)), count)


@functools.cache
def _drawn(form: Form, count: int) -> list[tuple[Any, ...]]:
    """Rows of such columns: the same ones for each form that has them."""
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


def test_no_signature_is_claimed_unproven(called: dict[str, set[str]]) -> None:
    if called.keys() != CASES.keys():
        pytest.skip("only says something after all of the tests above")
    supported = {name for name, function in functions.TABLE.items() if function.support is not Support.UNSUPPORTED}
    assert supported - set().union(*called.values()) == set(UNTRIED)

"""CAST and SAFE_CAST between scalar types, with GoogleSQL's text formats."""

from __future__ import annotations

from collections.abc import Callable

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb.functions.base import Cast, SqlCall
from sokuji.sql.duckdb.functions.reference import evaluate
from sokuji.sql.duckdb.functions.template import checked
from sokuji.sql.duckdb.lets import let
from sokuji.sql.duckdb.types import to_duckdb
from sokuji.types import STRING, Kind


def cast(cast_: Cast) -> str:
    """DuckDB text of a cast.

    Raises:
        UnsupportedSqlError: the cast is not supported.
    """
    if Kind.BIGNUMERIC in {cast_.source.kind, cast_.target.kind}:
        raise UnsupportedSqlError("BIGNUMERIC is not supported; use NUMERIC (38 digits, 9 after the point) or FLOAT64")
    pair = (cast_.source.kind, cast_.target.kind)
    if cast_.format is not None:
        return _by_reference(cast_)
    if pair in _NATIVE:
        return f"CAST({cast_.value} AS {to_duckdb(cast_.target)})"
    if pair in _CASTS:
        return _CASTS[pair](cast_)
    return _by_reference(cast_)


def _by_reference(cast_: Cast, value: str | None = None) -> str:
    texts, types = [value or cast_.value], [cast_.source]
    form = ""
    if cast_.format is not None:
        texts.append(cast_.format)
        types.append(STRING)
        form = f" FORMAT {{{len(texts) - 1}}}"
    if cast_.time_zone is not None:
        texts.append(cast_.time_zone)
        types.append(STRING)
        form += f" AT TIME ZONE {{{len(texts) - 1}}}"
    call = SqlCall(f"cast_{cast_.target.kind.lower()}", tuple(texts), tuple(types), cast_.target)
    return evaluate(call, f"{'SAFE_CAST' if cast_.safe else 'CAST'}({{0}} AS {cast_.target}{form})")


def _when(condition: str, value: str) -> Callable[[Cast], str]:
    """Use DuckDB's cast for values where it agrees with GoogleSQL, and the reference implementation for other values."""

    def emit(cast_: Cast) -> str:
        def body(name: str) -> str:
            return f"CASE WHEN {condition.format(name)} THEN {value.format(name)} ELSE {_by_reference(cast_, name)} END"

        return let([cast_.value], body)

    return emit


def _float_to_int64(cast_: Cast) -> str:
    def body(name: str) -> str:
        bad = f"NOT isfinite({name}) OR round({name}) >= 9223372036854775808e0 OR round({name}) < -9223372036854775808e0"
        return checked(
            {bad: f"'Illegal conversion of non-finite or too large FLOAT64 to INT64: ' || {name}"},
            f"CAST(round({name}) AS BIGINT)",
            safe=cast_.safe,
        )

    return let([cast_.value], body)


def _zoned(text: str) -> Callable[[Cast], str]:
    def emit(cast_: Cast) -> str:
        return text.format(cast_.value) if cast_.time_zone is None else _by_reference(cast_)

    return emit


def _text(value: str) -> Callable[[Cast], str]:
    return lambda cast_: value.format(cast_.value)


# For these, DuckDB's conversion never differs and never fails.
_NATIVE = {
    (Kind.INT64, Kind.FLOAT64),
    (Kind.INT64, Kind.NUMERIC),
    (Kind.INT64, Kind.BOOL),
    (Kind.INT64, Kind.STRING),
    (Kind.BOOL, Kind.INT64),
    (Kind.BOOL, Kind.STRING),
    (Kind.NUMERIC, Kind.FLOAT64),
    (Kind.DATE, Kind.DATETIME),
    (Kind.DATETIME, Kind.DATE),
    (Kind.DATETIME, Kind.TIME),
}

_DATE_TEXT = r"regexp_full_match({0}, '\d{{4}}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])') AND NOT starts_with({0}, '0000')"

_CASTS: dict[tuple[Kind, Kind], Callable[[Cast], str]] = {
    (Kind.STRING, Kind.INT64): _when(r"regexp_full_match({0}, '[-+]?[0-9]{{1,18}}')", "CAST({0} AS BIGINT)"),
    (Kind.STRING, Kind.FLOAT64): _when(r"regexp_full_match({0}, '[-+]?[0-9]{{1,15}}(\.[0-9]{{1,15}})?')", "CAST({0} AS DOUBLE)"),
    (Kind.STRING, Kind.NUMERIC): _when(r"regexp_full_match({0}, '[-+]?[0-9]{{1,20}}(\.[0-9]{{1,9}})?')", "CAST({0} AS DECIMAL(38, 9))"),
    (Kind.STRING, Kind.DATE): _when(_DATE_TEXT, "CAST({0} AS DATE)"),
    (Kind.STRING, Kind.BYTES): _text("encode({0})"),
    (Kind.FLOAT64, Kind.INT64): _float_to_int64,
    (Kind.FLOAT64, Kind.STRING): _when("{0} = trunc({0}) AND abs({0}) < 1e15 AND {0} <> 0", "CAST(CAST({0} AS BIGINT) AS VARCHAR)"),
    (Kind.DATE, Kind.TIMESTAMP): _zoned("timezone('UTC', CAST({0} AS TIMESTAMP))"),
    (Kind.DATETIME, Kind.TIMESTAMP): _zoned("timezone('UTC', {0})"),
    (Kind.TIMESTAMP, Kind.DATE): _zoned("CAST(timezone('UTC', {0}) AS DATE)"),
    (Kind.TIMESTAMP, Kind.DATETIME): _zoned("timezone('UTC', {0})"),
    (Kind.TIMESTAMP, Kind.TIME): _zoned("CAST(timezone('UTC', {0}) AS TIME)"),
    (Kind.DATE, Kind.STRING): _when("year({0}) >= 1", "strftime({0}, '%Y-%m-%d')"),
}

for _kind in Kind:
    _CASTS.setdefault((_kind, _kind), _text("{0}"))

"""Aggregate functions. With OVER, they are window functions."""

from __future__ import annotations

from collections.abc import Callable

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.sql.duckdb.functions.base import EnumName, SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.functions.reference import evaluate
from sokuji.sql.duckdb.functions.template import checked, emitted
from sokuji.sql.duckdb.lets import let
from sokuji.sql.duckdb.types import to_duckdb
from sokuji.sql.front.values import literal
from sokuji.types import NUMERIC, Field, Kind, array, struct


def aggregate(call: SqlCall, name: str, *arguments: str, order: bool = False, where: str = "", distinct: bool | None = None) -> str:
    """DuckDB text of one aggregate with the call's modifiers. `where` restricts its rows further."""
    inside = f"DISTINCT {', '.join(arguments)}" if (call.distinct if distinct is None else distinct) else ", ".join(arguments)
    if order and call.order_by:
        inside += f" ORDER BY {', '.join(call.order_by)}"
    conditions = [condition for condition in (where, call.filter) if condition]
    filtered = f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""
    return f"{name}({inside}){filtered}{'' if call.over is None else f' OVER ({call.over})'}"


def _simple(name: str, result: str = "{value}") -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        _no_having(call)
        return result.format(value=aggregate(call, name, *call.arguments), type=to_duckdb(call.result))

    return emit


def _no_having(call: SqlCall) -> None:
    if call.having is not None:
        raise UnsupportedSqlError(f"HAVING {call.having[0]} inside {call.name.upper()} is not supported; only ANY_VALUE takes it here")


def _sum_int64(call: SqlCall) -> str:
    _no_having(call)
    total = aggregate(call, "sum", *call.arguments)
    if call.safe:
        return f"TRY_CAST({total} AS BIGINT)"
    return f"CAST({total} AS BIGINT)"


def _sum_double(call: SqlCall) -> str:
    _no_having(call)
    total = aggregate(call, "sum", *call.arguments)
    infinite = aggregate(call, "bool_or", f"NOT isfinite({call.arguments[0]})", distinct=False)
    return checked({f"isinf({total}) AND NOT {infinite}": "'double overflow in SUM'"}, total, safe=call.safe)


def _avg_double(call: SqlCall) -> str:
    _no_having(call)
    mean = aggregate(call, "avg", *call.arguments)
    infinite = aggregate(call, "bool_or", f"NOT isfinite({call.arguments[0]})", distinct=False)
    return checked(
        {f"isinf({mean}) AND NOT {infinite}": "'double overflow in AVG'"},
        f"CASE WHEN isinf({mean}) THEN CAST('nan' AS DOUBLE) ELSE {mean} END",
        safe=call.safe,
    )


def _avg_numeric(call: SqlCall) -> str:
    _no_having(call)
    total = f"CAST({aggregate(call, 'sum', *call.arguments)} AS DECIMAL(38, 9))"
    count = f"CAST(nullif({aggregate(call, 'count', *call.arguments)}, 0) AS DECIMAL(38, 9))"
    return evaluate(SqlCall("numeric_average", (total, count), (NUMERIC, NUMERIC), NUMERIC), "{0} / {1}")


def _minimum(call: SqlCall) -> str:
    _no_having(call)
    _comparable(call)
    least = aggregate(call, "min", *call.arguments)
    if call.result.kind is not Kind.FLOAT64:
        return least
    nan = aggregate(call, "bool_or", f"isnan({call.arguments[0]})", distinct=False)
    return f"(CASE WHEN {nan} THEN CAST('nan' AS DOUBLE) ELSE {least} END)"


def _maximum(call: SqlCall) -> str:
    _no_having(call)
    _comparable(call)
    return aggregate(call, "max", *call.arguments)


def _comparable(call: SqlCall) -> None:
    if call.result.kind in {Kind.ARRAY, Kind.STRUCT, Kind.JSON}:
        raise UnsupportedSqlError(f"{call.name.upper()} of {call.result} is not supported")


def _any_value(call: SqlCall) -> str:
    if call.having is None:
        # NULLs are ignored by default.
        return aggregate(call, "first" if call.ignore_nulls is False else "any_value", *call.arguments)
    kind, key = call.having
    return aggregate(call, f"arg_{kind.lower()}_null", call.arguments[0], key)


def _array_agg(call: SqlCall) -> str:
    _no_having(call)
    where = f"{call.arguments[0]} IS NOT NULL" if call.ignore_nulls else ""
    items = aggregate(call, "list", *call.arguments, order=True, where=where)
    return items if call.limit is None else _first(items, call.limit)


def _first(items: str, limit: str) -> str:
    return let([items], lambda name: f"CASE WHEN {name} IS NOT NULL THEN list_slice({name}, 1, {limit}) END")


def _array_concat_agg(call: SqlCall) -> str:
    _no_having(call)
    lists = aggregate(call, "list", *call.arguments, order=True, where=f"{call.arguments[0]} IS NOT NULL")
    return f"flatten({lists if call.limit is None else _first(lists, call.limit)})"


def _string_agg(call: SqlCall) -> str:
    _no_having(call)
    value, *delimiter = call.arguments
    separator = delimiter[0] if delimiter else "','"
    if separator.startswith("CAST(NULL"):
        raise SqlError("Illegal NULL separator in STRING_AGG")
    literal = separator.startswith("'")  # DuckDB wants a constant separator, and only accepts a literal as such
    if literal and call.limit is None and not call.distinct and call.over is None:
        return aggregate(call, "string_agg", value, separator, order=True)
    items = aggregate(call, "list", value, order=True, where=f"{value} IS NOT NULL")
    limited = items if call.limit is None else f"list_slice({items}, 1, {call.limit})"

    def joined(name: str) -> str:
        return f"array_to_string({name}, {separator})" if literal else f"list_reduce({name}, lambda l, r: l || {separator} || r)"

    return let([limited], lambda name: f"CASE WHEN len({name}) > 0 THEN {joined(name)} END")


def _countif(call: SqlCall) -> str:
    _no_having(call)
    if call.distinct:
        return aggregate(call, "count", f"CASE WHEN {call.arguments[0]} THEN true END")
    return aggregate(call, "count", f"CASE WHEN {call.arguments[0]} THEN 1 END")


def _count(call: SqlCall) -> str:
    _no_having(call)
    if call.distinct and call.arguments and call.result.kind in {Kind.ARRAY, Kind.JSON}:
        raise UnsupportedSqlError("COUNT(DISTINCT) of ARRAY or JSON is not supported")
    return aggregate(call, "count", *call.arguments)


def _spread(name: str, least: int) -> Callable[[SqlCall], str]:
    """Statistics that are NULL for too few rows, and NaN if any value is not finite."""

    def emit(call: SqlCall) -> str:
        _no_having(call)
        known = " AND ".join(f"{argument} IS NOT NULL" for argument in call.arguments)
        finite = " AND ".join(f"isfinite(CAST({argument} AS DOUBLE))" for argument in call.arguments)
        odd = aggregate(call, "bool_or", f"NOT ({finite})", where=known, distinct=False)
        count = aggregate(call, "count", *([f"CASE WHEN {known} THEN 1 END"] if len(call.arguments) > 1 else call.arguments))
        # DuckDB raises an error for infinities, so they are replaced by NULL.
        safe_arguments = [f"CASE WHEN {finite} THEN {argument} END" for argument in call.arguments]
        value = aggregate(call, name, *safe_arguments)
        if len(call.arguments) == 1:  # a variance of finite values that is too large for FLOAT64 is infinite
            value = f"CASE WHEN isfinite({value}) THEN {value} ELSE CAST('inf' AS DOUBLE) END"
        return f"(CASE WHEN {count} < {least} THEN NULL WHEN {odd} THEN CAST('nan' AS DOUBLE) ELSE {value} END)"

    return emit


def _listed(signatures: str) -> list[SignatureEntry]:
    """Aggregates that the reference implementation computes over the list of a group's values."""

    def emit(call: SqlCall) -> str:
        _no_having(call)
        count = 2 if call.name in {"covar_pop", "covar_samp", "corr"} else 1
        settings = call.constants[count:]  # a delimiter, or a mode
        row = struct(Field(f"f{position}", type_) for position, type_ in enumerate(call.types[:count]))
        fields = ", ".join(f"f{position} := {value}" for position, value in enumerate(call.arguments[:count]))
        known = f"{call.arguments[0]} IS NOT NULL" if count == 1 else ""
        items = aggregate(call, "list", f"struct_pack({fields})", order=True, where=known)
        written = [f"x.f{position}" for position in range(count)]
        written += [
            f"mode => '{value}'" if isinstance(value, EnumName) else "NULL" if value is None else literal(value) for value in settings
        ]
        sql = f"(SELECT {call.name.upper()}({', '.join(written)}) FROM UNNEST({{0}}) AS x)"
        limited = items if call.limit is None else _first(items, call.limit)
        return evaluate(SqlCall(call.name, (limited,), (array(row),), call.result, safe=call.safe), sql)

    return emitted(signatures, emit, Support.UDF)


TABLE: list[SignatureEntry] = [
    *emitted("FN_COUNT_STAR", lambda call: aggregate(call, "count", "*"), Support.NATIVE),
    *emitted("FN_COUNT", _count, Support.NATIVE),
    *emitted("FN_COUNTIF", _countif),
    *emitted("FN_SUM_INT64", _sum_int64, Support.NATIVE),
    *emitted("FN_SUM_DOUBLE", _sum_double),
    *emitted("FN_SUM_NUMERIC", _simple("sum", "CAST({value} AS DECIMAL(38, 9))"), Support.NATIVE),
    *emitted("FN_AVG_INT64", _simple("avg"), Support.NATIVE),
    *emitted("FN_AVG_DOUBLE", _avg_double),
    *emitted("FN_AVG_NUMERIC", _avg_numeric, Support.UDF),
    *_listed("FN_SUM_INTERVAL FN_AVG_INTERVAL"),
    *emitted("FN_MIN", _minimum),
    *emitted("FN_MAX", _maximum, Support.NATIVE),
    *emitted("FN_ANY_VALUE", _any_value),
    *emitted("FN_ARRAY_AGG", _array_agg),
    *emitted("FN_ARRAY_CONCAT_AGG", _array_concat_agg),
    *emitted("FN_STRING_AGG_STRING FN_STRING_AGG_DELIM_STRING", _string_agg),
    *_listed("FN_STRING_AGG_BYTES FN_STRING_AGG_DELIM_BYTES"),
    *emitted("FN_LOGICAL_AND", _simple("bool_and"), Support.NATIVE),
    *emitted("FN_LOGICAL_OR", _simple("bool_or"), Support.NATIVE),
    *emitted("FN_BIT_AND_INT64", _simple("bit_and"), Support.NATIVE),
    *emitted("FN_BIT_OR_INT64", _simple("bit_or"), Support.NATIVE),
    *emitted("FN_BIT_XOR_INT64", _simple("bit_xor"), Support.NATIVE),
    *_listed("FN_BIT_AND_BYTES FN_BIT_OR_BYTES FN_BIT_XOR_BYTES"),
    *emitted("FN_VAR_POP", _spread("var_pop", 1)),
    *emitted("FN_VAR_SAMP", _spread("var_samp", 2)),
    *emitted("FN_STDDEV_POP", _spread("stddev_pop", 1)),
    *emitted("FN_STDDEV_SAMP", _spread("stddev_samp", 2)),
    *emitted("FN_COVAR_POP", _spread("covar_pop", 1)),
    *emitted("FN_COVAR_SAMP", _spread("covar_samp", 2)),
    *emitted("FN_CORR", _spread("corr", 2)),
    *_listed("FN_VAR_POP_NUMERIC FN_VAR_SAMP_NUMERIC FN_STDDEV_POP_NUMERIC FN_STDDEV_SAMP_NUMERIC"),
    *_listed("FN_COVAR_POP_NUMERIC FN_COVAR_SAMP_NUMERIC FN_CORR_NUMERIC"),
]

"""Compute expressions by Arrow alone: comparisons, logic and arithmetic on columns and constants, like most filters and rules.

A DuckDB query takes milliseconds even for few rows; Arrow takes microseconds. The operations here have the same meaning in both. Other
expressions are left to the query. So are batches on which an expression may fail: in GoogleSQL, a sum that is too large or a division by 0
is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sokuji.sql.duckdb.emit.calls import base_of
from sokuji.sql.duckdb.emit.emitter import columns, type_of, unwrap
from sokuji.sql.front.protos import from_value
from sokuji.types import BOOL, FLOAT64, INT64, STRING, Type, field_names, to_arrow

Rows = Mapping[str, pa.Array]
Value = Any  # pa.Array, or pa.Scalar for a constant
Compute = Callable[[Rows], Value]

_TYPES = {BOOL, INT64, FLOAT64, STRING}
_ORDERED = {INT64, FLOAT64, STRING}
_COMPARISONS = {
    "$equal": pc.equal,
    "$not_equal": pc.not_equal,
    "$less": pc.less,
    "$less_or_equal": pc.less_equal,
    "$greater": pc.greater,
    "$greater_or_equal": pc.greater_equal,
}
_ARITHMETIC = {"$add": pc.add_checked, "$subtract": pc.subtract_checked, "$multiply": pc.multiply_checked, "$divide": pc.divide_checked}
_OF_LIKE = {"$between", "$in", "coalesce", "ifnull"}


class UnsureError(Exception):
    """A batch needs the query, because the expression may fail on it."""


class _NotPlainError(Exception):
    """Arrow cannot compute an expression."""


def compile_plain(analysis: Any) -> list[Compute | None]:
    """Compile each column of a resolved `SELECT expression, ... FROM table`; None where Arrow cannot compute it.

    The compiled functions raise `UnsureError` for rows on which the expression may fail.
    """
    name, query = unwrap(analysis.query)
    computed = {item.column.column_id: item.expr for item in query.expr_list} if name == "resolved_project_scan_node" else {}
    _, scan = unwrap(query.input_scan) if computed else (name, query)
    stored = {column.column_id: column for column in columns(scan)}
    found: list[Compute | None] = []
    for output in analysis.output_column_list:
        id_ = output.column.column_id
        try:
            found.append(_compile(computed[id_]) if id_ in computed else _stored(stored[id_]))
        except _NotPlainError:
            found.append(None)
    return found


def whole(value: Value, rows: int) -> pa.Array:
    """The computed value as a column."""
    return pa.repeat(value, rows) if isinstance(value, pa.Scalar) else value


def _compile(argument: Any) -> Compute:
    name, node = unwrap(argument)
    if name not in _NODES:
        raise _NotPlainError
    return _NODES[name](node)


def _stored(column: Any) -> Compute:
    name, type_ = column.name, _plain_type(column)

    def read(rows: Rows) -> Value:
        if rows[name].type != to_arrow(type_):
            raise UnsureError
        return rows[name]

    return read


def _plain_type(node: Any) -> Type:
    type_ = type_of(node)
    if type_ not in _TYPES:
        raise _NotPlainError
    return type_


def _literal(node: Any) -> Compute:
    type_ = _plain_type(node)
    scalar = pa.scalar(from_value(node.value.value, type_), to_arrow(type_))
    return lambda _: scalar


def _struct_field(node: Any) -> Compute:
    type_, place = _plain_type(node), node.field_idx
    kind, struct = unwrap(node.expr)
    if kind != "resolved_column_ref_node":
        raise _NotPlainError
    name, field = struct.column.name, field_names(type_of(struct))[place]

    def read(rows: Rows) -> Value:
        found = pc.struct_field(rows[name], field)
        if found.type != to_arrow(type_):
            raise UnsureError
        return found

    return read


def _cast(node: Any) -> Compute:
    if (type_of(node.expr), type_of(node)) != (INT64, FLOAT64) or node.return_null_on_error:
        raise _NotPlainError
    inner = _compile(node.expr)
    return lambda rows: inner(rows).cast(pa.float64(), safe=False)


def _call(node: Any) -> Compute:
    base = base_of(node)
    name = base.function.name.split(":", 1)[-1].lower()
    if base.error_mode or base.generic_argument_list or any(collation.collation_name for collation in base.collation_list):
        raise _NotPlainError
    types = [_plain_type(unwrap(argument)[1]) for argument in base.argument_list]
    compute = _operation(name, types, [unwrap(argument)[1] for argument in base.argument_list])
    arguments = [_compile(argument) for argument in base.argument_list]
    return lambda rows: compute(*(argument(rows) for argument in arguments))


def _operation(name: str, types: Sequence[Type], nodes: Sequence[Any]) -> Callable[..., Value]:
    """The function that computes a call from the values of its arguments."""
    if not types:
        raise _NotPlainError
    alike, ordered = len(set(types)) == 1, types[0] in _ORDERED
    found: Callable[..., Value] | None = _SIMPLE.get(name)
    if alike and (ordered or name in {"$equal", "$not_equal"}):
        found = _COMPARISONS.get(name, found)
    if alike and types[0] in {INT64, FLOAT64} and (name in _ARITHMETIC or (name == "$divide" and types[0] == FLOAT64)):
        found = partial(_finite, _ARITHMETIC[name])
    if name == "mod" and types == [INT64, INT64] and _is_positive(nodes[1]):
        found = _remainder
    if found is None or (name in _OF_LIKE and not alike) or (name == "$between" and not ordered):
        raise _NotPlainError
    return found


def _is_positive(node: Any) -> bool:
    return bool(node.DESCRIPTOR.name == "ResolvedLiteralProto" and node.value.value.int64_value > 0)


def _remainder(value: Value, by: Value) -> Value:
    return pc.subtract(value, pc.multiply(pc.divide(value, by), by))


def _finite(function: Callable[..., Value], *values: Value) -> Value:
    try:
        found = function(*values)
    except pa.ArrowInvalid as error:  # an overflow, or a division by 0
        raise UnsureError from error
    if pa.types.is_floating(found.type) and not pc.all(pc.is_finite(found), skip_nulls=True, min_count=0).as_py():
        raise UnsureError
    return found


_SIMPLE: dict[str, Callable[..., Value]] = {
    "$and": lambda *values: reduce(pc.and_kleene, values),
    "$or": lambda *values: reduce(pc.or_kleene, values),
    "$not": pc.invert,
    "$between": lambda value, low, high: pc.and_kleene(pc.greater_equal(value, low), pc.less_equal(value, high)),
    "$in": lambda value, *items: reduce(pc.or_kleene, (pc.equal(value, item) for item in items)),
    "$is_null": pc.is_null,
    "$is_true": lambda value: pc.fill_null(value, False),
    "$is_false": lambda value: pc.fill_null(pc.invert(value), False),
    "coalesce": pc.coalesce,
    "ifnull": pc.coalesce,
    "if": lambda condition, yes, no: pc.if_else(pc.fill_null(condition, False), yes, no),
}
_NODES: dict[str, Callable[[Any], Compute]] = {
    "resolved_column_ref_node": lambda node: _stored(node.column),
    "resolved_literal_node": _literal,
    "resolved_get_struct_field_node": _struct_field,
    "resolved_cast_node": _cast,
    "resolved_function_call_node": _call,
}

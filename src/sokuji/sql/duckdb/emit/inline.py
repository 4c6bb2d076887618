"""Write subqueries that read no table as plain expressions: over the elements of one array, or over one row of computed columns.

DuckDB would run them as joins, several times slower and in an undefined order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sokuji.sql.duckdb.emit.emitter import Emitter, unwrap
from sokuji.sql.duckdb.lets import let


@dataclass(frozen=True, slots=True)
class Elements:
    """A scan of an array: `rows` is the expression of a list, and `columns` are the scan's columns for one item, named `item`."""

    rows: str
    item: str
    columns: dict[int, str]
    offset: int | None  # the column with the index of the items, by which they are ordered
    at_most_one: bool = False

    def values(self, column_id: int) -> str:
        """One column of the scan as a list; NULL if the array is NULL."""
        value = self.columns[column_id]
        return self.rows if value == self.item else f"list_transform({self.rows}, lambda {self.item}: {value})"


def elements(emitter: Emitter, scan: Any) -> Elements | None:
    """A scan of an array's elements, possibly filtered, projected or limited. None for other scans, and if a lambda cannot express it."""
    name, node = unwrap(scan)
    if name == "resolved_array_scan_node":
        return _array(emitter, node)
    if name not in _STEPS:
        return None
    source = elements(emitter, node.input_scan)
    return source and _STEPS[name](emitter, node, source)


def _array(emitter: Emitter, node: Any) -> Elements | None:
    if node.HasField("input_scan") or node.HasField("join_expr") or node.is_outer or len(node.array_expr_list) > 1:
        return None
    item, element = emitter.name(), node.element_column_list[0].column_id
    rows = emitter.expression(node.array_expr_list[0])
    if not node.HasField("array_offset_column"):
        return Elements(rows, item, {element: item}, None)
    offset = node.array_offset_column.column.column_id
    numbered = f"list_transform({rows}, lambda {item}, {item}i: {{'e': {item}, 'o': {item}i - 1}})"
    return Elements(numbered, item, {element: f"struct_extract({item}, 'e')", offset: f"struct_extract({item}, 'o')"}, offset)


def _filter(emitter: Emitter, node: Any, source: Elements) -> Elements | None:
    condition = _over_item(emitter, node.filter_expr, source)
    return None if condition is None else replace(source, rows=f"list_filter({source.rows}, lambda {source.item}: {condition})")


def _project(emitter: Emitter, node: Any, source: Elements) -> Elements | None:
    computed = {item.column.column_id: _over_item(emitter, item.expr, source) for item in node.expr_list}
    known = {id_: text for id_, text in computed.items() if text is not None}
    return replace(source, columns={**source.columns, **known}) if len(known) == len(computed) else None


def _over_item(emitter: Emitter, expression: Any, source: Elements) -> str | None:
    before, emitter.volatile = emitter.volatile, False
    with emitter.replacing(source.columns):
        text = emitter.expression(expression)
    # DuckDB has no subqueries inside lambdas. And a random number must be drawn once, however often its column is used.
    fits = "SELECT " not in text and not emitter.volatile
    emitter.volatile |= before
    return text if fits else None


def _order(_emitter: Emitter, node: Any, source: Elements) -> Elements | None:
    """The scan itself if it already has this order; None otherwise, because it needs a sort."""
    item = node.order_by_item_list[0]
    ordered = len(node.order_by_item_list) == 1 and not item.is_descending and item.column_ref.column.column_id == source.offset
    return source if ordered else None


def _limit(_emitter: Emitter, node: Any, source: Elements) -> Elements | None:
    name, limit = unwrap(node.limit)
    if name != "resolved_literal_node" or node.HasField("offset"):
        return None
    value = limit.value.value
    if not value.HasField("int64_value") or value.int64_value < 1:
        return None
    return replace(source, rows=f"list_slice({source.rows}, 1, {value.int64_value})", at_most_one=value.int64_value == 1)


_STEPS = {
    "resolved_filter_scan_node": _filter,
    "resolved_project_scan_node": _project,
    "resolved_order_by_scan_node": _order,
    "resolved_limit_offset_scan_node": _limit,
}


def scalar(source: Elements, column_id: int) -> str:
    """The only value of a column; NULL if there is none."""
    values = source.values(column_id)
    if source.at_most_one:
        return f"list_extract({values}, 1)"
    too_many = "error('Scalar subquery produced more than one element')"
    return let([values], lambda all_: f"(CASE WHEN len({all_}) > 1 THEN {too_many} ELSE list_extract({all_}, 1) END)")


def row(emitter: Emitter, scan: Any, column_id: int) -> str | None:
    """A column of a scan of one row that only projections compute; None for other scans."""
    projections = []
    name, node = unwrap(scan)
    while name == "resolved_project_scan_node":
        projections.append(node)
        name, node = unwrap(node.input_scan)
    if name != "resolved_single_row_scan_node" or not projections:
        return None
    return _bound(emitter, [item for projection in reversed(projections) for item in projection.expr_list], column_id)


def _bound(emitter: Emitter, items: list[Any], column_id: int) -> str | None:
    if not items:
        return None
    first, *rest = items
    value = emitter.expression(first.expr)
    if first.column.column_id == column_id:
        return value
    found = None

    def body(name: str) -> str:
        nonlocal found
        with emitter.replacing({first.column.column_id: name}):
            found = _bound(emitter, rest, column_id)
        return found or ""

    text = let([value], body)
    return text if found is not None else None

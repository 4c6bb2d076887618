"""Scans over one input: one function per kind, each returning a SELECT statement with the scan's columns."""

from __future__ import annotations

from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.duckdb_text import quote
from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.sql.duckdb.emit.aggregates import aggregate_scan
from sokuji.sql.duckdb.emit.emitter import Emit, Emitter, columns, select, unwrap
from sokuji.sql.duckdb.emit.joins import array_scan, join_scan
from sokuji.sql.duckdb.emit.ordering import order_items
from sokuji.sql.duckdb.emit.sets import recursive_ref_scan, recursive_scan, set_operation_scan, with_ref_scan, with_scan
from sokuji.sql.duckdb.emit.windows import analytic_scan

# DuckDB refuses a larger LIMIT.
_ROWS_MAX = 2**62


def _single_row(_emitter: Emitter, _node: Any) -> str:
    return select([], "")


def table_scan(emitter: Emitter, node: Any) -> str:
    """Select the used columns of a table."""
    if node.read_as_row_type:
        raise UnsupportedSqlError("Reading a table as a value table is not supported")
    items = [f"{quote(column.name)} AS c{column.column_id}" for column in columns(node)]
    return select(items, f"FROM {emitter.relations.table(node)} AS {emitter.name()}")


def _table_function(emitter: Emitter, node: Any) -> str:
    queries = []
    for argument in node.argument_list:
        if argument.HasField("scan"):
            named = [
                f"c{column.column_id} AS {quote(column.name)}"
                for column in argument.argument_column_list or columns(unwrap(argument.scan)[1])
            ]
            queries.append(select(named, f"FROM {emitter.source(argument.scan)}"))
    items = [f"{quote(column.name)} AS c{column.column_id}" for column in columns(node)]
    return select(items, f"FROM {emitter.relations.table_function(node, queries, emitter)} AS {emitter.name()}")


def _project(emitter: Emitter, node: Any) -> str:
    computed = {item.column.column_id: item.expr for item in node.expr_list}
    items = [
        f"{emitter.expression(computed[column.column_id])} AS c{column.column_id}"
        if column.column_id in computed
        else f"c{column.column_id}"
        for column in columns(node)
    ]
    if unwrap(node.input_scan)[0] == "resolved_single_row_scan_node":
        return select(items, "")
    return select(items, f"FROM {emitter.source(node.input_scan)}")


def _filter(emitter: Emitter, node: Any) -> str:
    source = emitter.source(node.input_scan)
    return select(names(node), f"FROM {source} WHERE {emitter.expression(node.filter_expr)}")


def names(node: Any) -> list[str]:
    """The columns of a scan that come unchanged from its input."""
    return [f"c{column.column_id}" for column in columns(node)]


def _order_by(emitter: Emitter, node: Any) -> str:
    source = emitter.source(node.input_scan)
    return select(names(node), f"FROM {source} ORDER BY {', '.join(order_items(node.order_by_item_list))}")


def _limit_offset(emitter: Emitter, node: Any) -> str:
    name, inner = unwrap(node.input_scan)
    # ORDER BY and LIMIT must be in one SELECT, so that DuckDB plans a top-N.
    rows = (
        _order_by(emitter, inner)
        if name == "resolved_order_by_scan_node"
        else select(names(node), f"FROM {emitter.source(node.input_scan)}")
    )
    for word in ("limit", "offset"):
        if node.HasField(word):
            rows += f" {word.upper()} {_row_count(emitter, getattr(node, word))}"
    return rows


def _row_count(emitter: Emitter, expression: Any) -> str:
    name, node = unwrap(expression)
    if name == "resolved_literal_node" and 0 <= node.value.value.int64_value < _ROWS_MAX and node.value.value.HasField("int64_value"):
        return str(node.value.value.int64_value)
    count = emitter.expression(expression)
    invalid = "error('Limit requires non-null and non-negative count and offset')"
    return f"(SELECT CASE WHEN n >= 0 THEN least(n, {_ROWS_MAX}) ELSE CAST({invalid} AS BIGINT) END FROM (SELECT {count} AS n) AS t)"


def _sample(emitter: Emitter, node: Any) -> str:
    if node.HasField("weight_column") or node.partition_by_list:
        raise UnsupportedSqlError("TABLESAMPLE WITH WEIGHT and PARTITION BY are not supported")
    emitter.volatile = True
    name, literal = unwrap(node.size)
    if name != "resolved_literal_node":
        raise UnsupportedSqlError("The size of TABLESAMPLE must be a literal")
    size = literal.value.value.double_value or literal.value.value.int64_value
    # Sample by rows even for SYSTEM, because BigQuery does not specify which blocks SYSTEM takes.
    how = f"reservoir({size} ROWS)" if node.unit == enums.ResolvedSampleScanEnums.ROWS else f"bernoulli({size} PERCENT)"
    repeatable = f" REPEATABLE ({_seed(node.repeatable_argument)})" if node.HasField("repeatable_argument") else ""
    return select(names(node), f"FROM {emitter.source(node.input_scan)} TABLESAMPLE {how}{repeatable}")


def _seed(expression: Any) -> int:
    name, node = unwrap(expression)
    if name != "resolved_literal_node":
        raise UnsupportedSqlError("The seed of TABLESAMPLE ... REPEATABLE must be a literal")
    value = node.value.value
    if not value.HasField("int64_value") or value.int64_value < 0:
        raise SqlError("REPEATABLE argument must be non-null and non-negative")
    return int(value.int64_value)


# DuckDB moves no filter below a LIMIT, so the rows pass this point before later filters.
_BARRIER = f"LIMIT {_ROWS_MAX}"


def _barrier(emitter: Emitter, node: Any) -> str:
    return select(names(node), f"FROM {emitter.source(node.input_scan)} {_BARRIER}")


def _assert(emitter: Emitter, node: Any) -> str:
    condition, message = emitter.expression(node.condition), emitter.expression(node.message)
    # The error is in the filter, so that it does not disappear with an unused column.
    check = f"CASE WHEN {condition} THEN TRUE ELSE error('Assert failed: ' || coalesce({message}, 'NULL')) END"
    return select(names(node), f"FROM {emitter.source(node.input_scan)} WHERE {check} {_BARRIER}")


SCANS: dict[str, Emit] = {
    "resolved_single_row_scan_node": _single_row,
    "resolved_table_scan_node": table_scan,
    "resolved_tvfscan_node": _table_function,
    "resolved_project_scan_node": _project,
    "resolved_filter_scan_node": _filter,
    "resolved_order_by_scan_node": _order_by,
    "resolved_limit_offset_scan_node": _limit_offset,
    "resolved_sample_scan_node": _sample,
    "resolved_barrier_scan_node": _barrier,
    "resolved_assert_scan_node": _assert,
    "resolved_join_scan_node": join_scan,
    "resolved_array_scan_node": array_scan,
    "resolved_aggregate_scan_node": aggregate_scan,
    "resolved_analytic_scan_node": analytic_scan,
    "resolved_set_operation_scan_node": set_operation_scan,
    "resolved_with_scan_node": with_scan,
    "resolved_with_ref_scan_node": with_ref_scan,
    "resolved_recursive_scan_node": recursive_scan,
    "resolved_recursive_ref_scan_node": recursive_ref_scan,
}

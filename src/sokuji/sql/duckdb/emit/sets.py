"""Set operations and WITH."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb.emit.emitter import Emitter, columns, select, unwrap


def set_operation_scan(emitter: Emitter, node: Any) -> str:
    """UNION, INTERSECT, EXCEPT, by position. The analyzer turns CORRESPONDING into positions."""
    ids = [column.column_id for column in node.parent.column_list]
    word = enums.ResolvedSetOperationScanEnums.SetOperationType.Name(node.op_type).replace("_DISTINCT", "").replace("_", " ")
    items = [f"({_item(emitter, item, ids)})" for item in node.input_item_list]
    return f" {word} ".join(items) if len(items) < 3 or "UNION" in word else _left_associated(items, word)


def _left_associated(items: list[str], word: str) -> str:
    result = items[0]
    for item in items[1:]:
        result = f"({result} {word} {item})"
    return result


def _item(emitter: Emitter, item: Any, ids: Sequence[int]) -> str:
    """One input, with the column names of the result."""
    pairs = zip(item.output_column_list, ids, strict=True)
    return select([f"c{column.column_id} AS c{id_}" for column, id_ in pairs], f"FROM {emitter.source(item.scan)}")


def with_scan(emitter: Emitter, node: Any) -> str:
    """WITH, also RECURSIVE."""
    before, outside = emitter.volatile, len(emitter.definitions)
    for entry in node.with_entry_list:
        emitter.volatile = False
        name = emitter.name()
        rows = emitter.scan(entry.with_subquery)
        ids = [column.column_id for column in _scan_columns(entry.with_subquery)]
        # All references must read the same rows, so a table with random values is materialized.
        materialized = "MATERIALIZED " if emitter.volatile else ""
        emitter.definitions.append(f"{name} AS {materialized}({rows})")
        emitter.tables[entry.with_query_name.lower()] = (name, ids)
        before |= emitter.volatile
    emitter.volatile = before
    query = emitter.scan(node.query)
    own = emitter.definitions[outside:]
    del emitter.definitions[outside:]
    return (
        f"WITH {', '.join(own)} SELECT * FROM ({query}) AS {emitter.name()}"
        if query.startswith("WITH ")
        else f"WITH {', '.join(own)} {query}"
    )


def _scan_columns(node: Any) -> list[Any]:
    """The columns of a scan by position. References to the table use these positions."""
    inner = unwrap(node)[1]
    while "column_list" not in inner.DESCRIPTOR.fields_by_name:
        inner = inner.parent
    return list(inner.column_list)


def with_ref_scan(emitter: Emitter, node: Any) -> str:
    """A table of WITH, with new column ids."""
    return _reference(node, *emitter.tables[node.with_query_name.lower()])


def recursive_ref_scan(emitter: Emitter, node: Any) -> str:
    """The rows that the last step of the recursion found."""
    return _reference(node, *emitter.recursions[-1])


def _reference(node: Any, name: str, ids: Any) -> str:
    pairs = dict(zip((column.column_id for column in node.parent.column_list), ids, strict=True))
    return select([f"c{old} AS c{new}" for new, old in pairs.items()], f"FROM {name}")


# BigQuery's limit. Without it, a recursion that never ends would take all memory.
_ITERATIONS_MAX = 500


def recursive_scan(emitter: Emitter, node: Any) -> str:
    """The definition of a recursive table, as a separate query. Each row has the depth of the recursion at which it was found."""
    ids = [column.column_id for column in node.parent.column_list]
    depth = node.recursion_depth_modifier if node.HasField("recursion_depth_modifier") else None
    distinct = node.op_type == enums.ResolvedRecursiveScanEnums.UNION_DISTINCT
    if depth is not None:
        return _with_depth(emitter, node, depth, distinct=distinct)
    name = emitter.name()
    start, step = _terms(emitter, node, name, ids)
    items = [f"c{column.column_id}" for column in columns(node)]
    if distinct:
        return f"WITH RECURSIVE {name} AS (({start}) UNION ({step})) {select(items, f'FROM {name}')}"
    limit = f"error('A recursive CTE has reached the maximum number of iterations: {_ITERATIONS_MAX}')"
    check = f"CASE WHEN depth_ < {_ITERATIONS_MAX} THEN depth_ ELSE CAST({limit} AS INTEGER) END"
    return f"{_counted(name, start, step, f'(SELECT max({check}) + 1 FROM {name})')} {select(items, f'FROM {name}')}"


def _terms(emitter: Emitter, node: Any, name: str, ids: Sequence[int]) -> tuple[str, str]:
    start = _item(emitter, node.non_recursive_term, ids)
    emitter.recursions.append((name, ids))
    step = _item(emitter, node.recursive_term, ids)
    emitter.recursions.pop()
    return start, step


def _counted(name: str, start: str, step: str, depth: str, rest: str = "") -> str:
    first = select(["*", "0 AS depth_"], f"FROM ({start}) AS s")
    # Each step reads the rows of the previous step, which all have the same depth.
    next_ = select(["*", f"{depth} AS depth_"], f"FROM ({step}) AS s {rest}".rstrip())
    return f"WITH RECURSIVE {name} AS (({first}) UNION ALL ({next_}))"


def _with_depth(emitter: Emitter, node: Any, modifier: Any, *, distinct: bool) -> str:
    depth_id = modifier.recursion_depth_column.column.column_id
    ids = [column.column_id for column in node.parent.column_list if column.column_id != depth_id]
    if distinct and not modifier.HasField("upper_bound"):
        raise UnsupportedSqlError("UNION DISTINCT WITH DEPTH needs a MAX or BETWEEN to be supported")
    lower = emitter.expression(modifier.lower_bound) if modifier.HasField("lower_bound") else "0"
    upper = emitter.expression(modifier.upper_bound) if modifier.HasField("upper_bound") else str(_ITERATIONS_MAX)
    name = emitter.name()
    start, step = _terms(emitter, node, name, ids)
    depth = f"(SELECT max(depth_) + 1 FROM {name})"
    counted = _counted(name, start, step, depth, f"WHERE {depth} <= {upper}")
    names = [f"c{id_}" for id_ in ids]
    found = "min(depth_)" if distinct else "depth_"  # a row that is found several times counts only at its lowest depth
    rows = select(
        [*names, f"CAST({found} AS BIGINT) AS c{depth_id}"], f"FROM {name}{f' GROUP BY {chr(44).join(names)}' if distinct else ''}"
    )
    return f"{counted} {select(['*'], f'FROM ({rows}) AS r WHERE c{depth_id} BETWEEN {lower} AND {upper}')}"

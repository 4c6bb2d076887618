"""ORDER BY, with the positions of NULL and NaN as in GoogleSQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zetasql.wasi._pb2.zetasql.public import type_pb2
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.errors import UnsupportedSqlError


def order_items(items: Iterable[Any]) -> list[str]:
    """Write `ResolvedOrderByItemProto`s as DuckDB ORDER BY items."""
    return [text for item in items for text in _item(item)]


def _item(item: Any) -> list[str]:
    if item.HasField("collation_name") or item.collation.collation_name:
        raise UnsupportedSqlError("Collation is not supported")
    column = item.column_ref.column
    if column.type.type_kind in {type_pb2.TYPE_ARRAY, type_pb2.TYPE_STRUCT}:
        raise UnsupportedSqlError("ORDER BY does not support expressions of type ARRAY or STRUCT")
    nulls = nulls_place(item)
    direction = "DESC" if item.is_descending else "ASC"
    plain = f"c{column.column_id} {direction} NULLS {nulls}"
    if column.type.type_kind != type_pb2.TYPE_DOUBLE:
        return [plain]
    # NaN is the smallest value in GoogleSQL and the largest in DuckDB.
    return [f"isnan(c{column.column_id}) {'ASC' if item.is_descending else 'DESC'} NULLS {nulls}", plain]


def nulls_place(item: Any) -> str:
    """FIRST or LAST. NULL is the smallest value unless the query says otherwise."""
    modes = enums.ResolvedOrderByItemEnums
    if item.null_order == modes.ORDER_UNSPECIFIED:
        return "LAST" if item.is_descending else "FIRST"
    return "FIRST" if item.null_order == modes.NULLS_FIRST else "LAST"

"""A resolved query, and the meaning of its names, as given to a backend.

A backend knows neither the catalog nor views, wildcards or models: it asks what a scan of the tree reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_pb2

from sokuji.lake.base import Lake, Snapshot
from sokuji.meta.objects import Column
from sokuji.sql.front.parameters import Parameter
from sokuji.sql.front.protos import UNUSED_ID, from_type, type_of
from sokuji.sql.front.table_functions import ResolvedCall
from sokuji.sql.front.variables import Variable
from sokuji.types import Field


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Columns of a table in one of its versions."""

    lake: Lake
    snapshot: Snapshot
    columns: Sequence[Column]
    of_events: bool = False  # fed from a log: an infinite value was beyond FLOAT64, and is NULL


@dataclass(frozen=True, slots=True)
class SuffixedRows:
    """The rows of several tables, with a column of each table's suffix, the part of its name in place of `*`."""

    column: str
    tables: Mapping[str, StoredRows]  # by suffix


@dataclass(frozen=True, slots=True)
class Query:
    """A resolved query (`ResolvedOutputColumnProto` list and `AnyResolvedScanProto`)."""

    output_columns: Sequence[Any]
    scan: Any
    schema: tuple[Field, ...]  # the public names and types of the columns, by position
    names: StatementNames


@dataclass(frozen=True, slots=True)
class ViewRows:
    """Columns of a view: by name, the index of the query's column, from 0."""

    query: Query
    places: Mapping[str, int]


TableRows: TypeAlias = StoredRows | SuffixedRows | ViewRows | pa.Table
"""The content of a table in FROM. Its columns have the table's names."""


class StatementNames(Protocol):
    """The meaning of the names in one resolved statement."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The query's parameters by lower-case name, or by position from "1"."""

    @property
    def variables(self) -> Mapping[str, Variable]:
        """The script's variables by lower-case name. The names of system variables begin with `@@`."""

    def table(self, scan: Any) -> TableRows:
        """The content that a `ResolvedTableScanProto` reads: the same rows at every call."""

    def call(self, scan: Any) -> ResolvedCall:
        """The table function that a `ResolvedTVFScanProto` calls."""


def single_row() -> Any:
    """The scan of one row without columns."""
    scan = resolved_ast_pb2.AnyResolvedScanProto()
    scan.resolved_single_row_scan_node.SetInParent()
    return scan


def computed(rows: Any, columns: Sequence[Any], expressions: Iterable[Any], names: StatementNames) -> Query:
    """The query for these columns of a scan, followed by expressions over the scan."""
    scan = resolved_ast_pb2.AnyResolvedScanProto()
    project = scan.resolved_project_scan_node
    project.input_scan.CopyFrom(rows)
    project.parent.column_list.extend(columns)
    for place, expression in enumerate(expressions, start=1):
        item = project.expr_list.add(expr=expression)
        item.column.column_id, item.column.name, item.column.table_name = UNUSED_ID + place, f"value_{place}", "$query"
        item.column.type.CopyFrom(type_of(expression))
        project.parent.column_list.append(item.column)
    return of_columns(scan, project.parent.column_list, names)


def of_columns(scan: Any, columns: Sequence[Any], names: StatementNames) -> Query:
    """The query for these columns of a scan, named `o1`, `o2`, ..."""
    outputs = [resolved_ast_pb2.ResolvedOutputColumnProto(name=f"o{place}", column=column) for place, column in enumerate(columns, start=1)]
    return Query(outputs, scan, tuple(Field(output.name, from_type(output.column.type)) for output in outputs), names)

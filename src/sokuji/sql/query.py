"""A resolved query, and the meaning of its names, as given to a backend.

A backend knows neither the catalog nor views, wildcards or models: it asks what a scan of the tree reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from sokuji.lake.base import Lake, Snapshot
from sokuji.meta.objects import Column
from sokuji.sql.front.parameters import Parameter
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

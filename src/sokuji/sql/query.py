"""A resolved query, and what the names in it stand for, as a backend is told.

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
    """Columns of a table, as one version of it has them."""

    lake: Lake
    snapshot: Snapshot
    columns: Sequence[Column]
    of_events: bool = False  # fed from a log: what is infinite in it was beyond FLOAT64, and is NULL


@dataclass(frozen=True, slots=True)
class SuffixedRows:
    """The rows of several tables, and a column that has what each one's name has in place of the `*`."""

    column: str
    tables: Mapping[str, StoredRows]  # by suffix


@dataclass(frozen=True, slots=True)
class Query:
    """A resolved query (`ResolvedOutputColumnProto` list and `AnyResolvedScanProto`)."""

    output_columns: Sequence[Any]
    scan: Any
    schema: tuple[Field, ...]  # by place: what the columns are called outside
    names: StatementNames


@dataclass(frozen=True, slots=True)
class ViewRows:
    """Columns of a view: by name, which of its query's they are, from 0."""

    query: Query
    places: Mapping[str, int]


TableRows: TypeAlias = StoredRows | SuffixedRows | ViewRows | pa.Table
"""What a table in FROM stands for; its columns have the table's names."""


class StatementNames(Protocol):
    """What the names in one resolved statement stand for."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The query's parameters by lower-cased name, or by position from "1" on."""

    @property
    def variables(self) -> Mapping[str, Variable]:
        """The script's variables by lower-cased name; those of the system begin with `@@`."""

    def table(self, scan: Any) -> TableRows:
        """What a `ResolvedTableScanProto` reads; the same rows however often it is asked."""

    def call(self, scan: Any) -> ResolvedCall:
        """The table function that a `ResolvedTVFScanProto` calls."""

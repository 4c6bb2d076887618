"""The catalog as tables for SQL: INFORMATION_SCHEMA.SCHEMATA, TABLES, COLUMNS and ROUTINES."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from sokuji.meta.base import Catalog
from sokuji.meta.objects import Table, TableKind
from sokuji.sql.front.lookup import INFORMATION_SCHEMA
from sokuji.types import arrow_schema

_PROJECT = "sokuji"  # the value of the catalog columns: BigQuery's project; there is only one here


def rows(catalog: Catalog, view: Table) -> pa.Table:
    """The rows of one of the views. With a dataset in front of INFORMATION_SCHEMA, only the rows of this dataset."""
    dataset = view.ref.dataset.removesuffix(INFORMATION_SCHEMA).removesuffix(".") or None
    schema = arrow_schema(column.field for column in view.columns)
    found = _VIEWS[view.ref.name](catalog, dataset)
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in found], schema=schema)


def _schemata(catalog: Catalog, dataset: str | None) -> Iterator[tuple[Any, ...]]:
    yield from ((_PROJECT, name) for name in catalog.datasets() if dataset in (None, name))


def _tables(catalog: Catalog, dataset: str | None) -> Iterator[tuple[Any, ...]]:
    for table in catalog.tables(dataset):
        yield _PROJECT, *table.ref, "VIEW" if table.kind is TableKind.VIEW else "BASE TABLE"


def _columns(catalog: Catalog, dataset: str | None) -> Iterator[tuple[Any, ...]]:
    for table in catalog.tables(dataset):
        for position, column in enumerate(table.columns, start=1):
            yield _PROJECT, *table.ref, column.name, position, "NO" if column.not_null else "YES", str(column.type)


def _routines(catalog: Catalog, dataset: str | None) -> Iterator[tuple[Any, ...]]:
    for function in catalog.functions(dataset):
        name = _PROJECT, *function.ref
        type_ = "AGGREGATE_FUNCTION" if function.aggregate else "FUNCTION"
        created = dt.datetime.fromtimestamp(function.created_at_us / 1_000_000, dt.UTC)
        yield *name, *name, type_, function.returns and str(function.returns), "SQL", function.body, created


_VIEWS = {"SCHEMATA": _schemata, "TABLES": _tables, "COLUMNS": _columns, "ROUTINES": _routines}

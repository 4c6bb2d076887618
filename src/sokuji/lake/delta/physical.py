"""A snapshot's files and their values as DuckDB SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import pyarrow.parquet as pq

from sokuji.duckdb_text import quote, quote_text
from sokuji.lake.delta.sums import check, is_sealed
from sokuji.types import Kind, Type, field_names

# The DuckDB expression that restores a value; `{}` is the stored value.
_FROM_STORED = {
    Kind.TIME: "(TIME '00:00:00' + to_microseconds({0}))",
    Kind.INTERVAL: "(to_months(({0}).months::INTEGER) + to_days(({0}).days::INTEGER) + to_microseconds(({0}).nanoseconds // 1000))",
    Kind.JSON: "CAST({0} AS JSON)",
}

ROW_BITS = 40  # of the number of a row, for its position in the file; the higher bits are the number of the file
_OWN_COLUMNS = {"file_index", "file_row_number"}  # DuckDB adds these columns to every file that has no columns with these names


class RowColumn(NamedTuple):
    """An INT64 column with the position of each row: `file's number << ROW_BITS | row in the file`."""

    name: str
    numbers: Mapping[str, int]  # file -> its number


def rows_of(
    files: Sequence[str], columns: Collection[str] | None = None, *, row_column: RowColumn | None = None, numbers: Collection[str] = ()
) -> str:
    """The DuckDB text after FROM that reads these columns, or all, of a snapshot's files. There must be at least one file.

    `row_column` is added. `numbers` are columns of properties: an infinite value in them was beyond FLOAT64, and is read as NULL. Only
    files written before checksums existed have such values.

    Raises:
        DamagedFileError: a file is damaged.
    """
    check(files, columns)
    old = [file for file in files if not is_sealed(file)] if numbers else []
    if not old:
        return _read(files, row_column)
    there = {name for file in old for name in pq.read_schema(file).names}
    named = (quote(name) for name in numbers if name in there)
    replaced = ", ".join(f"CASE WHEN isfinite({name}) THEN {name} END AS {name}" for name in named)
    items = f"* REPLACE ({replaced})" if replaced else "*"
    new = [file for file in files if is_sealed(file)]
    rest = f" UNION ALL BY NAME FROM {_read(new, row_column)}" if new else ""
    return f"(SELECT {items} FROM {_read(old, row_column)}{rest})"


def can_number(columns: Collection[str]) -> bool:
    """Whether `rows_of` can add a `row_column` to columns with these names."""
    return _OWN_COLUMNS.isdisjoint(name.lower() for name in columns)


def _read(files: Sequence[str], row_column: RowColumn | None) -> str:
    paths = ", ".join(quote_text(file) for file in files)
    # Without `hive_partitioning = false`, DuckDB makes a column of every folder in the path that is named `name=value`.
    rows = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
    if row_column is None:
        return rows
    numbers = [row_column.numbers[file] for file in files]
    number = "file_index" if numbers == list(range(len(files))) else f"{numbers}[CAST(file_index AS BIGINT) + 1]"
    return f"(SELECT *, (CAST({number} AS BIGINT) << {ROW_BITS}) + file_row_number AS {quote(row_column.name)} FROM {rows})"


def from_stored(type_: Type, value: str) -> str:
    """The DuckDB expression for a value of `type_`, given the expression for the stored value; the same text if they are equal."""
    if type_.element is not None:
        element = from_stored(type_.element, "element")
        return value if element == "element" else f"list_transform({value}, lambda element: {element})"
    if type_.kind is Kind.STRUCT:
        names = [quote(name) for name in field_names(type_)]
        stored_fields = [f"({value}).{name}" for name in names]
        fields = [from_stored(field.type, stored) for field, stored in zip(type_.fields, stored_fields, strict=True)]
        if fields == stored_fields:
            return value
        packed = ", ".join(f"{name} := {field}" for name, field in zip(names, fields, strict=True))
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({packed}) END"
    return _FROM_STORED.get(type_.kind, "{0}").format(value)

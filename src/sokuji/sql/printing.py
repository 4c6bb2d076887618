"""Print results for people and programs: as a table, CSV, a JSON array, or JSON lines."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import decimal
import json
import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sokuji.json_text import decode
from sokuji.sql.engine import Engine
from sokuji.sql.result import Result
from sokuji.types import Field, Kind, Type

FORMATS = ("table", "csv", "json", "jsonl")

_TABLE_ROWS_MAX = 1000  # people do not read more; the other formats write all rows
_PIPE_WIDTH = 10_000  # the width of a table without a terminal
_NUMBERS = {Kind.INT64, Kind.FLOAT64, Kind.NUMERIC, Kind.BIGNUMERIC}


def print_result(result: Result, format_: str, file: TextIO) -> int:
    """Write a result and return the number of its rows. A statement without rows writes its message, only in the format `table`."""
    if not result.schema:
        if format_ == "table" and result.message:
            Console(file=file, highlight=False, soft_wrap=True).print(Text(result.message))
        return 0
    return _WRITERS[format_](result, file)


def _rows(result: Result) -> Iterator[tuple[Any, ...]]:
    for batch in result.batches():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _write_table(result: Result, file: TextIO) -> int:
    table = Table(header_style="bold")
    for field in result.schema:
        table.add_column(Text(field.name), justify="right" if field.type.kind in _NUMBERS else "left", overflow="fold")
    count = 0
    for row in _rows(result):
        count += 1
        if count <= _TABLE_ROWS_MAX:
            table.add_row(*(_cell(value, field.type) for value, field in zip(row, result.schema, strict=True)))
    console = Console(file=file, highlight=False, width=None if file.isatty() else _PIPE_WIDTH)
    console.print(table)
    if count > _TABLE_ROWS_MAX:
        console.print(Text(f"... {count - _TABLE_ROWS_MAX:,} more rows; --format csv, json or jsonl writes all"))
    return count


def _cell(value: Any, type_: Type) -> Text:
    if value is None:
        return Text("NULL", style="dim italic")
    plain = to_plain(value, type_)
    return Text(plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False))


def _write_csv(result: Result, file: TextIO) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(field.name for field in result.schema)
    count = 0
    for count, row in enumerate(_rows(result), start=1):  # noqa: B007 the number of the last row is the count
        writer.writerow("" if value is None else _csv_cell(value, field.type) for value, field in zip(row, result.schema, strict=True))
    return count


def _csv_cell(value: Any, type_: Type) -> str:
    plain = to_plain(value, type_)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _write_jsonl(result: Result, file: TextIO) -> int:
    count = 0
    for count, line in enumerate(_json_rows(result), start=1):  # noqa: B007
        file.write(f"{line}\n")
    return count


def _write_json(result: Result, file: TextIO) -> int:
    count = 0
    file.write("[")
    for count, line in enumerate(_json_rows(result), start=1):
        file.write(f"{',' if count > 1 else ''}\n  {line}")
    file.write("\n]\n")
    return count


def _json_rows(result: Result) -> Iterator[str]:
    names = _distinct(result.schema)
    for row in _rows(result):
        values = (to_plain(value, field.type) for value, field in zip(row, result.schema, strict=True))
        yield json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False)


def _distinct(schema: Iterable[Field]) -> list[str]:
    """Distinct names for a JSON object. A repeated column name gets `_1`, as in BigQuery's exports, because it would replace the first."""
    names: list[str] = []
    for field in schema:
        name, number = field.name, 0
        while name in names:
            number += 1
            name = f"{field.name}_{number}"
        names.append(name)
    return names


_WRITERS = {"table": _write_table, "csv": _write_csv, "json": _write_json, "jsonl": _write_jsonl}


def to_plain(value: Any, type_: Type) -> Any:
    """A value in JSON's types. Types that JSON lacks become GoogleSQL's text, and BYTES become base64."""
    if value is None:
        return None
    if type_.element is not None:
        return [to_plain(item, type_.element) for item in value]
    if type_.kind is Kind.STRUCT:
        return {name: to_plain(item, field.type) for (name, item), field in zip(value.items(), type_.fields, strict=True)}
    return _SCALARS.get(type_.kind, lambda item: item)(value)


def _float(value: float) -> float | str:
    return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


def _decimal(value: decimal.Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _timestamp(value: dt.datetime) -> str:
    return value.isoformat(sep=" ").replace("+00:00", " UTC")


def _interval(value: Any) -> str:
    months, days, nanoseconds = value
    sign = "-" if nanoseconds < 0 else ""
    seconds, fraction = divmod(abs(nanoseconds) // 1000, 1_000_000)
    clock = f"{sign}{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}" + (f".{fraction:06}" if fraction else "")
    years = f"{'-' if months < 0 else ''}{abs(months) // 12}-{abs(months) % 12}"
    return f"{years} {days} {clock}"


_SCALARS: dict[Kind, Any] = {
    Kind.FLOAT64: _float,
    Kind.NUMERIC: _decimal,
    Kind.BIGNUMERIC: _decimal,
    Kind.BYTES: lambda value: base64.b64encode(value).decode(),
    Kind.DATE: dt.date.isoformat,
    Kind.DATETIME: dt.datetime.isoformat,
    Kind.TIME: dt.time.isoformat,
    Kind.TIMESTAMP: _timestamp,
    Kind.INTERVAL: _interval,
    Kind.JSON: decode,
}


def run_text(engine: Engine, text: str, format_: str = "table", file: TextIO | None = None) -> None:
    """Run the statements of `text` and write every result.

    Raises:
        SokujiError: a statement failed; the results before it are already written.
    """
    for result in engine.execute_script(text):
        print_result(result, format_, file or sys.stdout)

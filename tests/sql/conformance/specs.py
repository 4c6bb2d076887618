"""The per-function specifications: YAML cases with a query and its expected rows, each value in a readable form."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from sokuji.types import Kind, Type
from tests.sql.conformance import expected

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Case:
    """One case: `rows` is None where an error is wanted."""

    name: str
    sql: str
    rows: list[list[Any]] | None
    ordered: bool
    comparable: bool  # needs nothing set up before, and always has the same result


def cases(path: Path, folder: Path) -> Iterator[Case]:
    """The cases of a specification."""
    content = yaml.safe_load(path.read_text()) or {}
    for case in content.get("cases", []):
        wanted = case["expected"]
        plain = not any(case.get(key) for key in ("setup", "register_protos", "nondeterministic", "args", "named_args"))
        rows = None if "error" in wanted else wanted.get("rows")
        name = f"{path.relative_to(folder).with_suffix('')}:{case['desc']}"
        yield Case(
            name, case["sql"], rows, not case.get("unordered", wanted.get("unordered", False)), plain and not wanted.get("nondeterministic")
        )


def same_rows(wanted: list[list[Any]], got: list[tuple[Any, ...]], types: list[Type], *, ordered: bool) -> bool:
    """Whether the rows are the ones wanted."""
    if not ordered:
        wanted, got = sorted(wanted, key=repr), sorted(got, key=repr)
    return len(wanted) == len(got) and all(
        len(left) == len(right) and all(same(*pair) for pair in zip(left, right, types, strict=True))
        for left, right in zip(wanted, got, strict=True)
    )


def same(wanted: Any, got: Any, type_: Type) -> bool:
    """Whether a value is what the YAML has: numbers and truth as themselves, everything else as text if it is text there."""
    if wanted is None or got is None:
        return wanted is None and got is None
    if type_.element is not None and isinstance(wanted, list):
        element = type_.element
        return len(wanted) == len(got) and all(same(left, right, element) for left, right in zip(wanted, got, strict=True))
    if isinstance(wanted, bool) or type_.kind is Kind.BOOL:
        return bool(wanted is got) or str(wanted).lower() == str(got).lower()
    if type_.kind is Kind.FLOAT64:
        return math.isclose(float(wanted), got, rel_tol=1e-9) or (math.isnan(got) and math.isnan(float(wanted)))
    if type_.kind in {Kind.INT64, Kind.NUMERIC}:
        return Decimal(str(wanted)) == Decimal(got)
    if type_.kind is Kind.JSON:
        return bool(json.loads(got) == (json.loads(wanted) if isinstance(wanted, str) else wanted))
    if type_.kind is Kind.BYTES:
        return str(wanted) in {got.decode("utf-8", "replace"), got.hex(), expected.base64(got)}
    return _text(wanted) == readable(got, type_)


def _text(wanted: Any) -> str:
    return str(wanted).replace("T", " ").removesuffix("Z") if isinstance(wanted, dt.datetime) else str(wanted)


def readable(value: Any, type_: Type) -> str:
    """A value as the specifications write it inside a text."""
    if value is None:
        return "NULL"
    if type_.element is not None:
        return f"[{', '.join(readable(item, type_.element) for item in value)}]"
    match type_.kind:
        case Kind.STRUCT:
            return "{" + ", ".join(readable(item, field.type) for item, field in zip(value, type_.fields, strict=True)) + "}"
        case Kind.DATE:
            return (_EPOCH + dt.timedelta(days=value)).date().isoformat()
        case Kind.TIMESTAMP:
            return f"{(_EPOCH + dt.timedelta(microseconds=value)).replace(tzinfo=None)}+00"
        case Kind.DATETIME:
            return (_EPOCH + dt.timedelta(microseconds=value)).replace(tzinfo=None).isoformat()
        case Kind.TIME:
            return (_EPOCH + dt.timedelta(microseconds=value)).time().isoformat()
        case Kind.INTERVAL:
            return _interval(*value)
        case _:
            return str(value).lower() if isinstance(value, bool) else str(value)


def _interval(months: int, days: int, nanos: int) -> str:
    hours, rest = divmod(abs(nanos) // 1000, 3_600_000_000)
    minutes, micros = divmod(rest, 60_000_000)
    seconds = f"{micros // 1_000_000}" + (f".{micros % 1_000_000:06}" if micros % 1_000_000 else "")
    years, left = divmod(abs(months), 12)
    return f"{'-' if months < 0 else ''}{years}-{left} {days} {'-' if nanos < 0 else ''}{hours}:{minutes}:{seconds}"

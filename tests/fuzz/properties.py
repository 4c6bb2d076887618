"""JSON to property: both ways from the text to typed columns, the lake's and the worker's, give the oracle's result."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import pyarrow as pa

from sokuji.lake.events import Columns, property_columns
from sokuji.sink.shape import Shaper
from sokuji.sql.scalar.properties import PropertyReader
from sokuji.types import from_arrow
from tests import hostile, json_oracle
from tests.lake.platform import log_rows

_PYTHON = {pa.float64(): float, pa.string(): str, pa.bool_(): bool}
_ROWS = 50


def fuzz(seed: int, seconds: float) -> int:
    """Objects as the log may hold them, those from before the collector replaced numbers beyond FLOAT64 too."""
    random, deadline, count = Random(seed), time.monotonic() + seconds, 0
    with Shaper() as shaper:
        while time.monotonic() < deadline:
            compare(shaper, texts(random))
            count += _ROWS
    return count


def texts(random: Random) -> list[str]:
    """Valid JSON objects."""
    return [hostile.object_(random, is_valid=True) for _ in range(_ROWS)]


def compare(shaper: Shaper, sent: list[str]) -> None:
    """Hold both readers to the oracle, on the same rows of the log.

    Raises:
        AssertionError: one of them differs.
    """
    rows = log_rows([{"message_id": f"m{number}", "properties": text} for number, text in enumerate(sent)])
    columns: Columns = {}
    table = shaper.shape(pa.table(rows), columns).read_all()
    lake = table.select(list(property_columns(table.schema)))
    read = PropertyReader({name: from_arrow(type_) for name, type_ in columns.items()}).read(rows.column("properties"))
    worker = pa.table(read) if read else pa.table({"": pa.nulls(len(sent))}).select([])
    wanted = {name.lower(): _PYTHON[type_] for name, type_ in columns.items()}
    for text, in_lake, in_worker in zip(sent, lake.to_pylist(), worker.to_pylist(), strict=True):
        said = shown(json_oracle.columns(text, wanted))
        assert shown(in_lake) == said, f"the lake reads {in_lake} in {text}"
        assert shown(in_worker) == said, f"the worker reads {in_worker} in {text}"


def shown(row: dict[str, Any]) -> dict[str, str]:
    """The values so that 0.0 and -0.0 differ, and 1 and True."""
    return {name.lower(): repr(value) for name, value in row.items()}

"""Keys and rows that tests put into stores."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from sokuji.online.base import Keys, OnlineReader, OnlineStore, Rows
from sokuji.online.shared import table

WIDTH = 24


def keys(names: Iterable[str]) -> Keys:
    return pa.array(list(names), pa.string())


def rows(numbers: Iterable[int], width: int = WIDTH) -> Rows:
    """One row a number, each byte of it other than those of other numbers: the words are the number, then multiples of it."""
    column = np.array(list(numbers), np.uint64).reshape(-1, 1)
    factors = np.arange(1, width // 8 + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    factors[0] = 1
    return (column * factors).view(np.uint8).reshape(-1, width)


def number(row: bytes) -> int:
    """The number whose row this is; a row of no number is torn."""
    found = int.from_bytes(row[:8], "little")
    assert row == rows([found], len(row)).tobytes(), "torn"
    return found


def put(store: OnlineStore, numbers: dict[str, int], now_us: int = 0) -> None:
    store.put_many(keys(numbers), rows(numbers.values()), now_us)


def stored(store: OnlineStore, names: Iterable[str]) -> dict[str, int]:
    """The number of each key that has a row."""
    names = list(names)
    got, found = store.get_many(keys(names))
    assert not got[~found].any()
    return {name: number(row.tobytes()) for name, row, there in zip(names, got, found.tolist(), strict=True) if there}


def seen(reader: OnlineReader, names: Iterable[str]) -> dict[str, int]:
    """The number of each key that has a row, as a reader has it."""
    return {name: number(row) for name in names if (row := reader.get(name)) is not None}


def header_word(folder: Path, word: int) -> int:
    """A word of the header of the table that a store's writer published last."""
    path = table.current_table(folder)
    assert path is not None
    with path.open("rb") as file:
        file.seek(8 * word)
        return int.from_bytes(file.read(8), "little")

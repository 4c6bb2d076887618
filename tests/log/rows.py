"""Rows for the log's tests: numbered, so that a lost, doubled or reordered row is visible."""

from __future__ import annotations

import hashlib

import pyarrow as pa

SCHEMA = pa.schema([pa.field("number", pa.int64(), nullable=False), pa.field("text", pa.string())])


def rows(first: int, count: int, *, text_bytes: int = 10) -> pa.RecordBatch:
    """Rows numbered from `first`; every third has no text, every fifth an empty one."""
    numbers = range(first, first + count)
    texts = [
        None if number % 3 == 0 else "" if number % 5 == 0 else hashlib.shake_128(b"%d" % number).hexdigest(text_bytes // 2)
        for number in numbers
    ]
    return pa.record_batch([pa.array(numbers, pa.int64()), pa.array(texts, pa.string())], schema=SCHEMA)


def numbers(batch: pa.RecordBatch) -> list[int]:
    """The numbers of a batch of `rows`."""
    found: list[int] = batch.column("number").to_pylist()
    return found

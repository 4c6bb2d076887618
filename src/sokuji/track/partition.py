"""Which partition of the log a visitor's events go to.

The hash is CRC-32 (ISO 3309, as in zlib, PNG and Spark's `crc32`) of the id's UTF-8 bytes, modulo the number of partitions. The hash is
part of the storage format: every collector and every reader must agree on it, also after an upgrade.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray


def partition_of(visitor: str, partitions: int) -> int:
    """The partition for `visitor`: the visitor id, or the user id of an event that has no visitor id."""
    return crc32(visitor.encode()) % partitions


def partitions_of(visitors: Sequence[str], partitions: int) -> NDArray[np.uint32]:
    """`partition_of` for many visitors."""
    hashes = np.fromiter([crc32(visitor.encode()) for visitor in visitors], np.uint32, len(visitors))
    return hashes % np.uint32(partitions)

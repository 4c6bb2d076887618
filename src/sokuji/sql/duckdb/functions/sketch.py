"""HyperLogLog sketches for HLL_COUNT (Flajolet et al., 2007). A sketch with few values keeps their hashes.

A sketch is BYTES in its own format; sketches of BigQuery cannot be read. Hashes have 63 bits. The first `precision` bits choose a register,
which keeps the maximal position of the first 1 in the other bits.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sokuji.errors import SqlError

PRECISION_DEFAULT, PRECISION_MIN, PRECISION_MAX = 15, 10, 24
_BITS = 63
_MAGIC = b"SKJ1"
_HASHES, _REGISTERS = 0, 1


@dataclass(frozen=True, slots=True)
class Sketch:
    """Either the distinct hashes (int64, sorted) or the registers (uint8, 2 ** precision of them)."""

    precision: int
    hashes: npt.NDArray[np.int64] | None
    registers: npt.NDArray[np.uint8] | None = None

    def dense(self, precision: int) -> npt.NDArray[np.uint8]:
        """The registers at this precision, which must not be higher than the sketch's."""
        if self.registers is None:
            assert self.hashes is not None  # noqa: S101 one of the two is always there
            rest = _BITS - precision
            return _highest(self.hashes >> rest, _rank(self.hashes & ((1 << rest) - 1), rest), precision)
        spare = self.precision - precision
        index = np.arange(len(self.registers), dtype=np.int64)
        low = index & ((1 << spare) - 1)
        # The bits that no longer choose a register come before the bits whose first 1 was counted.
        rank = np.where(low == 0, np.where(self.registers > 0, self.registers + spare, 0), _rank(low, spare))
        return _highest((index >> spare)[self.registers > 0], rank[self.registers > 0], precision)

    def count(self) -> int:
        """The estimated number of distinct values; exact while the hashes are kept."""
        if self.hashes is not None:
            return len(self.hashes)
        registers = self.dense(self.precision)
        size = len(registers)
        estimate = 0.7213 / (1 + 1.079 / size) * size * size / float(np.sum(2.0 ** -registers.astype(np.float64)))
        empty = int(np.count_nonzero(registers == 0))
        if estimate <= 2.5 * size and empty:
            estimate = size * float(np.log(size / empty))
        return round(estimate)

    def to_bytes(self) -> bytes:
        """The sketch as BYTES."""
        if self.hashes is not None and self.hashes.nbytes <= 1 << self.precision:
            return _MAGIC + bytes([self.precision, _HASHES]) + self.hashes.astype("<i8").tobytes()
        return _MAGIC + bytes([self.precision, _REGISTERS]) + zlib.compress(self.dense(self.precision).tobytes(), 1)


def _rank(values: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """The position, from 1, of the first 1 in this many bits; `bits` + 1 if there is none."""
    length = np.zeros(len(values), np.int64)
    rest = values.copy()
    for shift in (32, 16, 8, 4, 2, 1):
        large = rest >= 1 << shift
        length += np.where(large, shift, 0)
        rest = np.where(large, rest >> shift, rest)
    return np.where(values == 0, bits + 1, bits - length)


def _highest(index: npt.NDArray[np.int64], rank: npt.NDArray[np.int64], precision: int) -> npt.NDArray[np.uint8]:
    registers = np.zeros(1 << precision, np.uint8)
    np.maximum.at(registers, index, rank.astype(np.uint8))
    return registers


def make(hashes: Sequence[int], precision: int) -> bytes:
    """The sketch of values, given their hashes.

    Raises:
        SqlError: the precision is out of range.
    """
    if not PRECISION_MIN <= precision <= PRECISION_MAX:
        raise SqlError(f"HLL_COUNT.INIT precision must be between {PRECISION_MIN} and {PRECISION_MAX}, not {precision}")
    return Sketch(precision, np.unique(np.array(hashes, np.int64))).to_bytes()


def read(data: bytes) -> Sketch:
    """The sketch that `to_bytes` wrote.

    Raises:
        SqlError: the data is not a sketch.
    """
    if data[:4] != _MAGIC or len(data) < 6:
        raise SqlError("Invalid or unsupported HLL sketch: only sketches made by HLL_COUNT here are read")
    precision, kind, rest = data[4], data[5], data[6:]
    if kind == _HASHES:
        return Sketch(precision, np.frombuffer(rest, "<i8").astype(np.int64))
    return Sketch(precision, None, np.frombuffer(zlib.decompress(rest), np.uint8))


def merge(sketches: Sequence[bytes]) -> Sketch:
    """The sketch of all values of these sketches, at their lowest precision."""
    parts = [read(data) for data in sketches]
    precision = min(part.precision for part in parts)
    hashes = [part.hashes for part in parts if part.hashes is not None]
    if len(hashes) == len(parts):
        return Sketch(precision, np.unique(np.concatenate(hashes)))
    return Sketch(precision, None, np.maximum.reduce([part.dense(precision) for part in parts]))

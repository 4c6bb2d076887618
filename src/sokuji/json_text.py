"""Read JSON in the one way that all parts of the platform share, which is BigQuery's.

- Of members with the same key, the first counts, however the key is written (`"a"` or `"\\u0061"`).
- A number beyond FLOAT64 is replaced by null, like NaN; everything around it is unchanged. The collector stores null. Readers of older
  rows, from before the collector did so, also see null.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_FEW_BYTES = 4096  # a regular expression searches so few bytes before numpy starts
_BLOCK_BYTES = 1 << 16  # the masks of a block fit into the processor's cache
_RUN_STEP = 64  # 200 digits in a row cover at least three such places
_ZERO, _PLUS, _E, _LOWER, _DIGITS = np.array([ord("0"), ord("+"), ord("e"), 0x20, 10], np.uint8)
# An exponent may continue in the next block.
_SUSPECT = re.compile(rb"[0-9][eE]\+?[0-9]{3,}(?:\s*[,}\]]|\s*\Z)|[0-9]{200}")
_BEFORE_VALUES = ": \t\r\n"
_RUN = re.compile(rb"[0-9]{3}")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|-?[0-9][0-9.eE+-]*', re.DOTALL)


def decode(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested deeper than the collector allows.
    """
    data = text.encode()
    if _RUN.search(data[::_RUN_STEP]):
        data = without_overflow(data)
    try:
        value, data = _decoded(data)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
    # If msgspec encodes the value to the same text, as it does for most clients, no member was lost.
    return value if msgspec.json.encode(value) == data else _DECODER.decode(data.decode())


def members(text: bytes) -> dict[str, msgspec.Raw]:
    """The members of a valid JSON object: the values as written, by key."""
    kept = _MEMBERS.decode(text)
    # Each member has a colon of its own, besides those in values. If the kept values account for all others, no member was lost.
    if b"".join(kept.values()).count(b":") + len(kept) == text.count(b":"):
        return kept
    return _members(text.decode())


def _members(text: str) -> dict[str, msgspec.Raw]:
    """Find the members like `members`, one after the other, which is slow."""
    values: dict[str, msgspec.Raw] = {}
    position = text.index("{") + 1
    while (position := text.find('"', position)) >= 0:
        name, position = _SKIPPING.raw_decode(text, position)
        while text[position] in _BEFORE_VALUES:
            position += 1
        _, end = _SKIPPING.raw_decode(text, position)
        values.setdefault(name, msgspec.Raw(text[position:end].encode()))
        position = end
    return values


def _decoded(data: bytes) -> tuple[Any, bytes]:
    try:
        return msgspec.json.decode(data), data
    except msgspec.ValidationError:  # a number is out of range
        data = without_overflow(data)
        return msgspec.json.decode(data), data


def readable(texts: pa.StringArray) -> pa.StringArray:
    """The same JSON objects with null for every number beyond FLOAT64. Returns the same array if there are none, at almost no cost."""
    if not len(texts):
        return texts
    _, offsets, data = texts.buffers()
    starts = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4)
    content = np.frombuffer(data, np.uint8, int(starts[-1])) if data is not None else np.zeros(0, np.uint8)
    places = _suspects(content[starts[0] :])
    if not places:
        return texts
    rows = np.unique(np.searchsorted(starts, np.array(places) + starts[0], side="right") - 1)
    mask = np.zeros(len(texts), np.bool_)
    mask[rows] = True
    fixed = [None if text is None else without_overflow(text.encode()).decode() for text in texts.take(pa.array(rows)).to_pylist()]
    replaced: pa.StringArray = pc.replace_with_mask(texts, pa.array(mask), pa.array(fixed, texts.type))
    return replaced


def readable_values(texts: pa.StringArray) -> pa.StringArray:
    """Replace numbers like `readable`, for JSON values of any kind."""
    arrays = pc.binary_join_element_wise("[", texts, "]", "")  # so that numbers end before the next text begins
    fixed = readable(arrays)
    return texts if fixed is arrays else pc.utf8_slice_codeunits(fixed, 1, -1)


def without_overflow(text: bytes) -> bytes:
    """A JSON text with null for every number beyond FLOAT64."""
    return _TOKEN.sub(_finite_or_null, text)


def _finite_or_null(match: re.Match[bytes]) -> bytes:
    token = match.group()
    return token if token.startswith(b'"') or math.isfinite(float(token)) else b"null"


def _suspects(content: npt.NDArray[np.uint8]) -> list[int]:
    """Positions of numbers that may be beyond FLOAT64: with an exponent of three digits, or with about 200 digits in a row."""
    if content.size < _FEW_BYTES:
        return [match.start() for match in _SUSPECT.finditer(content.tobytes())]
    positions: list[int] = []
    for start in range(0, content.size, _BLOCK_BYTES):
        block = content[start : start + _BLOCK_BYTES + _RUN_STEP]
        is_digit = (block - _ZERO) < _DIGITS
        # Match both 1e999 and 1e+999: a digit, the letter, any character, and two digits.
        hits = is_digit[:-4] & ((block[1:-3] | _LOWER) == _E) & is_digit[3:-1] & is_digit[4:]
        if hits.any():
            places = np.flatnonzero(hits)
            places = places[is_digit[places + 2] | (block[places + 2] == _PLUS)]
            text = block.tobytes()  # hexadecimal ids often look like a number up to here
            positions += [start + place for place in places.tolist() if _SUSPECT.match(text, place)]
    is_digit = (content[::_RUN_STEP] - _ZERO) < _DIGITS
    runs = np.flatnonzero(is_digit[:-2] & is_digit[1:-1] & is_digit[2:]) * _RUN_STEP
    for further in range(1, 2 * _RUN_STEP):
        if not runs.size:
            break
        runs = runs[(content[runs + further] - _ZERO) < _DIGITS]
    return positions + runs.tolist()


def _first_of_each(members: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(members)
    if len(values) < len(members):
        values = {}
        for key, value in members:
            values.setdefault(key, value)
    return values


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SKIPPING = json.JSONDecoder(parse_int=float)  # `int` refuses more than 4,300 digits
_DECODER = json.JSONDecoder(object_pairs_hook=_first_of_each)

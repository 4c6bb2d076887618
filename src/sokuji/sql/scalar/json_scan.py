"""Find the members of JSON objects without building objects: the position and the kind of each wanted value.

Unusual objects (keys with escapes, text that is not an object) are marked and left to a slower, complete reader. Values with escapes, with
exponents or with many digits are left to it by their kind. The scan does not check what the log has already checked.
"""

# ruff: noqa: PLR0917 compiled functions take numbers and arrays as separate arguments, because they build no objects

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int32]

NOTHING, TEXT, NUMBER, TRUE, FALSE, ESCAPED_TEXT, LONG_NUMBER, OTHER = range(8)
"""Kinds of a member. NOTHING: it is missing; OTHER: null, an array or an object."""

UNKNOWN_MAX = 256
"""The maximal number of unknown keys that one scan reports. Rows with further unknown keys are marked as unusual."""

_SLOW = -1
_DIGITS_MAX = 15  # a whole number with this many digits, divided by a power of ten, is the nearest float64
_QUOTE, _ESCAPE, _OPEN, _CLOSE, _COMMA, _COLON, _MINUS, _PLUS, _POINT = (ord(sign) for sign in '"\\{},:-+.')
_OPEN_LIST, _CLOSE_LIST, _ZERO, _NINE, _SPACE = (ord(sign) for sign in "[]09 ")
_LOWER_E, _UPPER_E, _T, _F, _N = (ord(sign) for sign in "eEtfn")


class MetKeys(NamedTuple):
    """The known keys, by hash: a table with linear probing, whose size is a power of two."""

    hashes: npt.NDArray[np.uint64]  # 0: free
    places: npt.NDArray[np.int32]  # the row of `Members` for values of the key; -1 for keys that are not wanted


class Members(NamedTuple):
    """The values found: one row per wanted key, one column per object."""

    kinds: Bytes
    starts: Places  # of the value's text, without quotes
    ends: Places


@compiled
def hash_key(text: Bytes, start: int, end: int) -> np.uint64:
    """Hash a key by FNV-1a; never 0. An attacker who makes keys collide spoils only their own events."""
    hashed = np.uint64(0xCBF29CE484222325)
    for place in range(start, end):
        hashed = (hashed ^ np.uint64(text[place])) * np.uint64(0x100000001B3)
    return np.uint64(hashed | np.uint64(1))


@compiled
def find_key(keys: MetKeys, hashed: np.uint64) -> int:
    """The index of the key in the table, or of the free entry for it."""
    at = np.int64(hashed >> np.uint64(1)) & (keys.hashes.size - 1)
    while keys.hashes[at] not in (hashed, np.uint64(0)):
        at = (at + 1) & (keys.hashes.size - 1)
    return int(at)


@compiled
def add_key(keys: MetKeys, hashed: np.uint64, place: int) -> None:
    """Add a key to a table that has room."""
    at = find_key(keys, hashed)
    keys.hashes[at], keys.places[at] = hashed, place


@compiled
def scan(offsets: Places, text: Bytes, keys: MetKeys, members: Members, slow: Bytes, unknown: Places) -> int:
    """Scan objects.

    `slow` is set to 1 for unusual objects. `unknown` gets pairs (start, end) of new keys; their number is returned.
    """
    found = 0
    for row in range(offsets.size - 1):
        at, end = offsets[row], offsets[row + 1]
        if at == end:
            continue
        found = _object(text, at, end, row, keys, members, slow, unknown, found)
    return found


@compiled
def _object(text: Bytes, at: int, end: int, row: int, keys: MetKeys, members: Members, slow: Bytes, unknown: Places, found: int) -> int:
    at = _blank(text, at, end)
    slow[row] = 1  # until the whole object is understood
    if at >= end or text[at] != _OPEN:
        return found
    at = _blank(text, at + 1, end)
    while at < end and text[at] == _QUOTE:
        start = at + 1
        at, is_escaped = _text_end(text, start, end)
        if is_escaped:
            return found
        hashed = hash_key(text, start, at)
        place = find_key(keys, hashed)
        wanted = -1
        if keys.hashes[place] == hashed:
            wanted = keys.places[place]
        elif not _is_told(text, unknown, found, start, at):
            if found == UNKNOWN_MAX:
                return found
            unknown[2 * found], unknown[2 * found + 1] = start, at
            found += 1
        at = _blank(text, at + 1, end)
        if at >= end or text[at] != _COLON:
            return found
        start = _blank(text, at + 1, end)
        kind, at = _value(text, start, end)
        if kind == _SLOW:
            return found
        if wanted >= 0 and members.kinds[wanted, row] == NOTHING:  # of a repeated key the first value counts
            quote = 1 if kind in (TEXT, ESCAPED_TEXT) else 0
            members.kinds[wanted, row] = kind
            members.starts[wanted, row], members.ends[wanted, row] = start + quote, at - quote
        at = _blank(text, at, end)
        if at < end and text[at] == _COMMA:
            at = _blank(text, at + 1, end)
    if at < end and text[at] == _CLOSE and _blank(text, at + 1, end) == end:
        slow[row] = 0
    return found


@compiled
def _is_told(text: Bytes, unknown: Places, found: int, start: int, end: int) -> bool:
    for each in range(found):
        first = unknown[2 * each]
        if unknown[2 * each + 1] - first == end - start:
            same = True
            for place in range(end - start):
                same = same and text[first + place] == text[start + place]
            if same:
                return True
    return False


@compiled
def _blank(text: Bytes, at: int, end: int) -> int:
    while at < end and text[at] <= _SPACE:
        at += 1
    return at


@compiled
def _text_end(text: Bytes, at: int, end: int) -> tuple[int, bool]:
    """The position of the closing quote of a text, and whether the text has an escape."""
    while at < end and text[at] != _QUOTE:
        if text[at] == _ESCAPE:
            return _escaped_end(text, at, end), True
        at += 1
    return at, False


@compiled
def _escaped_end(text: Bytes, at: int, end: int) -> int:
    while at < end and text[at] != _QUOTE:
        at += 2 if text[at] == _ESCAPE else 1
    return at


@compiled
def _value(text: Bytes, at: int, end: int) -> tuple[int, int]:  # noqa: PLR0911 - one per kind of value
    """The kind of the value at `at`, and its end."""
    if at >= end:
        return _SLOW, at
    sign = text[at]
    if sign == _QUOTE:
        close, is_escaped = _text_end(text, at + 1, end)
        return ESCAPED_TEXT if is_escaped else TEXT, close + 1
    if sign == _MINUS or _ZERO <= sign <= _NINE:
        return _number(text, at, end)
    if sign == _T:
        return TRUE, at + 4
    if sign == _F:
        return FALSE, at + 5
    if sign == _N:
        return OTHER, at + 4
    if sign in (_OPEN, _OPEN_LIST):
        return _nested(text, at, end)
    return _SLOW, at


@compiled
def _number(text: Bytes, at: int, end: int) -> tuple[int, int]:
    digits = 0
    while at < end and (text[at] in (_MINUS, _POINT) or _ZERO <= text[at] <= _NINE):
        digits += 1 if text[at] >= _ZERO else 0
        at += 1
    if at < end and text[at] in (_LOWER_E, _UPPER_E):
        at += 1
        while at < end and (text[at] in (_MINUS, _PLUS) or _ZERO <= text[at] <= _NINE):
            at += 1
        return LONG_NUMBER, at
    return (LONG_NUMBER if digits > _DIGITS_MAX else NUMBER), at


@compiled
def _nested(text: Bytes, at: int, end: int) -> tuple[int, int]:
    depth = 0
    while at < end:
        sign = text[at]
        if sign == _QUOTE:
            at, _ = _text_end(text, at + 1, end)
        elif sign in (_OPEN, _OPEN_LIST):
            depth += 1
        elif sign in (_CLOSE, _CLOSE_LIST):
            depth -= 1
            if depth == 0:
                return OTHER, at + 1
        at += 1
    return _SLOW, at


@compiled
def take_numbers(
    text: Bytes, kinds: Bytes, starts: Places, ends: Places, values: npt.NDArray[np.float64], there: npt.NDArray[np.bool_]
) -> None:
    """Store the numbers of one key in rows that have no value yet."""
    for row in range(kinds.size):
        if kinds[row] == NUMBER and not there[row]:
            values[row], there[row] = _parsed(text, starts[row], ends[row]), True


@compiled
def _parsed(text: Bytes, start: int, end: int) -> float:
    whole, power, is_fraction = np.int64(0), 1.0, False
    first = start + 1 if text[start] == _MINUS else start
    for at in range(first, end):
        if text[at] == _POINT:
            is_fraction = True
            continue
        whole = 10 * whole + (text[at] - _ZERO)
        if is_fraction:
            power *= 10.0
    value = np.float64(whole) / power
    return -value if first > start and (is_fraction or whole) else value


@compiled
def take_bools(kinds: Bytes, values: npt.NDArray[np.bool_], there: npt.NDArray[np.bool_]) -> None:
    """Store the truth values of one key in rows that have no value yet."""
    for row in range(kinds.size):
        if kinds[row] in (TRUE, FALSE) and not there[row]:
            values[row], there[row] = kinds[row] == TRUE, True


@compiled
def take_places(kinds: Bytes, starts: Places, ends: Places, first: Places, last: Places, there: npt.NDArray[np.bool_]) -> None:
    """Store the positions of the texts of one key, with their escapes, in rows that have no value yet."""
    for row in range(kinds.size):
        if kinds[row] in (TEXT, ESCAPED_TEXT) and not there[row]:
            first[row], last[row], there[row] = starts[row], ends[row], True


@compiled
def copy_texts(text: Bytes, first: Places, last: Places, there: npt.NDArray[np.bool_], offsets: Places, into: Bytes) -> None:
    """Copy the texts one after the other into `into`. `offsets` must be filled before."""
    for row in range(first.size):
        if there[row]:
            into[offsets[row] : offsets[row + 1]] = text[first[row] : last[row]]

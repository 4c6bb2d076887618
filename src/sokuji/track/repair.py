"""Repair bodies that are almost JSON: fix what clients' encoders write but JSON does not allow, as JavaScript does.

NaN and infinities become null. Lone surrogates (text cut in the middle of an emoji) become U+FFFD. All steps work on the whole text at
once and let other threads run meanwhile. A tokenizer in Python would need seconds for a text made by an attacker.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from sokuji.errors import InvalidRequestError

_ANYTHING = msgspec.json.Decoder(Raw)
_BOM = b"\xef\xbb\xbf"  # RFC 8259 forbids it, but lets readers ignore it
_HIGH, _LOW, _HEX = (np.frombuffer(digits, np.uint8) for digits in (b"89abAB", b"cdefCDEF", b"0123456789abcdefABCDEF"))
_ESCAPED_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def repaired(body: bytes) -> bytes:
    """`body` as well-formed JSON, except that text may still be invalid UTF-8.

    Raises:
        InvalidRequestError: the body is not JSON, or nested too deeply to read.
    """
    body = body.removeprefix(_BOM)
    error = _syntax_error(body)
    if error is None:
        return body
    if b"NaN" in body or b"Infinity" in body or _ESCAPED_HALF.search(body):
        mended = _mend(body)
        error = _syntax_error(mended)
        if error is None:
            return mended
    raise InvalidRequestError(400, "invalid_json", f"{error}; expected a JSON object")


def _syntax_error(body: bytes) -> msgspec.DecodeError | None:
    try:
        _ANYTHING.decode(body)
    except RecursionError as error:
        raise InvalidRequestError(400, "too_deep", "the JSON is nested too deeply to be read") from error
    except msgspec.DecodeError as error:
        return error
    return None


def _mend(body: bytes) -> bytes:
    text = np.frombuffer(body + bytes(16), np.uint8).copy()  # padded, so that looking ahead stays in bounds
    escapes = _escapes(text)
    is_escaped = np.zeros(len(text), np.bool_)
    is_escaped[escapes + 1] = True
    quotes = np.flatnonzero((text == ord('"')) & ~is_escaped)
    _mend_surrogates(text, escapes)
    infinities = _outside(_places(body, b"Infinity"), quotes)
    for index, letter in enumerate(b"null    "):
        text[infinities + index] = letter
    signs = infinities[infinities > 0] - 1
    text[signs[text[signs] == ord("-")]] = ord(" ")
    nans = _outside(_places(body, b"NaN"), quotes)
    longer = np.insert(text[: len(body)], nans + 3, ord("l"))  # three letters become four
    starts = nans + np.arange(len(nans))
    for index, letter in enumerate(b"null"):
        longer[starts + index] = letter
    return longer.tobytes()


def _escapes(text: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Positions of the backslashes that escape the next character. In a run of backslashes, every second one is itself escaped."""
    backslashes = np.flatnonzero(text == ord("\\"))
    first = backslashes.copy()
    first[1:][np.diff(backslashes) == 1] = 0
    first = np.maximum.accumulate(first)
    is_odd: NDArray[np.bool_] = (backslashes - first) % 2 == 1
    return backslashes[~is_odd]


def _mend_surrogates(text: NDArray[np.uint8], escapes: NDArray[np.intp]) -> None:
    halves = escapes[(text[escapes + 1] == ord("u")) & (text[escapes + 2] | 0x20 == ord("d"))]
    halves = halves[np.isin(text[halves + 4], _HEX) & np.isin(text[halves + 5], _HEX)]
    highs = halves[np.isin(text[halves + 3], _HIGH)]  # \uD8.. to \uDB..
    lows = halves[np.isin(text[halves + 3], _LOW)]
    lone = np.concatenate([highs[~np.isin(highs + 6, lows)], lows[~np.isin(lows - 6, highs)]])
    for index, letter in enumerate(b"fffd"):
        text[lone + 2 + index] = letter


def _places(body: bytes, word: bytes) -> NDArray[np.intp]:
    text = np.frombuffer(body, np.uint8)
    places = np.flatnonzero(text == word[0])
    places = places[places <= len(body) - len(word)]
    for index, letter in enumerate(word):
        places = places[text[places + index] == letter]
    return places


def _outside(places: NDArray[np.intp], quotes: NDArray[np.intp]) -> NDArray[np.intp]:
    """The places that are not inside a string."""
    inside: NDArray[np.bool_] = np.searchsorted(quotes, places) % 2 == 1
    return places[~inside]

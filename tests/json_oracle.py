"""The meaning of a JSON text, by an independent parser: it uses no library that the platform uses.

Of members with the same key the first counts; a number that FLOAT64 cannot hold is null; half a surrogate pair is U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

Pairs = list[tuple[str, Any]]

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_BEYOND = Fraction(2) ** 1024 - Fraction(2) ** 970  # rounds to infinity
_WORDS = {"true": True, "false": False, "null": None, "NaN": None, "Infinity": None, "-Infinity": None}
_FIXED = {
    *("event_name", "keys", "_date", "message_id", "type", "source", "received_at", "original_time", "sent_at", "time_rule", "historical"),
    *("is_bot", "log_partition", "log_offset", "context", "properties", "_day"),
}


class Number(str):
    """A number, as it is written."""

    __slots__ = ()


def meaning(text: str) -> Any:
    """The value: dict, list, str, bool, None, int or float."""
    return _plain(pairs(text))


def pairs(text: str) -> Any:
    """The value with objects as lists of all their members, in a `Pairs` of tuples, and numbers as `Number`."""
    value, at = _value(text, _blank(text, 0))
    assert _blank(text, at) == len(text), f"{text[at : at + 20]!r} after the value"
    return value


def columns(text: str | None, wanted: Mapping[str, type]) -> dict[str, Any]:
    """The typed columns of an object's properties: `wanted` has lower-case names and float, str or bool."""
    found: dict[str, Any] = dict.fromkeys(wanted)
    value = meaning(text) if text else {}
    for key in sorted(value if isinstance(value, dict) else {}):
        name = column_name(key)
        if name in found and found[name] is None:
            found[name] = _fitting(value[key], wanted[name])
    return found


def column_name(key: str) -> str | None:
    """The column of a property, in lower case."""
    name = "".join(sign if sign.isalnum() or sign == "_" else "_" for sign in key)
    if not name or len(name) > 128 or "\0" in key:
        return None
    name = f"_{name}" if name[0].isdecimal() else name
    return f"{name}_prop".lower() if name.lower() in _FIXED else name.lower()


def _fitting(value: Any, type_: type) -> Any:
    if type_ is float and type(value) in {int, float}:
        return float(value)
    return value if type(value) is type_ else None


def _plain(value: Any) -> Any:
    if isinstance(value, Number):
        return _number(value)
    if isinstance(value, tuple):
        found: dict[str, Any] = {}
        for key, item in value:
            found.setdefault(key, _plain(item))
        return found
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _number(text: str) -> int | float | None:
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return -0.0 if text.startswith("-") and text != "-0" else 0.0 if fraction or exponent else 0
    size = len(whole.lstrip("0") or "") or -len(fraction) + len(fraction.lstrip("0"))
    if size + int(exponent or 0) > 400:
        return None
    if size + int(exponent or 0) < -400:
        return -0.0 if text.startswith("-") else 0.0
    exact = Fraction(int(whole + fraction), 10 ** len(fraction)) * Fraction(10) ** int(exponent or 0)
    exact = -exact if text.startswith("-") else exact
    if abs(exact) >= _BEYOND:
        return None
    return int(exact) if not fraction and not exponent else exact.numerator / exact.denominator


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _value(text: str, at: int) -> tuple[Any, int]:
    if text[at] == '"':
        return _string(text, at)
    if text[at] in "{[":
        return _items(text, at)
    for word, value in _WORDS.items():
        if text.startswith(word, at):
            return value, at + len(word)
    number = _NUMBER.match(text, at)
    assert number is not None, f"no value: {text[at : at + 20]!r}"
    return Number(number.group()), number.end()


def _items(text: str, at: int) -> tuple[Any, int]:
    """An object, as a tuple of its members, or an array."""
    is_object, found = text[at] == "{", []
    at = _blank(text, at + 1)
    while text[at] not in "}]":
        if is_object:
            key, at = _string(text, at)
            at = _blank(text, at)
            assert text[at] == ":"
            at = _blank(text, at + 1)
        value, at = _value(text, at)
        found.append((key, value) if is_object else value)
        at = _blank(text, at)
        if text[at] == ",":
            at = _blank(text, at + 1)
    return (tuple(found) if is_object else found), at + 1


def _string(text: str, at: int) -> tuple[str, int]:
    units, at = [], at + 1
    while text[at] != '"':
        if text[at] != "\\":
            units.append(text[at])
            at += 1
        elif text[at + 1] == "u":
            units.append(chr(int(text[at + 2 : at + 6], 16)))
            at += 6
        else:
            units.append(_PLAIN[text[at + 1]])
            at += 2
    joined = re.sub("[\ud800-\udbff][\udc00-\udfff]", _paired, "".join(units))
    return re.sub("[\ud800-\udfff]", "\ufffd", joined), at + 1


def _paired(match: re.Match[str]) -> str:
    high, low = map(ord, match.group())
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))

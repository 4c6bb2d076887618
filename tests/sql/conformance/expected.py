"""Values in the notation of the compliance suite, and whether a value equals the expected value."""

from __future__ import annotations

import binascii
import datetime as dt
import json
import math
import re
import zoneinfo
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sokuji.types import Kind, Type, array

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_SECONDS = re.compile(r"(.*?)(\.\d+)?([+-]\d{1,2}(?::\d{2})?(?::\d{2})?| [A-Za-z_/]+)?")


class UnreadableError(Exception):
    """The text is not a value of the type, as this reader understands both."""


@dataclass
class Items:
    """An array; `ordered` says whether the order of its elements counts."""

    values: list[Any]
    ordered: bool


@dataclass
class Json:
    """A JSON value: the JSON null is not NULL."""

    value: Any


def base64(value: bytes) -> str:
    """BYTES as BigQuery's results carry them."""
    return binascii.b2a_base64(value, newline=False).decode()


def rows(text: str, types: list[Type], *, value_table: bool) -> Items:
    """The rows of a result text.

    Raises:
        UnreadableError: the text is not such rows.
    """
    reader = _Reader(text.partition("NOTE: ")[0])
    row = types[0] if value_table else None
    items = reader.array(lambda: reader.value(row) if row else reader.struct(types))
    reader.skip()
    if reader.text[reader.at :].strip():
        raise UnreadableError(f"more text after the value: {reader.text[reader.at :][:60]!r}")
    return items


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def peek(self, token: str) -> bool:
        self.skip()
        return self.text.startswith(token, self.at)

    def take(self, token: str) -> None:
        if not self.peek(token):
            raise UnreadableError(f"expected {token!r} at {self.text[self.at : self.at + 40]!r}")
        self.at += len(token)

    def prefix(self) -> None:
        """Skip the type in front of an array or a struct."""
        self.skip()
        match = re.compile(r"(ARRAY|STRUCT)\s*<").match(self.text, self.at)
        if match is None:
            return
        self.at, depth = match.end(), 1
        while depth:
            depth += {"<": 1, ">": -1}.get(self.text[self.at], 0)
            self.at += 1

    def array(self, item: Any) -> Items:
        self.prefix()
        self.take("[")
        ordered = True
        for word, order in (("known order:", True), ("unknown order:", False)):
            if self.peek(word):
                self.take(word)
                ordered = order
        values = []
        while not self.peek("]"):
            values.append(item())
            if not self.peek("]"):
                self.take(",")
        self.take("]")
        return Items(values, ordered)

    def struct(self, types: list[Type]) -> tuple[Any, ...]:
        self.prefix()
        self.take("{")
        fields = []
        for position, type_ in enumerate(types):
            if position:
                self.take(",")
            fields.append(self.value(type_))
        self.take("}")
        return tuple(fields)

    def value(self, type_: Type) -> Any:
        start = self.at
        self.prefix()
        for null in ("(NULL)", "NULL"):
            if self.peek(null):
                self.take(null)
                return None
        self.at = start
        if type_.element is not None:
            element = type_.element
            return self.array(lambda: self.value(element))
        if type_.kind is Kind.STRUCT:
            return self.struct([field.type for field in type_.fields])
        return scalar(self.token(), type_.kind)

    def token(self) -> str:
        self.skip()
        start, depth, quote = self.at, 0, ""
        while self.at < len(self.text):
            character = self.text[self.at]
            if quote:
                if character == "\\":
                    self.at += 1
                elif self.text.startswith(quote, self.at):
                    self.at += len(quote) - 1
                    quote = ""
            elif character in "\"'":
                quote = character * 3 if self.text.startswith(character * 3, self.at) else character
                self.at += len(quote) - 1
            elif character in "[{(":
                depth += 1
            elif character in "]})," and depth == 0:
                break
            elif character in "]})":
                depth -= 1
            self.at += 1
        return self.text[start : self.at].strip()


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        body = match.group(1)
        if body[0] in "xuU" and len(body) > 1:
            return chr(int(body[1:], 16))
        if len(body) == 3 and body.isdigit():
            return chr(int(body, 8))
        return _SIMPLE.get(body, body)

    return _ESCAPE.sub(replace, text)


def _quoted(token: str) -> str:
    match = re.fullmatch(r"b?('''|\"\"\"|'|\")(.*)\1", token, re.DOTALL)
    if match is None:
        raise UnreadableError(f"not a quoted string: {token[:60]}")
    return _unescape(match.group(2))


def scalar(token: str, kind: Kind) -> Any:
    """A scalar in the form `sokuji.sql.front.values` has it in."""
    try:
        match kind:
            case Kind.INT64:
                return int(token)
            case Kind.FLOAT64:
                return float(token)
            case Kind.NUMERIC:
                return Decimal(token)
            case Kind.BOOL:
                return {"true": True, "false": False}[token.lower()]
            case Kind.STRING:
                return _quoted(token)
            case Kind.BYTES:
                return _quoted(token).encode("latin-1")
            case Kind.JSON:
                return Json(json.loads(token))
            case Kind.DATE:
                return (dt.date.fromisoformat(token) - dt.date(1970, 1, 1)).days
            case Kind.INTERVAL:
                return _interval(token)
            case _:
                return _moment(token, kind)
    except (ValueError, KeyError, ArithmeticError) as error:
        raise UnreadableError(f"not {kind}: {token[:60]}") from error


def _interval(token: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"(-?)(\d+)-(\d+) (-?\d+) (-?)(\d+):(\d+):(\d+)(?:\.(\d+))?", token)
    if match is None:
        raise UnreadableError(f"not an interval: {token}")
    sign, years, months, days, negative, hours, minutes, seconds, fraction = match.groups()
    nanos = (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 10**9 + int((fraction or "0").ljust(9, "0"))
    return ((int(years) * 12 + int(months)) * (-1 if sign else 1), int(days), -nanos if negative else nanos)


def _moment(token: str, kind: Kind) -> int:
    match = _SECONDS.fullmatch(token.replace("T", " ").removesuffix("Z"))
    assert match is not None
    base, fraction, zone = match.groups()
    micros = int((fraction or ".0")[1:].ljust(6, "0")[:6])
    if kind is Kind.TIME:
        time = dt.time.fromisoformat(base)
        return ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000_000 + micros
    moment = dt.datetime.fromisoformat(base).replace(tzinfo=dt.UTC)
    if kind is Kind.TIMESTAMP and zone and zone.strip() != "UTC":
        moment -= _offset(zone.strip(), moment)
    return round((moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(seconds=1)) * 1_000_000 + micros


def _offset(zone: str, moment: dt.datetime) -> dt.timedelta:
    if zone[0] in "+-":
        parts = [int(part) for part in zone[1:].split(":")]
        offset = dt.timedelta(hours=parts[0], minutes=parts[1] if len(parts) > 1 else 0, seconds=parts[2] if len(parts) > 2 else 0)
        return offset if zone[0] == "+" else -offset
    return moment.replace(tzinfo=zoneinfo.ZoneInfo(zone)).utcoffset() or dt.timedelta(0)


def same(wanted: Any, got: Any, type_: Type) -> bool:
    """Whether `got` is the value that was wanted; FLOAT64 within a relative 1e-12."""
    if wanted is None or got is None:
        return wanted is None and got is None
    if type_.element is not None:
        return same_items(wanted, got, type_.element)
    if type_.kind is Kind.STRUCT:
        return all(same(left, right, field.type) for left, right, field in zip(wanted, got, type_.fields, strict=True))
    if type_.kind is Kind.FLOAT64:
        return math.isclose(wanted, got, rel_tol=1e-12, abs_tol=1e-300) or (math.isnan(wanted) and math.isnan(got))
    if type_.kind is Kind.JSON:
        return bool(wanted.value == json.loads(got))
    return bool(wanted == got)


def same_items(wanted: Items, got: list[Any], element: Type) -> bool:
    """Whether an array holds what was wanted, in the order wanted if one was."""
    if len(wanted.values) != len(got):
        return False
    if wanted.ordered:
        return all(same(left, right, element) for left, right in zip(wanted.values, got, strict=True))
    left = list(got)
    for item in wanted.values:
        match = next((position for position, other in enumerate(left) if same(item, other, element)), None)
        if match is None:
            return False
        del left[match]
    return True


__all__ = ["Items", "UnreadableError", "array", "rows", "same", "same_items", "scalar"]

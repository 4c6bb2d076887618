"""Translate DuckDB's errors into errors like BigQuery's."""

from __future__ import annotations

import re

import duckdb

from sokuji.config import SqlSettings
from sokuji.errors import SqlError
from sokuji.sql.front.wasm import TOO_DEEP

_DEEP = ("Max expression depth limit", "Recursion level in ArrowSchema")
# Errors that a query's data can cause. Every other kind means that the SQL written for the statement was wrong.
_OF_DATA = ("Conversion Error", "Invalid Input Error", "Out of Range Error", "Mismatch Type Error")

_PREFIX = re.compile(r"^(?:[A-Za-z ]+ Error|INTERRUPT Error): ")

_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), phrase)
    for pattern, phrase in (
        (r"Python exception occurred while executing the UDF: SqlError: (.*)", r"\1"),
        (r"More than one row returned by a subquery.*", "Scalar subquery produced more than one element"),
        (r"Division by zero.*", "division by zero"),
        (r"Overflow in (addition|subtraction|multiplication|negation) of INT(?:64)? \((.*?)\)!?.*", r"int64 overflow: \2"),
        (r"Could not convert string '(.*?)' to (?:INT64|INT32|HUGEINT|BIGINT).*", r"Bad int64 value: \1"),
        (r"Could not convert string '(.*?)' to (?:DOUBLE|FLOAT).*", r"Bad double value: \1"),
        (r"Could not convert string '(.*?)' to BOOL.*", r"Bad bool value: \1"),
        (r"""(?:invalid )?(date|timestamp|time) field value out of range: "(.*?)".*""", r"Invalid \1: '\2'"),
        (r"""(?:invalid )(date|timestamp|time) (?:field )?format: \(?"(.*?)"\)?.*""", r"Invalid \1: '\2'"),
        (r"""Could not (?:cast|convert) string ['"](.*?)['"] to (DATE|TIMESTAMP|TIME|DECIMAL)\b.*""", r"Invalid \2 value: '\1'"),
        (r"Type (?:DOUBLE|FLOAT) with value (.*?) can't be cast .*", r"Illegal conversion of non-finite or out of range number: \1"),
        (r"Malformed JSON.*", "syntax error while parsing JSON value"),
    )
)


def translate(error: Exception, settings: SqlSettings) -> SqlError:
    """The error for the user. DuckDB's own error, which may quote the SQL it was given, stays as the cause."""
    text = str(error)
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory Error" in text:
        return SqlError(
            f"Resources exceeded: the query needs more memory than its limit of {settings.memory_limit_mib} MiB ([sql] memory_limit_mib)"
        )
    if isinstance(error, duckdb.IOException) or "IO Error" in text:
        # A table was dropped while it was read, or the disk is full. The statement is not the cause.
        return SqlError(f"Files could not be read or written: {_PREFIX.sub('', text.splitlines()[0])}")
    if any(phrase in text for phrase in _DEEP):
        return SqlError(TOO_DEEP)
    kind = next((kind for kind in _OF_DATA if kind in text), None)
    if kind is None:
        return SqlError("The query failed inside the engine; this is a defect, please report the statement")
    message = _PREFIX.sub("", text[text.index(kind) :]).split("\n\nLINE ")[0].strip()
    for pattern, phrase in _PHRASES:
        match = pattern.fullmatch(message)
        if match is not None:
            return SqlError(match.expand(phrase))
    return SqlError(message)

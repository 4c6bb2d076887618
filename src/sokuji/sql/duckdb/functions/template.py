"""Templates for entries of the signature table: DuckDB text with `{0}`, `{1}`, ... for the arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from sokuji.sql.duckdb.functions.base import SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.lets import let
from sokuji.sql.duckdb.types import to_duckdb

Emit = Callable[[SqlCall], str]


def checked(cases: Mapping[str, str], value: str, *, safe: bool = False) -> str:
    """`value`, unless a condition of `cases` holds: then the error with its message (a DuckDB expression), or NULL if safe."""
    branches = " ".join(f"WHEN {condition} THEN {'NULL' if safe else f'error({message})'}" for condition, message in cases.items())
    return f"(CASE {branches} ELSE {value} END)"


def expression(*templates: str, errors: Mapping[str, str] | None = None, raises: bool = False) -> Emit:
    """A function that writes a call by a template. If there are several, the number of arguments chooses one.

    Args:
        templates: DuckDB text; `{0}` is the first argument, `{type}` the DuckDB type of the result.
        errors: conditions for which GoogleSQL raises an error, with the message as a DuckDB expression.
        raises: whether DuckDB itself raises the errors that GoogleSQL raises.
    """
    errors = errors or {}
    by_arity = {_arity(text): text for text in templates}

    def emit(call: SqlCall) -> str:
        text = by_arity[len(call.arguments)] if len(by_arity) > 1 else templates[0]

        def body(*arguments: str) -> str:
            def fill(part: str) -> str:
                return part.format(*arguments, type=to_duckdb(call.result) if "{type}" in part else "")

            cases = {fill(condition): fill(message) for condition, message in errors.items()}
            value = fill(text)
            if call.safe and raises:
                value = f"TRY({value})"
            return checked(cases, value, safe=call.safe) if cases else value

        parts = [text, *errors, *errors.values()]
        repeated = any(sum(part.count(f"{{{position}}}") for part in parts) > 1 for position in range(len(call.arguments)))
        # TRY would hide the errors of an argument, and DuckDB allows no volatile function inside TRY, such as error().
        return let(call.arguments, body) if repeated or (call.safe and raises) else f"({body(*call.arguments)})"

    return emit


def _arity(text: str) -> int:
    return max((int(number) + 1 for number in re.findall(r"\{(\d+)\}", text)), default=0)


def native(signatures: str, *templates: str, errors: Mapping[str, str] | None = None, raises: bool = False) -> list[SignatureEntry]:
    """Entries (names separated by spaces) that one DuckDB function or operator computes."""
    emit = expression(*templates, errors=errors, raises=raises)
    return [SignatureEntry(signature, Support.NATIVE, emit) for signature in signatures.split()]


def macro(signatures: str, *templates: str, errors: Mapping[str, str] | None = None, raises: bool = False) -> list[SignatureEntry]:
    """Entries that an expression of several DuckDB functions computes."""
    emit = expression(*templates, errors=errors, raises=raises)
    return [SignatureEntry(signature, Support.MACRO, emit) for signature in signatures.split()]


def emitted(signatures: str, emit: Emit, support: Support = Support.MACRO) -> list[SignatureEntry]:
    """Entries whose text a function writes."""
    return [SignatureEntry(signature, support, emit) for signature in signatures.split()]


def unsupported(signatures: str, reason: str) -> list[SignatureEntry]:
    """Entries that raise an error."""
    return [SignatureEntry(signature, Support.UNSUPPORTED, None, reason) for signature in signatures.split()]

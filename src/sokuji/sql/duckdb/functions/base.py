"""The contents of one entry of the signature table."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sokuji.types import Type


class Support(enum.StrEnum):
    """How a signature runs on DuckDB."""

    NATIVE = "native"  # a DuckDB function or operator with the same semantics
    MACRO = "macro"  # an expression of several DuckDB functions
    UDF = "udf"  # a vectorised Python function
    UNSUPPORTED = "unsupported"  # raises an error that names the function


class EnumName(str):
    """A constant argument of an enum type: a date part ("WEEK_MONDAY"), a normalisation mode or a rounding mode."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Lambda:
    """A lambda argument: `body` is DuckDB text with the free names `parameters`, as in `lambda x, i: body`."""

    parameters: tuple[str, ...]
    body: str


@dataclass(frozen=True, slots=True)
class SqlCall:
    """One resolved call. Its arguments are DuckDB SQL text, each safe to embed without more parentheses.

    An enum argument has type STRING, its name as a string literal in `arguments`, and an `EnumName` in `constants`. A lambda argument has
    its `Lambda` in `constants`, an empty text in `arguments`, and the type of its body.
    """

    name: str  # ZetaSQL's name in lower case: "concat", "$add", "timestamp_diff"
    arguments: tuple[str, ...]
    types: tuple[Type, ...]  # of the arguments
    result: Type
    # Constant (literal) arguments as Python values by position, None for others; empty, or as long as `arguments`.
    constants: tuple[Any, ...] = ()
    safe: bool = False  # SAFE.f(...): errors become NULL
    # Aggregate and analytic calls only:
    distinct: bool = False
    ignore_nulls: bool | None = None  # None: not specified
    order_by: tuple[str, ...] = ()  # DuckDB ORDER BY items
    limit: str | None = None
    having: tuple[str, str] | None = None  # ("MAX" | "MIN", expression)
    filter: str | None = None
    over: str | None = None  # the text of OVER (...), for analytic calls


@dataclass(frozen=True, slots=True)
class SignatureEntry:
    """An entry of the signature table, keyed by ZetaSQL's `FunctionSignatureId` name ("FN_ADD_INT64")."""

    signature: str
    support: Support
    emit: Callable[[SqlCall], str] | None = None  # DuckDB SQL for a call; None when unsupported
    reason: str = ""  # why the signature is unsupported, or how it deviates


@dataclass(frozen=True, slots=True)
class Cast:
    """One resolved cast between scalar types. Casts of the elements of an ARRAY and of the fields of a STRUCT are separate.

    `sokuji.sql.duckdb.functions` exports `lookup(context_id, name) -> SignatureEntry` and `cast(Cast) -> str`. Both raise
    UnsupportedSqlError that names the missing function or cast.
    """

    value: str  # DuckDB SQL, safe to embed without more parentheses
    source: Type
    target: Type
    safe: bool = False  # SAFE_CAST: a value that cannot be converted becomes NULL
    format: str | None = None  # the FORMAT clause, as DuckDB SQL
    time_zone: str | None = None  # the AT TIME ZONE clause of the FORMAT clause, as DuckDB SQL

"""The table of function signatures: what DuckDB runs for each function of GoogleSQL.

A signature that is missing in the table, or marked as unsupported, raises an error. A wrong result would be worse.
"""

from __future__ import annotations

from zetasql.wasi._pb2.zetasql.public.builtin_function_pb2 import FunctionSignatureId

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb.functions import (
    aggregates,
    analytic,
    approximate,
    arithmetic,
    arrays,
    comparison,
    conditional,
    dates,
    hashing,
    json,
    net,
    regexp,
    strings,
)
from sokuji.sql.duckdb.functions.base import SignatureEntry, Support
from sokuji.sql.duckdb.functions.casts import cast
from sokuji.sql.duckdb.functions.reference import register

__all__ = ["TABLE", "cast", "lookup", "register"]

_FAMILIES = (
    arithmetic,
    comparison,
    conditional,
    strings,
    regexp,
    dates,
    arrays,
    json,
    hashing,
    net,
    aggregates,
    analytic,
    approximate,
)

TABLE: dict[str, SignatureEntry] = {function.signature: function for family in _FAMILIES for function in family.TABLE}
"""Every entry, by the name of ZetaSQL's `FunctionSignatureId`."""


def lookup(signature_id: int, name: str) -> SignatureEntry:
    """The entry of a signature.

    Raises:
        UnsupportedSqlError: the signature is not in the table, or is marked as unsupported. The message names the function.
    """
    signature = FunctionSignatureId.Name(signature_id) if signature_id in FunctionSignatureId.values() else ""
    function = TABLE.get(signature)
    shown = name.removeprefix("$").upper()
    if function is None:
        raise UnsupportedSqlError(f"Function {shown} is not supported for arguments of these types")
    if function.support is Support.UNSUPPORTED:
        raise UnsupportedSqlError(f"Function {shown} is not supported: {function.reason}")
    return function

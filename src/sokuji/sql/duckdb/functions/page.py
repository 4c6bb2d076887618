"""Generate docs/sql-functions.md, the page that says how each function runs: `python -m sokuji.sql.duckdb.functions.page`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto import options_pb2
from zetasql.wasi._pb2.zetasql.public.builtin_function_pb2 import FunctionSignatureId

from sokuji.sql.duckdb.functions import TABLE
from sokuji.sql.duckdb.functions.base import Support
from sokuji.sql.front.analyzer import language_options
from sokuji.sql.front.wasm import zetasql

_HEAD = """# SQL functions

This page lists every function of GoogleSQL, signature by signature, with ZetaSQL's names, and says how the function runs here.
`python -m sokuji.sql.duckdb.functions.page` generates the page from the signature table (`src/sokuji/sql/duckdb/functions/`), and a test
compares the page with the table.

| status | meaning |
|---|---|
| native | one DuckDB function or operator, with the same semantics |
| macro | an expression of several DuckDB functions |
| reference | GoogleSQL's reference implementation, or Python, called for whole columns: exact, at about 25 us per row |
| rewritten | ZetaSQL rewrites the call to other functions of this table |
| unsupported | the call raises an error that names the function |

| function | signature | status | note |
|---|---|---|---|
"""

_NAMES = {Support.NATIVE: "native", Support.MACRO: "macro", Support.UDF: "reference", Support.UNSUPPORTED: "unsupported"}

# Operators and others that ZetaSQL rewrites, although their signatures do not say so.
_REWRITTEN = {"$concat_op", "$like_any", "$like_all", "$not_like_any", "$not_like_all", "grouping"}


def page() -> str:
    """The text of the whole page."""
    rows = sorted(row for function in _builtin() for row in _rows(function))
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _builtin() -> list[Any]:
    """Every function that the analyzer knows in BigQuery's dialect, as `FunctionProto`."""
    options = options_pb2.ZetaSQLBuiltinFunctionOptionsProto(language_options=language_options(zetasql()))
    return list(zetasql().call("GetBuiltinFunctions", options, service.GetBuiltinFunctionsResponse).function)


def _rows(function: Any) -> Iterator[tuple[str, str, str, str]]:
    name = ".".join(function.name_path)
    for signature in function.signature:
        id_ = FunctionSignatureId.Name(signature.context_id)
        entry = TABLE.get(id_)
        if entry is not None:
            status, note = _NAMES[entry.support], entry.reason
        elif signature.options.rewrite_options.enabled or name in _REWRITTEN:
            status, note = "rewritten", ""
        else:
            status, note = "unsupported", ""
        yield f"`{name.removeprefix('$').upper()}`", f"`{id_.removeprefix('FN_')}`", status, note


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/sql-functions.md").write_text(page())

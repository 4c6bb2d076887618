"""Names and strings as DuckDB's SQL writes them."""

from __future__ import annotations


def quote(name: str) -> str:
    """A name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: str) -> str:
    """A string as a literal."""
    # A NUL ends the statement for DuckDB's parser, so it may only come from a function.
    parts = ["'" + part.replace("'", "''") + "'" for part in value.split("\0")]
    return parts[0] if len(parts) == 1 else "(" + " || chr(0) || ".join(parts) + ")"

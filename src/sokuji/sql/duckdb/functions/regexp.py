"""Regular expressions and LIKE. DuckDB and GoogleSQL both run RE2."""

from __future__ import annotations

from sokuji.duckdb_text import quote_text
from sokuji.sql.duckdb.functions.base import SignatureEntry, SqlCall
from sokuji.sql.duckdb.functions.reference import evaluate, reference
from sokuji.sql.duckdb.functions.template import emitted
from sokuji.sql.duckdb.lets import let


def _constant_pattern(call: SqlCall) -> str | None:
    pattern = call.constants[1] if call.constants else None
    return pattern if isinstance(pattern, str) and "\0" not in pattern and _valid(pattern) else None


def _valid(pattern: str) -> bool:
    # RE2 reads these patterns the same with any options. The reference implementation handles the others, including errors.
    return "(?" not in pattern and "\\C" not in pattern and "\\p" not in pattern and "\n" not in pattern


def _contains(call: SqlCall) -> str:
    if _constant_pattern(call) is None:
        return evaluate(call)
    return f"regexp_matches({call.arguments[0]}, {call.arguments[1]})"


def _like(call: SqlCall) -> str:
    pattern = call.constants[1] if call.constants else None
    if not isinstance(pattern, str) or pattern.endswith("\\"):
        return evaluate(call, "{0} LIKE {1}")
    escape = f" ESCAPE {quote_text(chr(92))}" if "\\" in pattern else ""
    return f"({call.arguments[0]} LIKE {call.arguments[1]}{escape})"


def _extract(call: SqlCall) -> str:
    pattern = _constant_pattern(call)
    if pattern is None or len(call.arguments) != 2 or not _group_always_matches(pattern):
        return evaluate(call)
    group = pattern.count("(")
    return let(
        call.arguments[:1],
        lambda text: (
            f"CASE WHEN regexp_matches({text}, {call.arguments[1]}) THEN regexp_extract({text}, {call.arguments[1]}, {group}) ELSE NULL END"
        ),
    )


def _group_always_matches(pattern: str) -> bool:
    # A group that is not part of the match is NULL in GoogleSQL and empty in DuckDB.
    after = pattern.partition(")")[2][:1]
    return pattern.count("(") == 0 or (pattern.count("(") == 1 and "\\(" not in pattern and "|" not in pattern and after not in set("?*{"))


def _replace(call: SqlCall) -> str:
    replacement = call.constants[2] if call.constants else None
    pattern = _constant_pattern(call)
    if not pattern or not isinstance(replacement, str) or "\\" in replacement or not _never_empty(pattern):
        return evaluate(call)
    return f"regexp_replace({', '.join(call.arguments)}, 'g')"


def _never_empty(pattern: str) -> bool:
    return not set(pattern) & set("*?|^$\\{(")


TABLE: list[SignatureEntry] = [
    *emitted("FN_REGEXP_CONTAINS_STRING", _contains),
    *emitted("FN_STRING_LIKE", _like),
    *emitted("FN_REGEXP_EXTRACT_STRING", _extract),
    *emitted("FN_REGEXP_REPLACE_STRING", _replace),
    *reference("FN_BYTE_LIKE", "{0} LIKE {1}"),
    *reference("FN_REGEXP_CONTAINS_BYTES FN_REGEXP_EXTRACT_BYTES FN_REGEXP_REPLACE_BYTES FN_REGEXP_EXTRACT_ALL_STRING"),
    *reference("FN_REGEXP_EXTRACT_ALL_BYTES FN_REGEXP_INSTR_STRING FN_REGEXP_INSTR_BYTES"),
]

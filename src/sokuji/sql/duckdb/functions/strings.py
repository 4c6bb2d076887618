"""Functions on STRING, which count characters (code points), and on BYTES, which count bytes."""

from __future__ import annotations

import base64
import dataclasses
import functools
import unicodedata
from collections.abc import Callable

from sokuji.errors import SqlError
from sokuji.sql.duckdb.functions import parts, room
from sokuji.sql.duckdb.functions.base import SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.functions.reference import evaluate, python, reference
from sokuji.sql.duckdb.functions.template import checked, emitted, macro, native
from sokuji.sql.duckdb.lets import let


def _concat(call: SqlCall) -> str:
    return f"({' || '.join(call.arguments)})"


def _or_reference(condition: str, value: str) -> Callable[[SqlCall], str]:
    """Use DuckDB's function for values where it agrees with GoogleSQL, and the reference implementation for other values."""

    def emit(call: SqlCall) -> str:
        def body(*arguments: str) -> str:
            whole = dataclasses.replace(call, arguments=arguments, constants=())
            return f"CASE WHEN {condition.format(*arguments)} THEN {value.format(*arguments)} ELSE {evaluate(whole)} END"

        return let(call.arguments, body)

    return emit


_ASCII = "strlen({0}) = length({0})"


def _trim(name: str) -> list[SignatureEntry]:
    signature = f"FN_{name.upper()}_STRING"

    def emit(call: SqlCall) -> str:
        if len(call.arguments) == 2 and call.constants and call.constants[1]:
            return f"{name}({call.arguments[0]}, {call.arguments[1]})"
        if len(call.arguments) == 2:
            return evaluate(call)
        # GoogleSQL trims all Unicode white space, DuckDB only spaces.
        return _or_reference(_ASCII, f"{name}({{0}}, {_WHITE})")(call)

    return emitted(signature, emit)


_WHITE = "chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || ' '"


_LONGEST = 2**31 - 1  # no string is this long; DuckDB's own limit is a little above
_SHORT = f"CASE WHEN {{1}} > {_LONGEST} THEN {_LONGEST} ELSE {{1}} END"


def _substr(call: SqlCall) -> str:
    def body(text: str, start: str, *length: str) -> str:
        first = (
            f"CASE WHEN {start} < -length({text}) OR {start} = 0 THEN 1 WHEN {start} < 0 THEN length({text}) + {start} + 1 "
            f"WHEN {start} > {_LONGEST} THEN {_LONGEST} ELSE {start} END"
        )
        if not length:
            return f"substr({text}, {first})"
        value = f"substr({text}, {first}, CASE WHEN {length[0]} > {_LONGEST} THEN {_LONGEST} ELSE {length[0]} END)"
        negative = f"{length[0]} < 0 AND {text} IS NOT NULL AND {start} IS NOT NULL"
        return checked({negative: "'Third argument in SUBSTR() cannot be negative'"}, value, safe=call.safe)

    return let(call.arguments, body)


def _normalize(call: SqlCall) -> str:
    form = parts.constant(call, 1) or "NFC"
    return python(call, f"normalize_{form.lower()}", _FORMS[form], 1)


def _normalize_and_casefold(call: SqlCall) -> str:
    form = parts.constant(call, 1) or "NFC"
    if form in {"NFC", "NFD"}:
        return evaluate(call)
    normalize = _FORMS[form]  # the WASM module lacks the tables for these
    return python(call, f"casefold_{form.lower()}", lambda text: normalize(normalize(text).casefold()), 1)


_FORMS = {form: functools.partial(unicodedata.normalize, form) for form in ("NFC", "NFKC", "NFD", "NFKD")}


def _to_base32(value: bytes) -> str:
    return base64.b32encode(value).decode()


def _from_base32(text: str) -> bytes:
    try:
        return base64.b32decode(text)
    except ValueError as error:
        raise SqlError(f"Failed to decode invalid base32 string: {text!r}") from error


def _reverse(call: SqlCall) -> str:
    def body(text: str) -> str:
        # DuckDB's own function keeps the code points of a grapheme together.
        characters = f"array_to_string(list_reverse(string_split({text}, '')), '')"
        listed = room.within(f"{_CHARACTER_BYTES} * strlen({text})", characters)
        return f"CASE WHEN {_ASCII.format(text)} THEN reverse({text}) ELSE {listed} END"

    return let(call.arguments, body)


_CHARACTER_BYTES = 16  # the size of one in a list


def _split(call: SqlCall) -> str:
    delimiter = call.arguments[1] if len(call.arguments) == 2 else "','"
    return let([call.arguments[0], delimiter], lambda text, by: f"CASE WHEN {by} IS NOT NULL THEN string_split({text}, {by}) END")


TABLE: list[SignatureEntry] = [
    *emitted("FN_CONCAT_STRING FN_CONCAT_BYTES", _concat),
    *native("FN_LENGTH_STRING FN_CHAR_LENGTH_STRING", "length({0})"),
    *native("FN_LENGTH_BYTES FN_BYTE_LENGTH_BYTES", "octet_length({0})"),
    *native("FN_BYTE_LENGTH_STRING", "strlen({0})"),
    *native("FN_STARTS_WITH_STRING", "starts_with({0}, {1})"),
    *native("FN_ENDS_WITH_STRING", "suffix({0}, {1})"),
    *native("FN_STRPOS_STRING", "strpos({0}, {1})"),
    *emitted("FN_REVERSE_STRING", _reverse),
    *macro("FN_REPLACE_STRING", "CASE WHEN {1} = '' AND {2} IS NOT NULL THEN {0} ELSE replace({0}, {1}, {2}) END"),
    *emitted("FN_SUBSTR_STRING", _substr),
    *macro(
        "FN_LEFT_STRING", f"left({{0}}, {_SHORT})", errors={"{1} < 0 AND {0} IS NOT NULL": "'Second argument in LEFT() cannot be negative'"}
    ),
    *macro(
        "FN_RIGHT_STRING",
        f"right({{0}}, {_SHORT})",
        errors={"{1} < 0 AND {0} IS NOT NULL": "'Second argument in RIGHT() cannot be negative'"},
    ),
    *emitted("FN_UPPER_STRING", _or_reference(_ASCII, "upper({0})")),
    *emitted("FN_LOWER_STRING", _or_reference(_ASCII, "lower({0})")),
    *_trim("trim"),
    *_trim("ltrim"),
    *_trim("rtrim"),
    *emitted("FN_SPLIT_STRING", _split),
    *reference("FN_ASCII_STRING FN_ASCII_BYTES"),
    *native("FN_TO_HEX", "lower(hex({0}))"),
    *native("FN_TO_BASE64", "to_base64({0})"),
    *reference("FN_FROM_HEX FN_FROM_BASE64"),
    *reference("FN_STARTS_WITH_BYTES FN_ENDS_WITH_BYTES FN_STRPOS_BYTES FN_REVERSE_BYTES FN_REPLACE_BYTES FN_SUBSTR_BYTES"),
    *reference("FN_LEFT_BYTES FN_RIGHT_BYTES FN_INSTR_STRING FN_INSTR_BYTES FN_UPPER_BYTES FN_LOWER_BYTES"),
    *reference("FN_TRIM_BYTES FN_LTRIM_BYTES FN_RTRIM_BYTES FN_SPLIT_BYTES"),
    *reference("FN_SAFE_CONVERT_BYTES_TO_STRING"),
    *emitted("FN_NORMALIZE_AND_CASEFOLD_STRING", _normalize_and_casefold, Support.UDF),
    *reference("FN_TO_CODE_POINTS_STRING FN_TO_CODE_POINTS_BYTES FN_CODE_POINTS_TO_STRING FN_CODE_POINTS_TO_BYTES"),
    *reference("FN_LPAD_BYTES FN_LPAD_STRING FN_RPAD_BYTES FN_RPAD_STRING FN_REPEAT_BYTES FN_REPEAT_STRING"),
    *reference("FN_SOUNDEX_STRING FN_TRANSLATE_STRING FN_TRANSLATE_BYTES FN_INITCAP_STRING FN_UNICODE_STRING FN_CHR_STRING"),
    *emitted("FN_NORMALIZE_STRING", _normalize, Support.UDF),
    *reference("FN_EDIT_DISTANCE", named=("max_distance",)),
    *reference("FN_FORMAT_STRING FN_SPLIT_SUBSTR"),
    *emitted("FN_TO_BASE32", lambda call: python(call, "to_base32", _to_base32, 1), Support.UDF),
    *emitted("FN_FROM_BASE32", lambda call: python(call, "from_base32", _from_base32, 1), Support.UDF),
]

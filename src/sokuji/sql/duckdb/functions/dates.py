"""Functions on DATE, DATETIME, TIME, TIMESTAMP and INTERVAL."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from sokuji.duckdb_text import quote_text
from sokuji.sql.duckdb.functions import parts
from sokuji.sql.duckdb.functions.base import SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.functions.reference import evaluate, reference
from sokuji.sql.duckdb.functions.template import checked, emitted, macro, native
from sokuji.sql.duckdb.lets import let
from sokuji.sql.duckdb.types import to_duckdb
from sokuji.types import Kind

_LIMITS = {
    Kind.DATE: ("DATE '0001-01-01'", "DATE '9999-12-31'"),
    Kind.DATETIME: ("TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '9999-12-31 23:59:59.999999'"),
    Kind.TIMESTAMP: ("TIMESTAMPTZ '0001-01-01 00:00:00+00'", "TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"),
}


def in_range(call: SqlCall, value: str) -> str:
    """`value` with the call's result type. Outside the years 1 to 9999, an error (NULL if safe)."""
    low, high = _LIMITS[call.result.kind]
    message = f"'{call.name.upper()} overflow: the result is not between the years 1 and 9999'"
    outcome = "NULL" if call.safe else f"error({message})"
    typed = f"CAST({value} AS {to_duckdb(call.result)})"
    return let([typed], lambda name: f"CASE WHEN {name} < {low} OR {name} > {high} THEN {outcome} ELSE {name} END")


# With larger counts, every result is out of range, and DuckDB's own arithmetic might overflow first.
_MOST = {"DAY": 3_652_060, "WEEK": 521_723, "MONTH": 119_989, "QUARTER": 39_997, "YEAR": 10_000}


def _clamped(count: str, most: int) -> str:
    return f"CASE WHEN {count} > {most} THEN {most} WHEN {count} < -{most} THEN -{most} ELSE {count} END"


def _add(sign: str) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        part = parts.constant(call, 2)
        if part is None or (part not in parts.MONTHS and part not in parts.MICROSECONDS):
            return evaluate(call, f"{call.name.upper()}({{0}}, INTERVAL {{1}} {{2}})")

        most = _MOST.get(part) or 315_537_897_600_000_000 // parts.MICROSECONDS[part]

        def body(value: str, count: str) -> str:
            count = f"({_clamped(count, most)})"
            if part in parts.MONTHS:
                return in_range(call, f"{value} {sign} to_months(CAST({count} * {parts.MONTHS[part]} AS INTEGER))")
            if call.result.kind is Kind.DATE:
                return in_range(call, f"{value} {sign} CAST({count} * {7 if part == 'WEEK' else 1} AS INTEGER)")
            return in_range(call, f"{value} {sign} to_microseconds({count} * {parts.MICROSECONDS[part]})")

        return let(call.arguments[:2], body)

    return emit


def _time_add(sign: str) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        part = parts.constant(call, 2) or ""
        if part not in parts.MICROSECONDS:
            return evaluate(call, f"{call.name.upper()}({{0}}, INTERVAL {{1}} {{2}})")
        unit = parts.MICROSECONDS[part]
        value, count = call.arguments[:2]
        return f"CAST({value} {sign} to_microseconds(({count} % {86_400_000_000 // unit}) * {unit}) AS TIME)"

    return emit


def _boundaries(call: SqlCall, left: str, right: str, part: str) -> str | None:
    """The number of beginnings of this part between two DATEs or DATETIMEs."""
    if parts.is_week(part):
        return f"{parts.week_number(f'CAST({left} AS DATE)', part)} - {parts.week_number(f'CAST({right} AS DATE)', part)}"
    if part == "ISOYEAR":
        return f"isoyear({left}) - isoyear({right})"
    if part in {"DAY", "MONTH", "QUARTER", "YEAR"} or (call.types[0].kind is Kind.DATETIME and part in parts.MICROSECONDS):
        return f"date_diff('{part.lower()}', {right}, {left})"
    return None


def _diff(call: SqlCall) -> str:
    part = parts.constant(call, 2)
    text = _boundaries(call, call.arguments[0], call.arguments[1], part) if part else None
    return f"({text})" if text else evaluate(call)


def _timestamp_diff(call: SqlCall) -> str:
    part = parts.constant(call, 2)
    if part not in parts.MICROSECONDS:
        return evaluate(call)
    # Count whole units, not boundaries: this is the difference between TIMESTAMP_DIFF and DATETIME_DIFF.
    return f"((epoch_us({call.arguments[0]}) - epoch_us({call.arguments[1]})) // {parts.MICROSECONDS[part]})"


def _truncated(value: str, kind: Kind, part: str) -> str | None:
    """The beginning of the part that contains a DATE or DATETIME."""
    type_ = "DATE" if kind is Kind.DATE else "TIMESTAMP"
    if parts.is_week(part):
        return let(
            [f"CAST({value} AS DATE)"], lambda date: f"CAST({date} - CAST({parts.days_into_week(date, part)} AS INTEGER) AS {type_})"
        )
    if part == "ISOYEAR":
        fourth = let([f"make_date(isoyear({value}), 1, 4)"], lambda date: f"{date} - CAST(isodow({date}) - 1 AS INTEGER)")
        return f"CAST({fourth} AS {type_})"
    if part in parts.MONTHS or part in parts.MICROSECONDS:
        return f"CAST(date_trunc('{part.lower()}', {value}) AS {type_})"
    return None


def _trunc(call: SqlCall) -> str:
    part = parts.constant(call, 1)
    kind = call.types[0].kind
    if part is None or (_truncated("x", kind, part) is None):
        return evaluate(call)
    if parts.is_week(part) or part == "ISOYEAR":
        # The beginning may be before year 1.
        return let(call.arguments[:1], lambda value: in_range(call, _truncated(value, kind, part) or ""))
    return _truncated(call.arguments[0], kind, part) or ""


def _timestamp_trunc(call: SqlCall) -> str:
    part, zone = parts.constant(call, 1), parts.zone(call, 2)
    if call.types[0].kind is not Kind.TIMESTAMP or part is None or zone is None:
        return evaluate(call)

    def body(value: str) -> str:
        if part in {"MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR"}:
            unit = parts.MICROSECONDS[part]
            return in_range(call, f"{value} - to_microseconds(((epoch_us({parts.to_local(value, zone)}) % {unit}) + {unit}) % {unit})")
        local = _truncated(parts.to_local(value, zone), Kind.DATETIME, part)
        return in_range(call, parts.from_local(local, zone)) if local else evaluate(call)

    return let(call.arguments[:1], body)


_EXTRACTED = {
    "YEAR": "year({0})",
    "QUARTER": "quarter({0})",
    "MONTH": "month({0})",
    "DAY": "day({0})",
    "DAYOFYEAR": "dayofyear({0})",
    "DAYOFWEEK": "(dayofweek({0}) + 1)",
    "ISOWEEK": "week({0})",
    "ISOYEAR": "isoyear({0})",
    "WEEK": "((dayofyear({0}) + 6 - dayofweek({0})) // 7)",
    "HOUR": "hour({0})",
    "MINUTE": "minute({0})",
    "SECOND": "second({0})",
    "MILLISECOND": "(millisecond({0}) % 1000)",
    "MICROSECOND": "(microsecond({0}) % 1000000)",
    "DATE": "CAST({0} AS DATE)",
    "TIME": "CAST({0} AS TIME)",
    "DATETIME": "{0}",
}
for _shift, _day in enumerate(("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"), start=1):
    _EXTRACTED[f"WEEK_{_day}"] = f"((dayofyear({{0}}) + 6 - (dayofweek({{0}}) + {7 - _shift}) % 7) // 7)"


def _extract(call: SqlCall) -> str:
    part = parts.constant(call, 1) or _NAMED.get(call.name)
    zone = parts.zone(call, 1 if call.name in _NAMED else 2)
    if part not in _EXTRACTED or zone is None:
        written = _NAMED.get(call.name, "{1}")
        position = 1 if call.name in _NAMED else 2
        at = f" AT TIME ZONE {{{position}}}" if len(call.arguments) > position else ""
        return evaluate(call, f"EXTRACT({written} FROM {{0}}{at})")
    value = call.arguments[0] if call.types[0].kind is not Kind.TIMESTAMP else parts.to_local(call.arguments[0], zone)
    text = _EXTRACTED[part]
    return let([value], text.format) if text.count("{0}") > 1 else text.format(value)


_NAMED = {"$extract_date": "DATE", "$extract_time": "TIME", "$extract_datetime": "DATETIME"}

# Elements that DuckDB's strftime formats exactly like GoogleSQL, for years from 1000.
_FORMATS = {
    "Y": "%Y",
    "m": "%m",
    "d": "%d",
    "H": "%H",
    "M": "%M",
    "S": "%S",
    "j": "%j",
    "F": "%Y-%m-%d",
    "T": "%H:%M:%S",
    "%": "%%",
    "b": "%b",
    "B": "%B",
    "a": "%a",
    "A": "%A",
    "y": "%y",
    "I": "%I",
    "p": "%p",
    "D": "%m/%d/%y",
    "R": "%H:%M",
}
_TIME_ELEMENTS = set("HMSTIpR")
_FORMAT_LENGTH_MAX = 1000  # longer formats go to the reference implementation, which can be interrupted


def _strftime_format(call: SqlCall) -> str | None:
    text = parts.constant(call, 0)
    if text is None or "\0" in text or len(text) > _FORMAT_LENGTH_MAX:
        return None
    elements = text.replace("%%", "").split("%")[1:]
    allowed = set(_FORMATS) - (_TIME_ELEMENTS if call.types[1].kind is Kind.DATE else set())
    if call.types[1].kind is Kind.TIME or not all(element and element[0] in allowed for element in elements):
        return None
    out, position = "", 0
    while position < len(text):
        if text[position] == "%":
            out += _FORMATS[text[position + 1]]
            position += 2
        else:
            out += text[position]
            position += 1
    return out


# The C library inside the WASM module formats these as nothing.
_MISSING = re.compile(r"((?:%%|%[^klP%]|[^%])*)(%[klP])?")
_WRITTEN = {
    "%k": "lpad(CAST(hour({0}) AS VARCHAR), 2, ' ')",
    "%l": "lpad(CAST((hour({0}) + 11) % 12 + 1 AS VARCHAR), 2, ' ')",
    "%P": "CASE WHEN hour({0}) < 12 THEN 'am' WHEN hour({0}) >= 12 THEN 'pm' END",
}


def _format(call: SqlCall) -> str:
    text, zone = parts.constant(call, 0), parts.zone(call, 2)
    if call.types[1].kind is Kind.DATE:
        return _format_known(call)
    if text is None:
        missing = {"regexp_matches({0}, '%[klP]')": f"'{call.name.upper()} with %k, %l or %P needs a constant format'"}
        return let(
            call.arguments[:1], lambda name: checked({key.format(name): value for key, value in missing.items()}, _format_known(call))
        )
    pieces = [piece for match in _MISSING.finditer(text) for piece in match.groups() if piece]
    if zone is None or not set(pieces) & set(_WRITTEN):
        return _format_known(call)
    local = parts.to_local(call.arguments[1], zone) if call.types[1].kind is Kind.TIMESTAMP else call.arguments[1]
    known = (
        dataclasses.replace(call, arguments=(quote_text(piece), *call.arguments[1:]), constants=(piece, *call.constants[1:]))
        for piece in pieces
    )
    texts = [
        f"({_WRITTEN[piece].format(local)})" if piece in _WRITTEN else _format_known(part)
        for piece, part in zip(pieces, known, strict=True)
    ]
    return f"({' || '.join(texts)})"


# It cannot parse these either, so others replace them.
_READ = {"%F": "%Y-%m-%d", "%k": "%H", "%l": "%I", "%P": "%p"}


def _parse(call: SqlCall) -> str:
    text = parts.constant(call, 0)
    if text is None:
        return evaluate(call)
    known = re.sub("%.", lambda match: _READ.get(match.group(), match.group()), text)
    return evaluate(dataclasses.replace(call, arguments=(quote_text(known), *call.arguments[1:]), constants=(known, *call.constants[1:])))


def _format_known(call: SqlCall) -> str:
    pattern, zone = _strftime_format(call), parts.zone(call, 2)
    if pattern is None or zone is None:
        return evaluate(call)
    local = parts.to_local(call.arguments[1], zone) if call.types[1].kind is Kind.TIMESTAMP else call.arguments[1]
    quoted = quote_text(pattern)

    def body(value: str, whole: str) -> str:
        exact = evaluate(
            SqlCall(
                call.name,
                (call.arguments[0], value, *call.arguments[2:]),
                call.types,
                call.result,
                (call.constants[0], None, *call.constants[2:]),
            )
        )
        return f"CASE WHEN year({whole}) >= 1000 THEN strftime({whole}, {quoted}) ELSE {exact} END"

    return let([call.arguments[1], local], body)


def _from_local(call: SqlCall) -> str:
    zone = parts.zone(call, 1)
    if zone is None:
        return evaluate(call)
    return in_range(call, parts.from_local(f"CAST({call.arguments[0]} AS TIMESTAMP)", zone))


def _to_local(target: str) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        zone = parts.zone(call, 1)
        if zone is None:
            return evaluate(call)
        local = parts.to_local(call.arguments[0], zone)
        return f"CAST({local} AS {target})" if zone == "UTC" or target == "TIME" else in_range(call, local)

    return emit


def _unix(unit: int) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        most = 253_402_300_800_000_000 // unit
        return let(call.arguments, lambda count: in_range(call, f"make_timestamptz({_clamped(count, most)} * {unit})"))

    return emit


def _from_unix_date(call: SqlCall) -> str:
    return let(call.arguments, lambda days: in_range(call, f"DATE '1970-01-01' + CAST({_clamped(days, 4_000_000)} AS INTEGER)"))


def _current(target: str) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        zone = parts.zone(call, 0)
        return evaluate(call) if zone is None else f"CAST({parts.to_local('now()', zone)} AS {target})"

    return emit


def _since_epoch(unit: int) -> str:
    # Round down, also before 1970, where // would round up.
    return f"CASE WHEN epoch_us({{0}}) % {unit} < 0 THEN epoch_us({{0}}) // {unit} - 1 ELSE epoch_us({{0}}) // {unit} END"


_DAY = parts.MICROSECONDS["DAY"]
_BETWEEN = "(epoch_us({0}) - epoch_us({1}))"
# Results leave as Arrow, which stores the time of an INTERVAL in nanoseconds.
_TOO_FAR = {f"abs({_BETWEEN}) > 9223372036854775": "'INTERVAL overflow: an interval of time cannot be longer than 292 years here'"}

TABLE: list[SignatureEntry] = [
    *emitted("FN_DATE_ADD_DATE FN_DATETIME_ADD FN_TIMESTAMP_ADD", _add("+")),
    *emitted("FN_DATE_SUB_DATE FN_DATETIME_SUB FN_TIMESTAMP_SUB", _add("-")),
    *emitted("FN_TIME_ADD", _time_add("+")),
    *emitted("FN_TIME_SUB", _time_add("-")),
    *emitted("FN_DATE_DIFF_DATE FN_DATETIME_DIFF", _diff),
    *emitted("FN_TIMESTAMP_DIFF", _timestamp_diff),
    *reference("FN_TIME_DIFF FN_TIME_TRUNC"),
    *emitted("FN_DATE_TRUNC_DATE FN_DATETIME_TRUNC", _trunc),
    *emitted("FN_TIMESTAMP_TRUNC", _timestamp_trunc),
    *emitted("FN_EXTRACT_FROM_DATE FN_EXTRACT_FROM_DATETIME FN_EXTRACT_FROM_TIME FN_EXTRACT_FROM_TIMESTAMP", _extract),
    *emitted("FN_EXTRACT_DATE_FROM_DATETIME FN_EXTRACT_DATE_FROM_TIMESTAMP FN_EXTRACT_TIME_FROM_DATETIME", _extract),
    *emitted("FN_EXTRACT_TIME_FROM_TIMESTAMP FN_EXTRACT_DATETIME_FROM_TIMESTAMP", _extract),
    *reference("FN_EXTRACT_FROM_INTERVAL", "EXTRACT({1} FROM {0})"),
    *emitted("FN_FORMAT_DATE FN_FORMAT_DATETIME FN_FORMAT_TIME FN_FORMAT_TIMESTAMP", _format),
    *emitted("FN_PARSE_DATE FN_PARSE_DATETIME FN_PARSE_TIME FN_PARSE_TIMESTAMP", _parse, Support.UDF),
    *reference("FN_LAST_DAY_DATE FN_LAST_DAY_DATETIME"),
    *emitted("FN_DATE_FROM_UNIX_DATE", _from_unix_date),
    *emitted("FN_TIMESTAMP_FROM_INT64_SECONDS FN_TIMESTAMP_FROM_UNIX_SECONDS_INT64", _unix(1_000_000)),
    *emitted("FN_TIMESTAMP_FROM_INT64_MILLIS FN_TIMESTAMP_FROM_UNIX_MILLIS_INT64", _unix(1_000)),
    *emitted("FN_TIMESTAMP_FROM_INT64_MICROS FN_TIMESTAMP_FROM_UNIX_MICROS_INT64", _unix(1)),
    *native("FN_UNIX_DATE", "{0} - DATE '1970-01-01'"),
    *macro("FN_UNIX_SECONDS_FROM_TIMESTAMP", _since_epoch(1_000_000)),
    *macro("FN_UNIX_MILLIS_FROM_TIMESTAMP", _since_epoch(1_000)),
    *native("FN_UNIX_MICROS_FROM_TIMESTAMP", "epoch_us({0})"),
    *emitted("FN_DATE_FROM_TIMESTAMP", _to_local("DATE")),
    *emitted("FN_TIME_FROM_TIMESTAMP", _to_local("TIME")),
    *emitted("FN_DATETIME_FROM_TIMESTAMP", _to_local("TIMESTAMP")),
    *native("FN_DATE_FROM_DATETIME", "CAST({0} AS DATE)"),
    *native("FN_TIME_FROM_DATETIME", "CAST({0} AS TIME)"),
    *native(
        "FN_TIMESTAMP_FROM_UNIX_SECONDS_TIMESTAMP FN_TIMESTAMP_FROM_UNIX_MILLIS_TIMESTAMP FN_TIMESTAMP_FROM_UNIX_MICROS_TIMESTAMP", "{0}"
    ),
    *native("FN_DATE_FROM_DATE FN_TIMESTAMP_FROM_TIMESTAMP FN_TIME_FROM_TIME FN_DATETIME_FROM_DATETIME", "{0}"),
    *native("FN_DATETIME_FROM_DATE", "CAST({0} AS TIMESTAMP)"),
    *native("FN_DATETIME_FROM_DATE_AND_TIME", "{0} + {1}"),
    *reference("FN_DATE_FROM_STRING FN_TIMESTAMP_FROM_STRING FN_DATETIME_FROM_STRING"),
    *reference("FN_DATE_FROM_YEAR_MONTH_DAY FN_TIME_FROM_HOUR_MINUTE_SECOND FN_DATETIME_FROM_YEAR_MONTH_DAY_HOUR_MINUTE_SECOND"),
    *emitted("FN_TIMESTAMP_FROM_DATE FN_TIMESTAMP_FROM_DATETIME", _from_local),
    *reference("FN_STRING_FROM_DATE FN_STRING_FROM_TIMESTAMP FN_STRING_FROM_DATETIME FN_STRING_FROM_TIME"),
    *reference("FN_INTERVAL_CONSTRUCTOR", "INTERVAL {0} {1}"),
    *reference("FN_MAKE_INTERVAL FN_JUSTIFY_HOURS FN_JUSTIFY_DAYS FN_JUSTIFY_INTERVAL FN_TO_SECONDS_INTERVAL"),
    *reference("FN_TIMESTAMP_BUCKET FN_DATETIME_BUCKET FN_DATE_BUCKET"),
    *reference("FN_ADD_DATE_INT64 FN_ADD_INT64_DATE FN_ADD_TIMESTAMP_INTERVAL FN_ADD_INTERVAL_TIMESTAMP FN_ADD_DATE_INTERVAL", "{0} + {1}"),
    *reference("FN_ADD_INTERVAL_DATE FN_ADD_DATETIME_INTERVAL FN_ADD_INTERVAL_DATETIME FN_ADD_INTERVAL_INTERVAL", "{0} + {1}"),
    *reference("FN_SUBTRACT_DATE_INT64 FN_SUBTRACT_DATE FN_SUBTRACT_TIME", "{0} - {1}"),
    *reference(
        "FN_SUBTRACT_TIMESTAMP_INTERVAL FN_SUBTRACT_DATE_INTERVAL FN_SUBTRACT_DATETIME_INTERVAL FN_SUBTRACT_INTERVAL_INTERVAL", "{0} - {1}"
    ),
    *reference("FN_MULTIPLY_INTERVAL_INT64 FN_MULTIPLY_INT64_INTERVAL", "{0} * {1}"),
    *macro("FN_SUBTRACT_TIMESTAMP", f"to_microseconds({_BETWEEN})", errors=_TOO_FAR),
    *macro("FN_SUBTRACT_DATETIME", f"to_days(CAST({_BETWEEN} // {_DAY} AS INTEGER)) + to_microseconds({_BETWEEN} % {_DAY})"),
    *reference("FN_DIVIDE_INTERVAL_INT64", "{0} / {1}"),
    *reference("FN_UNARY_MINUS_INTERVAL", "-{0}"),
    *native("FN_CURRENT_TIMESTAMP", "now()"),
    *emitted("FN_CURRENT_DATE", _current("DATE"), Support.NATIVE),
    *emitted("FN_CURRENT_DATETIME", _current("TIMESTAMP"), Support.NATIVE),
    *emitted("FN_CURRENT_TIME", _current("TIME"), Support.NATIVE),
]

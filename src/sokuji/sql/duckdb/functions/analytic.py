"""Functions that require OVER: numbering, navigation and percentiles."""

from __future__ import annotations

from collections.abc import Callable

from sokuji.sql.duckdb.functions.aggregates import aggregate
from sokuji.sql.duckdb.functions.base import SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.functions.template import checked, emitted
from sokuji.sql.duckdb.lets import let


def _number(name: str) -> Callable[[SqlCall], str]:
    return lambda call: f"{name}({', '.join(call.arguments)}) OVER ({call.over})"


def _navigate(name: str) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        nulls = " IGNORE NULLS" if call.ignore_nulls else ""
        return f"{name}({', '.join(call.arguments)}{nulls}) OVER ({call.over})"

    return emit


def _percentile_cont(call: SqlCall) -> str:
    value, at = call.arguments
    if call.ignore_nulls is False:
        items = aggregate(call, "list", f"{value}", distinct=False)
        return let([items], lambda name: _interpolated(f"list_sort({name}, 'ASC', 'NULLS FIRST')", at))
    items = aggregate(call, "list", value, where=f"{value} IS NOT NULL", distinct=False)
    return let([items], lambda name: _interpolated(f"list_sort({name})", at))


def _interpolated(ordered: str, at: str) -> str:
    def between(items: str) -> str:
        place = f"({at} * (len({items}) - 1))"
        low, high = f"{items}[CAST(floor({place}) AS BIGINT) + 1]", f"{items}[CAST(ceil({place}) AS BIGINT) + 1]"
        part = f"({place} - floor({place}))"
        # If one neighbour is NULL, GoogleSQL takes the other.
        return (
            f"CASE WHEN len({items}) = 0 OR {items} IS NULL THEN NULL WHEN {part} = 0 OR {high} IS NULL THEN {low} "
            f"WHEN {low} IS NULL THEN {high} ELSE {low} * (1 - {part}) + {high} * {part} END"
        )

    return let([ordered], between)


def _percentile_disc(call: SqlCall) -> str:
    value, at = call.arguments
    where = "" if call.ignore_nulls is False else f"{value} IS NOT NULL"
    items = aggregate(call, "list", value, where=where, distinct=False)
    ordered = let([items], lambda name: f"list_sort({name}, 'ASC', 'NULLS FIRST')")
    return let([ordered], lambda name: f"{name}[greatest(CAST(ceil({at} * len({name})) AS BIGINT), 1)]")


def _ntile(call: SqlCall) -> str:
    return checked(
        {f"{call.arguments[0]} <= 0": "'The N value (number of buckets) for the NTILE function must be positive'"}, _number("ntile")(call)
    )


TABLE: list[SignatureEntry] = [
    *emitted("FN_ROW_NUMBER", _number("row_number"), Support.NATIVE),
    *emitted("FN_RANK", _number("rank"), Support.NATIVE),
    *emitted("FN_DENSE_RANK", _number("dense_rank"), Support.NATIVE),
    *emitted("FN_PERCENT_RANK", _number("percent_rank"), Support.NATIVE),
    *emitted("FN_CUME_DIST", _number("cume_dist"), Support.NATIVE),
    *emitted("FN_NTILE", _ntile, Support.NATIVE),
    *emitted("FN_LAG", _navigate("lag"), Support.NATIVE),
    *emitted("FN_LEAD", _navigate("lead"), Support.NATIVE),
    *emitted("FN_FIRST_VALUE", _navigate("first_value"), Support.NATIVE),
    *emitted("FN_LAST_VALUE", _navigate("last_value"), Support.NATIVE),
    *emitted("FN_NTH_VALUE", _navigate("nth_value"), Support.NATIVE),
    *emitted("FN_PERCENTILE_CONT", _percentile_cont),
    *emitted("FN_PERCENTILE_DISC", _percentile_disc),
]

"""Table functions that are queries themselves (`RelationalFunction`), as DuckDB SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sokuji.duckdb_text import quote
from sokuji.types import Field

_ENTITY, _TIMESTAMP, _TIME = "entity_id", "feature_timestamp", "time"


def _features_at_time(inputs: Sequence[tuple[Field, ...]], queries: Sequence[str], arguments: Mapping[str, str]) -> str:
    columns = inputs[0]
    entity, time = _place(columns, _ENTITY), arguments.get(_TIME, "now()")
    history = _history(columns, queries[0], f"{_place(columns, _TIMESTAMP)} <= {time}", arguments)
    return (
        f"SELECT {_output(columns, time)} FROM ({history}) AS h"
        f" QUALIFY row > max(row) OVER (PARTITION BY {entity}) - {_number_of_rows(arguments)}"
    )


def _entity_features_at_time(inputs: Sequence[tuple[Field, ...]], queries: Sequence[str], arguments: Mapping[str, str]) -> str:
    columns, asked = inputs
    entity, timestamp = _place(columns, _ENTITY), _place(columns, _TIMESTAMP)
    # Rows are numbered from the first row of an entity, so the numbers do not depend on the requested time and the history is computed
    # once. An ASOF join then finds the last row of each time by its number, even if several rows have the same timestamp.
    return f"""WITH _history AS MATERIALIZED ({_history(columns, queries[0], f"{timestamp} IS NOT NULL", arguments)}),
        _last AS (SELECT {entity} AS entity, {timestamp} AS moment, max(row) AS row FROM _history GROUP BY ALL),
        _asked AS (SELECT {_place(asked, _ENTITY)} AS entity, {_place(asked, _TIME)} AS moment FROM ({queries[1]}) AS a({_places(asked)})),
        _wanted AS (
            SELECT entity, _asked.moment, unnest(generate_series(greatest(1, row - {_number_of_rows(arguments)} + 1), row)) AS row
            FROM _asked ASOF JOIN _last USING (entity, moment))
        SELECT {_output(columns, "moment")} FROM _wanted JOIN _history ON {entity} = entity AND _history.row = _wanted.row"""


def _history(columns: Sequence[Field], query: str, condition: str, arguments: Mapping[str, str]) -> str:
    """SQL for the rows of a feature table under private names. `row` numbers an entity's rows by time. NULLs are filled if requested."""
    entity, timestamp, fill = _place(columns, _ENTITY), _place(columns, _TIMESTAMP), arguments.get("ignore_feature_nulls", "FALSE")
    number = f"row_number() OVER (PARTITION BY {entity} ORDER BY {timestamp}) AS row"
    rows = f"SELECT *, {number} FROM ({query}) AS t({_places(columns)}) WHERE {condition}"
    if fill == "FALSE":
        return rows
    before = f"OVER (PARTITION BY {entity} ORDER BY row ROWS UNBOUNDED PRECEDING)"
    filled = (
        f"CASE WHEN {fill} THEN last_value({name} IGNORE NULLS) {before} ELSE {name} END AS {name}"
        for name in _places(columns).split(", ")
        if name not in {entity, timestamp}
    )
    return f"SELECT {', '.join([entity, timestamp, *filled])}, row FROM ({rows}) AS n"


def _number_of_rows(arguments: Mapping[str, str]) -> str:
    number = arguments.get("num_rows", "1")
    return f"CASE WHEN {number} >= 1 THEN {number} ELSE CAST(error('num_rows must be at least 1') AS BIGINT) END"


def _places(columns: Sequence[Field]) -> str:
    return ", ".join(f"p{place}" for place in range(len(columns)))


def _place(columns: Sequence[Field], name: str) -> str:
    return f"p{next(place for place, column in enumerate(columns) if column.name.lower() == name)}"


def _output(columns: Sequence[Field], time: str) -> str:
    timestamp = _place(columns, _TIMESTAMP)
    places = _places(columns).split(", ")
    items = zip(places, columns, strict=True)
    return ", ".join(f"{time if place == timestamp else place} AS {quote(column.name)}" for place, column in items)


RELATIONAL: Mapping[str, Callable[[Sequence[tuple[Field, ...]], Sequence[str], Mapping[str, str]], str]] = {
    "ML.FEATURES_AT_TIME": _features_at_time,
    "ML.ENTITY_FEATURES_AT_TIME": _entity_features_at_time,
}
"""Name -> function that writes the SELECT statement, with the columns of the function's schema.

Its arguments are the columns of the relations, the SELECT statements of the relations with the columns in this order, and the expressions
of the given arguments.
"""

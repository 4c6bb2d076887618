"""ML.FEATURES_AT_TIME and ML.ENTITY_FEATURES_AT_TIME: the rows of a feature table that were known at a given time.

https://cloud.google.com/bigquery/docs/reference/standard-sql/bigqueryml-syntax-feature-time and -entity-feature-time. A feature table has
`entity_id STRING`, `feature_timestamp TIMESTAMP` and features. The result has the same columns in the same order; `feature_timestamp` is
the requested time. With `ignore_feature_nulls`, a NULL becomes the value of the nearest earlier row that has one, column by column. If two
rows of an entity have the same time, either may count as the later, but the choice is the same for all columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sokuji.duckdb_text import quote
from sokuji.errors import SqlError
from sokuji.sql.extension import RelationalFunction
from sokuji.types import BOOL, INT64, STRING, TIMESTAMP, Field, Type

_ENTITY, _TIMESTAMP, _TIME = "entity_id", "feature_timestamp", "time"
_FEATURES = {_ENTITY: STRING, _TIMESTAMP: TIMESTAMP}
_ENTITY_TIMES = {_ENTITY: STRING, _TIME: TIMESTAMP}
_ROWS = {"num_rows": INT64, "ignore_feature_nulls": BOOL}


def _schema(inputs: Sequence[tuple[Field, ...]]) -> tuple[Field, ...]:
    for what, wanted, columns in zip(("feature table", "entity time table"), (_FEATURES, _ENTITY_TIMES), inputs, strict=False):
        _check(what, wanted, columns)
    return inputs[0]


def _check(what: str, wanted: Mapping[str, Type], columns: Sequence[Field]) -> None:
    names = [column.name.lower() for column in columns]
    for name, type_ in wanted.items():
        if names.count(name) != 1:
            raise SqlError(f"The {what} must have one column {name} {type_}; it has {', '.join(names)}")
        found = columns[names.index(name)].type
        if found != type_:
            raise SqlError(f"Column {name} of the {what} must be {type_}, not {found}; CAST it in a query")


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


FUNCTIONS: Mapping[str, RelationalFunction] = {
    "ml.features_at_time": RelationalFunction(1, {_TIME: TIMESTAMP, **_ROWS}, _schema, _features_at_time),
    "ml.entity_features_at_time": RelationalFunction(2, _ROWS, _schema, _entity_features_at_time),
}
"""The functions by lower-case name."""

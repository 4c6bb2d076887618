"""ML.FEATURES_AT_TIME and ML.ENTITY_FEATURES_AT_TIME: the rows of a feature table that were known at a given time.

https://cloud.google.com/bigquery/docs/reference/standard-sql/bigqueryml-syntax-feature-time and -entity-feature-time. A feature table has
`entity_id STRING`, `feature_timestamp TIMESTAMP` and features. The result has the same columns in the same order; `feature_timestamp` is
the requested time. With `ignore_feature_nulls`, a NULL becomes the value of the nearest earlier row that has one, column by column. If two
rows of an entity have the same time, either may count as the later, but the choice is the same for all columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


FUNCTIONS: Mapping[str, RelationalFunction] = {
    "ml.features_at_time": RelationalFunction(1, {_TIME: TIMESTAMP, **_ROWS}, _schema),
    "ml.entity_features_at_time": RelationalFunction(2, _ROWS, _schema),
}
"""The functions by lower-case name."""

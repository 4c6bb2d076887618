"""Convert the kernel's numbers to typed columns, one row per event or profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.errors import FeatureError
from sokuji.features.kernel.layout import Output
from sokuji.features.kernel.strings import Strings
from sokuji.features.spec import NUMERIC, Aggregate, AggregateFunction, Derived, Expression, Feature, FixedNumber, ViewSpec
from sokuji.types import BOOL, FLOAT64, INT64, STRING, Field, Kind, Type, array, struct, to_arrow

Floats = npt.NDArray[np.float64]

_WHOLE = frozenset(
    {
        AggregateFunction.COUNT,
        AggregateFunction.SESSION_COUNT,
        AggregateFunction.DISTINCT,
        AggregateFunction.SESSION_NUMBER,
        AggregateFunction.SESSION_EVENTS,
    }
)
_NUMBERS = frozenset({Kind.INT64, Kind.FLOAT64, Kind.NUMERIC})


def check(view: ViewSpec, types: Mapping[str, Type]) -> None:
    """Check that the view's expressions have types that its functions can use. `types` are by the expressions' text.

    Raises:
        FeatureError: a type does not fit; the message shows a cast that helps.
    """
    for feature in view.features:
        for aggregate in feature.expression.aggregates():
            _check(view, feature, aggregate, types)


def _check(view: ViewSpec, feature: Feature, aggregate: Aggregate, types: Mapping[str, Type]) -> None:
    where = f"feature {view.name}.{feature.name}"
    if aggregate.filter is not None and types[aggregate.filter] != BOOL:
        raise FeatureError(f"{where}: a filter is a condition, and {aggregate.filter!r} is {types[aggregate.filter]}; write a comparison")
    for sql in (aggregate.value, aggregate.by):
        if sql is None or types[sql].kind in _NUMBERS:
            continue
        if types[sql] != STRING:
            fix = f"IF({sql}, 1, 0)" if types[sql] == BOOL else f"CAST({sql} AS STRING)"
            raise FeatureError(f"{where}: a feature needs numbers or strings, and {sql!r} is {types[sql]}; write {fix!r}")
        if sql == aggregate.value and aggregate.function in NUMERIC:
            raise FeatureError(f"{where}: {aggregate.function} is of numbers, and {sql!r} is STRING; write 'SAFE_CAST({sql} AS FLOAT64)'")
    type_ = result_type(feature.expression, types)
    if aggregate.default is not None and (type_ == STRING) != isinstance(aggregate.default, str):
        raise FeatureError(f"{where} is {type_}, and its default {aggregate.default!r} is not")


def result_type(expression: Expression, types: Mapping[str, Type]) -> Type:
    """The type of a feature."""
    if not isinstance(expression, Aggregate):
        return FLOAT64
    if expression.by is not None:
        value = INT64 if expression.function is AggregateFunction.COUNT else FLOAT64
        return array(struct([Field("category", _carried(types[expression.by])), Field("value", value)]))
    if expression.function in _WHOLE:
        return INT64
    value = FLOAT64 if expression.value is None else _carried(types[expression.value])
    return array(value) if expression.function in {AggregateFunction.LAST_N, AggregateFunction.TOP_K} else value


def _carried(type_: Type) -> Type:
    return STRING if type_ == STRING else FLOAT64


def decode(
    features: Sequence[Feature], outputs: Mapping[Aggregate, Output], types: Mapping[str, Type], numbers: Floats, strings: Strings
) -> pa.RecordBatch:
    """One column per feature, made from the kernel's numbers."""
    fields = [pa.field(feature.name, to_arrow(result_type(feature.expression, types))) for feature in features]
    columns = []
    for feature, field in zip(features, fields, strict=True):
        expression = feature.expression
        if isinstance(expression, Aggregate):
            output = outputs[expression]
            part = numbers[:, output.to : output.to + output.width]
            columns.append(_aggregate(expression, part, field.type, strings))
        else:
            columns.append(_plain(_compute(expression, outputs, numbers), field.type, strings))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _aggregate(aggregate: Aggregate, numbers: Floats, type_: pa.DataType, strings: Strings) -> pa.Array:
    if not pa.types.is_list(type_):
        column = _plain(numbers[:, 0], type_, strings)
        return column if aggregate.default is None else column.fill_null(pa.scalar(aggregate.default, type_))
    keys = numbers[:, : aggregate.n]
    there = ~np.isnan(keys)
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
    if aggregate.by is None:
        return pa.ListArray.from_arrays(offsets, _plain(keys[there], type_.value_type, strings), type=type_)
    item = type_.value_type
    pairs = [_plain(keys[there], item.field(0).type, strings), _plain(numbers[:, aggregate.n :][there], item.field(1).type, strings)]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(pairs, fields=list(cast("pa.StructType", item))), type=type_)


def _plain(numbers: Floats, type_: pa.DataType, strings: Strings) -> pa.Array:
    if pa.types.is_string(type_):
        return strings.decode(numbers)
    return pa.array(np.ascontiguousarray(numbers), pa.float64(), from_pandas=True).cast(type_)


def _compute(expression: Expression, outputs: Mapping[Aggregate, Output], numbers: Floats) -> Floats:
    """A derived number. NaN is NULL; a result that is not finite is NULL too."""
    if isinstance(expression, FixedNumber):
        return np.full(len(numbers), expression.value)
    if isinstance(expression, Aggregate):
        values = numbers[:, outputs[expression].to]
        default = expression.default
        return np.where(np.isnan(values), default, values) if isinstance(default, int | float) else values
    if not isinstance(expression, Derived):
        raise FeatureError(f"{expression!r} cannot be computed")
    left, right = (_compute(side, outputs, numbers) for side in (expression.left, expression.right))
    with np.errstate(all="ignore"):
        values = _OPERATORS[expression.operator](left, right)
    return np.where(np.isfinite(values), values, np.nan)


_OPERATORS: dict[str, Any] = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}

"""The common part of the ML.* functions: find the model's version, check the arguments, name the columns."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from sokuji.errors import ConflictError, ModelError, SqlError
from sokuji.ml.options import MODEL_TYPES, did_you_mean
from sokuji.ml.serving.predictor import Predictor
from sokuji.models.base import ModelStore
from sokuji.models.versions import CHAMPION, ModelVersion
from sokuji.sql.extension import TableCall
from sokuji.types import Field, Kind, arrow_schema, to_arrow

BATCH_ROWS = 32_768

_NUMERIC = frozenset({Kind.INT64, Kind.FLOAT64, Kind.NUMERIC, Kind.BIGNUMERIC})


@lru_cache(maxsize=32)
def load(folder: Path) -> Predictor:
    """Load the model of a folder from `ModelStore.fetch`. It computes on all cores. The models used last stay in memory."""
    # A folder never changes after its registration, so a loaded model stays valid.
    return Predictor(folder, threads=os.cpu_count() or 1)


@contextmanager
def kept(store: ModelStore, version: ModelVersion) -> Iterator[None]:
    """Raise ConflictError, not ModelError, if reading a model fails because somebody dropped it meanwhile: its files are not damaged.

    Raises:
        ConflictError: `version` was dropped.
    """
    try:
        yield
    except ModelError as error:
        if store.has(version):
            raise
        raise ConflictError(f"model {version.signature.ref} was dropped by another statement; run the statement again") from error


class ModelFunction(ABC):
    """A table function whose first argument is a model. Implements `sokuji.sql.extension.TableFunction`."""

    name: ClassVar[str]
    types: ClassVar[frozenset[str]] = MODEL_TYPES
    settings: ClassVar[tuple[str, ...]] = ()
    takes_rows: ClassVar[bool] = False
    needs_rows: ClassVar[bool] = False
    takes_arguments: ClassVar[int] = 0

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    @abstractmethod
    def columns(self, version: ModelVersion, call: TableCall) -> tuple[Field, ...]:
        """The columns of the result. Raises SqlError for input columns that do not fit the model."""

    @abstractmethod
    def batches(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> Iterable[pa.RecordBatch]:
        """The result, in the Arrow types of `columns`."""

    def folder(self, version: ModelVersion) -> Path:
        """Where the version's files are read."""
        return self._store.fetch(version)

    def model(self, version: ModelVersion) -> Predictor:
        """The version, ready to compute."""
        return load(self.folder(version))

    def schema(self, call: TableCall) -> tuple[Field, ...]:
        """See `TableFunction`."""
        version = self._version(call)
        with kept(self._store, version):
            return self.columns(version, call)

    def run(self, call: TableCall, rows: pa.RecordBatchReader | None) -> pa.RecordBatchReader:
        """See `TableFunction`."""
        version = self._version(call)
        with kept(self._store, version):
            schema = arrow_schema(self.columns(version, call))
        return pa.RecordBatchReader.from_batches(schema, self._kept_batches(version, call, rows))

    def _kept_batches(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> Iterator[pa.RecordBatch]:
        with kept(self._store, version):
            yield from self.batches(version, call, rows)

    def _version(self, call: TableCall) -> ModelVersion:
        """The version that `STRUCT('challenger' AS version)` names, or the champion. The call is checked first."""
        if call.model is None:
            raise SqlError(f"{self.name} needs a model as its first argument: {self.name}(MODEL dataset.model)")
        self._check_settings(call.settings)
        if call.input is None and self.needs_rows:
            raise SqlError(f"{self.name} needs rows: {self.name}(MODEL {call.model.ref}, TABLE dataset.table) or a query in parentheses")
        if call.input is not None and not self.takes_rows:
            raise SqlError(f"{self.name} takes a model and no table")
        if len(call.arguments) > self.takes_arguments:
            raise SqlError(f"{self.name} was given an argument it does not take: {call.arguments[self.takes_arguments]!r}")
        asked = call.settings.get("version", CHAMPION)
        if isinstance(asked, bool) or not isinstance(asked, int | str):
            raise SqlError(f"{self.name}: version is {asked!r}; expected a number such as 2 or an alias such as 'previous'")
        version = self._store.get(call.model.ref, asked)
        if version.signature.model_type not in self.types:
            raise SqlError(f"{self.name} is for {', '.join(sorted(self.types))} models; {call.model.ref} is {version.signature.model_type}")
        return version

    def _check_settings(self, given: Mapping[str, Any]) -> None:
        known = (*self.settings, "version")
        for setting in given:
            if setting not in known:
                hint = did_you_mean(setting, known)
                raise SqlError(f"{self.name} has no setting {setting!r}{hint}; it takes: {', '.join(known)}")


def fraction(function: str, name: str, value: Any, largest: float, example: str = "") -> float:
    """The setting `name`, a number from 0 to `largest`. Raises SqlError."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not 0 <= value <= largest:
        raise SqlError(f"{function}: {name} is {value!r}; expected a number from 0 to {largest:g}{example}")
    return float(value)


def table_batch(fields: Iterable[Field], columns: Iterable[Iterable[Any]]) -> pa.RecordBatch:
    """A small result from Python values, one list per column."""
    schema = arrow_schema(fields)
    arrays = [pa.array(list(values), type=field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class ModelRows:
    """The relation argument of a call, reduced to the columns that a model needs.

    Raises:
        SqlError: a needed column is missing, occurs twice, or has a type that cannot be converted to the type the model was trained on.
    """

    def __init__(self, function: str, version: ModelVersion, given: tuple[Field, ...], needed: Iterable[Field]) -> None:
        self._needed = tuple(needed)
        positions: dict[str, list[int]] = {}
        for position, field in enumerate(given):
            positions.setdefault(field.name.lower(), []).append(position)
        missing = [field for field in self._needed if field.name.lower() not in positions]
        if missing:
            listed = ", ".join(f"{field.name} {field.type}" for field in missing)
            names = [field.name for field in given]
            raise SqlError(f"{function}: model {version.signature.ref} needs the columns {listed}; the input has: {', '.join(names)}")
        for field in self._needed:
            found = positions[field.name.lower()]
            if len(found) > 1:
                raise SqlError(f"{function}: the input has {len(found)} columns called {field.name}; rename all but one")
            _check_type(function, version, field, given[found[0]])
        self._positions = [positions[field.name.lower()][0] for field in self._needed]

    def select(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The needed columns of a batch, under the names that the model uses."""
        return pa.RecordBatch.from_arrays(
            [batch.column(position) for position in self._positions], names=[field.name for field in self._needed]
        )


def beside(function: str, outputs: tuple[Field, ...], given: tuple[Field, ...]) -> tuple[Field, ...]:
    """The columns of a result that has both the function's own and the input's columns.

    Raises:
        SqlError: two columns would have the same name.
    """
    names = [field.name.lower() for field in (*outputs, *given)]
    for field in (*outputs, *given):
        if names.count(field.name.lower()) > 1:
            of_result = field in outputs
            raise SqlError(
                f"Duplicate column names in the result are not supported. Found duplicate(s): {field.name}; "
                + (f"{function} adds a column of this name to the input's" if of_result else f"the input of {function} has it twice")
                + ": rename it in the query"
            )
    return (*outputs, *given)


def _check_type(function: str, version: ModelVersion, needed: Field, given: Field) -> None:
    # A model reads every number as FLOAT64, so any number type fits.
    if given.type != needed.type and not {given.type.kind, needed.type.kind} <= _NUMERIC:
        raise SqlError(
            f"{function}: column {given.name} is {given.type}, and model {version.signature.ref} was trained on {needed.type}; "
            f"use CAST({given.name} AS {needed.type})"
        )


def restored(reader: Iterable[pa.RecordBatch], fields: tuple[Field, ...]) -> Iterator[pa.RecordBatch]:
    """The rows in batches that fit a processor's cache. Columns have exactly the Arrow types and names of `fields`."""
    types = [to_arrow(field.type) for field in fields]
    for batch in reader:
        columns = [column if column.type == type_ else column.cast(type_) for column, type_ in zip(batch.columns, types, strict=True)]
        whole = pa.RecordBatch.from_arrays(columns, names=[field.name for field in fields])
        yield from (whole.slice(start, BATCH_ROWS) for start in range(0, whole.num_rows, BATCH_ROWS))

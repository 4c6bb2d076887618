"""CREATE MODEL and DROP MODEL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from zetasql.wasi._pb2.zetasql.resolved_ast.resolved_ast_enums_pb2 import ResolvedCreateStatementEnums

from sokuji.clock import Clock, now_us
from sokuji.errors import AlreadyExistsError, NotFoundError, SqlError, UnsupportedSqlError
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Ref
from sokuji.ml import evaluation
from sokuji.ml.base import Iteration, Trained, TrainingTask
from sokuji.ml.columns.inputs import read_labels
from sokuji.ml.functions.anomalies import keep_distances
from sokuji.ml.functions.base import BATCH_ROWS, kept, load
from sokuji.ml.functions.predict import output_columns
from sokuji.ml.options import CLASSIFIERS, KMEANS, At, effective
from sokuji.ml.scores import Scores
from sokuji.ml.serving.artefact import save
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.split import Split, split
from sokuji.ml.train import train
from sokuji.models.base import ModelStore
from sokuji.models.versions import ModelSignature, ModelVersion
from sokuji.sql.extension import Queries
from sokuji.sql.front.lookup import ref as to_ref
from sokuji.sql.result import Result
from sokuji.types import Field, Kind

Progress = Callable[[Ref, Iteration], None]
"""Called after every iteration of a training. An exception that it raises ends the training, and the model is not stored."""


def unheard(ref: Ref, iteration: Iteration) -> None:
    """A `Progress` that does nothing."""


_CLASS_LABELS = frozenset({Kind.STRING, Kind.BOOL, Kind.INT64, Kind.FLOAT64})
_NUMBERS = frozenset({Kind.INT64, Kind.FLOAT64, Kind.NUMERIC, Kind.BIGNUMERIC})

# Options that name a column that is not a feature, and the types the column may have.
_COLUMN_OPTIONS = {"data_split_col": frozenset(Kind), "kmeans_init_col": frozenset({Kind.BOOL}), "instance_weight_col": _NUMBERS}


class CreateModel:
    """Runs `CREATE [OR REPLACE] MODEL [IF NOT EXISTS] m OPTIONS(...) AS query`. A failure stores nothing."""

    def __init__(self, catalog: Catalog, store: ModelStore, *, progress: Progress = unheard, clock: Clock = now_us) -> None:
        self._catalog, self._store, self._progress, self._clock = catalog, store, progress, clock

    def __call__(self, statement: Any, sql: str, queries: Queries) -> Result:
        """See `StatementHandler`."""
        ref, mode = to_ref(statement.parent.name_path), statement.parent.create_mode
        exists = self._exists(ref, mode)
        if exists and mode == ResolvedCreateStatementEnums.CREATE_IF_NOT_EXISTS:
            return _nothing_done(ref)
        at = _places(statement, queries)
        given = queries.option_values(statement.option_list)
        before = self._store.get(ref) if exists and given.get("warm_start") is True else None
        model_type, options = effective(given, at, None if before is None else before.options)
        _refuse_unsupported(statement)
        started = time.monotonic()
        task = _task(queries.run_query(statement.output_column_list, statement.query), model_type, options, at)
        if options.get("warm_start"):
            with at("warm_start"), nullcontext() if before is None else kept(self._store, before):
                task = replace(task, start=load(self._store.fetch(_fitting(ref, task, before))).trained)

        def follow(iteration: Iteration) -> None:
            queries.check()
            self._progress(ref, iteration)

        trained = queries.aside(lambda: train(task, follow))  # nothing ends an iteration of trees
        try:
            version = self._register(ref, task, trained, sql, is_new=mode != ResolvedCreateStatementEnums.CREATE_OR_REPLACE)
        except AlreadyExistsError:
            if mode == ResolvedCreateStatementEnums.CREATE_IF_NOT_EXISTS and self._exists(ref, mode):
                return _nothing_done(ref)
            raise
        return Result((), message=_message(version, trained, task, time.monotonic() - started))

    def _exists(self, ref: Ref, mode: int) -> bool:
        """Whether the model exists. Raises the errors that would make the training useless."""
        if ref.dataset not in self._catalog.datasets():
            raise NotFoundError(f"Not found: Dataset {ref.dataset}")
        if any(table.ref == ref for table in self._catalog.tables(ref.dataset)):
            raise AlreadyExistsError(f"Already Exists: {ref} is a table; models and tables share one namespace")
        exists = ref in self._catalog.reserved(ref.dataset)
        if exists and mode == ResolvedCreateStatementEnums.CREATE_DEFAULT:
            raise AlreadyExistsError(f"Already Exists: Model {ref}; CREATE OR REPLACE MODEL makes a new version of it")
        return exists

    def _register(self, ref: Ref, task: TrainingTask, trained: Trained, sql: str, *, is_new: bool) -> ModelVersion:
        folder = self._store.stage(ref)
        serving = save(trained, folder, task.training)
        signature = ModelSignature(ref, task.model_type, task.features, task.labels, output_columns(task.model_type, task.labels))
        scores = _evaluate(task, Predictor(folder), folder)
        return self._store.register(
            ModelVersion(
                signature,
                version=0,  # the store numbers it
                folder=folder,
                created_at_us=self._clock(),
                sql=sql,
                options=trained.options,
                serving=serving.serving,
                serving_reason=serving.reason,
                metrics={name: value for name, value in scores.items() if value is not None},
            ),
            is_new=is_new,
        )


class DropModel:
    """Runs `DROP MODEL [IF EXISTS] m`: deletes every version of the model."""

    def __init__(self, catalog: Catalog, store: ModelStore) -> None:
        self._catalog, self._store = catalog, store

    def __call__(self, statement: Any, sql: str, queries: Queries) -> Result:  # noqa: ARG002 the common signature of handlers
        """See `StatementHandler`."""
        ref = to_ref(statement.name_path)
        if ref not in self._catalog.reserved(ref.dataset):
            if statement.is_if_exists:
                return Result((), message=f"Model {ref} does not exist; nothing was done.")
            raise NotFoundError(f"Not found: Model {ref}")
        self._store.delete(ref)
        return Result((), message=f"Model {ref} was dropped.")


def _nothing_done(ref: Ref) -> Result:
    return Result((), message=f"Model {ref} exists already; nothing was done.")


def _refuse_unsupported(statement: Any) -> None:
    clauses = {
        "TRANSFORM": statement.transform_list or statement.transform_input_column_list,
        "INPUT and OUTPUT": statement.input_column_definition_list or statement.output_column_definition_list,
        "REMOTE": statement.is_remote,
        "AS (training_data AS ...)": statement.aliased_query_list,
    }
    for clause, used in clauses.items():
        if used:
            raise UnsupportedSqlError(f"CREATE MODEL with {clause} is not supported yet; write CREATE MODEL ... OPTIONS(...) AS SELECT ...")
    if not statement.HasField("query"):
        raise SqlError("CREATE MODEL needs a query to train on: CREATE MODEL ... OPTIONS(...) AS SELECT ...")


def _places(statement: Any, queries: Queries) -> At:
    """Build the `At` that adds an option's position in the statement to its errors. Raises SqlError for an option given twice."""
    options: dict[str, Any] = {}
    for option in statement.option_list:
        if option.name.lower() in options:
            raise queries.located(option, SqlError(f"option {option.name.upper()} is given twice; give it once"))
        options[option.name.lower()] = option

    @contextmanager
    def at(name: str) -> Iterator[None]:
        try:
            yield
        except SqlError as error:
            if name not in options:
                raise
            raise queries.located(options[name], error) from None

    return at


def _task(result: Result, model_type: str, options: dict[str, Any], at: At) -> TrainingTask:
    """Check the training query's columns against the options, run it, and split its rows."""
    fields = {field.name.lower(): field for field in result.schema}
    special: dict[str, Field] = {}
    for name, kinds in _COLUMN_OPTIONS.items():
        if options.get(name) is not None:
            with at(name):
                special[name] = _column(fields, name.upper(), options[name], kinds)
    options |= {name: field.name for name, field in special.items()}
    with at("input_label_cols"):
        labels = () if model_type == KMEANS else (_label(fields, model_type, options),)
    features = tuple(field for field in result.schema if field not in {*special.values(), *labels})
    if not features:
        raise SqlError("the training query has no feature columns; select at least one beside the label")
    rows = result.arrow()
    for label in labels:
        rows = rows.filter(pc.is_valid(rows[label.name]))
    if not rows.num_rows:
        raise SqlError(f"the training query gave no rows{' with a label' if labels else ''}")
    with at("data_split_method"):
        parts = split(rows, options) if labels else Split(rows, None)
    return TrainingTask(model_type, options, features, labels, parts.training, parts.evaluation)


def _fitting(ref: Ref, task: TrainingTask, before: ModelVersion | None) -> ModelVersion:
    """The model that WARM_START continues from: the champion, which must have been trained on the same columns."""
    if before is None:
        raise SqlError(f"option WARM_START continues from an existing model, and {ref} does not exist; leave it out")
    was = before.signature
    if (was.model_type, was.inputs, was.labels) != (task.model_type, task.features, task.labels):
        listed = ", ".join(f"{field.name} {field.type}" for field in (*was.inputs, *was.labels))
        raise SqlError(f"option WARM_START needs the model type and the columns {ref} was trained on: {was.model_type} of {listed}")
    clusters = before.options.get("num_clusters")
    if clusters != task.options.get("num_clusters"):
        raise SqlError(f"option NUM_CLUSTERS is {task.options['num_clusters']}, and {ref}, the model of WARM_START, has {clusters}")
    return before


def _column(fields: dict[str, Field], option: str, name: str, kinds: frozenset[Kind] = frozenset(Kind)) -> Field:
    if name.lower() not in fields:
        listed = ", ".join(field.name for field in fields.values())
        raise SqlError(f"option {option} is {name!r}, which is not a column of the training query; they are: {listed}")
    field = fields[name.lower()]
    if field.type.kind not in kinds:
        raise SqlError(f"option {option} is {name!r}, which is {field.type}; expected a column of {_listed(kinds)}")
    return field


def _listed(kinds: frozenset[Kind]) -> str:
    return " or ".join(sorted(kinds))


def _label(fields: dict[str, Field], model_type: str, options: dict[str, Any]) -> Field:
    names = options["input_label_cols"]
    if len(names) != 1:
        raise SqlError(f"option INPUT_LABEL_COLS is {list(names)!r}, and {model_type} models have exactly one label column")
    label = _column(fields, "INPUT_LABEL_COLS", names[0])
    allowed = _CLASS_LABELS if model_type in CLASSIFIERS else _NUMBERS
    if label.type.kind not in allowed:
        raise SqlError(
            f"label column {label.name} is {label.type}, and {model_type} models predict {_listed(allowed)}; CAST it in the query"
        )
    return label


def _evaluate(task: TrainingTask, predictor: Predictor, folder: Path) -> Scores:
    """Compute the row that ML.EVALUATE shows without data.

    Store in `folder` what other functions need of the rows: the predictions of classifiers, the distances of k-means.
    """
    if task.model_type == KMEANS:
        keep_distances(predictor, task.training, folder)
        return evaluation.cluster_scores(predictor)
    (label,) = task.labels
    rows = task.training if task.evaluation is None else task.evaluation
    if task.evaluation is not None and predictor.trained.classes:
        # A split by time can give the evaluation rows a class that no training row has. Such rows are left out; the model is still good.
        classes = pa.array(predictor.trained.classes, rows[label.name].type)
        rows = rows.filter(pc.is_in(read_labels(rows[label.name]), value_set=classes))
    batches = rows.to_batches(max_chunksize=BATCH_ROWS)
    found = evaluation.outcome(predictor, label, ((batch, batch[label.name]) for batch in batches))
    if task.model_type in CLASSIFIERS:
        found.save(folder)
    return evaluation.scores(task.model_type, found)


def _message(version: ModelVersion, trained: Trained, task: TrainingTask, seconds: float) -> str:
    evaluated = "" if task.evaluation is None else f", evaluated on {task.evaluation.num_rows}"
    iterations = trained.history[-1].iteration + 1
    serving = version.serving if not version.serving_reason else f"{version.serving} ({version.serving_reason})"
    return (
        f"Model {version.signature.ref} version {version.version} ({trained.model_type}): "
        f"trained on {task.training.num_rows} rows{evaluated}, {iterations} iterations, {seconds:.1f} s; served by {serving}."
    )

"""Training sets: the features of an entity at the moment of each label, from the events in the lake.

A label at time T sees the events with `event_time < T` that were received by T: not its own event, no later one, and none that arrived
after T. It sees the links between visitors and users that were known by T. As on the stream, bots are left out, and so are events on
which an expression fails.

A label does not see history imported after T, as the stream did not have it then. For labels from before the import, history can count as
received when it happened.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sokuji.errors import FeatureError
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import Vocabulary
from sokuji.features.spec import ViewSpec
from sokuji.features.training.history import History, Sql, us
from sokuji.features.training.merge_log import MergeLog
from sokuji.features.training.point_in_time import Labels, numbers_at
from sokuji.types import Type

ENTITY, TIME = "entity_id", "time"
"""The columns that labels must have."""

LEFT_OUT = b"left_out"
"""The metadata key of a training set with the number of events left out because an expression failed on them."""

_NEVER = 2**62
_LOG = logging.getLogger(__name__)


def training(
    view: ViewSpec,
    labels: pa.Table,
    sql: Sql,
    *,
    vocabulary: Vocabulary,
    views: Sequence[ViewSpec] = (),
    dataset: str = "main",
    known: Mapping[str, Type] | None = None,
    said: Mapping[str, Type] | None = None,
    history_as_it_happened: bool = False,
) -> pa.Table:
    """The labels, with a column for each of the view's features.

    Args:
        view: what to compute.
        labels: `entity_id` (STRING, ids of the view's entity), `time` (TIMESTAMP), and any other columns, which are kept.
        sql: runs a query, as `Platform.sql` does.
        vocabulary: stores the strings; use the stream's (`Vocabulary.beside`) so that ties between categories resolve as on the stream.
        views: all views that the stream computes, this one included: an event on which an expression of one view fails counts in none.
        dataset: the dataset of the events.
        known, said: the recorded types of properties without a column, and the declared types.
        history_as_it_happened: `historical` events count as received when they happened, not when they were imported.

    Raises:
        FeatureError: the labels lack a column, or have one with the name of a feature.
        SqlError: an expression of the view is not valid over the dataset's events.
    """
    _check(view, labels)
    ids, times = labels.column(ENTITY).combine_chunks().cast(pa.string()), us(labels.column(TIME))
    history = History(sql, dataset, views or (view,), known or {}, said or {}, as_it_happened=history_as_it_happened)
    try:
        if not history_as_it_happened and (later := history.imported_later(int(times.min(initial=_NEVER)), int(times.max(initial=0)))):
            _LOG.warning(
                "labels do not see history that was imported after their time; history_as_it_happened=True counts it when it happened",
                extra={"dataset": dataset, "events": later},
            )
        merges = MergeLog(history.merge_log(), pc.unique(ids), view.entity)
        kernel = Kernel(view, history.types, vocabulary)
        taken = history.events(kernel, vocabulary, merges, int(times.max(initial=0)))
    finally:
        history.close()
    if taken.failed:
        _LOG.warning("left out events that an expression fails on", extra={"events": taken.failed, "first": taken.reason})
    whose = merges.whose_labels(ids, times)
    links = merges.links(taken.rows, whose.rows)
    asked = Labels(whose.profiles, whose.points, times)
    features = kernel.decode(numbers_at(kernel, taken.events, asked, profiles=merges.profiles, links=links))
    for name, column in zip(features.schema.names, features.columns, strict=True):
        labels = labels.append_column(name, column)
    return labels.replace_schema_metadata({**(labels.schema.metadata or {}), LEFT_OUT: str(taken.failed).encode()})


def _is_id(type_: pa.DataType) -> bool:
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_integer(type_))


def _check(view: ViewSpec, labels: pa.Table) -> None:
    names = labels.schema.names
    missing = [name for name in (ENTITY, TIME) if name not in names]
    if missing:
        raise FeatureError(f"labels need the columns {ENTITY} (STRING) and {TIME} (TIMESTAMP); they have {', '.join(names)}")
    for name, is_one, wanted in ((ENTITY, _is_id, "STRING"), (TIME, pa.types.is_timestamp, "TIMESTAMP")):
        type_ = labels.schema.field(name).type
        if not is_one(type_):
            raise FeatureError(f"labels have {name} of type {type_}, which must be {wanted}; cast it")
    times = labels.column(TIME)
    if pc.all(pc.equal(pc.floor_temporal(times, unit="microsecond"), times)).as_py() is False:
        raise FeatureError(f"labels have {TIME} with nanoseconds, which no event has; cast it to timestamp('us')")
    if labels.column(ENTITY).null_count or labels.column(TIME).null_count:
        raise FeatureError(f"every label needs an {ENTITY} and a {TIME}; filter out those that are NULL")
    taken = [feature.name for feature in view.features if feature.name in names]
    if taken:
        raise FeatureError(f"labels have columns that features of view {view.name} are called: {', '.join(taken)}; rename them")

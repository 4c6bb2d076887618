"""Training sets: what the features of an entity were at the moment of each label, from the events in the lake.

A label at time T sees the events with `event_time < T` that were received by T: not its own event, no later one, and none that came in
only afterwards. It sees what was known by T of who is who. As on the stream, bots are left out, and so is what an expression fails on.

History that was imported after T is not seen, as the stream did not have it then. For labels of the time before the import it can be taken
as if it had been received when it happened.
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
"""The columns that labels have."""

LEFT_OUT = b"left_out"
"""In the metadata of a training set: how many events were left out because an expression failed on them."""

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
    """The labels with a column for each of the view's features.

    Args:
        view: what to compute.
        labels: `entity_id` (STRING, ids of the view's entity), `time` (TIMESTAMP), and whatever else is to be kept.
        sql: runs a query, as `Platform.sql` does.
        vocabulary: gets the strings; the stream's (`Vocabulary.beside`) for ties between categories to be the stream's.
        views: all that the stream computes, this one included: an event that an expression of one fails on counts in none.
        dataset: whose events.
        known, said: the types that properties without a column are known to have, and those that they are said to have.
        history_as_it_happened: take events that are `historical` for received when they happened, and not when they were imported.

    Raises:
        FeatureError: the labels lack a column, or have one that a feature is called.
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

"""A project's features computed from the lake: `platform.features`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from sokuji.config import FEATURES_FILE
from sokuji.errors import FeatureError
from sokuji.features.kernel.strings import STRINGS_FILE, Vocabulary
from sokuji.features.known import known
from sokuji.features.load import load, read
from sokuji.features.spec import ViewSpec
from sokuji.features.training.sets import training
from sokuji.lake.base import Lake
from sokuji.sql.result import Result


class OfflineFeatures:
    """The views of `features.py`, computed from the events in the lake by the same kernel as on the stream."""

    def __init__(self, folder: Path, sql: Callable[[str], Result], tables: Lake, state: Path) -> None:
        """Compute the features of the project in `folder`.

        `sql` runs a query, `tables` is the lake that the sink commits to, and `state` is the folder of the worker's state, if there is one.
        """
        self._folder, self._sql, self._tables, self._state = folder, sql, tables, state

    @property
    def views(self) -> tuple[ViewSpec, ...]:
        """The views declared now. Raises FeatureError."""
        return load(self._folder / FEATURES_FILE)

    def training(
        self, labels: pa.Table, *, view: str | None = None, dataset: str = "main", history_as_it_happened: bool = False
    ) -> pa.Table:
        """Make a training set: the labels with the features of each entity as they were at the label's time.

        Events on which an expression fails are left out, as on the stream. Their number is in the metadata of the table's schema, as
        `left_out`,
        and is logged with the first reason.

        Args:
            labels: `entity_id` (STRING), `time` (TIMESTAMP), and any other columns, which are kept.
            view: its name; optional when only one view is declared.
            dataset: the dataset of the events.
            history_as_it_happened: a label sees history (`historical` events) from the time it happened, instead of the time it was
                imported.
                For labels from before the import. The features are then those that the stream would have had, not those that it had.

        Raises:
            FeatureError: there is no such view, or the labels lack a column.
            SqlError: an expression is not valid over the dataset's events.
        """
        declared = read(self._folder / FEATURES_FILE)
        views, types = declared.views, known(self._tables, dataset)
        vocabulary = Vocabulary.beside(self._state / dataset / STRINGS_FILE)
        return training(
            self._named(view, views), labels, self._sql,
            vocabulary=vocabulary, views=views, dataset=dataset, known=types, said=declared.properties,
            history_as_it_happened=history_as_it_happened,
        )  # fmt: skip

    def _named(self, name: str | None, views: Sequence[ViewSpec]) -> ViewSpec:
        matching = [each for each in views if name in {None, each.name}]
        if len(matching) != 1:
            names = ", ".join(each.name for each in views) or "none"
            raise FeatureError(f"view={name!r} names {len(matching)} of the views in {self._folder / FEATURES_FILE}, which are: {names}")
        return matching[0]

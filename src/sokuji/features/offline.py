"""A project's features over the lake: `platform.features`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from sokuji.errors import FeatureError
from sokuji.features.load import FILE_NAME, load
from sokuji.features.spec import ViewSpec
from sokuji.features.training import training
from sokuji.features.vocabulary import Vocabulary
from sokuji.sql.result import Result


class OfflineFeatures:
    """The views that `features.py` declares, computed from the events in the lake by the kernel of the stream."""

    def __init__(self, folder: Path, sql: Callable[[str], Result]) -> None:
        """Of the project in `folder`; `sql` runs a query."""
        self._folder, self._sql = folder, sql

    @property
    def views(self) -> tuple[ViewSpec, ...]:
        """What is declared now. Raises FeatureError."""
        return load(self._folder / FILE_NAME)

    def training(self, labels: pa.Table, *, view: str | None = None, dataset: str = "main") -> pa.Table:
        """A training set: the labels with the features of each entity as they were at the label's time.

        Args:
            labels: `entity_id` (STRING), `time` (TIMESTAMP), and whatever else is to be kept.
            view: its name; needs not be said if there is one view.
            dataset: whose events.

        Raises:
            FeatureError: there is no such view, or the labels lack a column.
            SqlError: an expression fails on one of the events.
        """
        return training(self._view(view), labels, self._sql, vocabulary=Vocabulary(), dataset=dataset)

    def _view(self, name: str | None) -> ViewSpec:
        views = self.views
        found = [each for each in views if name in {None, each.name}]
        if len(found) != 1:
            names = ", ".join(each.name for each in views) or "none"
            raise FeatureError(f"view={name!r} names {len(found)} of the views in {self._folder / FILE_NAME}, which are: {names}")
        return found[0]

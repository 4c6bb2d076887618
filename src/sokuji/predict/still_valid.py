"""Whether a decision still holds, by the state that the worker keeps. Runs in another process on the same machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sokuji.analyze.compile import Compiled
from sokuji.analyze.following import Following
from sokuji.analyze.state.layout import Rows
from sokuji.analyze.state.reader import OpenStateReader
from sokuji.errors import OnlineStoreError
from sokuji.features.kernel.strings import STRINGS_FILE, Strings
from sokuji.identity.base import USER
from sokuji.identity.current import Merges
from sokuji.ml.serving.scoring import SCORES
from sokuji.predict.profiles import Profiles
from sokuji.rules.eligibility import Ineligible, Question, ineligible

_MODELS_US = 10_000_000  # how often to check whether a model has a new version


class Recheck:
    """Checks decisions against the state of one dataset's profiles. For one thread at a time."""

    def __init__(self, dataset: str, following: Following, merges: Merges, folder: Path, *, open_reader: OpenStateReader) -> None:
        """Create a check. `folder` is the worker's; `open_reader` opens a state for reading."""
        self._dataset, self._following, self._merges, self._folder = dataset, following, merges, folder
        self._open_reader = open_reader
        self._strings_file, self._strings = folder / dataset / STRINGS_FILE, Strings(None)
        self._use(following.compiled)

    def _use(self, compiled: Compiled) -> None:
        self._compiled, self._layout = compiled, compiled.layout()
        self._profiles = Profiles(self._dataset, self._layout, self._folder, self._open_reader)
        self._start: object = None  # the start of the worker that wrote these strings
        self._models_us = 0
        if compiled.rules.rechecks:
            self._still(np.zeros((1, self._layout.width), np.uint8), 0)  # compile the kernel now, not while a page waits

    def reasons(self, questions: Sequence[Question], now_us: int) -> list[Ineligible | None]:
        """The reason why each decision must not be shown at `now_us` to the client that asks; None if it may be shown.

        Raises:
            OnlineStoreError: the worker has not published its state yet, or has published it for other declarations.
        """
        rows = self._rows([question.decision.profile for question in questions])
        rules = self._compiled.rules
        if self._start != self._profiles.start:  # read the strings after the state, not before: a new worker may bring another file
            self._strings, self._start = Strings(self._strings_file), self._profiles.start
        truth = self._still(rows, now_us) if rules.rechecks else {}
        segment = rows[:, self._layout.rules]
        found: list[Ineligible | None] = []
        for number, (decision, users) in enumerate(questions):
            if not self._may_know(users, decision.profile):
                found.append("unproven_user")
                continue
            rule = rules.by_name.get(decision.rule)
            stopped_us = 0 if rule is None else int(rules.stopped_us(segment[number : number + 1], rule.name)[0])
            holds = rule is None or rule.still is None or truth[rule.still][number]
            found.append(ineligible(decision, rule, stopped_us=stopped_us, holds=holds, now_us=now_us))
        return found

    def _may_know(self, users: Collection[str] | None, profile: str) -> bool:
        now = self._merges.profile(self._dataset, profile)  # `_rows` has just refreshed it
        return users is None or now == profile or now.removeprefix(USER) in users

    def _rows(self, profiles: Sequence[str]) -> Rows:
        try:
            return self._profiles.rows(profiles, self._merges)
        except OnlineStoreError:
            if (renewed := self._following.renew()) is None:
                raise
            self._compiled.close()
            self._use(renewed)
            return self._profiles.rows(profiles, self._merges)

    def close(self) -> None:
        """Close the compiled rules."""
        self._compiled.close()

    def _still(self, rows: Rows, now_us: int) -> Mapping[str, list[bool]]:
        """The truth of each condition, for each row. NULL and errors count as false."""
        compiled = self._compiled
        if now_us - self._models_us >= _MODELS_US:
            compiled.recheck_scores.refresh()
            self._models_us = now_us
        views = [
            kernel.finalize(rows[:, where], now_us, self._strings)
            for kernel, where in zip(compiled.kernels, self._layout.views, strict=True)
        ]
        columns = {name: column for view in views for name, column in zip(view.schema.names, view.columns, strict=True)}
        features = pa.RecordBatch.from_pydict(columns or {"": pa.nulls(len(rows))})
        batch = features.append_column(SCORES, compiled.recheck_scores.score(features))
        batch = batch.append_column("properties", pa.nulls(len(rows), pa.string()))  # there is no event
        values, _ = compiled.rechecks.evaluate(batch)
        return {name: [value is True for value in values.column(name).to_pylist()] for name in values.schema.names}


class Rechecks:
    """Checks decisions against the state of all datasets. For one thread at a time."""

    def __init__(self, of: Mapping[str, Recheck]) -> None:
        """Create from the checks by dataset."""
        self._of = of

    def reasons(self, questions: Sequence[Question], now_us: int) -> list[Ineligible | None]:
        """Like `Recheck.reasons`, for decisions of several datasets. In a dataset that is no longer in the project, all rules are off.

        Raises:
            OnlineStoreError: see `Recheck.reasons`.
        """
        found: list[Ineligible | None] = ["off" for _ in questions]
        for dataset in {question.decision.dataset for question in questions} & self._of.keys():
            places = [place for place, question in enumerate(questions) if question.decision.dataset == dataset]
            for place, reason in zip(places, self._of[dataset].reasons([questions[place] for place in places], now_us), strict=True):
                found[place] = reason
        return found

    def close(self) -> None:
        """Close all checks."""
        for each in self._of.values():
            each.close()

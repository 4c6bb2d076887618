"""Evaluate the conditions of rules with the features and scores at each event, each distinct condition once per batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.ml.serving.scoring import SCORES, Scores, models_named
from sokuji.rules.engine import Rules, heads
from sokuji.rules.spec import Rule
from sokuji.sql.scalar.expressions import Expressions

Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
Features = Callable[[Indices, Collection[str]], pa.RecordBatch]
"""The features with these names, if they exist, at these events."""


class Judged(NamedTuple):
    """The input of the rules."""

    events: pa.RecordBatch  # with the features and scores that templates name as additional columns
    truth: Mask  # [events, conditions], in Fortran order
    failed: dict[int, str]  # the reason, for events on which a condition failed


class Conditions:
    """The conditions of a project's rules for one dataset."""

    def __init__(self, rules: Rules, expressions: Expressions, scores: Scores) -> None:
        """Create from the distinct conditions `expressions`, which may name features and `scores`."""
        self._expressions, self._scores = expressions, scores
        self._told = rules.names
        declared = rules.actions.rules
        self._triggers = _triggers(declared)
        self._scored = _triggers(
            [rule for rule in declared if models_named([rule.condition or ""]) or any(SCORES in heads(field.name) for field in rule.fields)]
        )
        self.properties = expressions.properties
        """The properties that conditions name, as `PropertyReader` needs them."""

    def evaluate(self, events: pa.RecordBatch, properties: Mapping[str, pa.Array], features: Features, live: Mask) -> Judged:
        """Evaluate which conditions are true at which events. Only events that trigger a rule are evaluated.

        `properties` are columns that were already read from the events; `features` returns some features at some events.
        """
        names = events.column("event_name")
        wanted = np.flatnonzero(_is_in(names, self._triggers) & live)
        there = features(wanted, self._expressions.names | self._told | self._scores.inputs)
        scores = self._score(there, _is_in(names, self._scored)[wanted])
        truth, failed = self._judge(events, properties, wanted, there, scores)
        # Templates may name a feature or a score at an event that a condition was evaluated for.
        told = {name: column for name, column in [*_columns(there), (SCORES, scores)] if name in self._told}
        if told:
            at = np.full(events.num_rows, -1)
            at[wanted] = np.arange(len(wanted))
            places = pa.array(at, mask=at < 0)
            told = {name: column.take(places) for name, column in told.items()}
        return Judged(pa.RecordBatch.from_pydict({**dict(_columns(events)), **told}), truth, failed)

    def _judge(
        self, events: pa.RecordBatch, properties: Mapping[str, pa.Array], wanted: Indices, there: pa.RecordBatch, scores: pa.Array
    ) -> tuple[Mask, dict[int, str]]:
        """The truth matrix, and the reasons for events on which conditions failed."""
        texts = list(self._expressions.types)
        truth = np.zeros((events.num_rows, len(texts)), np.bool_, order="F")
        failed: dict[int, str] = {}
        if len(wanted) and texts:
            needed = {name: events.column(name) for name in sorted(self._expressions.log_columns)}
            known = {name: column for name, column in properties.items() if name in self.properties}
            if self.properties.keys() - known.keys():
                needed["properties"] = events.column("properties")
            if len(wanted) < events.num_rows:
                which = pa.array(wanted)
                needed, known = ({name: column.take(which) for name, column in each.items()} for each in (needed, known))
            batch = pa.RecordBatch.from_pydict({**needed, **dict(_columns(there)), SCORES: scores})
            evaluated, by_row = self._expressions.evaluate(batch, known)
            failed = {int(wanted[row]): reason for row, reason in by_row.items()}
            for place, column in enumerate(evaluated.columns):
                truth[wanted, place] = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
            truth[list(failed)] = False
        return truth, failed

    def _score(self, features: pa.RecordBatch, scored: Mask) -> pa.Array:
        """The scores at events where a rule needs them, NULL at others."""
        if not self._scores.names or scored.all():
            return self._scores.score(features)
        found = self._scores.score(features.filter(pa.array(scored)))
        return found.take(pa.array(np.cumsum(scored) - 1, mask=~scored))

    def close(self) -> None:
        """Close the database."""
        self._expressions.close()


def _triggers(rules: Sequence[Rule]) -> pa.Array | None:
    """The names of events that trigger any of the rules; None means all."""
    if any(not rule.on for rule in rules):
        return None
    return pa.array(sorted({name for rule in rules for name in rule.on}), pa.string())


def _is_in(names: pa.Array, triggers: pa.Array | None) -> Mask:
    if triggers is None:
        return np.ones(len(names), np.bool_)
    mask: Mask = pc.is_in(names, triggers).to_numpy(zero_copy_only=False)
    return mask


def _columns(batch: pa.RecordBatch) -> list[tuple[str, pa.Array]]:
    return list(zip(batch.schema.names, batch.columns, strict=True))

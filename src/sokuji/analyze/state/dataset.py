"""A dataset's pipeline over its state, and the position in the log from which it continues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sokuji.analyze.batches import Batch
from sokuji.analyze.pipeline import BatchOutcome, Pipeline
from sokuji.analyze.state.base import DatasetState, Position
from sokuji.dedup.rule import Places
from sokuji.rules.engine import TIMER_SLACK_US


class Stage:
    """The stage of one dataset."""

    def __init__(self, pipeline: Pipeline, state: DatasetState) -> None:
        """Create a stage. `pipeline` works with `state`; the stage closes both."""
        self.pipeline, self.state, self.position = pipeline, state, state.position()
        self._saved = 0  # the number of the batch before which the last checkpoint began

    def has_taken_in(self, places: Places) -> npt.NDArray[np.bool_]:
        """Which rows the state already had before the first batch it was given, by their positions in the events log."""
        ends = np.zeros(max([*self.position.ends, int(places.partitions.max(initial=0))]) + 1, np.int64)
        for partition, end in self.position.ends.items():
            ends[partition] = end
        taken: npt.NDArray[np.bool_] = places.offsets < ends[places.partitions]
        return taken

    def has_timer_due(self, now_us: int) -> bool:
        """Whether a timer must fire even if no event comes."""
        due_us = self.state.timers.next_us()
        return due_us is not None and due_us <= now_us - TIMER_SLACK_US

    def commit(self, outcome: BatchOutcome, batch: Batch) -> None:
        """Commit the state after the batch."""
        self.pipeline.commit(outcome, batch.now_us)
        self.state.serve(outcome, batch.number)

    @property
    def is_saving(self) -> bool:
        """Whether the last checkpoint is still being written. Another one would wait for it."""
        return self.state.position().number < self._saved

    def checkpoint(self, here: Position, *, wait: bool) -> None:
        """Save the state, whose position is `here`, in the background unless `wait`."""
        scores = self.pipeline.scores
        scores.refresh()
        ends = {partition: max(end, self.position.ends.get(partition, 0)) for partition, end in here.ends.items()}
        self.state.checkpoint(here._replace(ends=ends), scores.versions, wait=wait)
        self._saved = here.number

    def close(self) -> None:
        """Close the pipeline and the state."""
        self.pipeline.close()
        self.state.close()


def oldest(positions: Sequence[Position]) -> Position:
    """The position from which no event is missing in any of several states."""
    number = min(each.number for each in positions)
    first = [each for each in positions if each.number == number]
    ends = {partition: min(each.ends.get(partition, 0) for each in first) for partition in set().union(*(each.ends for each in first))}
    published = {name: min(each.published[name] for each in positions) for name in first[0].published}
    return Position(number, ends, published)

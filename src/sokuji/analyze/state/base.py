"""The contract of a dataset's state: everything that the worker keeps for one dataset, and its position in the events log.

The parts refer to each other: rows contain ids of strings, a merge of visitors has moved rows, a timer belongs to a row, served features
were computed from rows. So one object owns all parts, and one checkpoint saves all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from sokuji.analyze.batches import Offsets
from sokuji.analyze.state.layout import RowLayout, Rows
from sokuji.analyze.state.timers import Timers
from sokuji.closing import Closing
from sokuji.dedup.table import Deduplicator
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import Vocabulary
from sokuji.identity.resolve import Identity

if TYPE_CHECKING:
    from sokuji.analyze.pipeline import BatchOutcome


class Position(NamedTuple):
    """A place between two batches."""

    number: int  # of the next batch
    ends: Offsets  # where the batch before it ends, by partition of the events log
    published: Mapping[str, int]  # where the logs that the worker publishes in ended


class DatasetState(Closing):
    """The state of one dataset. It has one writer, and the writer is one thread.

    The writer changes the parts directly, and rows and served features with the methods below. The next checkpoint saves all of that.
    A state opens as it was at its last complete checkpoint. Only the strings may be more than they were then: a replay gives the same
    strings the same ids. No method reads a clock.
    """

    kernels: Sequence[Kernel]
    """Of the views. `layout` says where each view's bytes are in a row."""
    layout: RowLayout
    vocabulary: Vocabulary
    identity: Identity
    deduplicator: Deduplicator
    timers: Timers
    is_new: bool
    """Whether the state had no checkpoint when it was opened. Then it is empty."""
    knows_messages: bool
    """Whether `deduplicator` has all message ids of the checkpoint. If not, it is empty and must learn them again."""
    versions: Mapping[str, int]
    """The versions of the models in use at the checkpoint from which the state was opened."""

    @abstractmethod
    def get_many(self, keys: pa.StringArray, room: Rows | None = None) -> Rows:
        """The rows of these profiles, with zeros for a profile without a row. They are in the first rows of `room` if it is given."""

    @abstractmethod
    def put_many(self, keys: pa.StringArray, rows: Rows, now_us: int) -> None:
        """Give each profile its row. `now_us` is the time of the batch, and `expire` compares with that time."""

    @abstractmethod
    def expire(self, older_than_us: int) -> None:
        """Drop all rows that were last put before this time."""

    @abstractmethod
    def serve(self, outcome: BatchOutcome, batch: int) -> None:
        """Keep the features that this batch served to the profiles in the sample. A replay may serve them again; each is kept once."""

    @abstractmethod
    def caught_up(self) -> None:
        """End the replay: from now on nothing is served a second time."""

    @abstractmethod
    def checkpoint(self, here: Position, versions: Mapping[str, int], *, wait: bool) -> None:
        """Save all parts as the state at the position `here`, with the versions of the models in use.

        The call takes the state as it is now. All parts become durable together: before the return with `wait`, else later.

        Raises:
            OnlineStoreError: this checkpoint (with `wait`) or the one before it failed. The last complete checkpoint stays.
        """

    @abstractmethod
    def position(self) -> Position:
        """The position of the last complete checkpoint, at which the state would open after a crash. All zeros if there is none."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Changes since the last checkpoint are lost."""

    def features(self, keys: Sequence[str], at_us: int) -> list[dict[str, Any]]:
        """The features of these profiles, by name, for a reader at `at_us`. An unknown profile has the features of no event at all."""
        rows = self.get_many(pa.array(keys, pa.string()))
        views = [kernel.finalize(rows[:, where], at_us).to_pylist() for kernel, where in zip(self.kernels, self.layout.views, strict=True)]
        return [{name: value for view in views for name, value in view[place].items()} for place in range(len(keys))]


class Remembered(NamedTuple):
    """What the rules remember of profiles, in a state of earlier declarations."""

    get_many: Callable[[pa.StringArray], Rows]
    timers: Timers
    position: Position


class States(ABC):
    """Opens states. Each has a folder of its own, which may be moved or deleted while nobody has the state open.

    A damaged file in `rows` below that folder means that what the rules remember is lost. Other files can be made again.
    """

    @abstractmethod
    def open(self, folder: Path, kernels: Sequence[Kernel], layout: RowLayout, strings: Vocabulary, *, serves: bool = True) -> DatasetState:
        """Open the state in `folder`, or create it. The state owns `strings`, which are open, and closes them.

        Without `serves` no served features are kept: the state is only made, and somebody else will serve from it.

        Raises:
            DamagedFileError: a file is not as the last checkpoint left it.
            FormatError: a newer release wrote it.
            OnlineStoreError: another writer has it open, or its rows have another width.
        """

    @abstractmethod
    def remembered(self, folder: Path, width: int) -> AbstractContextManager[Remembered]:
        """What the rules remember in the state in `folder`, with rows of this width. Files other than the rows may be damaged."""

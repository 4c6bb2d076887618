"""What the sink has committed of a log, by its own account: by it one sees that a table, or an offset, is not from here.

A table's transactions say what is in the table, and the consumer's offset what need not be read again. If the table is restored from an
older copy, or the offset is from elsewhere, the two do not fit together, and rows would be missing without a word.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from sokuji.disk.stored import read_record, write_record
from sokuji.errors import DamagedFileError, LogError, StaleTableError
from sokuji.log.base import Log
from sokuji.meta.objects import Ref
from sokuji.sink.backlog import CONSUMER, Backlog, Offsets

_FORMAT = 1
_REMEDY = "the sink goes on from the offsets of its consumer, and takes the tables to be complete up to there"
_LOG = logging.getLogger(__name__)


class Committed(msgspec.Struct):
    """Of one log, whose rows go to one table of each dataset."""

    positions: Offsets | None = None
    """Up to where all rows are in their tables; None: nobody knows."""
    tables: dict[str, Offsets] = {}
    """By dataset, up to where its table said that they are."""
    again: list[str] = []
    """Datasets whose tables are older copies, and for which the log is read again."""
    again_until: Offsets = {}
    """What is read again before these offsets is of `again` only: what others lack there was dropped."""

    @classmethod
    def read(cls, folder: Path, log: Log) -> Committed:
        """What the sink in `folder` said last; nothing, if that is lost.

        Raises:
            FormatError: a newer release wrote it.
        """
        try:
            return read_record(_path(folder, log), cls, format=_FORMAT, remedy=_REMEDY)
        except FileNotFoundError:
            return cls()
        except DamagedFileError as error:
            _LOG.warning("%s", error)
            return cls()

    def write(self, folder: Path, log: Log) -> None:
        """Say it durably, before the consumer's offset is committed."""
        write_record(_path(folder, log), self, format=_FORMAT)

    def until(self, log: Log) -> Offsets:
        """Up to where all rows are in their tables, as far as retention kept the log.

        Raises:
            LogError: that lies past the end of the log.
            DamagedFileError: the consumer's offset does.
        """
        said = log.committed(CONSUMER)
        if self.positions is not None:  # said before the consumer's offset: that one cannot be ahead
            said = {partition: min(said.get(partition, offset), offset) for partition, offset in self.positions.items()}
        for partition, offset in {**said, **self.again_until}.items():
            if offset > (end := log.end(partition)):
                raise LogError(
                    f"partition {partition} of the log {log.name!r} ends at {end:,}, and the sink has committed it up to {offset:,}: it is"
                    " another log, or an older copy; restore the log"
                )
        return {partition: max(said.get(partition, 0), log.start(partition)) for partition in range(log.partitions)}

    def read_again(self, datasets: Iterable[str], until: Mapping[int, int]) -> None:
        """Tables of some datasets are older copies, and all others were complete `until` there."""
        self.again = sorted({*self.again, *datasets})
        self.again_until = {partition: max(offset, self.again_until.get(partition, 0)) for partition, offset in until.items()}

    def come_to(self, positions: Offsets) -> None:
        """All rows before `positions` are in their tables."""
        self.positions = positions
        if all(positions.get(partition, 0) >= offset for partition, offset in self.again_until.items()):
            self.again, self.again_until = [], {}

    def wanted(self, read: Mapping[str, Backlog]) -> dict[str, Backlog]:
        """Of the rows by dataset those that a table may lack. What others than an older copy lack of what is read again was dropped."""
        if not self.again:
            return dict(read)
        found = {
            dataset: rows if dataset in self.again else rows.take(rows.from_offsets(self.again_until)) for dataset, rows in read.items()
        }
        return {dataset: rows for dataset, rows in found.items() if len(rows.offsets)}

    def missing_from(self, dataset: str, in_table: Mapping[int, int]) -> Offsets:
        """By partition, the first row that a table with these offsets lacks of those that were committed; none for a table made anew."""
        said = self.tables.get(dataset, {}) if in_table else {}
        return {partition: in_table.get(partition, 0) for partition, offset in said.items() if in_table.get(partition, 0) < offset}

    def check_log(self, ref: Ref, log: Log, missing: Mapping[int, int]) -> None:
        """That the log still has the rows that a table lacks.

        Raises:
            StaleTableError: it does not.
        """
        for partition, offset in missing.items():
            if (start := log.start(partition)) > offset:
                said = self.tables[ref.dataset][partition]
                raise StaleTableError(
                    f"table {ref} has partition {partition} of the log {log.name!r} up to offset {offset:,}, as an older copy would: the"
                    f" sink had committed it up to {said:,}, and the log begins at {start:,}; restore a newer copy of the table, or"
                    f" DROP SCHEMA {ref.dataset} CASCADE"
                )


def _path(folder: Path, log: Log) -> Path:
    return folder / f"{log.name}.json"

"""The sink's own record of what it has committed of a log. It shows whether a table or an offset is from elsewhere.

A table's transactions say what is in the table; the consumer's offset says what need not be read again. If a table is restored from an
older copy, or the offset is from elsewhere, the two do not match, and rows would be missing without a warning.
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
_REMEDY = "the sink continues from the offsets of its consumer and assumes that the tables are complete up to these"
_LOG = logging.getLogger(__name__)


class Committed(msgspec.Struct):
    """The record for one log, whose rows go to one table of each dataset."""

    positions: Offsets | None = None
    """The offsets before which all rows are in their tables; None if unknown."""
    tables: dict[str, Offsets] = {}
    """By dataset, the offsets before which all rows were in its table, according to the table."""
    again: list[str] = []
    """Datasets whose tables are older copies, for which the log is read again."""
    again_until: Offsets = {}
    """Rows before these offsets are read again only for the datasets in `again`. If other tables lack such rows, these were deleted."""

    @classmethod
    def read(cls, folder: Path, log: Log) -> Committed:
        """Read the last record of the sink in `folder`; an empty record if it is lost.

        Raises:
            FormatError: a newer release wrote the record.
        """
        try:
            return read_record(_path(folder, log), cls, format=_FORMAT, remedy=_REMEDY)
        except FileNotFoundError:
            return cls()
        except DamagedFileError as error:
            _LOG.warning("%s", error)
            return cls()

    def write(self, folder: Path, log: Log) -> None:
        """Write the record durably, before the consumer's offset is committed."""
        write_record(_path(folder, log), self, format=_FORMAT)

    def until(self, log: Log) -> Offsets:
        """The offsets before which all rows are in their tables, at least the log's start.

        Raises:
            LogError: the recorded offset is past the end of the log.
            DamagedFileError: the consumer's offset is damaged.
        """
        said = log.committed(CONSUMER)
        if self.positions is not None:  # written before the consumer's offset, which thus cannot be ahead
            said = {partition: min(said.get(partition, offset), offset) for partition, offset in self.positions.items()}
        for partition, offset in {**said, **self.again_until}.items():
            if offset > (end := log.end(partition)):
                raise LogError(
                    f"partition {partition} of the log {log.name!r} ends at {end:,}, and the sink has committed it up to {offset:,}: it is"
                    " another log, or an older copy; restore the log"
                )
        return {partition: max(said.get(partition, 0), log.start(partition)) for partition in range(log.partitions)}

    def read_again(self, datasets: Iterable[str], until: Mapping[int, int]) -> None:
        """Record that tables of some datasets are older copies, and that all others were complete up to `until`."""
        self.again = sorted({*self.again, *datasets})
        self.again_until = {partition: max(offset, self.again_until.get(partition, 0)) for partition, offset in until.items()}

    def come_to(self, positions: Offsets) -> None:
        """Record that all rows before `positions` are in their tables."""
        self.positions = positions
        if all(positions.get(partition, 0) >= offset for partition, offset in self.again_until.items()):
            self.again, self.again_until = [], {}

    def wanted(self, read: Mapping[str, Backlog]) -> dict[str, Backlog]:
        """The rows, by dataset, that a table may lack. Rows that are read again are only for tables that are older copies."""
        if not self.again:
            return dict(read)
        found = {
            dataset: rows if dataset in self.again else rows.take(rows.from_offsets(self.again_until)) for dataset, rows in read.items()
        }
        return {dataset: rows for dataset, rows in found.items() if len(rows.offsets)}

    def missing_from(self, dataset: str, in_table: Mapping[int, int]) -> Offsets:
        """By partition, the first committed row that a table with these offsets lacks; empty for a table that was created again."""
        said = self.tables.get(dataset, {}) if in_table else {}
        return {partition: in_table.get(partition, 0) for partition, offset in said.items() if in_table.get(partition, 0) < offset}

    def check_log(self, ref: Ref, log: Log, missing: Mapping[int, int]) -> None:
        """Check that the log still has the rows that a table lacks.

        Raises:
            StaleTableError: the log no longer has them.
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

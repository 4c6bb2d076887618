"""The log on a local disk.

<path>/<name>/log.json       the description of the log; written last when the log is created
<path>/<name>/ends           the published end of each partition, mapped by every process
<path>/<name>/consumers/     committed offsets
<path>/<name>/<partition>/   segments, and the lock of the appending process
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pyarrow as pa

from sokuji.disk.files import exclusive, make_folder
from sokuji.disk.stored import read_record, write_record
from sokuji.errors import DamagedFileError, LogError
from sokuji.log.base import Log, Read
from sokuji.log.ends import Ends
from sokuji.log.local.offsets import ConsumerOffsets
from sokuji.log.local.reader import PartitionReader
from sokuji.log.local.segment import SUFFIX, encode
from sokuji.log.local.writer import SegmentWriter

_FORMAT = 2  # 1 had no checksum

# A waiting process polls the mapped ends. It starts with the short interval, as rows often follow each other closely, and doubles it up
# to the long one, which costs two per cent of a core and finds rows 1 ms late on average.
_POLL_SECONDS_MIN, _POLL_SECONDS_MAX = 0.0002, 0.002

_REMEDY = 'restore it from a copy, or write {"format":1,"partitions":N} there, N being the number of folders beside it that are numbers'


class _Description(msgspec.Struct):
    partitions: int


class LocalLog(Log):
    """A log in a folder of this machine. Its offsets count rows from 0, without gaps.

    Thread-safe; any number of processes may open it at the same time.
    """

    def __init__(
        self, path: Path | str, schema: pa.Schema, *, name: str, partitions: int = 4, segment_bytes: int = 64 * 1024 * 1024
    ) -> None:
        """Open the log `name` below the folder `path`; create it if it does not exist.

        Opening recovers what a killed process left: complete rows become durable, a torn frame is cut off.

        Args:
            path: the folder that holds this and other logs.
            schema: of the rows; no dictionary types.
            name: the name of the log and of its folder.
            partitions: how many there are; fixed when the log is created.
            segment_bytes: a new segment file begins when the current one would grow beyond this. Retention frees whole segments.

        Raises:
            LogError: the log exists with another schema or number of partitions.
            CorruptLogError, DamagedFileError: durable rows, or the log's own files, are missing or damaged.
            FormatError: a newer release made it.
        """
        self.name, self.schema, self.partitions = name, schema, partitions
        self._folder = Path(path) / name
        self._create()
        self._ends = Ends(self._folder / "ends", partitions)
        folders = [self._folder / str(partition) for partition in range(partitions)]
        self._readers = [PartitionReader(partition, folder, schema) for partition, folder in enumerate(folders)]
        self._writers = [SegmentWriter(partition, folder, schema, self._ends, segment_bytes) for partition, folder in enumerate(folders)]
        self._consumers = ConsumerOffsets(self._folder / "consumers")
        self._syncs = ThreadPoolExecutor(partitions, thread_name_prefix=f"log-{name}-sync")
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def _recover(self) -> None:
        for writer in self._writers:
            with writer.transaction():
                pass

    def _create(self) -> None:
        description = self._folder / "log.json"
        make_folder(self._folder)
        with exclusive(self._folder / "lock"):
            if not description.exists():
                if any(self._folder.glob(f"*/*{SUFFIX}")):
                    raise DamagedFileError(description, "it is missing, though there are rows", _REMEDY)
                for part in ("consumers", *map(str, range(self.partitions))):
                    make_folder(self._folder / part)
                write_record(description, {"partitions": self.partitions}, format=_FORMAT)
            partitions = read_record(description, _Description, format=_FORMAT, remedy=_REMEDY).partitions
        if partitions != self.partitions:
            raise LogError(
                f"log {self.name!r} in {self._folder} has {partitions} partitions, not {self.partitions}; "
                f"they are fixed: set log.partitions to {partitions}"
            )

    def append_many(self, batches: Mapping[int, pa.RecordBatch]) -> dict[int, int]:
        """See `Log.append_many`. Frames are encoded before the partitions are locked, and synced together while they are locked."""
        encoded = {}
        for partition, batch in sorted(batches.items()):  # sorted: two appenders lock in the same order
            self._check(partition)
            if not batch.schema.equals(self.schema):
                raise LogError(f"log {self.name!r} cannot take rows of another schema:\n{batch.schema}\nexpected was:\n{self.schema}")
            encoded[partition] = encode(batch)
        firsts = {partition: self.end(partition) for partition, frames in encoded.items() if not frames}
        writers = {partition: self._writers[partition] for partition, frames in encoded.items() if frames}
        try:
            with ExitStack() as transactions:
                for partition, writer in writers.items():
                    transactions.enter_context(writer.transaction())
                    firsts[partition] = writer.write(encoded[partition])
                self._sync(list(writers.values()))
                for writer in writers.values():
                    writer.publish()
        except OSError as error:
            raise LogError(f"log {self.name!r} cannot append in {self._folder}: {error}") from error
        return firsts

    def _sync(self, writers: list[SegmentWriter]) -> None:
        # Side by side: the file system then commits its journal once for several files.
        others = [self._syncs.submit(writer.sync) for writer in writers[1:]]
        try:
            for writer in writers[:1]:
                writer.sync()
        finally:
            for other in others:
                other.result()  # also after a failure: no sync may be running when a transaction is undone

    def read(self, partition: int, offset: int, limit: int, *, until: int | None = None) -> Read:
        """See `Log.read`. Small frames are read without a copy. A row that retention removed may stay readable for a while."""
        end = self.end(partition)
        return self._readers[partition].read(offset, limit, end if until is None else min(end, until))

    def start(self, partition: int) -> int:
        """See `Log.start`."""
        return self._readers[self._check(partition)].start()

    def end(self, partition: int) -> int:
        """See `Log.end`. All processes see the same end at the same time."""
        return self._ends[self._check(partition)]

    def lag(self, offsets: Mapping[int, int]) -> int:
        """See `Log.lag`. The result is exact."""
        return sum(max(0, self.end(partition) - offset) for partition, offset in offsets.items())

    def before_end(self, partition: int, rows: int) -> int:
        """See `Log.before_end`. The result is exact."""
        return max(self.start(partition), self.end(partition) - rows)

    def wait(self, offsets: Mapping[int, int], timeout_seconds: float) -> bool:
        """See `Log.wait`. Returns at most about 2 ms after the rows became durable."""
        deadline = time.monotonic() + timeout_seconds
        pause = _POLL_SECONDS_MIN
        while all(self.end(partition) <= offset for partition, offset in offsets.items()):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            time.sleep(min(pause, remaining))
            pause = min(2 * pause, _POLL_SECONDS_MAX)
        return True

    def commit(self, consumer: str, offsets: Mapping[int, int]) -> None:
        """See `Log.commit`."""
        for partition, offset in offsets.items():
            if not 0 <= offset <= self.end(partition):
                end = self.end(partition)
                raise LogError(
                    f"{consumer!r} cannot commit offset {offset} of partition {partition} of log {self.name!r}: it ends at {end}"
                )
        self._consumers.commit(consumer, offsets)

    def committed(self, consumer: str) -> dict[int, int]:
        """See `Log.committed`."""
        offsets = self._consumers.committed(consumer)
        for partition, offset in offsets.items():
            if not 0 <= partition < self.partitions or offset > self.end(partition):
                raise self._consumers.damaged(consumer, f"offset {offset} of partition {partition} lies past the end of the log")
        return offsets

    def forget(self, consumer: str) -> None:
        """See `Log.forget`."""
        self._consumers.forget(consumer)

    def trim(self, *, max_age_seconds: float | None = None, max_bytes: int | None = None) -> int:
        """See `Log.trim`. A segment's age is that of its newest row."""
        freed = 0
        for partition, (writer, reader) in enumerate(zip(self._writers, self._readers, strict=True)):
            with writer.transaction():
                lowest = self._consumers.lowest(partition)
                freed += writer.trim(self.end(partition) if lowest is None else lowest, max_age_seconds, max_bytes)
            reader.forget()
        return freed

    def close(self) -> None:
        """See `Log.close`. Batches that were read stay valid."""
        self._syncs.shutdown()
        for writer, reader in zip(self._writers, self._readers, strict=True):
            writer.close()
            reader.forget()
        self._ends.close()

    def _check(self, partition: int) -> int:
        if not 0 <= partition < self.partitions:
            raise LogError(f"log {self.name!r} has no partition {partition}; there are {self.partitions}, from 0")
        return partition

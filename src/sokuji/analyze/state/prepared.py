"""A dataset's state that is built beside a worker with the earlier declarations. The next start takes it over.

    prepared.arrow = the profiles' keys as an Arrow file, a record of disk/stored.py about them, its length (u32)
    links.arrow    = the links of visitors to users in the history, rows of IDENTITY_SCHEMA, in the same form

Format 1 was only the Arrow file, with the record's fields in its metadata and without a checksum. Format 2 had no links.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from sokuji.analyze.batches import Offsets
from sokuji.analyze.state.carry_over import BEFORE
from sokuji.analyze.state.layout import Rows
from sokuji.disk.files import sync_file, sync_folder
from sokuji.disk.stored import decode_record, encode_record
from sokuji.errors import DamagedFileError
from sokuji.events import IDENTITY_SCHEMA
from sokuji.features.kernel.strings import STRINGS_FILE

FILE = "prepared.arrow"
LINKS_FILE = "links.arrow"
_FORMAT = 3
_REMEDY = "restore it from a copy, or delete its folder: the worker rebuilds its state from the lake and the log"
_META = b"prepared"
_PENDING_MAX = 1_000_000


_OLD_END = b"ARROW1"
_LENGTH = struct.Struct("<I")


class _Meta(msgspec.Struct):
    layout: str  # the fingerprint of the rows
    ends: dict[int, int]  # the end of the prepared history in the events log, by partition
    checksum: int = 0  # CRC-32 of the Arrow file
    has_links: bool = False  # in another file beside this one


class KeyCollector:
    """Collects the keys of profiles, in place of a `Carrier`."""

    def __init__(self) -> None:
        self._parts: list[pa.Array] = [pa.array([], pa.string())]
        self._pending = 0

    def bring(self, keys: pa.Array, segment: Rows) -> None:  # noqa: ARG002 - the carrier's protocol
        """Collect these keys."""
        self._parts.append(keys)
        self._pending += len(keys)
        if self._pending > _PENDING_MAX:
            self._parts, self._pending = [self.distinct()], 0

    def distinct(self) -> pa.Array:
        """The collected keys, each once."""
        found: pa.Array = pc.unique(pa.concat_arrays(self._parts))
        return found


class Prepared:
    """The files beside the strings and the rows in a folder whose rows are not up to date yet."""

    def __init__(self, folder: Path, layout: str, ends: Offsets, *, has_links: bool = True) -> None:
        self.folder, self.layout, self.ends, self._has_links = folder, layout, ends, has_links

    @classmethod
    def find(cls, folder: Path) -> Prepared | None:
        """The prepared state in the folder, if it is complete.

        Raises:
            DamagedFileError: a file is damaged.
            FormatError: a newer release wrote it.
        """
        path = folder / FILE
        if not path.exists():
            return None
        _, meta = _opened(path)
        if meta.has_links:
            _opened(folder / LINKS_FILE)
        return cls(folder, meta.layout, meta.ends, has_links=meta.has_links)

    def write(self, keys: pa.Array, links: Sequence[pa.RecordBatch]) -> None:
        """Record that the rows of these profiles are complete up to `ends`, and the links of visitors to users before that."""
        self._write(LINKS_FILE, pa.Table.from_batches(links, IDENTITY_SCHEMA))
        self._write(FILE, pa.table({"key": keys}))

    def _write(self, name: str, table: pa.Table) -> None:
        temporary = self.folder / f"{name}.tmp"
        with ipc.new_file(temporary, table.schema) as writer:
            writer.write_table(table, max_chunksize=50_000)
        with pa.memory_map(str(temporary)) as file:
            checksum = zlib.crc32(file.read_buffer())
        record = encode_record(_Meta(self.layout, self.ends, checksum, self._has_links), format=_FORMAT)
        with temporary.open("ab") as end:
            end.write(record + _LENGTH.pack(len(record)))
        sync_file(temporary)
        temporary.rename(self.folder / name)
        sync_folder(self.folder)

    def profiles(self) -> Iterator[pa.StringArray]:
        """The keys of the profiles, piece by piece."""
        with ipc.open_file(_opened(self.folder / FILE)[0]) as reader:
            for number in range(reader.num_record_batches):
                yield cast("pa.StringArray", reader.get_batch(number).column("key"))

    def links(self) -> list[pa.RecordBatch]:
        """The links of visitors to users; empty if an older release prepared the state."""
        if not self._has_links:
            return []
        with ipc.open_file(_opened(self.folder / LINKS_FILE)[0]) as reader:
            return [reader.get_batch(number) for number in range(reader.num_record_batches)]

    def take_over(self, folder: Path) -> Prepared:
        """Replace `folder` by the prepared state, and keep its states beside it. After a crash, the take-over can be repeated."""
        for state in folder.iterdir():
            if state.name not in {STRINGS_FILE, FILE, LINKS_FILE}:
                # A state with the same layout is also an earlier state, which has the rules' memory.
                target = self.folder / (state.name + BEFORE if state.name == self.layout else state.name)
                shutil.rmtree(target, ignore_errors=True)
                state.rename(target)
        shutil.rmtree(folder)
        self.folder.rename(folder)
        return Prepared(folder, self.layout, self.ends, has_links=self._has_links)

    def drop(self) -> None:
        """Delete the prepared state."""
        self.done()
        shutil.rmtree(self.folder / self.layout, ignore_errors=True)

    def done(self) -> None:
        """Delete the files, because the rows are up to date."""
        (self.folder / FILE).unlink()
        (self.folder / LINKS_FILE).unlink(missing_ok=True)


def _opened(path: Path) -> tuple[pa.Buffer, _Meta]:
    """The Arrow file and its record, after a check that both are undamaged."""
    if not path.exists():
        raise DamagedFileError(path, "it is missing", _REMEDY)
    with pa.memory_map(str(path)) as file:
        stored = file.read_buffer()
    if memoryview(stored)[-len(_OLD_END) :] == _OLD_END:
        return stored, _old_meta(path, stored)
    end = len(stored) - _LENGTH.size
    length = _LENGTH.unpack(stored[end:])[0] if end > 0 else 0
    record = stored[max(end - length, 0) : max(end, 0)].to_pybytes()
    meta = decode_record(record, path, _Meta, format=_FORMAT, remedy=_REMEDY)
    content = stored[: end - length]
    if zlib.crc32(content) != meta.checksum:
        raise DamagedFileError(path, "it fails its checksum", _REMEDY)
    return content, meta


def _old_meta(path: Path, stored: pa.Buffer) -> _Meta:
    try:
        with ipc.open_file(stored) as reader:
            return msgspec.json.decode((reader.schema.metadata or {}).get(_META, b""), type=_Meta)
    except (pa.ArrowInvalid, msgspec.MsgspecError) as error:
        raise DamagedFileError(path, str(error), _REMEDY) from error

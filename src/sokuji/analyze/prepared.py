"""A dataset's state made beside a worker that goes on with the declarations of before, for the next start to take over."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from sokuji.analyze.batches import Offsets
from sokuji.analyze.rows import Rows

_FILE = "prepared.arrow"
_BEFORE = ".before"
_META = b"prepared"
_PENDING_MAX = 1_000_000


class _Meta(msgspec.Struct):
    layout: str  # the rows' fingerprint
    ends: dict[int, int]  # up to where in the events log, by partition


class Keys:
    """Collects the keys of profiles, in the place of a `Carrier`."""

    def __init__(self) -> None:
        self._parts: list[pa.Array] = [pa.array([], pa.string())]
        self._pending = 0

    def bring(self, keys: pa.Array, segment: Rows) -> None:  # noqa: ARG002 - the carrier's protocol
        """Remember these."""
        self._parts.append(keys)
        self._pending += len(keys)
        if self._pending > _PENDING_MAX:
            self._parts, self._pending = [self.distinct()], 0

    def distinct(self) -> pa.Array:
        """Each once."""
        return pc.unique(pa.concat_arrays(self._parts))


class Prepared:
    """What stands beside the strings and the rows in a folder while the rows are not up to date."""

    def __init__(self, folder: Path, layout: str, ends: Offsets) -> None:
        self.folder, self.layout, self.ends = folder, layout, ends

    @classmethod
    def find(cls, folder: Path) -> Prepared | None:
        """What is in the folder, if all of it is."""
        path = folder / _FILE
        if not path.exists():
            return None
        with ipc.open_file(path) as reader:
            meta = msgspec.json.decode(reader.schema.metadata[_META], type=_Meta)
        return cls(folder, meta.layout, meta.ends)

    def write(self, keys: pa.Array) -> None:
        """Say that the rows of these profiles are complete, up to `ends`."""
        meta = msgspec.json.encode(_Meta(self.layout, self.ends))
        temporary = self.folder / f"{_FILE}.tmp"
        table = pa.table({"key": keys}).replace_schema_metadata({_META: meta})
        with ipc.new_file(temporary, table.schema) as writer:
            writer.write_table(table, max_chunksize=50_000)
        temporary.rename(self.folder / _FILE)

    def profiles(self) -> Iterator[pa.Array]:
        """Their keys, piece by piece."""
        with ipc.open_file(self.folder / _FILE) as reader:
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number).column("key")

    def take_over(self, folder: Path) -> Prepared:
        """Put it in the place of `folder`, with the states in there beside it. A crash on the way leaves one that can be taken over."""
        for state in folder.iterdir():
            if state.is_dir():
                # One of the same layout is the state from before all the same, which rules remember by.
                target = self.folder / (state.name + _BEFORE if state.name == self.layout else state.name)
                shutil.rmtree(target, ignore_errors=True)
                state.rename(target)
        shutil.rmtree(folder)
        self.folder.rename(folder)
        return Prepared(folder, self.layout, self.ends)

    def drop(self) -> None:
        """Away with it."""
        self.done()
        shutil.rmtree(self.folder / self.layout, ignore_errors=True)

    def done(self) -> None:
        """The rows are up to date."""
        (self.folder / _FILE).unlink()

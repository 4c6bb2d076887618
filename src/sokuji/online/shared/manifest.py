"""The files of a store: one manifest, replaced as a whole, names every valid file. Other files are leftovers of a crash."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

import msgspec

from sokuji.disk.files import sync_file, sync_folder
from sokuji.disk.stored import read_record, write_record
from sokuji.errors import OnlineStoreError
from sokuji.online.base import Rows
from sokuji.online.digest import SALT_BYTES
from sokuji.online.shared.run import Columns, Run, run_path, write_run

_NAME = "manifest.json"
_FORMAT = 2  # 1 had no checksum
_REMEDY = "restore the folder from a backup, or delete it"
_OWN = re.compile(r"[0-9]{12}\.(run|blobs)")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The last complete checkpoint."""

    width: int
    salt: bytes
    runs: tuple[int, ...] = ()
    """Ids, the newest first."""
    offsets: dict[str, int] = {}
    blobs_id: int = 0
    """The id of the file with the blobs; 0 if there are none."""
    blobs_checksum: int = 0
    clock_us: int = 0
    """The latest time of a put."""
    expired_before_us: int = 0
    """Rows in runs that were last seen before this time are expired."""


def read_manifest(folder: Path) -> Manifest:
    """The last complete checkpoint of the store in `folder`.

    Raises:
        DamagedFileError: the manifest is damaged.
        FormatError: a newer release wrote it.
    """
    return read_record(folder / _NAME, Manifest, format=_FORMAT, remedy=_REMEDY)


class Disk:
    """The manifest of a folder, with the runs and blobs it names. Thread-safe."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._lock = threading.Lock()
        self._ids = itertools.count(1 + max((int(path.stem) for path in _files(folder)), default=0))
        self._open = {run_id: self._named(run_id) for run_id in manifest.runs}
        self.blobs = self._read_blobs()
        self._retired: list[Path] = []
        named = {*manifest.runs, manifest.blobs_id}
        self._leftovers = [path for path in _files(folder) if int(path.stem) not in named]

    @classmethod
    def open(cls, folder: Path, width: int) -> Self:
        """Open the files in `folder`, or create an empty store there.

        Raises:
            OnlineStoreError: the rows there have another width, or a file that the manifest names is missing or damaged.
            DamagedFileError: the manifest is damaged.
            FormatError: a newer release wrote it.
        """
        path = folder / _NAME
        if not path.exists():
            if leftover := min(_files(folder), default=None):
                raise OnlineStoreError(f"{path} is missing, though {leftover.name} is there; restore the folder from a backup, or empty it")
            write_record(path, Manifest(width=width, salt=secrets.token_bytes(SALT_BYTES)), format=_FORMAT)
        manifest = read_manifest(folder)
        if manifest.width != width:
            raise OnlineStoreError(
                f"the online store in {folder} has rows of {manifest.width} bytes, not {width}: "
                "the features changed; open it with the old width, or start from an empty folder and replay the log"
            )
        return cls(folder, manifest)

    def _named(self, run_id: int) -> Run:
        try:
            return Run(self.folder, run_id, verify=True)
        except FileNotFoundError as error:
            raise OnlineStoreError(f"{error.filename} is missing, though the manifest names it; restore it from a backup") from error

    def new_run(self, columns: Columns, blocks: Iterable[Rows]) -> Run:
        """Write a run with `run.write_run`: not synced and not in the manifest."""
        run_id = next(self._ids)
        path = run_path(self.folder, run_id)
        try:
            write_run(path, self.manifest.width, columns, blocks)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Run(self.folder, run_id)

    @property
    def runs(self) -> list[Run]:
        """The open runs of the manifest, the newest first."""
        with self._lock:
            return [self._open[run_id] for run_id in self.manifest.runs]

    def commit(self, change: Callable[[Manifest], Manifest], new_runs: list[Run], blobs: Mapping[str, bytes] | None = None) -> None:
        """Replace the manifest by `change(manifest)`. The files of `new_runs` are synced first.

        `blobs`, if given, replace the stored ones. Files that are no longer named are deleted later by the caller of `take_changes`. So are
        files
        that no manifest named when the folder was opened: until now, an older copy of the manifest could have been swapped for the right
        one.
        """
        for run in new_runs:
            sync_file(run.path)
        with self._lock:
            manifest = change(self.manifest)
            if blobs is not None:
                manifest = self._write_blobs(manifest, blobs)
            sync_folder(self.folder)
            write_record(self.folder / _NAME, manifest, format=_FORMAT)
            before, self.manifest = self.manifest, manifest
            self._retired, self._leftovers = [*self._retired, *self._leftovers], []
            self._open |= {run.id: run for run in new_runs}
            self._retired += [self._open.pop(run_id).path for run_id in set(before.runs) - set(manifest.runs)]
            if blobs is not None:
                self.blobs = dict(blobs)
                self._retired += [self._blobs_path(before.blobs_id)] if before.blobs_id else []

    def _write_blobs(self, manifest: Manifest, blobs: Mapping[str, bytes]) -> Manifest:
        if not blobs:
            return msgspec.structs.replace(manifest, blobs_id=0, blobs_checksum=0)
        content, blobs_id = msgspec.msgpack.encode(dict(blobs)), next(self._ids)
        self._blobs_path(blobs_id).write_bytes(content)
        sync_file(self._blobs_path(blobs_id))
        return msgspec.structs.replace(manifest, blobs_id=blobs_id, blobs_checksum=zlib.crc32(content))

    def _read_blobs(self) -> dict[str, bytes]:
        if not self.manifest.blobs_id:
            return {}
        path = self._blobs_path(self.manifest.blobs_id)
        content = path.read_bytes() if path.exists() else b""
        if zlib.crc32(content) != self.manifest.blobs_checksum:
            raise OnlineStoreError(f"{path} is missing or damaged: it fails its checksum; restore it from a backup")
        return msgspec.msgpack.decode(content, type=dict[str, bytes])

    def _blobs_path(self, blobs_id: int) -> Path:
        return self.folder / f"{blobs_id:012d}.blobs"

    def take_changes(self) -> tuple[list[Run], list[Path]]:
        """`runs`, and the files that left the manifest since the last call.

        The caller unlinks these files once readers know the new runs.
        """
        with self._lock:
            retired, self._retired = self._retired, []
            return [self._open[run_id] for run_id in self.manifest.runs], retired


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _OWN.fullmatch(path.name)]

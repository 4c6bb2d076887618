"""The commit files of a Delta table: `_delta_log/<version>.json`, checkpoints, and for each file its CRC-32, which only sokuji reads.

Every commit lists this folder, and a table with a commit per second would get 600,000 files there in a week. So the files before the last
checkpoint are moved to a separate log, the history, which only reads of old versions use.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sokuji.disk.files import make_folder, sync_file, sync_folder
from sokuji.errors import DamagedFileError

LOG_FOLDER = "_delta_log"
_HISTORY = ".history"  # its dot hides it from Delta's vacuum
_SUM = ".crc32"  # eight hexadecimal digits, in a file named after the summed file
_FILES_MAX = 500  # in the log, before older files are moved; there is a checkpoint every 100 commits
_REMEDY = "restore the table's folder from a copy"
_DIGITS = re.compile(rb"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a table, and the identity of its commit file: a table that was dropped and created again has another identity."""

    folder: Path
    number: int
    identity: tuple[int, int]

    @classmethod
    def of(cls, folder: Path, number: int) -> Version:
        """The version `number` of the table in `folder`."""
        return cls(folder, number, _identity(_file(folder, number)))

    def exists(self) -> bool:
        """Whether the commit is in the table's log. False if the table was dropped, or the commit was archived."""
        try:
            return self.identity == _identity(_file(self.folder, self.number))
        except FileNotFoundError:
            return False

    def is_newest(self) -> bool:
        """Whether the version exists and is the last."""
        return self.exists() and not _file(self.folder, self.number + 1).exists()


def written_at(folder: Path, version: int) -> dt.datetime:
    """The time at which a version of the table in `folder` was committed, to the millisecond."""
    with _file(folder, version).open() as commit:
        written_ms = json.loads(commit.readline())["commitInfo"]["timestamp"]
    return dt.datetime.fromtimestamp(written_ms / 1000, dt.UTC)


def sync(folder: Path, versions: Iterable[int]) -> None:
    """Make commits durable, and write their checksums. Commits archived meanwhile are durable, because a later checkpoint is."""
    for version in versions:
        path = _file(folder, version)
        if path.exists():
            sync_file(path)
        for written in (path, _checkpoint(folder, version)):
            with suppress(FileNotFoundError):
                if not _sum(written).exists():
                    _sum(written).write_text(f"{zlib.crc32(written.read_bytes()):08x}")
    sync_folder(folder / LOG_FOLDER)


def check(folder: Path, version: int, after: int = -1) -> None:
    """Check that the files of a version of the table in `folder` are undamaged, except commits up to `after`.

    A file without a checksum is not checked: it is older than checksums, or its writer was killed at that moment. If the next version has a
    checksum but no commit, the commit was lost, and without it the table would be an older one.

    Raises:
        DamagedFileError: a commit or the checkpoint is damaged, or the newest commit is missing.
    """
    missing = _file(folder, version + 1)
    if _sum(missing).exists() and not missing.exists():
        raise DamagedFileError(missing, "it is missing", _REMEDY)
    for number in range(version, after, -1):
        checkpoint = _checkpoint(folder, number)
        for written in (_file(folder, number), checkpoint):
            with suppress(FileNotFoundError):
                digits = _sum(written).read_bytes()
                if _DIGITS.fullmatch(digits) and int(digits, 16) != zlib.crc32(written.read_bytes()):
                    raise DamagedFileError(written, "it fails its checksum", _REMEDY)
        if checkpoint.exists():
            return


def history(folder: Path) -> list[Path]:
    """The folder of the history, with the versions before those of the table's own log; empty if nothing was moved there."""
    return [path for path in [folder / _HISTORY] if path.exists()]


def archive(folder: Path) -> None:
    """Move the files before the last checkpoint to the history, if the log is long. Nobody may use the table meanwhile."""
    log, archived = folder / LOG_FOLDER, folder / _HISTORY / LOG_FOLDER
    files = _versioned(log)
    if len(files) <= _FILES_MAX:
        return
    last = json.loads((log / "_last_checkpoint").read_bytes())["version"]
    for version, path in files:
        if version == last:
            sync_file(path)
    make_folder(archived)
    for version, path in files:
        if version < last:
            path.rename(archived / path.name)
    sync_folder(archived)
    sync_folder(log)


def forget(folder: Path, needed_from: float) -> None:
    """Delete from the history the files that no version needs which was the newest at `needed_from` (seconds since 1970) or later."""
    archived = folder / _HISTORY / LOG_FOLDER
    files = _versioned(archived) if archived.exists() else []
    done = [version for version, path in files if ".checkpoint" in path.name and path.stat().st_mtime <= needed_from]
    for version, path in files:
        if version < max(done, default=0):
            path.unlink()


def damaged(folder: Path) -> Path:
    """The commit that cannot be read, or the missing commit; the log itself if there is neither."""
    before = None
    for version, path in _versioned(folder / LOG_FOLDER):
        if path.suffix != ".json":
            continue
        if before is not None and version != before + 1:
            return _file(folder, before + 1)
        before = version
        try:
            for line in path.read_bytes().splitlines():
                msgspec.json.decode(line, type=dict[str, dict[str, Any]])
        except msgspec.DecodeError:
            return path
    return folder / LOG_FOLDER


def _versioned(log: Path) -> list[tuple[int, Path]]:
    """Commits and checkpoints with their versions, oldest first, so that an interrupted move or removal leaves no gap."""
    return sorted((int(path.name[:20]), path) for path in log.iterdir() if path.name[:20].isdecimal())


def _file(folder: Path, version: int) -> Path:
    return folder / LOG_FOLDER / f"{version:020}.json"


def _checkpoint(folder: Path, version: int) -> Path:
    return folder / LOG_FOLDER / f"{version:020}.checkpoint.parquet"


def _sum(written: Path) -> Path:
    return written.with_name(written.name + _SUM)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns

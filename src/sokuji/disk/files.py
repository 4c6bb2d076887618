"""Locks between processes, and files and folders that survive a power cut."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def exclusive(path: Path) -> AbstractContextManager[None]:
    """Hold the lock file `path`. Each call opens the file again, so the lock also works between threads."""
    return _locked(path, fcntl.LOCK_EX)


def shared(path: Path) -> AbstractContextManager[None]:
    """Hold the lock file `path` together with others that share it, while nobody holds it exclusively."""
    return _locked(path, fcntl.LOCK_SH)


def hold(path: Path) -> int:
    """Hold the lock file `path` until the returned descriptor is closed or the process dies.

    Raises:
        BlockingIOError: another process or thread holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _locked(path: Path, mode: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)  # this releases the lock, as does the death of the process


def write_all(descriptor: int, data: bytes, position: int) -> None:
    """Call `os.pwrite` until all of `data` is written: one call may write less, at most 2 GiB."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def replace_file(path: Path, content: bytes) -> None:
    """Replace the content of `path` atomically and durably: after a crash it has the old or the new content, after the return the new one.

    The caller holds a lock: two calls for one path at the same time would share the temporary file.
    """
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        write_all(descriptor, content, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create `path` and its missing parents, durably."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make the content of a file durable that someone else wrote."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: syncing a file does not sync its name."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

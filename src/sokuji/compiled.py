"""Compile functions of numbers and arrays to machine code with numba, once per machine.

numba caches compiled code, but checks only the function's own file for changes. Yet these functions call each other across files, and
embed constants of other files. So the cache folder is named after numba's version and the text of every file of the package that has such
functions (imports `compiled` or `inlined`) or provides their constants (`READ`). The processor's features are part of numba's own key.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sokuji.errors import MissingExtraError
from sokuji.machine import kept_folder

Function = TypeVar("Function", bound=Callable[..., Any])
Array = TypeVar("Array", bound="np.ndarray[Any, Any]")

READ = ("features/kernel/program.py", "features/windows.py", "online/shared/ordered.py", "online/shared/table.py")
"""Files without compiled functions, whose constants or types some of these functions use."""

_LOG = logging.getLogger(__name__)
_HAS_FUNCTIONS = re.compile(rb"^from sokuji\.compiled import .*\b(compiled|inlined)\b", re.MULTILINE)


def compiled(function: Function) -> Function:
    """Compile a function to machine code at its first call. It runs without the interpreter lock, and divides by zero as in IEEE 754.

    Raises:
        MissingExtraError: numba is not installed.
    """
    numba, folder = _numba(), _folder()
    others = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # read when the function is created; other users of numba keep their folder
    try:
        dispatcher: Function = numba.njit(cache=_is_kept(), error_model="numpy", nogil=True)(function)
        if folder is not None and _is_kept():
            _save_in_turn(dispatcher, folder)
    finally:
        numba.config.CACHE_DIR = others
    return dispatcher


def _save_in_turn(made: Any, folder: Path) -> None:
    """Let only one process at a time write machine code of this version.

    numba reads the index of a function, takes the next number for the file of a new signature, and writes both. Two processes at once would
    take one number for two signatures, so the later one would get the code of the other.
    """
    kept = made._cache._cache_file  # noqa: SLF001 - numba has no public name for it
    save = kept.save

    def save_in_turn(*entry: object) -> None:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            save(*entry)

    kept.save = save_in_turn


def inlined(function: Function) -> Function:
    """Compile a function into the functions that call it, like `compiled`."""
    dispatcher: Function = _numba().njit(error_model="numpy", inline="always")(function)
    return dispatcher


def fixed(array: Array) -> Array:
    """The same memory as a read-only array.

    Buffers from other libraries are read-only or not, depending on their origin. A function would be compiled once for each kind.
    """
    view = array.view()
    view.setflags(write=False)
    return view


def is_compiled() -> bool:
    """Whether this machine has compiled functions of this version, though perhaps not all."""
    folder = _folder()
    return folder is not None and any(folder.rglob("*.nbi"))  # numba's index files


def files() -> Iterator[Path]:
    """The files that the machine code depends on."""
    package = Path(__file__).parent
    for file in sorted(package.rglob("*.py")):
        if _HAS_FUNCTIONS.search(file.read_bytes()) or str(file.relative_to(package)) in READ:
            yield file


@functools.cache
def _numba() -> Any:
    try:
        return importlib.import_module("numba")
    except ImportError as error:
        raise MissingExtraError("numba", "realtime", "computing features and keeping them") from error


@functools.cache
def _folder() -> Path | None:
    digest = hashlib.sha256(_numba().__version__.encode())
    for file in (Path(__file__), *files()):
        digest.update(file.read_bytes())
    root = kept_folder()
    return None if root is None else root / f"compiled-{digest.hexdigest()[:16]}"


@functools.cache
def _is_kept() -> bool:
    """Whether the folder is writable. If not, numba would cache next to the function's own file."""
    folder = _folder()
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return True
        reason = "there is no home folder"
    except OSError as error:
        reason = str(error)
    _LOG.warning("machine code cannot be kept, and is made at each start: %s; set XDG_CACHE_HOME to a folder to write to", reason)
    return False

"""Compiles functions of numbers and arrays to machine code by numba, once a machine.

numba keeps what it compiled, and looks only at the file of the function itself to see whether it is still right. But these functions call
each other across files, and freeze constants of others. So what is kept is in a folder that is named after numba's version and the text of
every file of the package that has such functions (that imports `compiled` or `inlined`), or that they take constants from (`READ`). What
the processor can do is part of numba's own key.
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
"""Files without compiled functions whose constants or types are in some."""

_LOG = logging.getLogger(__name__)
_HAS_FUNCTIONS = re.compile(rb"^from sokuji\.compiled import .*\b(compiled|inlined)\b", re.MULTILINE)


def compiled(function: Function) -> Function:
    """A function in machine code, made at the first call. It releases the interpreter's lock, and divides by zero as IEEE 754 says.

    Raises:
        MissingExtraError: numba is not installed.
    """
    numba, folder = _numba(), _folder()
    others = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # read when the function is made; other users of numba keep theirs
    try:
        made: Function = numba.njit(cache=_is_kept(), error_model="numpy", nogil=True)(function)
        if folder is not None and _is_kept():
            _save_in_turn(made, folder)
    finally:
        numba.config.CACHE_DIR = others
    return made


def _save_in_turn(made: Any, folder: Path) -> None:
    """Let one process at a time keep machine code of this version.

    numba reads the index of a function, takes the next number for the file of a new signature, and writes both. Two processes at once
    would take one number for two signatures: whoever comes later is given the code of the other one.
    """
    kept = made._cache._cache_file  # noqa: SLF001 - numba has no word for it
    save = kept.save

    def save_in_turn(*entry: object) -> None:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            save(*entry)

    kept.save = save_in_turn


def inlined(function: Function) -> Function:
    """As `compiled`, as a part of the functions that call it."""
    made: Function = _numba().njit(error_model="numpy", inline="always")(function)
    return made


def fixed(array: Array) -> Array:
    """The same memory, not to be written to. Buffers that others made are so or not by where they come from, and a function would be
    compiled for each of both.
    """
    view = array.view()
    view.setflags(write=False)
    return view


def is_compiled() -> bool:
    """Whether this machine has compiled functions of this version already, if perhaps not all."""
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
    """Whether the folder can be written to: if not, numba would keep it elsewhere, by the function's own file."""
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

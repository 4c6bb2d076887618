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
from contextlib import ExitStack, contextmanager
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
            _compile_in_turn(dispatcher)
    finally:
        numba.config.CACHE_DIR = others
    return dispatcher


def _compile_in_turn(dispatcher: Any) -> None:
    """Let one process at a time compile the function and keep the machine code; the others wait, and load what was kept.

    numba would compile in each process: at the first start of the platform on a machine, in every role. And two processes that keep
    two signatures of one function at once could take the same number for both files: who comes later gets the code of the other one.
    """
    kept = dispatcher._cache._cache_file  # noqa: SLF001 - numba has no word for it
    lock = Path(f"{kept._index_path}.lock")  # noqa: SLF001
    of_this_process = importlib.import_module("numba.core.compiler_lock").global_compiler_lock
    load, compile_function = kept.load, dispatcher.compile
    turns: list[ExitStack] = []  # more than one if the function calls itself: then all are within the turn of the first

    def load_in_turn(key: object) -> Any:
        found = load(key)
        if found is None and len(turns) == 1:
            turns[0].enter_context(_held(lock))  # until it is compiled and kept, or cannot be compiled
            found = load(key)
        return found

    def compile_in_turn(signature: Any) -> Any:
        with of_this_process, ExitStack() as turn:
            turns.append(turn)
            try:
                return compile_function(signature)
            finally:
                turns.pop()

    kept.load, dispatcher.compile = load_in_turn, compile_in_turn


@contextmanager
def _held(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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

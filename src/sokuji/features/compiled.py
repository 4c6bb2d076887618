"""Compiles the kernel's functions by numba, once a machine.

numba keeps what it compiled beside the source, and looks only at the file of the function itself to see whether it is still right.
The kernel's functions call each other across files, so what is kept is in a folder named after all of their text.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sokuji.errors import MissingExtraError

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """A function of numbers and arrays in machine code. It releases the interpreter's lock, and divides by zero as IEEE 754 says.

    Raises:
        MissingExtraError: numba is not installed.
    """
    numba = _numba()
    others = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_folder())  # read when the function is made; other users of numba keep theirs
    try:
        made: Function = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = others
    return made


def is_compiled() -> bool:
    """Whether this machine has compiled functions of this version already, if perhaps not all."""
    return any(_folder().rglob("*.nbi"))  # numba's index files


@functools.cache
def _numba() -> Any:
    try:
        return importlib.import_module("numba")
    except ImportError as error:
        raise MissingExtraError("numba", "realtime", "computing features") from error


@functools.cache
def _folder() -> Path:
    digest = hashlib.sha256(_numba().__version__.encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        if file.name.startswith(("kernel", "program")):
            digest.update(file.read_bytes())
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "sokuji" / f"kernel-{digest.hexdigest()[:16]}"

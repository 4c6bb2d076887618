"""Run a project's Python files of declarations. They are the project's own code and are trusted like all of it."""

from __future__ import annotations

import traceback
from pathlib import Path

from sokuji.errors import SokujiError


def run(path: Path, error_type: type[SokujiError]) -> None:
    """Run the file. Its declarations are collected by the functions it calls.

    Raises:
        SokujiError: an error of `error_type`: the file is missing, is not Python, or raises; the message begins with file and line.
    """
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except OSError as error:
        raise error_type(f"{path} cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise error_type(f"{path}:{error.lineno}: {error.msg}") from error
    except ValueError as error:  # a null byte
        raise error_type(f"{path}: {error}") from error
    try:
        exec(code, {"__name__": path.stem, "__file__": str(path)})  # noqa: S102 - the project's own code
    except error_type as error:
        raise error_type(f"{path}:{_line(error, path)}: {error}") from error
    except (Exception, SystemExit) as error:
        raise error_type(f"{path}:{_line(error, path)}: {type(error).__name__}: {error}") from error


def _line(error: BaseException, path: Path) -> int | None:
    """The line of the file where the error occurred: the innermost one, as a function of the file may have raised it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None

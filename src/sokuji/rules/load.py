"""Reads a project's `actions.py`."""

from __future__ import annotations

import traceback
from pathlib import Path

from sokuji.errors import RuleError
from sokuji.rules.spec import Actions, Project
from sokuji.rules.vocabulary import Declared, declared

FILE_NAME = "actions.py"


def load(path: Path) -> Actions:
    """What the file declares. It is Python and is run as such: the project's own code, trusted like all of the project.

    Raises:
        RuleError: the file is not there, is not Python, raises, or declares what is not allowed; the message begins with file and line.
    """
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except OSError as error:
        raise RuleError(f"{path} cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise RuleError(f"{path}:{error.lineno}: {error.msg}") from error
    except ValueError as error:  # a null byte
        raise RuleError(f"{path}: {error}") from error
    current = Declared([])
    token = declared.set(current)
    try:
        exec(code, {"__name__": path.stem, "__file__": str(path)})  # noqa: S102 - the project's own code
    except RuleError as error:
        raise RuleError(f"{path}:{_line(error, path)}: {error}") from error
    except (Exception, SystemExit) as error:
        raise RuleError(f"{path}:{_line(error, path)}: {type(error).__name__}: {error}") from error
    finally:
        declared.reset(token)
    return Actions(current.project or Project(), tuple(current.rules))


def _line(error: BaseException, path: Path) -> int | None:
    """The line of the file in which the error came up: the innermost one, as a function of the file may have made it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None

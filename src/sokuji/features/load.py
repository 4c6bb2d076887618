"""Reads a project's `features.py`."""

from __future__ import annotations

import traceback
from pathlib import Path

from sokuji.errors import FeatureError
from sokuji.features.declare import declared
from sokuji.features.spec import ViewSpec

FILE_NAME = "features.py"


def load(path: Path) -> tuple[ViewSpec, ...]:
    """The views that the file declares, in its order. It is Python and is run as such: trusted like all of the project.

    Raises:
        FeatureError: the file is not there, is not Python, raises, or declares what is not allowed; the message begins with file and line.
    """
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except OSError as error:
        raise FeatureError(f"{path} cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise FeatureError(f"{path}:{error.lineno}: {error.msg}") from error
    except ValueError as error:  # a null byte
        raise FeatureError(f"{path}: {error}") from error
    views: list[ViewSpec] = []
    token = declared.set(views)
    try:
        exec(code, {"__name__": path.stem, "__file__": str(path)})  # noqa: S102 - the project's own code
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, FeatureError) else f"{type(error).__name__}: "
        raise FeatureError(f"{path}:{_line(error, path)}: {kind}{error}") from error
    finally:
        declared.reset(token)
    names = [feature.name.lower() for view in views for feature in view.features]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise FeatureError(f"{path}: two views have a feature called {name}; rules name features alone, so rename one of them")
    return tuple(views)


def _line(error: BaseException, path: Path) -> int | None:
    """The innermost line of the file in which the error came up."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None

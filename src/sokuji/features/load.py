"""Load a project's `features.py`."""

from __future__ import annotations

from pathlib import Path

from sokuji.declarations import run
from sokuji.errors import FeatureError
from sokuji.features.hints import hint
from sokuji.features.language import Declarations, declared
from sokuji.features.spec import ViewSpec


def load(path: Path) -> tuple[ViewSpec, ...]:
    """The views that the file declares, in its order. Raises like `read`."""
    return tuple(read(path).views)


def read(path: Path) -> Declarations:
    """The declarations of the file. The file is Python and is executed: it is trusted like the whole project.

    Raises:
        FeatureError: the file is missing, is not Python, raises, or has an invalid declaration; the message begins with file and line.
    """
    declarations = Declarations([], {})
    token = declared.set(declarations)
    try:
        run(path, FeatureError)
    except FeatureError as error:
        fix = hint(error.__cause__)
        raise FeatureError(f"{error}; {fix}" if fix else str(error)) from error.__cause__
    finally:
        declared.reset(token)
    names = [feature.name.lower() for view in declarations.views for feature in view.features]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise FeatureError(f"{path}: two views have a feature called {name}; rules name features alone, so rename one of them")
    return declarations

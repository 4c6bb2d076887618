"""Load a project's `actions.py`."""

from __future__ import annotations

from pathlib import Path

from sokuji.declarations import run
from sokuji.errors import RuleError
from sokuji.rules.language import DeclaredRules, declared
from sokuji.rules.spec import Actions, Project


def load(path: Path) -> Actions:
    """The declarations of the file. The file is Python and is executed: it is trusted like the whole project.

    Raises:
        RuleError: the file is missing, is not Python, raises, or has an invalid declaration; the message begins with file and line.
    """
    current = DeclaredRules([])
    token = declared.set(current)
    try:
        run(path, RuleError)
    finally:
        declared.reset(token)
    return Actions(current.project or Project(), tuple(current.rules))

"""Reads a project's `actions.py`."""

from __future__ import annotations

from pathlib import Path

from sokuji.declarations import run
from sokuji.errors import RuleError
from sokuji.rules.language import DeclaredRules, declared
from sokuji.rules.spec import Actions, Project


def load(path: Path) -> Actions:
    """What the file declares. It is Python and is run as such: the project's own code, trusted like all of the project.

    Raises:
        RuleError: the file is not there, is not Python, raises, or declares what is not allowed; the message begins with file and line.
    """
    current = DeclaredRules([])
    token = declared.set(current)
    try:
        run(path, RuleError)
    finally:
        declared.reset(token)
    return Actions(current.project or Project(), tuple(current.rules))

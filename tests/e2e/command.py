"""Commands of `sokuji` in this process, beside a platform that runs: a process of its own would spend seconds importing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from sokuji.cli import main


def sokuji(*arguments: str | Path) -> Result:
    """The outcome of a command; an error that `sokuji` does not raise on purpose is raised."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def sql(folder: Path, query: str) -> list[dict[str, Any]]:
    """The rows that `sokuji sql` prints: none for a statement that has no rows."""
    done = sokuji("sql", "-p", folder, "--format", "json", query)
    assert done.exit_code == 0, (done.exit_code, done.stderr)
    rows: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return rows

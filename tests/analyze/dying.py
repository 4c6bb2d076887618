"""A worker that some events kill: `dying FOLDER` processes the log, and a supervisor restarts it whenever it dies."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from sokuji.analyze.compile import Declared
from sokuji.analyze.pipeline import Pipeline
from tests.analyze.side import SHARED, side

KILL, RAISE = "kill", "raise"
"""Events of these names do it."""


def dying() -> Any:
    """Until the block ends, the worker dies of these events, after identities and message ids were taken in."""
    real = Pipeline._take_in

    def take_in(self: Pipeline, outcome: Any, *rest: Any, **more: Any) -> None:
        names = outcome.events.column("event_name").to_pylist()
        if KILL in names:
            os.kill(os.getpid(), signal.SIGKILL)
        if RAISE in names:
            raise ValueError("it dies of this")
        real(self, outcome, *rest, **more)

    return mock.patch.object(Pipeline, "_take_in", take_in)


def main(folder: Path) -> None:
    """Work the log of the project in `folder` off."""
    stop = threading.Event()
    stop.set()
    again = True
    while again:
        with dying(), side(folder, SHARED) as opened, opened.worker(Declared.load(folder)) as worker:
            again = worker.run(stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

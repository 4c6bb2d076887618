"""A worker as a separate process: `working FOLDER` works until it is killed, or until its standard input ends."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from sokuji.analyze.compile import Declared
from sokuji.config import AnalyzeSettings
from tests.analyze.side import SHARED, side

SETTINGS = AnalyzeSettings(checkpoint_seconds=0.1, profiles_max=1_000)


def main(folder: Path) -> None:
    """Work on the project in `folder`."""
    stop = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    with side(folder, SHARED) as opened, opened.worker(Declared.load(folder), settings=SETTINGS) as worker:
        print("working", flush=True)
        worker.run(stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

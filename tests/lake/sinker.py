"""The sink on a folder as a process, until SIGTERM: `sinker FOLDER`. The process prints a line once the sink runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sokuji.config import LakeSettings
from tests.lake.platform import lakeside

SETTINGS = LakeSettings(commit_seconds=0.01, commit_rows=500)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A sink that is running."""
    process = subprocess.Popen([sys.executable, "-m", "tests.lake.sinker", str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"running\n"
    return process


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sink that runs in the block, and has drained after it."""
    process = start(folder)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(60) == 0


if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with lakeside(Path(sys.argv[1]), SETTINGS) as side, side.sink() as sink:
        print("running", flush=True)
        sink.run(stop)

"""A role for the supervisor's tests that records its events in a file: `role NAME JOURNAL BEHAVIOUR`.

Behaviours: `serve` until asked to end, then drain; `stubborn`: never end; `fail`: exit with status 3 at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from sokuji.service.stop import until_stopped

if __name__ == "__main__":
    name, journal, behaviour = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

    def note(what: str) -> None:
        with journal.open("a") as file:
            file.write(f"{name} {what} {os.getpid()} {time.monotonic()}\n")

    with until_stopped() as stop:
        note("started")
        if behaviour == "fail":
            sys.exit(3)
        if behaviour == "stubborn":
            child = subprocess.Popen(["sleep", "600"])
            note(f"has-child-{child.pid}")
            time.sleep(600)
        stop.wait()
        note("draining")
        time.sleep(0.3)
        note("ended")

"""A supervisor as a process under test: `supervise JOURNAL NAME=BEHAVIOUR ...`, with short times."""

from __future__ import annotations

import sys

from sokuji.service import logs
from sokuji.service.supervisor import Backoff, Supervised, Supervisor

if __name__ == "__main__":
    journal, *roles = sys.argv[1:]
    logs.configure("up")
    Supervisor(
        [
            Supervised(name, [sys.executable, "-m", "tests.service.role", name, journal, behaviour], stop_seconds=1.5)
            for name, _, behaviour in (role.partition("=") for role in roles)
        ],
        backoff=Backoff(first_seconds=0.1, last_seconds=0.4, calm_seconds=60.0),
    ).run(on_ready=lambda: print("ready", flush=True))

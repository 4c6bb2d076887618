"""Killing the roles of a running platform."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def role_pid(supervisor: int, role: str) -> int | None:
    """The process of a role, None while there is none."""
    for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        if role in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"):
            return int(pid)
    return None


def kill_role(supervisor: int, role: str) -> None:
    while (pid := role_pid(supervisor, role)) is None:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)

"""The platform's roles as processes of their own, and what they cost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sokuji.roles.up import supervised
from sokuji.service.stop import SUPERVISED

_READY_SECONDS = 120.0
_STOP_SECONDS = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Running:
    """Roles that run."""

    def __init__(self, processes: dict[str, subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    def cpu_seconds(self) -> dict[str, float]:
        """The processor time that each role has taken, in user and system mode."""
        return {name: _cpu_seconds(process.pid) for name, process in self._processes.items()}

    def memory_mib(self) -> dict[str, float]:
        """The most memory that each role had at a time. Rows in shared memory count where they were touched: in the worker."""
        return {name: _peak_kib(process.pid) / 1024 for name, process in self._processes.items()}

    def check(self) -> None:
        """That none has died."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} ended with status {process.returncode}; its log above says why")


@contextmanager
def running(folder: Path, names: Sequence[str]) -> Iterator[Running]:
    """The roles `names` of the project in `folder`, ready when the block begins, drained in their order when it ends."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    chosen = [role for role in supervised(folder) if role.name in names]
    try:
        for role in chosen:
            environment = os.environ | {SUPERVISED: str(_STOP_SECONDS)}
            processes[role.name] = subprocess.Popen(role.command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
        alive = Running(processes)
        deadline = time.monotonic() + _READY_SECONDS
        while not all(_answers(str(role.ready_url)) for role in chosen):
            alive.check()
            if time.monotonic() > deadline:
                raise SystemExit(f"the roles were not ready after {_READY_SECONDS:.0f} s")
            time.sleep(0.1)
        yield alive
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_SECONDS)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

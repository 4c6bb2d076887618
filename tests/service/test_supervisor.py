from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sokuji.service.supervisor import Supervised, Supervisor, reason

pytestmark = pytest.mark.e2e


class Note(NamedTuple):
    role: str
    what: str
    pid: int
    time: float


class Running:
    """A supervisor process, what it printed, and what its roles noted."""

    def __init__(self, folder: Path, *roles: str) -> None:
        self.journal, self.log = folder / "journal", folder / "log"
        self.journal.touch()
        command = [sys.executable, "-m", "tests.service.supervise", str(self.journal), *roles]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)

    def notes(self, what: str = "") -> list[Note]:
        lines = [line.split() for line in self.journal.read_text().splitlines()]
        return [Note(role, event, int(pid), float(time)) for role, event, pid, time in lines if event.startswith(what)]

    def messages(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.log.read_text().splitlines()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start(*roles: str) -> Running:
        running.append(Running(tmp_path, *roles))
        return running[-1]

    yield start
    for each in running:
        if each.process.poll() is None:
            each.stop()
        assert each.process.stdout is not None
        each.process.stdout.close()
        eventually(lambda each=each: not any(map(is_alive, pids(each))))  # type: ignore[misc]


def pids(running: Running) -> set[int]:
    children = {int(note.what.rpartition("-")[2]) for note in running.notes("has-child")}
    return {note.pid for note in running.notes()} | children


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_roles_are_drained_one_after_the_other(supervise: Callable[..., Running], number: int) -> None:
    running = supervise("track=serve", "sink=serve")
    eventually(lambda: len(running.notes("started")) == 2)
    assert running.stop(number) == 0
    ends = [(note.role, note.what) for note in running.notes() if note.what != "started"]
    assert ends == [("track", "draining"), ("track", "ended"), ("sink", "draining"), ("sink", "ended")]
    assert running.messages()[-2:] == ["track exited with status 0", "sink exited with status 0"]


def test_a_role_that_dies_is_started_again_and_the_reason_is_said(supervise: Callable[..., Running]) -> None:
    running = supervise("track=serve", "sink=serve")
    eventually(lambda: len(running.notes("started")) == 2)
    first = next(note for note in running.notes() if note.role == "track")
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: len(running.notes("started")) == 3)
    assert [note.role for note in running.notes("started")].count("track") == 2
    assert "track was killed by SIGKILL; starting it again in 0.1 s" in running.messages()


def test_a_role_that_keeps_dying_is_started_less_and_less_often(supervise: Callable[..., Running]) -> None:
    running = supervise("track=serve", "sink=fail")
    eventually(lambda: len([note for note in running.notes("started") if note.role == "sink"]) == 5)
    pauses = [message.rpartition(" in ")[2] for message in running.messages() if message.startswith("sink exited")]
    assert pauses[:4] == ["0.1 s", "0.2 s", "0.4 s", "0.4 s"]
    times = [note.time for note in running.notes("started") if note.role == "sink"]
    assert all(later - earlier >= pause for earlier, later, pause in zip(times, times[1:], (0.1, 0.2, 0.4, 0.4), strict=False))
    assert "sink exited with status 3; starting it again in 0.1 s" in running.messages()
    assert [note.role for note in running.notes("started")].count("track") == 1


def test_nothing_outlives_a_supervisor_that_is_killed(supervise: Callable[..., Running]) -> None:
    running = supervise("track=serve", "sink=stubborn")
    eventually(lambda: bool(running.notes("has-child")) and len(running.notes("started")) == 2)
    assert all(map(is_alive, pids(running)))
    assert running.stop(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not any(map(is_alive, pids(running))))
    assert [note.role for note in running.notes("ended")] == ["track"]


def test_a_role_that_does_not_drain_is_killed_with_its_children(supervise: Callable[..., Running]) -> None:
    running = supervise("track=stubborn")
    eventually(lambda: bool(running.notes("has-child")))
    assert running.stop() == 0
    assert not any(map(is_alive, pids(running)))
    assert running.messages()[-1] == "track did not drain in time and is killed"


def test_a_child_that_a_dead_role_left_behind_is_killed(supervise: Callable[..., Running]) -> None:
    running = supervise("track=stubborn")
    eventually(lambda: bool(running.notes("has-child")))
    child = int(running.notes("has-child")[0].what.rpartition("-")[2])
    os.kill(running.notes("started")[0].pid, signal.SIGKILL)
    eventually(lambda: not is_alive(child))


def test_a_second_signal_ends_the_wait_for_a_role_that_drains(supervise: Callable[..., Running]) -> None:
    running = supervise("track=stubborn")
    eventually(lambda: bool(running.notes("has-child")))
    before = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    running.stop()
    assert time.monotonic() - before < 1.2
    assert not any(map(is_alive, pids(running)))


def test_ready_is_said_once_when_all_roles_are(supervise: Callable[..., Running]) -> None:
    running = supervise("track=serve", "sink=serve")
    assert running.process.stdout is not None
    assert running.process.stdout.readline() == b"ready\n"
    running.stop()
    assert running.process.stdout.read() == b""


def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        Supervisor([Supervised("track", ["/no/such/command"])]).run()


def test_reasons() -> None:
    assert reason(2) == "exited with status 2"
    assert reason(-signal.SIGSEGV) == "was killed by SIGSEGV"

"""Every role as its own process, under one supervisor."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from sokuji.errors import SokujiError
from sokuji.service.stop import SUPERVISED

_LOG = logging.getLogger(__name__)

_CHECK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Supervised:
    """A part of the platform that runs as a process. The command must call `service.stop.end_with_supervisor`."""

    name: str
    command: Sequence[str]
    ready_url: str | None = None  # answers 200 once the role is ready; None: ready as soon as it runs
    version: str = ""  # changes if the data that the process read at its start has changed
    stop_seconds: float = 30.0  # how long it may take to drain before it is killed


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before a role that died is restarted: `first_seconds`, doubled with each death up to `last_seconds`.

    After a life of at least `calm_seconds`, the wait starts at `first_seconds` again.
    """

    first_seconds: float = 0.5
    last_seconds: float = 30.0
    calm_seconds: float = 60.0


class Supervisor:
    """Starts roles, restarts those that die, and stops them in order.

    The roles are ordered by the flow of data. They are drained in this order, each one after the role before it has stopped, so that each
    role still reads everything that the one before it wrote.
    """

    def __init__(self, roles: Sequence[Supervised], *, backoff: Backoff = Backoff()) -> None:
        self._backoff = backoff
        self._processes = [_RoleProcess(role, backoff) for role in roles]
        self._stops_asked = 0
        self._reload_asked = False

    @property
    def roles(self) -> list[Supervised]:
        """The roles it runs."""
        return [process.role for process in self._processes]

    def run(self, on_ready: Callable[[], None] | None = None, *, reload: Callable[[], Sequence[Supervised]] | None = None) -> None:
        """Run the roles until SIGTERM or Ctrl-C, then drain them. A second signal kills roles that still drain. Main thread only.

        `on_ready` is called when all roles are ready. On SIGUSR1, `reload` returns the new roles. Roles that differ are drained and started
        again, the others continue, and `on_ready` is called again. If `reload` raises, nothing changes.

        Raises:
            OSError: a role's command cannot be started; the others are drained.
        """
        handlers = {signal.SIGTERM: self._ask_to_stop, signal.SIGINT: self._ask_to_stop, signal.SIGUSR1: self._ask_to_reload}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        is_announced = False
        try:
            while not self._stops_asked:
                if self._reload_asked:
                    self._reload_asked = False
                    is_announced = not self._change(reload) and is_announced
                for process in self._processes:
                    process.keep_running()
                if not is_announced and all(process.is_ready() for process in self._processes):
                    is_announced = True
                    if on_ready is not None:
                        on_ready()
                time.sleep(_CHECK_SECONDS)
        finally:
            for process in self._processes:
                process.drain(is_urgent=lambda: self._stops_asked > 1)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: object) -> None:  # noqa: ARG002 - the signature of a handler
        self._stops_asked += 1

    def _ask_to_reload(self, number: int, frame: object) -> None:  # noqa: ARG002
        self._reload_asked = True

    def _change(self, reload: Callable[[], Sequence[Supervised]] | None) -> bool:
        """Switch to the roles that `reload` returns. Returns whether the switch happened."""
        if reload is None:
            return False
        try:
            roles = reload()
        except SokujiError as error:
            _LOG.error("nothing was changed: %s", error)
            return False
        kept = {process.role.name: process for process in self._processes if process.role in roles}
        for process in self._processes:
            if process.role.name not in kept:
                process.drain(is_urgent=lambda: self._stops_asked > 1)
        self._processes = [kept.get(role.name) or _RoleProcess(role, self._backoff) for role in roles]
        return True


class _RoleProcess:
    """The process of one role, through all restarts."""

    def __init__(self, role: Supervised, backoff: Backoff) -> None:
        self.role, self._backoff = role, backoff
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._start_at = 0.0  # time.monotonic()
        self._deaths = 0  # in a row
        self._was_ready = False

    def keep_running(self) -> None:
        """Start the process if it is due. If it has died, log the reason and when it starts again."""
        if self._process is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return
        status = self._process.poll()
        if status is None:
            return
        now = time.monotonic()
        if now - self._started_at >= self._backoff.calm_seconds:
            self._deaths = 0
        pause = min(self._backoff.first_seconds * 2**self._deaths, self._backoff.last_seconds)
        self._deaths += 1
        self._start_at = now + pause
        with suppress(ProcessLookupError):  # a child process left behind would keep its port
            os.killpg(self._process.pid, signal.SIGKILL)
        self._forget()
        _LOG.error("%s %s; starting it again in %.3g s", self.role.name, reason(status), pause, extra={"status": status})

    def _start(self) -> None:
        # A session of its own: Ctrl-C on the terminal reaches only the supervisor, which then drains the roles in order.
        self._process = subprocess.Popen(  # noqa: S603 - the command is this program's own
            self.role.command,
            stdin=subprocess.PIPE,
            env=os.environ | {SUPERVISED: str(self.role.stop_seconds)},
            start_new_session=True,
        )
        self._started_at = time.monotonic()
        _LOG.info("%s started", self.role.name, extra={"pid": self._process.pid})

    def is_ready(self) -> bool:
        """Whether the role was ready at least once since its start."""
        if self._process is None:
            return False
        if not self._was_ready:
            self._was_ready = self.role.ready_url is None or _answers(self.role.ready_url)
        return self._was_ready

    def drain(self, is_urgent: Callable[[], bool]) -> None:
        """Ask the process to stop and wait for it. Kill its process group when its time is up or `is_urgent` turns true."""
        if self._process is None:
            return
        self._process.terminate()
        deadline = time.monotonic() + self.role.stop_seconds
        while self._process.poll() is None and time.monotonic() < deadline and not is_urgent():
            time.sleep(_CHECK_SECONDS)
        status = self._process.poll()
        if status is None:
            _LOG.warning("%s did not drain in time and is killed", self.role.name)
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        else:
            _LOG.info("%s %s", self.role.name, reason(status))
        self._forget()

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process, self._was_ready = None, False


def reason(status: int) -> str:
    """Why a process ended, from its exit status as `subprocess` gives it."""
    if status >= 0:
        return f"exited with status {status}"
    return f"was killed by {signal.Signals(-status).name}"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as response:  # noqa: S310 - the URL is the role's own
            return bool(response.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False

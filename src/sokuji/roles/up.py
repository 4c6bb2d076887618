"""A running platform: every role as a process under one supervisor, which applies changes of the project."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from sokuji.config import load
from sokuji.disk.files import hold, replace_file
from sokuji.disk.private import is_private, make_private_folder
from sokuji.errors import DamagedFileError, SokujiError
from sokuji.roles.base import ROLES, ProjectFolder
from sokuji.service import logs
from sokuji.service.stop import SUPERVISED, end_with_supervisor
from sokuji.service.supervisor import Supervised, Supervisor

_LOG = logging.getLogger(__name__)

START_SECONDS = 300.0  # the first start on a machine compiles the analyzer and the kernel, which takes minutes on a busy machine
STOP_SECONDS = 60.0
_LOCK, _STATUS = "up.lock", "up.json"  # in the data folder: the lock of a running supervisor; and its pid and roles, once they are ready


def run_all(folder: Path) -> None:
    """Run every role as a separate process until Ctrl-C or SIGTERM. Then drain the roles in the order in which events pass through them.

    On SIGUSR1, restart the roles whose part of the project changed.

    Raises:
        SokujiError: the platform is already running.
    """
    logs.configure("up")
    config = load(folder)
    end_with_supervisor()
    make_private_folder(config.data)
    if not is_private(config.data):
        _LOG.warning("others on this machine can look into %s, where events are; `sokuji doctor` says what to do", config.data)
    try:
        lock = hold(config.data / _LOCK)
    except BlockingIOError as error:
        raise SokujiError(f"`sokuji up` runs on {folder} already; `sokuji apply` lets it take up changes") from error
    (config.data / _STATUS).unlink(missing_ok=True)
    supervisor = Supervisor(supervised(folder))

    def ready() -> None:
        status = {"pid": os.getpid(), "roles": {role.name: role.version for role in supervisor.roles}}
        replace_file(config.data / _STATUS, json.dumps(status).encode())
        _LOG.info("ready", extra={"collector": f"http://{config.track.host}:{config.track.port}"})

    supervisor.run(ready, reload=lambda: supervised(folder))
    os.close(lock)


def is_running(folder: Path) -> bool:
    """Whether `sokuji up` runs on the project in `folder`."""
    data = load(folder).data
    if not data.exists():
        return False
    try:
        os.close(hold(data / _LOCK))
    except BlockingIOError:
        return True
    return False


def changed_roles(folder: Path) -> list[str]:
    """The roles that a running platform must restart, start or stop to match its project's files."""
    running_now, wanted = _status(folder)["roles"], _versions(folder)
    return sorted(name for name in running_now.keys() | wanted.keys() if running_now.get(name) != wanted.get(name))


def rebuilt(folder: Path) -> None:
    """Record that the worker must take over another state. The roles that read the state then count as changed."""
    replace_file(ProjectFolder.load(folder).rebuilt_file, secrets.token_hex(8).encode())


def reload(folder: Path) -> None:
    """Let the running platform apply its project's files. Returns when the changed roles are ready.

    Raises:
        SokujiError: the roles did not become ready; the platform's log says why.
    """
    os.kill(_status(folder)["pid"], signal.SIGUSR1)
    _wait_for_status(folder, lambda status: status["roles"] == _versions(folder))


def _status(folder: Path) -> dict[str, Any]:
    return _wait_for_status(folder, lambda _: True)


def _wait_for_status(folder: Path, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    path, deadline = load(folder).data / _STATUS, time.monotonic() + START_SECONDS
    while True:
        status = _read_status(path)
        if status is not None and is_wanted(status):
            return status
        if not is_running(folder):
            raise SokujiError(f"the platform on {folder} has ended; see its log for the reason")
        if time.monotonic() > deadline:
            raise SokujiError(f"the platform on {folder} was not ready after {START_SECONDS:.0f} s; see its log for the reason")
        time.sleep(0.05)


def _read_status(path: Path) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise DamagedFileError(path, str(error), "restart `sokuji up`, which writes this file again") from error


def _versions(folder: Path) -> dict[str, str]:
    return {role.name: role.version for role in supervised(folder)}


def supervised(folder: Path) -> list[Supervised]:
    """The processes of the roles that the project in `folder` needs, in the order of ROLES."""
    project = ProjectFolder.load(folder)
    return [
        Supervised(
            role.name,
            [sys.executable, "-m", "sokuji", role.name, "--project", str(folder)],
            role.ready_url(project.config),
            hashlib.sha256(repr((project.config.data, project.config.log, role.reads(project))).encode()).hexdigest()[:16],
        )
        for role in ROLES
        if role.is_needed(project)
    ]


@contextmanager
def running(folder: Path, *, log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run `sokuji up` on the project in `folder` as another process. It is ready when the block begins, and drained when the block ends.

    The platform logs to standard error, or to the file `log`.

    Raises:
        SokujiError: the platform did not become ready.
    """
    environment = os.environ | {SUPERVISED: str(STOP_SECONDS)}
    command = [sys.executable, "-m", "sokuji", "up", str(folder)]
    with ExitStack() as files:
        errors = None if log is None else files.enter_context(log.open("ab"))
        # Start a new session, so that Ctrl-C reaches only this process, which then ends the other one in order.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors, env=environment, start_new_session=True)  # noqa: S603 - our own command
    try:
        urls = [role.ready_url for role in supervised(folder) if role.ready_url]
        _wait_until_ready(process, urls, "its log above" if log is None else f"its log, {log},")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)
        if process.stdin is not None:
            process.stdin.close()  # not earlier: the end of its input tells the process that this process is gone


def _wait_until_ready(process: subprocess.Popen[bytes], urls: list[str], where: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(_answers(url) for url in urls):
        if process.poll() is not None:
            raise SokujiError(f"the platform ended with status {process.returncode} while it started; {where} says why")
        if time.monotonic() > deadline:
            raise SokujiError(f"the platform was not ready after {START_SECONDS:.0f} s; {where} says why")
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - a role's own address
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False

"""How a role is asked to end: SIGTERM, Ctrl-C, or the death of the supervisor that started it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SUPERVISED = "SOKUJI_SUPERVISED"
"""Set in the environment of a role that a supervisor started; its value is how many seconds the role may take to drain."""

_STANDARD_INPUT = 0


def end_with_supervisor() -> None:
    """Let this process end when its supervisor dies, however that dies; without a supervisor do nothing.

    Standard input is then a pipe that only the supervisor holds open, so its end says that the supervisor is gone. The process is
    asked to drain, by SIGTERM; what is left of its process group after the time it has for that is killed.
    """
    seconds = os.environ.pop(SUPERVISED, None)
    if seconds is not None:
        threading.Thread(target=_outlive, args=(float(seconds),), name="supervisor-watch", daemon=True).start()


def _outlive(seconds: float) -> None:
    while os.read(_STANDARD_INPUT, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    os.killpg(os.getpgrp(), signal.SIGKILL)


@contextmanager
def until_stopped() -> Iterator[threading.Event]:
    """Within the block, an event that is set when this process shall end; for a role that has no event loop of its own.

    The main thread only. A second signal ends the process at once.
    """
    stop = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def first(number: int, frame: object) -> None:  # noqa: ARG001 - the signature of a handler
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)

    def watch() -> None:
        if os.read(reader, 1) != b"\0":
            stop.set()

    # A handler must not set the event: it may interrupt the main thread inside of the event's own lock. So a thread does, woken
    # through the pipe into which the interpreter writes the number of each signal; 0 ends the thread.
    thread = threading.Thread(target=watch, name="signal-watch", daemon=True)
    before = {each: signal.signal(each, first) for each in (signal.SIGTERM, signal.SIGINT)}
    wakeup = signal.set_wakeup_fd(writer)
    thread.start()
    end_with_supervisor()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(wakeup)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.write(writer, b"\0")
        thread.join()
        os.close(reader)
        os.close(writer)

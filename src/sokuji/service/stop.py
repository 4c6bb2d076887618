"""How a role is told to stop: SIGTERM, Ctrl-C, or the death of the supervisor that started it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SUPERVISED = "SOKUJI_SUPERVISED"
"""Set in the environment of a role that a supervisor started. The value is how many seconds the role may take to drain."""

_STANDARD_INPUT = 0


def end_with_supervisor() -> None:
    """Make this process stop when its supervisor dies, however that happens. Does nothing without a supervisor.

    Standard input is then a pipe that only the supervisor holds open, so its end means that the supervisor is gone. The process gets
    SIGTERM
    to drain. Once its time is up, its whole process group is killed.
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
    """Give the block an event that is set when this process must stop. For a role without an event loop of its own.

    Main thread only. A second signal ends the process at once.
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

    # A handler must not set the event: it may interrupt the main thread while that holds the event's own lock. So a thread sets the event.
    # The interpreter writes the number of each signal into the pipe, which wakes the thread; 0 ends the thread.
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

"""Call the project's own Python functions as actions, in a separate process, which is killed if a function does not return."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from sokuji.act.deliver.outcome import DeliveryOutcome

T = TypeVar("T")
Perform = Callable[[Mapping[str, Any]], object]
"""Carries out a decision, given as a JSON object. Raises what the project's function raises."""

# The process first imports the project's code, which may load a model.
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_REASON_LENGTH_MAX = 2_000


class Functions:
    """Calls one function at a time, each with a time limit. The process starts with the first call, and again after it was killed.

    Not thread-safe.
    """

    def __init__(self, load: Callable[[], Perform], timeout_seconds: float) -> None:
        """Create the caller. `load` is called in the process, and so must be picklable."""
        self._load, self._timeout_seconds = load, timeout_seconds
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def call(self, decision: Mapping[str, Any]) -> DeliveryOutcome:
        """Carry out one decision; blocks. Never raises because of the function."""
        try:
            pipe = self._started()
            pipe.send(decision)
            if not pipe.poll(self._timeout_seconds):
                self.close()
                return DeliveryOutcome.retry("timeout", f"the function did not return within {self._timeout_seconds:g} s and was killed")
            failure = pipe.recv()
        except (EOFError, OSError) as error:
            status = self._reap()
            return DeliveryOutcome.retry("died", f"the process of the functions ended with status {status}: {error!r}")
        return DeliveryOutcome.done() if failure is None else DeliveryOutcome.retry("raised", failure)

    def close(self) -> None:
        """Kill the process, even during a call."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _started(self) -> Connection:
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._load), name="functions", daemon=True)
            self._process.start()
            theirs.close()  # so that the end of the process closes the pipe
            if not self._pipe.poll(_START_SECONDS):
                self.close()
                raise OSError(f"the project's functions were not loaded within {_START_SECONDS:g} s")
            failure = self._pipe.recv()
            if failure is not None:
                self.close()
                raise OSError(f"the project's functions cannot be loaded: {failure}")
        return self._pipe

    def _reap(self) -> int | None:
        status = None
        if self._process is not None:
            self._process.join(_STOP_SECONDS)
            status = self._process.exitcode
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None
        return status


def _serve(pipe: Connection, load: Callable[[], Perform]) -> None:
    """The process: load, then answer each decision with None or the error raised, until the other end closes the pipe."""
    perform, failure = _attempt(load)
    pipe.send(failure)
    while perform is not None:
        try:
            decision = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        pipe.send(_attempt(partial(perform, decision))[1])


def _attempt(step: Callable[[], T]) -> tuple[T | None, str | None]:
    """The result of `step`, or the error it raised, as text."""
    try:
        return step(), None
    except Exception:  # noqa: BLE001 - the project's code; any error is the delivery's reason, and the delivery is retried
        return None, traceback.format_exc(limit=-5)[-_REASON_LENGTH_MAX:]

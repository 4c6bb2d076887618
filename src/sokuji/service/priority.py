"""Priorities of threads, for when processors are busy."""

from __future__ import annotations

import os
import sys
import threading

_NICE = 10


def give_way() -> None:
    """Lower the priority of the calling thread, and of threads that it starts from now on.

    For work that nobody waits for. Only Linux has priorities of threads; elsewhere this does nothing.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))

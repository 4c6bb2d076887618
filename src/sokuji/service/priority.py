"""Who goes first where processors are short."""

from __future__ import annotations

import os
import sys
import threading

_NICE = 10


def give_way() -> None:
    """Let all others go before the calling thread, and before the threads that it starts from now on.

    For work that nobody waits for. Only Linux knows priorities of threads; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))

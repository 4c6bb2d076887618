"""Limits of file descriptors: each connection takes one, and each dataset some."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

_OTHERS = 128  # open files of a role other than its connections: logs, tables, the event loop
_ENOUGH = 65_536  # used if there is no hard limit


def allow_all() -> None:
    """Raise this process's limit as far as possible: some roles keep files open for each dataset."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _ENOUGH if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def connections(wanted: int) -> int:
    """The number of connections this process can have, at most `wanted`. Raises its descriptor limit as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    if hard == resource.RLIM_INFINITY or hard > soft:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= needed:
        return wanted
    possible = max(soft - _OTHERS, soft // 2)
    logger.warning("%d connections at most instead of %d: raise the limit of open files (`ulimit -n`)", possible, wanted)
    return possible

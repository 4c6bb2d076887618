"""Features of many profiles at many moments, from their history: one sweep over events and labels, profile by profile.

It is the kernel of the stream that runs here, over events in the order in which they became visible, so that what it finds is what the
stream served.
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sokuji.features.kernel import Kernel
from sokuji.features.kernel_columns import EventColumns
from sokuji.features.kernel_loops import group, sweep
from sokuji.features.kernel_rows import Floats
from sokuji.features.program import Ints

_PARTS_A_THREAD = 8  # so that a part with busy profiles does not leave the other threads without work


class Events(NamedTuple):
    """What happened: whose it was (a number below `profiles`), when, from when on it was visible, and what it says."""

    profiles: npt.NDArray[np.int32]
    times: Ints  # us
    visible: Ints
    columns: EventColumns


class Labels(NamedTuple):
    """What is asked: whose features, seeing what was visible by then, as a reader at `times` (us; 0: at the profile's own clock)."""

    profiles: npt.NDArray[np.int32]
    visible: Ints
    times: Ints


def numbers_at(kernel: Kernel, events: Events, labels: Labels, *, profiles: int, threads: int | None = None) -> Floats:
    """The kernel's numbers for each label; `kernel.decode` makes columns of them.

    Events that become visible at the same moment are taken in by their time, then in the order they are given in.
    """
    workers = threads or os.cpu_count() or 1
    out = np.empty((len(labels.profiles), kernel.columns_count))
    event_order, event_starts = group(events.profiles, events.visible, events.times, profiles)
    label_order, label_starts = group(labels.profiles, labels.visible, labels.times, profiles)
    program = kernel.layout.program
    # Parts of about as many events each, not of as many profiles.
    wanted = np.linspace(0, len(events.profiles), workers * _PARTS_A_THREAD + 1)
    bounds = np.unique([0, *np.searchsorted(event_starts[:-1], wanted[1:-1]), profiles]).tolist()

    def run(first: int, last: int) -> None:
        state, _ = kernel.state(np.zeros((1, kernel.width), np.uint8))
        # Brought together before, part by part: the sweep would wait for memory at every number of an event.
        own = event_order[event_starts[first] : event_starts[last]]
        said = events.columns.take(own)
        sweep(
            program, state, event_starts[first : last + 1] - event_starts[first], events.visible[own], events.times[own], said.filters,
            said.values, label_starts[first : last + 1], label_order, labels.visible, labels.times, out,
        )  # fmt: skip

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(run, first, last) for first, last in itertools.pairwise(bounds)]:
            done.result()
    return out

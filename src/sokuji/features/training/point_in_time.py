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

from sokuji.features.kernel.columns import EventColumns
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.linked import sweep_linked
from sokuji.features.kernel.loops import group, sweep
from sokuji.features.kernel.program import Ints
from sokuji.features.kernel.rows import Floats

_PARTS_A_THREAD = 8  # so that a part with busy profiles does not leave the other threads without work

Places = npt.NDArray[np.int32]


class TimedEvents(NamedTuple):
    """What happened: whose it was (a number below `profiles`), when, from when on it was visible, and what it says.

    Events that become visible at the same moment are taken in by `arrived`, by their time if that is None, then as they are given.
    """

    profiles: Places
    times: Ints  # us
    visible: Ints
    columns: EventColumns
    arrived: Ints | None = None


class Labels(NamedTuple):
    """What is asked: whose features, seeing what was visible by then, as a reader at `times` (us; 0: at the profile's own clock)."""

    profiles: Places
    visible: Ints
    times: Ints


class Links(NamedTuple):
    """That some profiles have several rows: row 0, and rows 1, 2, ... which merge into it.

    The n-th merge of a profile, in the order of `merged` and then of `places`, is that of its row n. `merged` is in the terms of
    `visible`. Of the profile's events that become visible at the same point, those come after the merge that arrived at `places` or later.
    """

    event_rows: Places
    label_rows: Places
    profiles: Places  # of each merge
    merged: Ints
    places: Ints


def numbers_at(
    kernel: Kernel, events: TimedEvents, labels: Labels, *, profiles: int, links: Links | None = None, threads: int | None = None
) -> Floats:
    """The kernel's numbers for each label; `kernel.decode` makes columns of them. `links` if profiles have several rows."""
    workers = threads or os.cpu_count() or 1
    out = np.empty((len(labels.profiles), kernel.columns_count))
    arrived = events.times if events.arrived is None else events.arrived
    event_order, event_starts = group(events.profiles, events.visible, arrived, profiles)
    label_order, label_starts = group(labels.profiles, labels.visible, labels.times, profiles)
    program = kernel.layout.program
    merges, places, merge_starts, rows = _merges(links, profiles)
    # Parts of about as many events each, not of as many profiles.
    wanted = np.linspace(0, len(events.profiles), workers * _PARTS_A_THREAD + 1)
    bounds = np.unique([0, *np.searchsorted(event_starts[:-1], wanted[1:-1]), profiles]).tolist()

    def run(first: int, last: int) -> None:
        state, _ = kernel.state(np.zeros((rows, kernel.width), np.uint8))
        # Brought together before, part by part: the sweep would wait for memory at every number of an event.
        own = event_order[event_starts[first] : event_starts[last]]
        said, starts = events.columns.take(own), event_starts[first : last + 1] - event_starts[first]
        asked = label_starts[first : last + 1]
        if links is None:
            sweep(
                program, state, starts, events.visible[own], events.times[own], said.filters, said.values, asked, label_order,
                labels.visible, labels.times, out,
            )  # fmt: skip
            return
        made, _ = kernel.state(np.zeros((1, kernel.width), np.uint8))
        sweep_linked(
            program, state, made, starts, events.visible[own], events.times[own], arrived[own], links.event_rows[own], said.filters,
            said.values, merge_starts[first : last + 1], merges, places, asked, label_order, labels.visible, labels.times,
            links.label_rows, out,
        )  # fmt: skip

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(run, first, last) for first, last in itertools.pairwise(bounds)]:
            done.result()
    return out


def _merges(links: Links | None, profiles: int) -> tuple[Ints, Ints, Ints, int]:
    """When and at which places rows merge, profile by profile; where each profile's begin; how many rows a profile has at most."""
    if links is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(profiles + 1, np.int64), 1
    counts = np.bincount(links.profiles, minlength=profiles)
    starts = np.concatenate([[0], np.cumsum(counts)])
    order = np.lexsort((links.places, links.merged, links.profiles))
    return links.merged[order], links.places[order], starts, 1 + int(counts.max(initial=0))

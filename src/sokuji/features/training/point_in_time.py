"""Features of many profiles at many moments: one sweep over events and labels, profile by profile.

The sweep runs the stream's kernel over events in the order in which they became visible. So its results are those that the stream served.
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

_PARTS_A_THREAD = 8  # so many that one part with busy profiles does not leave the other threads without work

Places = npt.NDArray[np.int32]


class TimedEvents(NamedTuple):
    """Events: the profile of each (a number below `profiles`), its time, when it became visible, and its columns.

    Events that become visible at the same moment are applied by `arrived` (by time if that is None), then in the given order.
    """

    profiles: Places
    times: Ints  # us
    visible: Ints
    columns: EventColumns
    arrived: Ints | None = None


class Labels(NamedTuple):
    """Requested features: the profile, the moment up to which events are visible, and the reader's time (0: the profile's clock)."""

    profiles: Places
    visible: Ints
    times: Ints


class Links(NamedTuple):
    """Profiles with several rows: row 0, and rows 1, 2, ... which merge into it.

    The n-th merge of a profile, sorted by `merged` and then by `places`, is that of its row n. `merged` is a point like `visible`. Of the
    profile's events that become visible at this point, those that arrived at `places` or later come after the merge.
    """

    event_rows: Places
    label_rows: Places
    profiles: Places  # of each merge
    merged: Ints
    places: Ints


def numbers_at(
    kernel: Kernel, events: TimedEvents, labels: Labels, *, profiles: int, links: Links | None = None, threads: int | None = None
) -> Floats:
    """The kernel's numbers for each label; `kernel.decode` makes columns of them. Give `links` if profiles have several rows."""
    workers = threads or os.cpu_count() or 1
    out = np.empty((len(labels.profiles), kernel.columns_count))
    arrived = events.times if events.arrived is None else events.arrived
    event_order, event_starts = group(events.profiles, events.visible, arrived, profiles)
    label_order, label_starts = group(labels.profiles, labels.visible, labels.times, profiles)
    program = kernel.layout.program
    merges, places, merge_starts, rows = _merges(links, profiles)
    # Parts have about equally many events, not equally many profiles.
    wanted = np.linspace(0, len(events.profiles), workers * _PARTS_A_THREAD + 1)
    bounds = np.unique([0, *np.searchsorted(event_starts[:-1], wanted[1:-1]), profiles]).tolist()

    def run(first: int, last: int) -> None:
        state, _ = kernel.state(np.zeros((rows, kernel.width), np.uint8))
        # Copied per part before the sweep, which otherwise would wait for memory at every number of an event.
        own = event_order[event_starts[first] : event_starts[last]]
        gathered, starts = events.columns.take(own), event_starts[first : last + 1] - event_starts[first]
        asked = label_starts[first : last + 1]
        if links is None:
            sweep(
                program, state, starts, events.visible[own], events.times[own], gathered.filters, gathered.values, asked, label_order,
                labels.visible, labels.times, out,
            )  # fmt: skip
            return
        buffer, _ = kernel.state(np.zeros((1, kernel.width), np.uint8))
        sweep_linked(
            program, state, buffer, starts, events.visible[own], events.times[own], arrived[own], links.event_rows[own], gathered.filters,
            gathered.values, merge_starts[first : last + 1], merges, places, asked, label_order, labels.visible, labels.times,
            links.label_rows, out,
        )  # fmt: skip

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(run, first, last) for first, last in itertools.pairwise(bounds)]:
            done.result()
    return out


def _merges(links: Links | None, profiles: int) -> tuple[Ints, Ints, Ints, int]:
    """The merges' points and places, by profile; the start of each profile's merges; and the largest number of rows of a profile."""
    if links is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(profiles + 1, np.int64), 1
    counts = np.bincount(links.profiles, minlength=profiles)
    starts = np.concatenate([[0], np.cumsum(counts)])
    order = np.lexsort((links.places, links.merged, links.profiles))
    return links.merged[order], links.places[order], starts, 1 + int(counts.max(initial=0))

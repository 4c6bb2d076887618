"""Merge visitors into users: find whose each visitor's events are at a time, and sweep over events while rows merge."""

# ruff: noqa: PLR0917 compiled functions are handed numbers and arrays, as they make no objects

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled
from sokuji.features.kernel.evaluate import evaluate
from sokuji.features.kernel.loops import ranking_of, spans_of
from sokuji.features.kernel.merge import merge_all
from sokuji.features.kernel.program import Ints, Program
from sokuji.features.kernel.rows import Floats, RowMemory, look
from sokuji.features.kernel.update import update


@compiled
def last_links(visitors: npt.NDArray[np.int32], received: Ints, places: Ints, starts: Ints, known: Ints, told: Ints, found: Ints) -> None:
    """The newest link that each event's visitor had when the event came in, including the link that the event itself made; -1 for none.

    The links of visitor v are those from `starts[v]` to `starts[v + 1]`, the oldest first. `known` is the time of a link, and `told` the
    place of the event that made it. `received` and `places` are the same for events.
    """
    for event in range(visitors.size):
        visitor = visitors[event]
        found[event] = -1
        if visitor < 0:
            continue
        for link in range(starts[visitor + 1] - 1, starts[visitor] - 1, -1):
            if known[link] < received[event] or (known[link] == received[event] and told[link] <= places[event]):
                found[event] = link
                break


@compiled
def _row(state: RowMemory, word: int) -> RowMemory:
    """The memory from a row's first word on."""
    return RowMemory(state.words[word:], state.floats[word:], state.counts[2 * word :], state.bytes[8 * word :])


@compiled
def sweep_linked(
    program: Program,
    state: RowMemory,
    made: RowMemory,
    event_starts: Ints,
    visible: Ints,
    times: Ints,
    arrived: Ints,
    rows: npt.NDArray[np.int32],
    filters: npt.NDArray[np.uint8],
    columns: Floats,
    merge_starts: Ints,
    merges: Ints,
    merge_places: Ints,
    label_starts: Ints,
    labels: Ints,
    label_visible: Ints,
    label_times: Ints,
    label_rows: npt.NDArray[np.int32],
    out: Floats,
) -> None:
    """Run `sweep` over groups of profiles that merge: the user's profile in the group's row 0, the merging ones in rows 1, 2, ...

    `merges`, from `merge_starts[g]` on, gives the point of `visible` at which each row of the group merges. `merge_places` gives the order
    within that point: events with `arrived` at this place or later come after the merge. `state` has enough rows for every group.
    """
    places = np.zeros(program.windows.size, np.int64)
    spans, ranking = spans_of(program), ranking_of(program)
    width = program.settings[0].width
    for g in range(event_starts.size - 1):
        if label_starts[g] == label_starts[g + 1]:
            continue
        first_merge, last_merge = merge_starts[g], merge_starts[g + 1]
        state.words[: (1 + last_merge - first_merge) * width] = 0
        event, end, merge = event_starts[g], event_starts[g + 1], first_merge
        for label in labels[label_starts[g] : label_starts[g + 1]]:
            until = label_visible[label]
            while True:
                merges_next = merge < last_merge and merges[merge] <= until
                if merges_next and event < end:
                    merges_next = merges[merge] < visible[event] or (
                        merges[merge] == visible[event] and merge_places[merge] <= arrived[event]
                    )
                if merges_next:
                    b = (1 + merge - first_merge) * width
                    merge_all(program, state, width, _row(state, b), width, made, 1)
                    state.words[b : b + width] = 0
                    merge += 1
                elif event < end and visible[event] <= until:
                    update(program, state, rows[event] * width, times[event], event, filters, columns, places)
                    event += 1
                else:
                    break
            b = label_rows[label] * width
            at = look(program, state, b, label_times[label], spans)
            evaluate(program, state, b, at, spans, ranking, out[label])

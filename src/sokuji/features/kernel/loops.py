"""The compiled loops over events, rows and labels, which Python calls."""

# ruff: noqa: PLR0917 compiled functions are handed numbers and arrays, as they make no objects

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled
from sokuji.features.kernel.evaluate import Ranking, evaluate
from sokuji.features.kernel.program import Ints, Program
from sokuji.features.kernel.rows import Floats, RowMemory, Spans, look
from sokuji.features.kernel.update import update


@compiled
def spans_of(program: Program) -> Spans:
    ranges = program.ranges.size
    return Spans(np.zeros(ranges, np.int64), np.zeros(ranges, np.int64), np.zeros(ranges, np.int64))


@compiled
def ranking_of(program: Program) -> Ranking:
    slots = 1
    for part in program.parts:
        slots = max(slots, part.n)
    return Ranking(np.zeros(slots, np.int64), np.zeros(slots), np.zeros(slots), np.zeros(slots, np.int64))


@compiled
def update_all(
    program: Program,
    state: RowMemory,
    stride: int,
    rows: npt.NDArray[np.int32],
    times: Ints,
    filters: npt.NDArray[np.uint8],
    columns: Floats,
    out: Floats,
) -> None:
    """Apply the events one after another, and write the features after each event into its row of `out`.

    `stride` is the words from row to row. If `out` has no rows, no features are computed.
    """
    places = np.zeros(program.windows.size, np.int64)
    spans, ranking = spans_of(program), ranking_of(program)
    for event in range(rows.size):
        b = rows[event] * stride
        update(program, state, b, times[event], event, filters, columns, places)
        if out.shape[0] > 0:
            at = look(program, state, b, times[event], spans)
            evaluate(program, state, b, at, spans, ranking, out[event])


@compiled
def evaluate_all(program: Program, state: RowMemory, stride: int, at: Ints, out: Floats) -> None:
    """Compute the features of each row for a reader at its time in `at`, or at the row's clock if that is later."""
    spans, ranking = spans_of(program), ranking_of(program)
    for row in range(at.size):
        b = row * stride
        time = look(program, state, b, at[row], spans)
        evaluate(program, state, b, time, spans, ranking, out[row])


@compiled
def group(codes: npt.NDArray[np.int32], visible: Ints, times: Ints, groups: int) -> tuple[Ints, Ints]:
    """An order of the events by code, then by `visible`, then by time; and the start of each code's events in this order."""
    starts = np.zeros(groups + 1, np.int64)
    for code in codes:
        starts[code + 1] += 1
    for code in range(groups):
        starts[code + 1] += starts[code]
    order, ends = np.empty(codes.size, np.int64), starts[:-1].copy()
    for event in range(codes.size):
        order[ends[codes[event]]] = event
        ends[codes[event]] += 1
    for code in range(groups):
        own = order[starts[code] : starts[code + 1]]
        for i in range(1, own.size):
            if before(own[i], own[i - 1], visible, times):
                by_time = own[np.argsort(times[own], kind="mergesort")]
                own[:] = by_time[np.argsort(visible[by_time], kind="mergesort")]
                break
    return order, starts


@compiled
def before(event: int, other: int, visible: Ints, times: Ints) -> bool:
    """Whether an event comes before another one."""
    return bool(visible[event] < visible[other] or (visible[event] == visible[other] and times[event] < times[other]))


@compiled
def sweep(
    program: Program,
    state: RowMemory,
    event_starts: Ints,
    visible: Ints,
    times: Ints,
    filters: npt.NDArray[np.uint8],
    columns: Floats,
    label_starts: Ints,
    labels: Ints,
    label_visible: Ints,
    label_times: Ints,
    out: Floats,
) -> None:
    """Compute the features at each label, group by group, reusing one row of `state`.

    Events are sorted by group and then by `visible`; those of group g are from `event_starts[g]` to `event_starts[g + 1]`. `labels` are row
    numbers of `out`, sorted in the same way. A label sees the events that are visible by its `label_visible`, for a reader at its
    `label_times`.
    """
    places = np.zeros(program.windows.size, np.int64)
    spans, ranking = spans_of(program), ranking_of(program)
    for g in range(event_starts.size - 1):
        if label_starts[g] == label_starts[g + 1]:
            continue
        state.words[:] = 0
        event, end = event_starts[g], event_starts[g + 1]
        for label in labels[label_starts[g] : label_starts[g + 1]]:
            while event < end and visible[event] <= label_visible[label]:
                update(program, state, 0, times[event], event, filters, columns, places)
                event += 1
            at = look(program, state, 0, label_times[label], spans)
            evaluate(program, state, 0, at, spans, ranking, out[label])

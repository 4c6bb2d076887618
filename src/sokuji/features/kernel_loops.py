"""The loops over events, rows and labels: what Python calls."""

# ruff: noqa: PLR0917 compiled functions are handed numbers and arrays, as they make no objects

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sokuji.features.compiled import compiled
from sokuji.features.kernel_rows import Floats, Spans, State, look
from sokuji.features.kernel_update import update
from sokuji.features.kernel_values import Ranking, evaluate
from sokuji.features.program import Ints, Program


@compiled
def _spans(program: Program) -> Spans:
    ranges = program.ranges.size
    return Spans(np.zeros(ranges, np.int64), np.zeros(ranges, np.int64), np.zeros(ranges, np.int64))


@compiled
def _ranking(program: Program) -> Ranking:
    slots = 1
    for part in program.parts:
        slots = max(slots, part.n)
    return Ranking(np.zeros(slots, np.int64), np.zeros(slots), np.zeros(slots), np.zeros(slots, np.int64))


@compiled
def update_all(
    program: Program,
    state: State,
    stride: int,
    rows: npt.NDArray[np.int32],
    times: Ints,
    filters: npt.NDArray[np.uint8],
    columns: Floats,
    out: Floats,
) -> None:
    """Take the events in, one after another, and put the features at each, itself included, into its row of `out`.

    Rows of `stride` words; without rows in `out`, nothing is computed.
    """
    places = np.zeros(program.windows.size, np.int64)
    spans, ranking = _spans(program), _ranking(program)
    for event in range(rows.size):
        b = rows[event] * stride
        update(program, state, b, times[event], event, filters, columns, places)
        if out.shape[0] > 0:
            at = look(program, state, b, times[event], spans)
            evaluate(program, state, b, at, spans, ranking, out[event])


@compiled
def evaluate_all(program: Program, state: State, stride: int, at: Ints, out: Floats) -> None:
    """The features of each row for a reader at its `at`, or at the row's clock if that is later."""
    spans, ranking = _spans(program), _ranking(program)
    for row in range(at.size):
        b = row * stride
        time = look(program, state, b, at[row], spans)
        evaluate(program, state, b, time, spans, ranking, out[row])


@compiled
def sweep(
    program: Program,
    state: State,
    event_starts: Ints,
    visible: Ints,
    times: Ints,
    filters: npt.NDArray[np.uint8],
    columns: Floats,
    label_starts: Ints,
    label_times: Ints,
    out: Floats,
) -> None:
    """The features at each label: entity by entity, events and labels in the order of time, in one row of `state` used again and again.

    Events of entity i are those from `event_starts[i]` to `event_starts[i + 1]`, by `visible`, the first time at which a label sees
    them; its labels likewise.
    """
    places = np.zeros(program.windows.size, np.int64)
    spans, ranking = _spans(program), _ranking(program)
    for entity in range(label_starts.size - 1):
        state.words[:] = 0
        event, end = event_starts[entity], event_starts[entity + 1]
        for label in range(label_starts[entity], label_starts[entity + 1]):
            while event < end and visible[event] <= label_times[label]:
                update(program, state, 0, times[event], event, filters, columns, places)
                event += 1
            at = look(program, state, 0, label_times[label], spans)
            evaluate(program, state, 0, at, spans, ranking, out[label])

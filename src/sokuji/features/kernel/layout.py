"""Compile a view to the kernel's program: the parts its features need, and the position of each part in a row."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import zoneinfo
from dataclasses import dataclass, field, replace

import numpy as np

from sokuji.features.kernel import program as p
from sokuji.features.spec import LISTS, Aggregate, AggregateFunction, ViewSpec
from sokuji.features.windows import ALL, SESSION, Window, WindowKind

_DAYS = 150 * 366  # from 1970, to the end of supported clocks
_SLOTS_MIN = 6


@dataclass(frozen=True, slots=True)
class KernelColumn:
    """One column of numbers that the kernel reads: an expression as numbers, as string ids, or as hashes (which only tell values apart)."""

    sql: str
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class PartKey:
    """The identity of a part: parts with equal keys are shared. `order` is when it is updated: 0 before sums, 1 sums, 2 counts."""

    code: int
    filter: str | int
    value: KernelColumn | None
    by: KernelColumn | None
    window: Window
    n: int = 0
    other: int = -1

    @property
    def order(self) -> int:
        return {p.PART_SUM: 1, p.PART_COUNT: 2}.get(self.code, 0)

    @property
    def words(self) -> int:
        """Words of the part in a row."""
        tiles = self.window.tiles
        match self.code:
            case p.PART_COUNT:
                return -(-tiles // 2)
            case p.PART_FIRST:
                return 2 * tiles
            case p.PART_LIST:
                return tiles * (1 + 2 * self.n)
            case p.PART_DISTINCT:
                return 1 + tiles * self.n // 16
            case p.PART_SLOTS:
                return self.n + -(-self.n // 2) + -(-self.n * tiles // 2) + (0 if self.other < 0 else self.n * tiles)
            case _:
                return tiles


@dataclass(frozen=True, slots=True)
class Output:
    """The columns with the value of an aggregate in the kernel's result: `width` columns from `to` on."""

    aggregate: Aggregate
    to: int
    width: int


@dataclass
class ProgramLayout:
    """A view's program, and the meaning of its columns. Rows of two layouts are compatible if and only if the `fingerprint` is equal."""

    program: p.Program
    filters: tuple[str, ...]
    columns: tuple[KernelColumn, ...]
    outputs: dict[Aggregate, Output]
    parts: dict[Aggregate, tuple[PartKey, ...]]
    width: int  # bytes
    fingerprint: str


def layout(view: ViewSpec) -> ProgramLayout:
    """The layout of a view's rows. Equal views have equal layouts, in every process."""
    return _Builder(view).build()


@dataclass
class _Builder:
    view: ViewSpec
    windows: list[Window] = field(default_factory=list)
    ranges: list[Window] = field(default_factory=list)
    keys: list[PartKey] = field(default_factory=list)

    def build(self) -> ProgramLayout:
        aggregates = list(dict.fromkeys(each for feature in self.view.features for each in feature.expression.aggregates()))
        needs = _shared({aggregate: _parts(aggregate) for aggregate in aggregates})
        self.keys = sorted(dict.fromkeys(key for keys in needs.values() for key in keys), key=lambda key: key.order)
        self.windows = list(dict.fromkeys(key.window for key in self.keys))
        self.ranges = list(dict.fromkeys(aggregate.window for aggregate in aggregates))
        # A range that features read needs the head of its ring, even if the ring has no part.
        self.windows += [ring for ring in dict.fromkeys(map(_ring, self.ranges)) if ring not in self.windows]
        filters = tuple(dict.fromkeys(key.filter for key in self.keys if isinstance(key.filter, str)))
        columns = tuple(dict.fromkeys(column for key in self.keys for column in (key.value, key.by) if column is not None))
        parts, words = self._place(filters, columns)
        outputs, table, width = self._outputs(aggregates, needs)
        zones = list(dict.fromkeys(window.zone for window in self.windows if window.zone))
        days = np.concatenate([_day_starts(zone) for zone in zones]) if zones else np.zeros(0, np.int64)
        first_days = {"": -1, **{zone: number * _DAYS for number, zone in enumerate(zones)}}
        windows = [
            (window.kind, window.length_us, max(window.hop_us, 1), window.tiles, first_days[window.zone], head)
            for head, window in enumerate(self.windows, start=p.HEADS)
        ]
        ranges = [(self.windows.index(_ring(window)), window.kind) for window in self.ranges]
        settings = [(words, self.view.session_gap_us, _DAYS, width)]
        program = p.Program(
            np.array(windows, p.WINDOW),
            np.array(ranges, p.RANGE),
            np.array(parts, p.PART),
            np.array(table, p.OUTPUT),
            days,
            np.array(settings, p.SETTINGS),
        )
        return ProgramLayout(program, filters, columns, outputs, needs, words * 8, self._fingerprint())

    def _place(self, filters: tuple[str, ...], columns: tuple[KernelColumn, ...]) -> tuple[list[tuple[int, ...]], int]:
        """The records of the parts, and the number of words of a row."""
        ends = np.cumsum([p.HEADS + len(self.windows), *(key.words for key in self.keys)]).tolist()
        starts = dict(zip(self.keys, ends, strict=False))
        records = []
        for key in self.keys:
            window = self.windows.index(key.window)
            beside = [starts.get(PartKey(code, key.filter, key.value, key.by, key.window), -1) for code in (p.PART_COUNT, p.PART_SUM)]
            records.append(
                (
                    key.code,
                    key.filter if isinstance(key.filter, int) else filters.index(key.filter),
                    -1 if key.value is None else columns.index(key.value),
                    -1 if key.by is None else columns.index(key.by),
                    window,
                    p.HEADS + window,
                    starts[key],
                    key.words,
                    key.window.tiles,
                    key.n,
                    *beside,
                    key.other,
                )
            )
        return records, ends[-1]

    def _outputs(
        self, aggregates: list[Aggregate], needs: dict[Aggregate, tuple[PartKey, ...]]
    ) -> tuple[dict[Aggregate, Output], list[tuple[int, ...]], int]:
        to = 0
        records: list[tuple[int, ...]] = []
        outputs: dict[Aggregate, Output] = {}
        for aggregate in aggregates:
            width = 2 * aggregate.n if aggregate.by else aggregate.n if aggregate.function in LISTS else 1
            outputs[aggregate] = Output(aggregate, to, width)
            # An output without a part is computed from the session alone; its part number is ignored.
            part = self.keys.index(needs[aggregate][0]) if needs[aggregate] else 0
            records.append((p.FUNCTIONS.index(_output(aggregate)), part, self.ranges.index(aggregate.window), to, aggregate.n))
            to += width
        return outputs, records, to

    def _fingerprint(self) -> str:
        text = repr((self.view.session_gap_us, self.windows, [(key, key.words) for key in self.keys]))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _output(aggregate: Aggregate) -> str:
    if aggregate.by is not None:
        return f"by_{aggregate.function}"
    return "count" if aggregate.function is AggregateFunction.SESSION_COUNT else str(aggregate.function)


def _ring(window: Window) -> Window:
    return SESSION if window.kind is WindowKind.PREVIOUS_SESSION else window


_SIMPLE = {
    AggregateFunction.SUM: (p.PART_SUM,),
    AggregateFunction.MEAN: (p.PART_SUM, p.PART_COUNT),
    AggregateFunction.MIN: (p.PART_MIN, p.PART_COUNT),
    AggregateFunction.MAX: (p.PART_MAX, p.PART_COUNT),
    AggregateFunction.VARIANCE: (p.PART_M2, p.PART_SUM, p.PART_COUNT),
    AggregateFunction.STDDEV: (p.PART_M2, p.PART_SUM, p.PART_COUNT),
    AggregateFunction.COUNT: (p.PART_COUNT,),
    AggregateFunction.SESSION_COUNT: (p.PART_COUNT,),
    AggregateFunction.FIRST: (p.PART_FIRST, p.PART_COUNT),
    AggregateFunction.SINCE_FIRST: (p.PART_FIRST, p.PART_COUNT),
}
_LASTS = {AggregateFunction.LAST, AggregateFunction.LAST_N, AggregateFunction.SINCE_LAST}
_OTHERS = {
    AggregateFunction.SUM: p.PART_SUM,
    AggregateFunction.MEAN: p.PART_SUM,
    AggregateFunction.MIN: p.PART_MIN,
    AggregateFunction.MAX: p.PART_MAX,
}


def _parts(aggregate: Aggregate) -> tuple[PartKey, ...]:
    """The parts that the aggregate is computed from, its main part first."""
    filter_: str | int = aggregate.filter if aggregate.filter is not None else p.ALWAYS
    value = None if aggregate.value is None else KernelColumn(aggregate.value)
    window, function = _ring(aggregate.window), aggregate.function
    if function is AggregateFunction.SESSION_COUNT:
        filter_ = p.SESSION_OPENED
    if aggregate.by is not None:
        return (PartKey(p.PART_SLOTS, filter_, value, KernelColumn(aggregate.by), window, slots(aggregate.n), _OTHERS.get(function, -1)),)
    if function is AggregateFunction.TOP_K:
        return (PartKey(p.PART_SLOTS, filter_, None, value, window, slots(aggregate.n)),)
    if function in _LASTS:
        # The last of all events, if it lies in the window, is also the last in the window. Only sessions need their own lists, as the
        # previous
        # session has an end too.
        ring = window if window.kind is WindowKind.SESSION else ALL
        return (PartKey(p.PART_LIST, filter_, value, None, ring, max(aggregate.n, 1)),)
    if function is AggregateFunction.DISTINCT:
        hashed = None if aggregate.value is None else KernelColumn(aggregate.value, hashed=True)
        of_session = int(window.kind is WindowKind.SESSION)
        return (PartKey(p.PART_DISTINCT, filter_, hashed, None, window, registers(window.tiles), of_session),)
    return tuple(PartKey(code, filter_, value, None, window) for code in _SIMPLE.get(function, ()))


def _shared(needs: dict[Aggregate, tuple[PartKey, ...]]) -> dict[Aggregate, tuple[PartKey, ...]]:
    """The same needs, where all aggregates of the last few of the same values share one list, as long as the longest."""
    longest: dict[PartKey, int] = {}
    for key in (key for keys in needs.values() for key in keys if key.code == p.PART_LIST):
        alike = replace(key, n=0)
        longest[alike] = max(longest.get(alike, 0), key.n)
    return {
        aggregate: tuple(replace(key, n=longest[replace(key, n=0)]) if key.code == p.PART_LIST else key for key in keys)
        for aggregate, keys in needs.items()
    }


def registers(tiles: int) -> int:
    """HyperLogLog registers per tile, a power of two. All tiles together take 256 bytes, or 32 per tile if that is more."""
    return max(64, 1 << (512 // tiles).bit_length() - 1)


def slots(n: int) -> int:
    """Categories to keep so that the `n` with the most events are known."""
    return max(_SLOTS_MIN, 2 * n)


@functools.cache
def _day_starts(zone: str) -> p.Ints:
    """When each local day begins, in us; the first of the two where a day has two midnights."""
    info, day = zoneinfo.ZoneInfo(zone), dt.timedelta(days=1)
    start = dt.datetime(1970, 1, 1, tzinfo=info)
    return np.array([int((start + number * day).timestamp()) * 1_000_000 for number in range(_DAYS)], dtype=np.int64)

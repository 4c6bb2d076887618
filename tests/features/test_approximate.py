"""Approximate features stay within their stated error."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from sokuji.features import events, view
from sokuji.features.kernel.kernel import Kernel, Segment
from sokuji.features.kernel.strings import Vocabulary
from sokuji.types import STRING

START = 1_767_225_600_000_000
HOUR = 3_600_000_000
URLS = view("urls", entity="visitor", kinds=events().distinct("url").over("all", "1d"))
SHELVES = view("shelves", entity="visitor", top=events().top(3, "shelf"), by=events().count().by("shelf", top=3))


def feed(kernel: Kernel, rows: Segment, row: int, column: str, texts: list[str], at: int = START) -> None:
    columns = kernel.columns(pa.record_batch({column: texts}))
    kernel.update(rows, np.full(len(texts), row, np.int32), np.full(len(texts), at), columns, want_values=False)


@pytest.mark.parametrize("count", [1, 32, 52, 60, 500, 5_000, 50_000])
def test_distinct_is_exact_up_to_its_bound_and_then_within_its_error(count: int) -> None:
    kernel, profiles = Kernel(URLS, {"url": STRING}, Vocabulary()), 20
    rows = np.zeros((profiles, kernel.width), np.uint8)
    for row in range(profiles):
        texts = [f"/{row}/{number}" for number in range(count)]
        feed(kernel, rows, row, "url", texts + texts[: count // 2])
    found = kernel.finalize(rows, 0)
    for name, exact, registers in (("kinds", 32, 512), ("kinds_1d", 52, 64)):
        values = found.column(name).to_numpy()
        error = 1.04 / math.sqrt(registers)
        if count <= exact:
            assert set(values) == {count}
        else:
            assert np.sqrt(np.mean((values / count - 1) ** 2)) < 1.6 * error
            assert abs(values.mean() / count - 1) < 4 * error / math.sqrt(profiles)


def test_many_values_leave_the_window_and_few_are_exact_again() -> None:
    kernel = Kernel(URLS, {"url": STRING}, Vocabulary())
    rows = np.zeros((1, kernel.width), np.uint8)
    feed(kernel, rows, 0, "url", [f"/{number}" for number in range(1000)])
    feed(kernel, rows, 0, "url", ["/a", "/b"], START + 40 * HOUR)
    assert kernel.finalize(rows, 0).column("kinds_1d").to_pylist() == [2]


@pytest.mark.parametrize("sizes", [(40, 40), (10, 500), (500, 10), (900, 900)])
def test_merged_distinct_values_are_those_of_both(sizes: tuple[int, int]) -> None:
    kernel = Kernel(URLS, {"url": STRING}, Vocabulary())
    whole, rows = (np.zeros((2, kernel.width), np.uint8) for _ in range(2))
    texts = [[f"/{number}" for number in range(first, first + size)] for first, size in zip((0, 5), sizes, strict=True)]
    for row in range(2):
        feed(kernel, rows, row, "url", texts[row])
        feed(kernel, whole, 0, "url", texts[row])
    kernel.merge(rows[:1], rows[1:])
    assert kernel.finalize(rows[:1], 0).to_pylist() == kernel.finalize(whole[:1], 0).to_pylist()


def test_space_saving_never_counts_too_few_and_at_most_one_slots_share_too_many() -> None:
    kernel = Kernel(SHELVES, {"shelf": STRING}, Vocabulary())
    chance = np.random.default_rng(1)
    for _ in range(30):
        rows = np.zeros((1, kernel.width), np.uint8)
        texts = [f"s{int(shelf)}" for shelf in chance.zipf(1.5, 600) if shelf < 200]
        feed(kernel, rows, 0, "shelf", texts)
        true, bound = Counter(texts), len(texts) / 6
        found = kernel.finalize(rows, 0).to_pylist()[0]
        assert [pair["category"] for pair in found["by"]] == found["top"]
        for pair in found["by"]:
            assert true[pair["category"]] <= pair["value"] <= true[pair["category"]] + bound
        for shelf, count in true.items():
            assert count <= bound or shelf in found["top"] or count <= found["by"][-1]["value"]

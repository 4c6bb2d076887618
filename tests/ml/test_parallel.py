"""Work shared by the threads of training."""

from __future__ import annotations

import pytest

from sokuji.ml.parallel import CORES, each, shares


def test_results_come_in_the_order_of_the_items_also_inside_of_one_another() -> None:
    """More of each than there are threads: none may wait for one that waits for it."""
    many = range(4 * CORES)
    assert each(lambda outer: each(lambda inner: (outer, inner), many), many) == [[(outer, inner) for inner in many] for outer in many]


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        each(lambda number: 1 // number, [1, 0, 2])


@pytest.mark.parametrize(("count", "step"), [(0, 10), (1, 10), (10, 10), (11, 10), (1000, 7), (1000, 1)])
def test_shares_are_every_step_once(count: int, step: int) -> None:
    found = shares(count, step)
    assert [start for share in found for start in share] == list(range(0, count, step))
    assert len(found) <= CORES

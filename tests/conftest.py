"""How the tests search: fixed examples in `make test`, so that chance never fails a good change; random examples in `make test-long`.

`make test-long` prints its seed (`make test-long SEED=...` repeats it), tries `LONGER` times as many examples, and runs the tests
marked `long`. A failure that it finds becomes an `@example` or a test.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.log.opening import InMemory, Opening, on_disk

IS_LONG = "SOKUJI_TEST_LONG" in os.environ
LONGER, FEWER = 20, 3

settings.register_profile("fixed", deadline=None, derandomize=True, database=None, max_examples=100 // FEWER)
settings.register_profile("long", deadline=None, print_blob=True, max_examples=100 * LONGER)
settings.load_profile("long" if IS_LONG else "fixed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what only `make test-long` runs."""
    if not IS_LONG:
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long: `make test-long` runs it"))


@pytest.fixture(params=["on disk", "in memory, with gaps"])
def opening(request: pytest.FixtureRequest) -> Opening:
    """For a test that must pass whichever backend has the logs."""
    return on_disk if request.param == "on disk" else InMemory()

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.track.collector import Collector, collecting


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with collecting(tmp_path) as running:
        yield running

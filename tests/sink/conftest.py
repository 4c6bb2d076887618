"""A folder with its logs and lake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lake.platform import Lakeside, lakeside
from tests.log.opening import Opening, on_disk


@pytest.fixture
def side(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lakeside]:
    opening: Opening = request.getfixturevalue("opening") if "opening" in request.fixturenames else on_disk
    with lakeside(tmp_path, opening=opening) as side:
        yield side

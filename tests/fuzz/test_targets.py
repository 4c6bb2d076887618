"""Each fuzzer finds no fault: for a moment with a fixed seed in `make test`, for minutes with the printed seed in `make test-long`."""

from __future__ import annotations

import importlib
import os

import pytest

from tests.conftest import IS_LONG
from tests.fuzz.__main__ import TARGETS

SEED = int(os.environ.get("SOKUJI_TEST_LONG", "2019"))
SECONDS = 120.0 if IS_LONG else 1.0
_LONG = {"platform", "sql_limits"}  # starts a platform; looks at the clock


@pytest.mark.parametrize("target", [pytest.param(each, marks=[pytest.mark.long] * (each in _LONG)) for each in TARGETS])
def test_it_finds_nothing(target: str) -> None:
    assert importlib.import_module(f"tests.fuzz.{target}").fuzz(SEED, SECONDS) > 0

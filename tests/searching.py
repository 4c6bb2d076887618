"""The number of examples for a property test."""

from __future__ import annotations

from tests.conftest import FEWER, IS_LONG, LONGER


def examples(count: int) -> int:
    """`count` times `LONGER` in `make test-long`, a `FEWER`th of `count` in `make test`, which looks at the same ones each time."""
    return count * LONGER if IS_LONG else -(-count // FEWER)

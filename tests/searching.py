"""How many examples a property is held to."""

from __future__ import annotations

from tests.conftest import IS_LONG, LONGER


def examples(count: int) -> int:
    """`count` in `make test`, `LONGER` times as many in `make test-long`."""
    return count * LONGER if IS_LONG else count

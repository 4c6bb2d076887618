"""Other systems on the same events: `sokuji bench peers --json`. README.md beside this file says what is compared, and how."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    from bench.peers.run import main as run  # peers import this package too, where nothing of the project is installed

    run(argv)

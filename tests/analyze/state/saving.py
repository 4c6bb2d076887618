"""A state in a folder as a process of its own: `saving FOLDER` works and begins a checkpoint after each batch, until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.analyze.state.streaming import COUNTING, Streaming
from tests.analyze.state.test_folder import folder_states


def main(folder: Path) -> None:
    """Work on the state in `folder`, from its last checkpoint on."""
    stream = Streaming(folder, folder_states()).open()
    number = stream.state.position().number
    while True:
        stream.count(number)
        number += 1
        stream.save(number, {COUNTING: number}, wait=False)
        print("saving", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

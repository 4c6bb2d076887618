"""SIGKILL kills a writer at random moments: the store opens at a complete checkpoint, with its offsets and blobs."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sokuji.errors import OnlineStoreError
from sokuji.online.shared import table
from sokuji.online.shared.reader import SharedReader
from tests.conftest import IS_LONG
from tests.online.batches import NAMES, State, apply, open_store
from tests.online.rows import header_word, number, stored

ROUNDS = 200 if IS_LONG else 3


def one_life(folder: Path, chance: random.Random, *, is_patient: bool) -> int:
    """Start the writer, kill it, if patient after a complete checkpoint; the offset of the last one that it said is complete."""
    with subprocess.Popen([sys.executable, "-m", "tests.online.batches", str(folder)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = []
        if is_patient or chance.random() < 0.8:
            assert writer.stdout.readline() == "open\n"
            if is_patient:
                said.append(writer.stdout.readline().removesuffix("\n"))
            time.sleep(chance.uniform(0, 0.3))
        else:
            time.sleep(chance.uniform(0.3, 1.5))  # while it starts, too
        writer.kill()
        said += [line for line in writer.stdout.read().split("\n")[:-1] if line != "open"]
    return int(said[-1]) if said else 0


def check_reader(reader: SharedReader, folder: Path) -> None:
    """While nobody writes, every row can be read but the one that was being changed; while entries of the index moved, those found."""
    unreadable = 0
    for name in NAMES:
        try:
            row = reader.get(name)
        except OnlineStoreError:
            unreadable += 1
        else:
            assert row is None or number(row) >= 0
    assert unreadable <= 1 or header_word(folder, table.INDEX_VERSION) & 1


@pytest.mark.slow
@pytest.mark.e2e
def test_a_killed_writer_leaves_the_state_of_a_complete_checkpoint(tmp_path: Path) -> None:
    chance = random.Random(2019)
    open_store(tmp_path).close()
    model: State = {}
    applied = checkpoints = 0
    reader: SharedReader | None = None
    for life in range(ROUNDS):
        said = one_life(tmp_path, chance, is_patient=life % 2 == 0)
        if reader is not None:
            check_reader(reader, tmp_path)
        with open_store(tmp_path) as store:
            offset = store.offsets().get("batch", 0)
            assert offset >= max(said, applied), "a complete checkpoint is lost"
            checkpoints += offset > applied
            while applied < offset:
                model = apply(model, applied)
                applied += 1
            expected = {name: value for name, (value, _) in model.items()}
            assert stored(store, NAMES) == expected
            assert store.blobs() == ({"batch": str(offset).encode() * 100} if offset else {})
            reader = reader or SharedReader(tmp_path)
            assert {name: number(row) for name in NAMES if (row := reader.get(name)) is not None} == expected
    assert applied >= checkpoints > 0

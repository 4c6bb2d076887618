"""A snapshot has the rows of its moment, whatever happens between any two blocks of it."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.online.hashing import Hasher
from sokuji.online.shared.resident import CLEAN, FREE, ResidentRows
from sokuji.online.shared.run import block_rows
from sokuji.online.shared.table import Layout, TableFile
from tests.online.rows import keys, number, rows
from tests.searching import examples

WIDTH = 64 * 1024  # one row a block, and 16 blocks are copied at a time
COUNT = 48
SALT = bytes(16)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "remove"]), st.sets(st.integers(0, COUNT - 1))), min_size=COUNT, max_size=COUNT)


@given(st.permutations(range(COUNT)), st.sets(st.integers(0, COUNT - 1)), STEPS)
@settings(deadline=None, max_examples=examples(60))
def test_a_snapshot_is_of_its_moment(order: list[int], changed: set[int], steps: list[tuple[str, set[int]]]) -> None:
    assert block_rows(WIDTH) == 1
    digests = Hasher(SALT).digests(keys(map(str, range(COUNT))))
    with tempfile.TemporaryDirectory() as folder, closing(TableFile(Path(folder), Layout(WIDTH, COUNT), SALT)) as file:
        resident = ResidentRows(file)
        resident.put(digests, rows(range(COUNT), WIDTH), 0)
        resident.snapshot()
        resident.settle(CLEAN)
        some = sorted(changed)
        resident.put(digests[some], rows((100 + each for each in some), WIDTH), 1)
        snapshot = resident.snapshot()
        at = {tuple(digest): place for place, digest in enumerate(snapshot.digests.tolist())}
        assert set(at) == {tuple(digests[each].tolist()) for each in some}
        wanted = [each for each in order if each in changed]
        places = np.array([at[tuple(digests[each].tolist())] for each in wanted], np.int64)
        found: list[int] = []
        for batch, ((kind, which), block) in enumerate(zip(steps, snapshot.blocks(places), strict=False)):
            found += [number(row.tobytes()) for row in block]
            few = sorted(which)
            if kind == "put":
                resident.put(digests[few], rows((1000 * (batch + 1) + each for each in few), WIDTH), batch)
            else:
                slots = resident.find(digests[few])
                resident.remove(slots[slots >= 0])
        assert found == [100 + each for each in wanted]
        assert resident.room == len(resident.in_state(FREE))

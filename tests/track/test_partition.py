import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from sokuji.track.partition import partition_of, partitions_of


@given(st.lists(st.text(st.characters(codec="utf-8"))), st.integers(1, 64))
def test_many_are_as_one(visitors: list[str], partitions: int) -> None:
    assert partitions_of(visitors, partitions).tolist() == [partition_of(visitor, partitions) for visitor in visitors]


def test_the_hash_is_the_same_in_every_process_and_for_ever() -> None:
    assert [partition_of(visitor, 1 << 32) for visitor in ("", "v1", "即時")] == [0, 0x6962CCB5, 0xBFA0C188]
    code = "from sokuji.track.partition import partition_of; print(partition_of('v1', 1 << 32))"
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout) == 0x6962CCB5

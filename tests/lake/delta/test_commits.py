"""No table is read from a damaged commit or checkpoint: a flipped bit there adds or removes rows."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from sokuji.errors import DamagedFileError, FormatError
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.objects import Ref

REF = Ref("shop", "orders")


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(tmp_path)
    lake.create(REF, pa.schema([("id", pa.int64())]))
    for number in (1, 2):
        append(lake, number)
    return lake


def append(lake: DeltaLake, number: int) -> None:
    lake.append(REF, pa.table({"id": [number], f"column{number}": [number]}).to_reader(), transactions={"sink": number})


def log(folder: Path) -> Path:
    return folder / "shop" / "orders" / "_delta_log"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"add"', b'{"adf"'),  # the rows would be gone
        (b'"version":2', b'"version":3'),  # and so would what the sink commits next
        (b'"version":2', b'"version":0'),  # rows would come again
        (b"column2", b"column3"),  # and this one would be NULL
    ],
)
def test_a_flipped_bit_in_a_commit_is_named(lake: DeltaLake, tmp_path: Path, before: bytes, after: bytes) -> None:
    [path] = [path for path in log(tmp_path).glob("*.json") if before in path.read_bytes()][-1:]
    path.write_bytes(path.read_bytes().replace(before, after, 1))
    with pytest.raises(DamagedFileError, match=f"{path.name} is damaged: it fails its checksum; restore"):
        DeltaLake(tmp_path).snapshot(REF)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_commit_that_is_missing_is_named(lake: DeltaLake, tmp_path: Path, version: int) -> None:
    commits = sorted(log(tmp_path).glob("*.json"))
    for path in commits[version:]:  # the newest, at last all
        path.unlink()
    for other in (lake, DeltaLake(tmp_path)):
        with pytest.raises(DamagedFileError, match=f"{commits[version].name} is damaged: it is missing; restore"):
            other.snapshot(REF)
    if not version:
        with pytest.raises(DamagedFileError, match=commits[0].name):
            lake.create(REF, pa.schema([("id", pa.int64())]))


def test_what_a_table_was_made_with_has_a_checksum(tmp_path: Path) -> None:
    DeltaLake(tmp_path).create(REF, pa.schema([("id", pa.int64())]))
    [path] = log(tmp_path).glob("*.json")
    path.write_bytes(path.read_bytes().replace(rb"\"id\"", rb"\"ie\""))
    with pytest.raises(DamagedFileError, match=path.name):
        DeltaLake(tmp_path).snapshot(REF)


def test_another_process_finds_the_damage_of_what_came_since(lake: DeltaLake, tmp_path: Path) -> None:
    other = DeltaLake(tmp_path)
    other.snapshot(REF)
    append(lake, 3)
    path = max(log(tmp_path).glob("*.json"))
    path.write_bytes(path.read_bytes().replace(b'{"add"', b'{"adf"'))
    with pytest.raises(DamagedFileError, match=path.name):
        other.snapshot(REF)


def test_a_damaged_checkpoint_is_named_and_what_has_no_checksum_is_read(lake: DeltaLake, tmp_path: Path) -> None:
    while not (found := list(log(tmp_path).glob("*.checkpoint.parquet"))):
        append(lake, lake.snapshot(REF).version)
    [path] = found
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=path.name):
        DeltaLake(tmp_path).snapshot(REF)
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for file in log(tmp_path).glob("*.crc32"):
        file.write_bytes(b"")  # as a crash of the machine may leave it
    assert len(DeltaLake(tmp_path).snapshot(REF).files) == len(lake.snapshot(REF).files)


@pytest.mark.usefixtures("lake")
def test_a_table_of_a_newer_protocol_of_deltas_is_not_called_damaged(tmp_path: Path) -> None:
    first = log(tmp_path) / "00000000000000000000.json"
    newer, count = re.subn(rb'"minReaderVersion":\d', b'"minReaderVersion":99', first.read_bytes())
    assert count == 1
    first.write_bytes(newer)
    first.with_name(f"{first.name}.crc32").unlink()
    with pytest.raises(FormatError, match=r"a format of Delta's that this release of sokuji does not know \(.*99\).*docs/upgrade\.md"):
        DeltaLake(tmp_path).snapshot(REF)

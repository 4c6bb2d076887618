"""No value of a damaged file is returned: for a flipped bit, a cut or a missing file, in any place."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sokuji.errors import DamagedFileError
from sokuji.lake.delta.sums import Checker
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.objects import Ref
from tests.lake.duck import select

REF = Ref("shop", "orders")
SCHEMA = pa.schema([
    ("id", pa.int64()),
    ("a.b", pa.list_(pa.struct([("x", pa.float64()), ("y", pa.string())]))),
    ("text", pa.string()),
])  # fmt: skip


def rows(count: int, start: int = 0) -> pa.RecordBatchReader:
    return pa.table(
        {
            "id": range(start, start + count),
            "a.b": [[{"x": number / 7, "y": f"y{number}"}] * (number % 3) for number in range(count)],
            "text": [f"text {number % 5}" for number in range(count)],
        },
        schema=SCHEMA,
    ).to_reader()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The one file of a table."""
    lake = DeltaLake(tmp_path / "lake")
    lake.create(REF, SCHEMA)
    lake.append(REF, rows(2_000))
    return Path(lake.snapshot(REF).files[0])


def test_the_file_is_parquet_to_anyone(file: Path) -> None:
    assert pq.read_table(file).num_rows == 2_000
    [(count, total, texts)] = duckdb.connect().execute(f"SELECT count(*), sum(id), count(DISTINCT text) FROM '{file}'").fetchall()
    assert (count, total, texts) == (2_000, 1_999_000, 5)
    Checker().check([str(file)])


def test_a_flipped_bit_anywhere_is_found_or_changes_nothing(file: Path) -> None:
    whole, chance = file.read_bytes(), random.Random(1)
    expected = pq.read_table(file)
    for at in [*chance.sample(range(len(whole)), 300), *range(len(whole) - 20, len(whole))]:
        content = bytearray(whole)
        content[at] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        found = outcome(file)
        assert found == "damaged" or (at < 4 and found == expected), at  # the four letters that files begin with say nothing


def outcome(file: Path) -> Any:
    try:
        Checker().check([str(file)])
    except DamagedFileError as error:
        return "damaged" if str(error).startswith(str(file)) and "restore it from a copy" in str(error) else error
    return duckdb.connect().execute(f"FROM '{file}'").to_arrow_table()


@pytest.mark.parametrize("length", [0, 3, 7, 8, 100, -1, -8, -9])
def test_a_file_that_was_cut_is_found(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])
    assert outcome(file) == "damaged"


def test_only_the_columns_that_are_read_are_checked_and_each_once(file: Path) -> None:
    chunk = pq.read_metadata(file).row_group(0).column(3)
    assert chunk.path_in_schema == "text"
    content = bytearray(file.read_bytes())
    content[chunk.data_page_offset + 40] ^= 1
    file.write_bytes(content)
    checker = Checker()
    checker.check([str(file)], ["id", "a.b"])
    with pytest.raises(DamagedFileError, match="column 'text' fails its checksum"):
        checker.check([str(file)])
    content[chunk.data_page_offset + 40] ^= 1
    file.write_bytes(content)
    checker.check([str(file)])
    file.unlink()
    checker.check([str(file)], ["id"])
    with pytest.raises(DamagedFileError, match="it is missing"):
        Checker().check([str(file)])


def test_compacted_files_have_checksums_and_damage_is_not_compacted_away(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path / "lake")
    lake.create(REF, SCHEMA)
    for start in range(0, 400, 20):
        lake.append(REF, rows(20, start))
    expected = select(lake.snapshot(REF), ["id", "text"])
    lake.maintain([REF])
    [compacted] = lake.snapshot(REF).files
    assert select(lake.snapshot(REF), ["id", "text"]) == expected
    content = bytearray(Path(compacted).read_bytes())
    content[200] ^= 1
    Path(compacted).write_bytes(content)
    assert outcome(Path(compacted)) == "damaged"
    for start in range(400, 800, 20):
        lake.append(REF, rows(20, start))
    lake.maintain([REF])  # says so in the log, and leaves the files as they are
    assert compacted in lake.snapshot(REF).files


def test_a_scan_returns_no_value_of_a_damaged_file(file: Path) -> None:
    lake = DeltaLake(file.parents[2])
    content = bytearray(file.read_bytes())
    content[pq.read_metadata(file).row_group(0).column(0).data_page_offset + 20] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match="column 'id' fails its checksum"):
        lake.scan(lake.snapshot(REF), ["id"])
    assert lake.scan(lake.snapshot(REF), ["text"]).read_all().num_rows == 2_000

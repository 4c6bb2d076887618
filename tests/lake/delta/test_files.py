"""The Parquet files of tables."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sokuji.lake.delta.files import write_files


def test_floats_that_are_all_different_get_no_dictionary_and_all_else_does(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    rows = pa.table(
        {
            "measure": chance.normal(size=20_000),
            "price": np.round(chance.random(20_000) * 20, 1),
            "rare": pa.array([float(row) if row % 3 == 0 else None for row in range(20_000)]),
            "keys": [{"visitor_id": f"v{row % 7}", "scores": [float(row % 5)]} for row in range(20_000)],
            "places": [[{"x": row % 3}] for row in range(20_000)],
        }
    )
    [action] = write_files(tmp_path, rows.to_reader(max_chunksize=6_000))
    written = pq.ParquetFile(tmp_path / action.path)
    assert written.read() == rows
    with duckdb.connect() as connection:
        assert connection.sql(f"SELECT * FROM '{tmp_path / action.path}'").to_arrow_table().to_pylist() == rows.to_pylist()
    group = written.metadata.row_group(0)
    encodings = {group.column(number).path_in_schema: group.column(number).encodings for number in range(group.num_columns)}
    assert {path for path, each in encodings.items() if "RLE_DICTIONARY" not in each} == {"measure"}
    assert "BYTE_STREAM_SPLIT" in encodings["measure"]


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    assert write_files(tmp_path, pa.schema([("x", pa.float64())]).empty_table().to_reader()) == []

"""Read the rows of a snapshot by Arrow, one file after another. Parts of a file that cannot match are skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs

from sokuji.lake.base import Snapshot
from sokuji.lake.delta.sums import check

_BATCH_ROWS = 65_536
_FORMAT, _DISK = ds.ParquetFileFormat(), pyarrow.fs.LocalFileSystem()


def scan(snapshot: Snapshot, columns: Sequence[str], where: pc.Expression | None = None) -> pa.RecordBatchReader:
    """See `Lake.scan`."""
    schema = pa.schema([snapshot.schema.field(name) for name in columns])
    check(snapshot.files, columns)

    def batches() -> Iterator[pa.RecordBatch]:
        for file in snapshot.files:
            fragment = _FORMAT.make_fragment(file, _DISK)
            scanner = fragment.scanner(
                snapshot.schema, columns=list(columns), filter=where, batch_size=_BATCH_ROWS, batch_readahead=1, use_threads=False
            )
            for batch in scanner.to_batches():
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        if snapshot.tail is not None:
            rows = snapshot.tail if where is None else snapshot.tail.filter(where)
            for batch in rows.select(columns).to_batches(_BATCH_ROWS):
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())

"""sokuji's online store: the row of a visitor, read by another process than the one that writes, and decoded into 24 features.

    python -m bench.peers.online VALUES

VALUES, as in `contract.measure_reads`, is written first: features of a shop's visitors.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench._shopper import BUY, PAGE, TYPES, shopper
from bench.peers.contract import measure_reads
from bench.peers.events import make
from sokuji.features.kernel import Kernel
from sokuji.features.reader import FeatureReader
from sokuji.features.vocabulary import Strings, Vocabulary
from sokuji.online.reader import SharedReader

_EVENTS, _VISITORS = 40_000, 4_000
_STRINGS, _ROWS = "strings.jsonl", "rows"


def write(values: Path, folder: Path) -> None:
    """Fill a store in `folder` by the kernel, write down what it has, and let another process read from it."""
    from sokuji.online.shared import SharedStore

    vocabulary = Vocabulary(folder / _STRINGS)
    kernel = Kernel(shopper(), TYPES, vocabulary)
    happened = make(_EVENTS, _VISITORS)
    visitors = happened.column("visitor").combine_chunks().dictionary_encode()
    rows = np.zeros((len(visitors.dictionary), kernel.width), np.uint8)
    times = happened.column("at").to_numpy() * 1_000
    kernel.update(rows, visitors.indices.to_numpy(), times, kernel.columns(_evaluated(happened)), want_values=False)
    vocabulary.flush()
    last_us = int(times[-1])
    names = visitors.dictionary.to_pylist()
    with values.open("w") as file:
        for visitor, features in zip(names, kernel.finalize(rows, last_us).to_pylist(), strict=True):
            file.write(json.dumps({"visitor": visitor} | features) + "\n")
    with SharedStore(folder / _ROWS, width=kernel.width, rows_max=len(names)) as store:
        store.put_many(visitors.dictionary, rows, last_us)
        subprocess.run([sys.executable, "-m", "bench.peers.online", str(values), str(folder), str(last_us)], check=True)


def _evaluated(happened: pa.Table) -> pa.RecordBatch:
    """Each fifth event is a purchase."""
    buys = np.arange(len(happened)) % 5 == 4
    revenue = pa.array(np.where(buys, happened.column("price").to_numpy(), np.nan), from_pandas=True)
    return pa.record_batch(
        {BUY: buys, PAGE: ~buys, "revenue": revenue, **{name: happened.column(name).combine_chunks() for name in ("url", "category")}}
    )


def read(values: Path, folder: Path, at_us: int) -> None:
    """Read: the row alone, and the features."""
    decoder = FeatureReader(Kernel(shopper(), TYPES, Vocabulary()), Strings(folder / _STRINGS))
    with SharedReader(folder / _ROWS) as reader:

        def row(visitor: str) -> bytes:
            found = reader.get(visitor)
            if found is None:
                raise SystemExit(f"{visitor} is missing")
            return found

        def features(visitor: str) -> dict[str, Any]:
            return decoder.read(row(visitor), at_us)

        decoded = measure_reads(features, values)
        alone = measure_reads(lambda visitor: {"row": row(visitor)}, values)
    found = {"sokuji, decoded": decoded, "sokuji, the row": alone | {"mismatches": decoded["mismatches"]}}
    print(json.dumps({"stores": found, "versions": {}}))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        read(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as name:
            write(Path(sys.argv[1]), Path(name))

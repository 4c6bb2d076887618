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

from bench._shopper import TYPES, profiles, shopper
from bench.peers.contract import measure_reads
from bench.peers.events import make
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.reader import FeatureReader
from sokuji.features.kernel.strings import Strings, Vocabulary
from sokuji.online.shared.reader import SharedReader

_EVENTS, _VISITORS = 40_000, 4_000
_STRINGS, _ROWS = "strings.jsonl", "rows"


def write(values: Path, folder: Path) -> None:
    """Fill a store in `folder` by the kernel, write down what it has, and let another process read from it."""
    from sokuji.online.shared.store import SharedStore

    made = profiles(make(_EVENTS, _VISITORS), Vocabulary(folder / _STRINGS))
    names = made.names.to_pylist()
    with values.open("w") as file:
        for visitor, features in zip(names, made.kernel.finalize(made.rows, made.last_us).to_pylist(), strict=True):
            file.write(json.dumps({"visitor": visitor} | features) + "\n")
    with SharedStore(folder / _ROWS, width=made.kernel.width, rows_max=len(names)) as store:
        store.put_many(made.names, made.rows, made.last_us)
        subprocess.run([sys.executable, "-m", "bench.peers.online", str(values), str(folder), str(made.last_us)], check=True)


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

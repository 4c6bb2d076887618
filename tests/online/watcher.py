"""A process that reads random keys of `writer` until it has seen CHANGES: `watcher FOLDER KEYS CHANGES SEED`; it prints them as JSON."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

from sokuji.online.shared.reader import SharedReader

if __name__ == "__main__":
    folder, count, changes, chance = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))
    seen: Counter[str] = Counter(torn=0, missing=0, back=0)
    newest = [0] * count
    with SharedReader(folder) as reader:
        end = time.monotonic() + 120
        while seen["fresh"] < changes and time.monotonic() < end:
            for _ in range(200):
                key = chance.randrange(count)
                row = reader.get(f"k{key}")
                seen["reads"] += 1
                if row is None:
                    seen["missing"] += 1
                    continue
                number = int.from_bytes(row[:8], "little")
                seen["torn"] += row != row[:8] * (len(row) // 8)
                seen["back"] += number < newest[key]
                seen["fresh"] += number > newest[key]
                newest[key] = number
    print(json.dumps({**seen, "numba": "numba" in sys.modules}))

"""A process that appends rows `first`, `first + 1`, ... to a partition and prints the offset of each: `appender FOLDER FIRST COUNT`."""

from __future__ import annotations

import sys
from pathlib import Path

from sokuji.log.local.log import LocalLog
from tests.log.rows import SCHEMA, rows

if __name__ == "__main__":
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with LocalLog(folder, SCHEMA, name="events", partitions=1, segment_bytes=8192) as log:
        for number in range(first, first + count):
            print(log.append(0, rows(number, 1)), flush=True)

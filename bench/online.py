"""The online store: reads by key in another process while the writer writes at full speed, batches, memory, restart after kill -9.

Three processes on the machine's cores: the writer gets and puts random batches of 10,000 rows without a pause, and checkpoints after at
least 300,000; a reader reads single random rows; then the writer is killed with SIGKILL, and the time is taken from starting the next
process until it has served a row.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from bench._online import BATCH
from bench._report import quantile, report
from bench._shopper import TYPES, shopper
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import Vocabulary
from sokuji.online.shared.table import current_table


def start_writer(folder: Path, rows: int) -> subprocess.Popen[str]:
    """Start the writer."""
    command = [sys.executable, "-m", "bench._online", "write", str(folder), str(rows)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(stream: IO[str] | None) -> Any:
    """The next line of a process, which is JSON."""
    if stream is None or not (line := stream.readline()):
        raise SystemExit("the writer ended; see above")
    return json.loads(line)


def ask(writer: subprocess.Popen[str]) -> dict[str, list[float]]:
    """How long the writer's calls took since it was asked last."""
    if writer.stdin is None:
        raise SystemExit("the writer has no input")
    writer.stdin.write("\n")
    writer.stdin.flush()
    took: dict[str, list[float]] = answer(writer.stdout)
    return took


def end(writer: subprocess.Popen[str]) -> None:
    """Kill a writer."""
    writer.kill()
    writer.communicate()


def measure(folder: Path, rows: int, seconds: float) -> dict[str, Any]:
    """Run all of it."""
    writer = start_writer(folder, rows)
    try:
        answer(writer.stdout), answer(writer.stdout)
        time.sleep(1)  # compiled by now
        ask(writer)
        read = [sys.executable, "-m", "bench._online", "read", str(folder), str(rows), str(seconds)]
        reads = json.loads(subprocess.run(read, stdout=subprocess.PIPE, check=True).stdout)
        took = ask(writer)
        table = current_table(folder)
        memory = table.stat().st_blocks * 512 if table is not None else 0
        disk = sum(path.stat().st_size for path in folder.glob("*.run"))
    finally:
        end(writer)
    before = time.perf_counter()
    writer = start_writer(folder, rows)
    try:
        found = answer(writer.stdout)["found"]
        restart_seconds = time.perf_counter() - before
    finally:
        end(writer)
    if not found:
        raise SystemExit("the rows were not there after the restart")
    return {"reads": reads, "took": took, "memory": memory, "disk": disk, "restart_seconds": restart_seconds}


def remove_shared_memory(folder: Path, rows: int) -> None:
    """Open and close the store: what the killed writer left in shared memory goes."""
    from sokuji.online.shared.store import SharedStore

    SharedStore(folder, width=Kernel(shopper(), TYPES, Vocabulary()).width, rows_max=rows).close()


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="sokuji bench online", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="a multiple of 10,000 (default 1,000,000)")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    rows = options.rows // BATCH * BATCH
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-online-") as name:
        folder = Path(name)
        try:
            found = measure(folder, rows, options.seconds)
        finally:
            remove_shared_memory(folder, rows)
    reads, took = found["reads"], found["took"]
    report(
        f"online --rows {rows}",
        reads["p50"] * 1e6,
        "us, median read of one visitor's 24 features in another process",
        as_json=options.json,
        packages=("numpy", "numba", "pyarrow"),
        read_p90_us=round(reads["p90"] * 1e6, 1),
        read_p99_us=round(reads["p99"] * 1e6, 1),
        read_p999_us=round(reads["p99.9"] * 1e6, 1),
        row_p50_us=round(reads["row_p50"] * 1e6, 1),
        row_p99_us=round(reads["row_p99"] * 1e6, 1),
        reads=reads["reads"],
        get_rows_per_s=round(BATCH / quantile(took["get"], 0.5)),
        put_rows_per_s=round(BATCH / quantile(took["put"], 0.5)),
        checkpoint_stop_ms=round(quantile(took["checkpoint"], 0.5) * 1e3, 1) if took["checkpoint"] else None,
        checkpoint_stop_max_ms=round(max(took["checkpoint"]) * 1e3, 1) if took["checkpoint"] else None,
        memory_bytes_per_row=round(found["memory"] / rows, 1),
        disk_bytes_per_row=round(found["disk"] / rows, 1),
        restart_s=round(found["restart_seconds"], 2),
    )


if __name__ == "__main__":
    main(sys.argv[1:])

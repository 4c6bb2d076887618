"""The comparison with other systems: it accepts right results, finds wrong results, and counts all processor time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.peers import kernel, oracle, run
from bench.peers.contract import EVENT_COLUMNS, WINDOWS, cpu_seconds
from bench.peers.events import make, write
from bench.peers.oracle import Event, Features

EVENTS = make(2_000, 100)
HOUR, START = 3_600_000, 1_767_225_600_000


def happened() -> list[Event]:
    columns = (EVENTS.column(name).to_pylist() for name in EVENT_COLUMNS)
    return [Event(*row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("task", WINDOWS)
def test_our_kernel_gives_what_the_oracle_says(task: str, tmp_path: Path) -> None:
    kernel.run(task, write(EVENTS, tmp_path / "events.parquet"), tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "rows.csv").rename(tmp_path / "results" / "rows.csv")
    expected = oracle.wanted(task, happened(), oracle.hopped)
    assert oracle.compare(oracle.read(tmp_path / "results"), expected) == (len(expected), 0, 0, 0)


def test_windows_cover_the_events_that_lie_in_them() -> None:
    events = [Event("v", START + at, price, f"/{at}", "c") for at, price in ((0, 1.0), (HOUR - 1, 2.0), (HOUR, 4.0))]
    one, two, three = (1, 1.0, 1.0, 1.0, "/0", 1), (2, 3.0, 1.5, 2.0, f"/{HOUR - 1}", 1), (3, 7.0, 7 / 3, 4.0, f"/{HOUR}", 1)
    sliding, tumbling = oracle.wanted("sliding", events), oracle.wanted("tumbling", events)
    assert [sliding["v", event.at, "1h"] for event in events] == [one, two, three]
    assert tumbling["v", START, "1h"] == two
    assert tumbling["v", START + HOUR, "1h"] == (1, 4.0, 4.0, 4.0, f"/{HOUR}", 1)
    assert tumbling["v", START, "24h"] == three
    starts = [at for _, at, window in oracle.wanted("hopping", events) if window == "1h"]
    assert starts == [START + quarter * HOUR // 4 for quarter in range(-3, 5)]


ROW: Features = (2, 3.0, 1.5, 2.0, "/", 1)


@pytest.mark.parametrize("place", range(len(ROW)))
def test_any_other_value_is_a_mismatch(place: int) -> None:
    other = [*ROW]
    other[place] = "/other" if place == 4 else ROW[place] + 1  # type: ignore[operator]
    key = ("v", START, "1h")
    assert oracle.compare({key: tuple(other)}, {key: ROW}) == (1, 1, 0, 0)  # type: ignore[dict-item]


def test_rows_that_are_missing_or_too_many_are_counted() -> None:
    first, second = ("v", START, "1h"), ("w", START, "1h")
    assert oracle.compare({first: ROW}, {first: ROW, second: ROW}) == (1, 0, 1, 0)
    assert oracle.compare({first: ROW, second: ROW}, {second: ROW}) == (2, 0, 0, 1)


def test_the_same_row_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"v,{START},1h,1,1.0,1.0,1.0,/,1\n" * 2)
    with pytest.raises(ValueError, match="two rows of"):
        oracle.read(tmp_path)


@pytest.mark.e2e
def test_a_system_that_is_not_installed_is_named(tmp_path: Path) -> None:
    files = write(EVENTS.slice(0, 200), tmp_path / "few.parquet"), write(EVENTS, tmp_path / "all.parquet")
    found = run.compute(run.System("bytewax", "no such environment"), "tumbling", *files, tmp_path / "results" / "tumbling")
    assert found == {"failed": "not installed: run bench/peers/install"}


@pytest.mark.e2e
@pytest.mark.slow
def test_a_system_is_measured_and_checked_in_a_process_of_its_own(tmp_path: Path) -> None:
    files = write(EVENTS.slice(0, 200), tmp_path / "few.parquet"), write(EVENTS, tmp_path / "all.parquet")
    found = run.compute(run.SYSTEMS["sokuji, worker"], "sliding", *files, tmp_path / "results" / "sliding")
    assert found["mismatches"] == 0
    assert found["rows"] == 2 * len(EVENTS.column("visitor").unique())
    assert found["cpu_seconds"] > 0


@pytest.mark.e2e
def test_the_time_of_processes_below_counts_while_they_live_and_after() -> None:
    code = "import time, sys\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    before = cpu_seconds()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    alive = cpu_seconds() - before
    process.communicate()
    assert 0.25 < alive <= cpu_seconds() - before

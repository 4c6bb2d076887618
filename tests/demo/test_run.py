"""The demos as commands: `sokuji demo --exit --json` on the real purchases, and `sokuji demo --live` on a terminal.

Both are in one file, as each takes the default ports if they are free: two that start at the same moment would take the same ports.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LIVE = [sys.executable, "-m", "sokuji", "demo", "--live", "--json", "--rate", "150"]
ENVIRONMENT = os.environ | {"COLUMNS": "120", "LINES": "50", "TERM": "xterm-256color"}


def start(folder: Path, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    """The demo with standard error on a terminal; its end that we read."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*LIVE, *options], cwd=folder, stdout=subprocess.PIPE, stderr=theirs, env=ENVIRONMENT)
    os.close(theirs)
    return process, ours


def read(terminal: int, process: subprocess.Popen[bytes], *, until: bytes | None = None) -> bytes:
    """What the terminal shows until it shows that, or until the process has ended."""
    shown, deadline = b"", time.monotonic() + 240
    while time.monotonic() < deadline:
        if until is not None and until in shown:
            return shown
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
        elif process.poll() is not None:
            break
    assert until is None, shown.decode(errors="replace")
    return shown


def check(answer: dict[str, Any]) -> None:
    assert answer["events_acked"] == answer["events_in_lake"]
    assert answer["verify"] == {"rows": answer["verify"]["rows"], "features": 14, "mismatches": 0, "missing": 0, "extra": 0}


def answer_of(process: subprocess.Popen[bytes], shown: str) -> dict[str, Any]:
    """What the demo prints at its end."""
    assert process.stdout is not None
    with process.stdout:
        answer: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    assert process.wait(60) == 0, shown
    return answer


def test_ctrl_c_ends_it_with_all_accounts_settled(tmp_path: Path) -> None:
    process, terminal = start(tmp_path)
    shown = read(terminal, process, until=b"browsing")
    process.send_signal(signal.SIGINT)
    text = (shown + read(terminal, process)).decode(errors="replace")
    answer = answer_of(process, text)
    os.close(terminal)
    check(answer)
    assert answer["events_acked"] > 100
    assert answer["verify"]["rows"] > 10
    assert answer["decisions"]["browsing"]["acted"] > 0
    for word in ("events acknowledged", "event to decision", "seen_session", "0 mismatches, 0 missing, 0 extra"):
        assert word in text
    assert "Traceback" not in text


@pytest.mark.long
def test_it_ends_by_itself_after_as_long_as_one_says(tmp_path: Path) -> None:
    process, terminal = start(tmp_path, "--seconds", "20")
    answer = answer_of(process, read(terminal, process).decode(errors="replace"))
    os.close(terminal)
    check(answer)
    assert answer["events_acked"] > 1000


def test_the_demo_answers_from_every_purchase(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sokuji", "demo", "--exit", "--json"]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=280, env=os.environ | {"COLUMNS": "120"}
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert (answer["events_sent"], answer["events_acked"], answer["events_in_lake"]) == (69_659, 69_659, 69_659)
    assert (answer["buyers"], answer["revenue"]) == (23_570, 2_500_315.63)
    assert sum(segment["size"] for segment in answer["segments"]) == 23_570
    assert sorted(segment["centroid_id"] for segment in answer["segments"]) == [1, 2, 3, 4, 5]
    assert len({segment["name"] for segment in answer["segments"]}) == 5
    assert 0 < answer["davies_bouldin_index"] < 1.5
    assert answer["mean_squared_distance"] > 0
    assert (tmp_path / "rfm.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "rfm.html").read_text()
    assert all(segment["name"] in page for segment in answer["segments"])
    assert "Champions" in done.stderr


def test_the_demo_never_deletes_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("keep")
    command = [sys.executable, "-m", "sokuji", "demo", "--exit", "--folder", "mine"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "choose another with --folder" in done.stderr
    assert (tmp_path / "mine" / "precious.txt").read_text() == "keep"

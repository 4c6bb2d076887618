"""The whole demo: `sokuji demo --exit --json` on the real purchases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


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

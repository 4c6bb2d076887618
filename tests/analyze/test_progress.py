"""Other processes see the worker's progress, and a replay does not reduce it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sokuji.analyze.progress import Progress

READ = "import sys, pathlib; from sokuji.analyze.progress import Progress; print(Progress(pathlib.Path(sys.argv[1]), 2).read())"


def test_other_processes_see_it_and_it_never_runs_back(tmp_path: Path) -> None:
    path = tmp_path / "analyze" / "progress"
    progress = Progress(path, 2)
    assert progress.read() == {0: 0, 1: 0}
    progress.publish({0: 10, 1: 3})
    progress.publish({0: 4, 1: 5})
    seen = subprocess.run([sys.executable, "-c", READ, str(path)], check=True, capture_output=True, text=True).stdout
    assert seen.strip() == "{0: 10, 1: 5}"
    progress.close()


def test_what_is_beyond_the_end_of_the_log_was_of_another_log(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress", 2)
    progress.publish({0: 10, 1: 3})
    progress.begin({0: 4, 1: 5})
    assert progress.read() == {0: 4, 1: 3}
    progress.close()

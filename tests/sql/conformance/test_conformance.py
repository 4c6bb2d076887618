"""GoogleSQL's own compliance suite: every case ends as the baseline says, and the baseline only gets shorter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.conformance.runner import FOLDER, files, read_baseline, run_file

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"the conformance data is not at {FOLDER.name}/ beside the checkout")


@pytest.mark.parametrize("path", [path for path in files() if path.suffix == ".test"], ids=lambda path: path.stem)
def test_a_file_of_the_suite(path: Path) -> None:
    known = {case: kind for case, kind in read_baseline().items() if case.startswith(f"{path.stem}:")}
    ended = {outcome.case: outcome.kind for outcome in run_file(path) if outcome.kind != "pass" and not outcome.kind.startswith("skip")}
    assert ended == known

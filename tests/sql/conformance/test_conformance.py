"""GoogleSQL's own compliance suite: every case ends as the baseline says, and the baseline only gets shorter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import IS_LONG
from tests.sql.conformance.runner import FOLDER, files, read_baseline, run_file

_EVERY = 5  # of the queries of a file `make test` runs one of so many; `make test-long` runs all of them

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"the conformance data is not at {FOLDER.name}/ beside the checkout")


@pytest.mark.parametrize("path", [path for path in files() if path.suffix == ".test"], ids=lambda path: path.stem)
def test_a_file_of_the_suite(path: Path) -> None:
    outcomes = list(run_file(path, every=1 if IS_LONG else _EVERY))
    known = {case: kind for case, kind in read_baseline().items() if case in {outcome.case for outcome in outcomes}}
    ended = {outcome.case: outcome.kind for outcome in outcomes if outcome.kind != "pass" and not outcome.kind.startswith("skip")}
    assert ended == known

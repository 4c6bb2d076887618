"""The tests that `docs/security.md` names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_each_test_that_a_promise_names_is_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", text))
    assert [name for name in files if not (ROOT / name).exists()] == []
    there = {name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 10
    assert named - there == set()

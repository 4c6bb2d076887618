"""Files and modules that the documentation names exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md"])


def test_the_number_of_a_decision_is_its_own() -> None:
    numbers = Counter(path.name.partition("-")[0] for path in (ROOT / "docs" / "decisions").iterdir())
    assert [number for number, count in numbers.items() if count > 1] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_module_that_a_page_names_is_there(page: Path) -> None:
    """Written with its room, as `log/base.py`."""
    named = set(re.findall(r"`([a-z_]+/[\w/]+\.py)`", page.read_text()))
    assert [name for name in named if not any((ROOT / folder / name).exists() for folder in (".", "src/sokuji", "tests"))] == []

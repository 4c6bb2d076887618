"""`sokuji features describe` prints the events that each feature covers, and the cost of each feature."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from sokuji.cli import main

DECLARED = """
from sokuji.features import events, view

buys = events("buy")
view(
    "shopper",
    entity="visitor",
    spend=buys.sum("revenue").over("1h", "7d", "all"),
    what_they_looked_at_most_lately=events("page").top(3, "category").over("1d"),
    pages=events("page").distinct("url").over("session"),
)
"""


def described(folder: Path, declared: str) -> str:
    (folder / "features.py").write_text(declared)
    return CliRunner(env={"COLUMNS": "120"}).invoke(main, ["features", "describe", "--project", str(folder)]).output


def test_each_feature_has_its_function_window_hop_and_bytes(tmp_path: Path) -> None:
    printed = described(tmp_path, DECLARED)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if line.startswith("│")]
    assert [row[:5] for row in rows[:4]] == [
        ["spend_1h", "sum", "1h", "5m", "104"],  # 13 tiles of 8 bytes
        ["spend_7d", "sum", "7d", "12h", "120"],
        ["spend", "sum", "all", "", "8"],
        ["what_they_looked_at_most_lately_1d", "top_k", "1d", "2h", "384"],
    ]
    assert rows[3][5] == "exact up to 6 categories, then at most"
    parts = sum(int(row[4] or 0) for row in rows)
    assert printed.splitlines()[-1] == f"shopper: {parts + 72 + 5 * 8} bytes a visitor"  # a row's own, and a head for each window


def test_a_file_without_a_view_is_told(tmp_path: Path) -> None:
    assert 'declares no view; write view("shopper", entity="visitor", ' in described(tmp_path, "")

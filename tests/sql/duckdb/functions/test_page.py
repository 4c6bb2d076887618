"""The manual's page of functions agrees with the table."""

from __future__ import annotations

from pathlib import Path

from sokuji.sql.duckdb.functions import TABLE, page


def test_the_page_is_up_to_date() -> None:
    written = Path(__file__).parents[4] / "docs" / "sql-functions.md"
    assert written.read_text() == page.page(), "run python -m sokuji.sql.duckdb.functions.page"


def test_it_has_every_signature_of_the_table() -> None:
    assert {f"`{signature.removeprefix('FN_')}`" for signature in TABLE} <= set(page.page().replace("|", " ").split())

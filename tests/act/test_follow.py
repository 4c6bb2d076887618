"""Following the decisions log."""

from __future__ import annotations

from pathlib import Path

from sokuji.act.follow import Cursor
from tests.act.api import append, decisions_log, row
from tests.log.opening import Opening


def test_each_decision_has_the_offset_of_its_row(tmp_path: Path, opening: Opening) -> None:
    with decisions_log(tmp_path, opening) as log:
        offsets = [append(log, row(name=name)) for name in "abc"]
        cursor = Cursor(log, back=100)
        assert [(each.decision.id, each.offset) for each in cursor.read()] == list(zip("abc", offsets, strict=True))
        assert cursor.is_at_end()


def test_it_begins_about_as_many_rows_before_the_end(tmp_path: Path, opening: Opening) -> None:
    with decisions_log(tmp_path, opening) as log:
        append(log, *(row(name=name) for name in "abcdefgh"))
        assert Cursor(log).read() == []
        found = [each.decision.id for each in Cursor(log, back=5).read()]
        assert 0 < len(found) <= 5
        assert found == list("abcdefgh")[-len(found) :]

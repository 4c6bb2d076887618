"""Folders that only their owner can read."""

from pathlib import Path

from sokuji.disk.private import is_private, make_private_folder
from tests.private import readable_by_others


def test_a_new_folder_and_what_is_made_in_it_are_the_owners_alone(tmp_path: Path) -> None:
    data = tmp_path / "a" / "data"
    make_private_folder(data)
    (data / "inner").mkdir()
    (data / "inner" / "file").write_text("x")
    assert readable_by_others(data) == []
    assert not is_private(data.parent)


def test_an_empty_folder_becomes_private_and_one_in_use_is_left(tmp_path: Path) -> None:
    empty, used = tmp_path / "empty", tmp_path / "used"
    for folder in (empty, used):
        folder.mkdir()
        folder.chmod(0o755)
    (used / "file").write_text("x")
    make_private_folder(empty)
    make_private_folder(used)
    assert (is_private(empty), is_private(used)) == (True, False)

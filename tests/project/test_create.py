"""`sokuji init`."""

from __future__ import annotations

from pathlib import Path

import pytest

from sokuji import config
from sokuji.errors import AlreadyExistsError
from sokuji.project.create import create


def test_a_new_project_is_a_valid_project_with_a_key_of_its_own(tmp_path: Path) -> None:
    key = create(tmp_path / "a")
    assert config.load(tmp_path / "a").sources == {"web": config.Source(write_key=key, dataset="main")}
    assert create(tmp_path / "b") != key


def test_a_project_is_never_overwritten(tmp_path: Path) -> None:
    create(tmp_path)
    before = (tmp_path / "sokuji.toml").read_text()
    with pytest.raises(AlreadyExistsError, match="sokuji up"):
        create(tmp_path)
    assert (tmp_path / "sokuji.toml").read_text() == before


def test_files_that_were_there_are_kept(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    create(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "mine\n"

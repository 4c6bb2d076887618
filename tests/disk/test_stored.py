"""The small files of a store: the version of their format, and their checksum."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from sokuji.disk.stored import check_format, read_record, write_record
from sokuji.errors import DamagedFileError, FormatError


class Place(msgspec.Struct):
    ends: dict[int, int]


def read(path: Path) -> Place:
    return read_record(path, Place, format=2, remedy="delete it")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_record(tmp_path / "place.json", Place({0: 7, 11: 2**60}), format=2)
    assert read(tmp_path / "place.json") == Place({0: 7, 11: 2**60})
    assert json.loads((tmp_path / "place.json").read_text().splitlines()[0])["format"] == 2


def test_a_file_from_before_there_were_versions_is_of_format_one(tmp_path: Path) -> None:
    (tmp_path / "place.json").write_text('{"ends":{"0":7}}')
    assert read(tmp_path / "place.json") == Place({0: 7})
    (tmp_path / "place.json").write_text('{"end":[7]}')
    upgrades = {1: lambda fields: {"ends": dict(enumerate(fields["end"]))}}
    assert read_record(tmp_path / "place.json", Place, format=2, remedy="", upgrades=upgrades) == Place({0: 7})


def test_a_newer_format_is_refused_and_named(tmp_path: Path) -> None:
    write_record(tmp_path / "place.json", {"ends": {}}, format=99)
    with pytest.raises(FormatError, match=r"place\.json has format 99, .* up to 2.*docs/upgrade\.md"):
        read(tmp_path / "place.json")
    check_format(2, 2, "store")


def test_no_byte_can_be_changed_or_cut_off_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "place.json"
    write_record(path, Place({0: 1234}), format=2)
    whole = path.read_bytes()
    damaged = [whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at in range(len(whole)) for bit in (1, 32)]
    damaged += [whole[:length] for length in range(len(whole))]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"place\.json is damaged: .*; delete it"):
            read(path)

"""The file version.json in a version's folder, which is written at registration.

The file has the version's database row, from which the row can be restored, and the length and CRC-32 of each other file.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from sokuji.disk.stored import read_record, write_record
from sokuji.errors import DamagedFileError, FormatError, ModelError
from sokuji.models.versions import ModelVersion

FILE = "version.json"
_FORMAT = 2  # 1 was the row alone
_OLD = b"{\n"  # how a file of format 1 begins, which had several lines
_REMEDY = "restore it from a copy, or train the model again"
_READ_BYTES = 1 << 20


class _Sum(NamedTuple):
    length: int
    checksum: int


class _Said(msgspec.Struct):
    row: ModelVersion
    files: dict[str, _Sum]  # by path within the folder


def write(folder: Path, version: ModelVersion) -> None:
    """Write version.json into a folder that has all its other files."""
    files = {str(path.relative_to(folder)): _sum(path) for path in sorted(folder.rglob("*")) if path.is_file() and path.name != FILE}
    write_record(folder / FILE, msgspec.to_builtins(_Said(replace(version, folder=Path()), files), enc_hook=_text), format=_FORMAT)


def read(folder: Path) -> ModelVersion | None:
    """The version that a folder tells; None if there is no version.json, or this release cannot read it."""
    try:
        stored = _read(folder)
    except (ModelError, FormatError):
        return None
    return None if stored is None else replace(stored.row, folder=folder)


def check(folder: Path, *names: str) -> None:
    """Check that these files of a folder, or all registered files, are unchanged since registration.

    Nothing is checked if the folder is not registered yet, or was registered by a release without checksums.

    Raises:
        ModelError: a file is missing or damaged, or version.json is damaged.
        FormatError: a newer release registered it.
    """
    stored = _read(folder)
    files = {} if stored is None else stored.files
    for name, expected in files.items():
        path = folder / name
        if not names or name in names:
            try:
                actual = _sum(path)
            except OSError as error:
                raise ModelError(f"{path} is damaged: {error.strerror}; {_REMEDY}") from error
            if actual != expected:
                raise ModelError(f"{path} is damaged: it fails its checksum; {_REMEDY}")


def _read(folder: Path) -> _Said | None:
    path = folder / FILE
    try:
        content = path.read_bytes()
        if content.startswith(_OLD):
            return _Said(msgspec.json.decode(content, type=ModelVersion, dec_hook=_path), {})
        return read_record(path, _Said, format=_FORMAT, remedy=_REMEDY, dec_hook=_path)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelError(f"{path} is damaged: {error}; {_REMEDY}") from error
    except DamagedFileError as error:
        raise ModelError(str(error)) from error


def _sum(path: Path) -> _Sum:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            checksum = zlib.crc32(piece, checksum)
        return _Sum(os.fstat(file.fileno()).st_size, checksum)


def _text(value: object) -> str:
    return str(value)


def _path(_type: type, value: str) -> Path:
    return Path(value)

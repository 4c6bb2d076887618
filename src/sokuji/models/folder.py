"""What a version's folder says of itself: version.json, which is written when it is registered.

It has the version's row in the database, by which that is made again, and of each other file its length and CRC-32.
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
from sokuji.models.base import ModelVersion

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
    files: dict[str, _Sum]  # by their paths within the folder


def write(folder: Path, version: ModelVersion) -> None:
    """Say of a folder, in which all files are, which version it is."""
    files = {str(path.relative_to(folder)): _sum(path) for path in sorted(folder.rglob("*")) if path.is_file() and path.name != FILE}
    write_record(folder / FILE, msgspec.to_builtins(_Said(replace(version, folder=Path()), files), enc_hook=_text), format=_FORMAT)


def read(folder: Path) -> ModelVersion | None:
    """The version that a folder says it is; None if it does not say, or not in words that this release understands."""
    try:
        said = _read(folder)
    except (ModelError, FormatError):
        return None
    return None if said is None else replace(said.row, folder=folder)


def check(folder: Path, *names: str) -> None:
    """See that these files of a folder, or all that it had, are as they were registered.

    A folder that is not registered yet, or was by a release before there were checksums, does not say how they were.

    Raises:
        ModelError: a file is missing or damaged, or version.json is.
        FormatError: a newer release registered it.
    """
    said = _read(folder)
    files = {} if said is None else said.files
    for name, expected in files.items():
        path = folder / name
        if not names or name in names:
            try:
                found = _sum(path)
            except OSError as error:
                raise ModelError(f"{path} is damaged: {error.strerror}; {_REMEDY}") from error
            if found != expected:
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

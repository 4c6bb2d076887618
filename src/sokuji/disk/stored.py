"""Small files with the version of their format and a checksum.

    file = JSON object with "format", newline, CRC-32 of the JSON in 8 hexadecimal digits

Files of format 1 may lack the second line: they were written before there were checksums.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sokuji.disk.files import exclusive, make_folder, replace_file
from sokuji.errors import DamagedFileError, FormatError

Content = TypeVar("Content")
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Converts the content of one format to that of the next."""

_DIGITS = 8


def check_format(found: int, newest: int, store: Path | str) -> None:
    """Refuse files of a newer release.

    Raises:
        FormatError: `found` is above `newest`, the newest format of `store` that this release knows.
    """
    if found > newest:
        raise FormatError(
            f"{store} has format {found}, and this release of sokuji knows formats up to {newest}: "
            "install the release that wrote it, or a newer one (docs/upgrade.md)"
        )


def sealed(content: bytes) -> bytes:
    """`content`, which must have no line break, with its checksum."""
    return b"%b\n%08x" % (content, zlib.crc32(content))


def unsealed(stored: bytes) -> tuple[bytes, bool]:
    """The content that was given to `sealed`, and whether it has a checksum.

    Raises:
        ValueError: the checksum is wrong.
    """
    content, line_break, digits = stored.partition(b"\n")
    if not line_break:
        return content, False
    if len(digits) != _DIGITS or digits != b"%08x" % zlib.crc32(content):
        raise ValueError("it fails its checksum")
    return content, True


def write_record(path: Path, content: Any, *, format: int) -> None:  # noqa: A002 the file's own word
    """Replace a file durably by `content`, a mapping with string keys or a struct. The caller holds a lock, as for `replace_file`."""
    replace_file(path, encode_record(content, format=format))


def encode_record(content: Any, *, format: int) -> bytes:  # noqa: A002
    """The bytes that `write_record` writes."""
    fields = msgspec.to_builtins(content, str_keys=True)
    return sealed(msgspec.json.encode({"format": format, **fields}))


def claim(path: Path, *, format: int) -> None:  # noqa: A002
    """Record the format of a folder in the file `path`, or check the recorded one.

    Raises:
        FormatError: a newer release wrote the folder.
        DamagedFileError: the file cannot be read.
    """
    make_folder(path.parent)
    with exclusive(path.with_suffix(".lock")):
        try:
            read_record(path, dict[str, Any], format=format, remedy='write {"format":1} there if no release newer than this one ran')
        except FileNotFoundError:
            write_record(path, {}, format=format)


def read_record(
    path: Path,
    type: type[Content],  # noqa: A002 as in msgspec
    *,
    format: int,  # noqa: A002
    remedy: str,
    upgrades: Mapping[int, Upgrade] | None = None,
    dec_hook: Callable[[Any, Any], Any] | None = None,
) -> Content:
    """The content of a file that `write_record` wrote. A file without a format has format 1.

    Args:
        path: the file.
        type: the type of its content; fields that it does not have are ignored.
        format: the newest format known here.
        remedy: what to do about a damaged file, for the error message.
        upgrades: converters by the format that they convert from; without one, the content is that of the next format.
        dec_hook: decodes types that JSON does not have, as in msgspec.

    Raises:
        FileNotFoundError: there is no such file.
        FormatError: a newer release wrote it.
        DamagedFileError: its content is not as it was written.
    """
    return decode_record(path.read_bytes(), path, type, format=format, remedy=remedy, upgrades=upgrades, dec_hook=dec_hook)


def decode_record(
    stored: bytes,
    path: Path,
    type: type[Content],  # noqa: A002
    *,
    format: int,  # noqa: A002
    remedy: str,
    upgrades: Mapping[int, Upgrade] | None = None,
    dec_hook: Callable[[Any, Any], Any] | None = None,
) -> Content:
    """Decode bytes as `read_record` does; `path` is their file."""
    try:
        content, has_checksum = unsealed(stored)
        fields = msgspec.json.decode(content, type=dict[str, Any])
        stored_format = msgspec.convert(fields.pop("format", 1), int)
        check_format(stored_format, format, path)
        if not has_checksum and stored_format > 1:
            raise ValueError("its end is missing")
        for number in range(stored_format, format):
            fields = upgrades[number](fields) if upgrades and number in upgrades else fields
        return msgspec.convert(fields, type, strict=False, dec_hook=dec_hook)
    except (ValueError, msgspec.MsgspecError) as error:
        raise DamagedFileError(path, str(error), remedy) from error

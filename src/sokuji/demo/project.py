"""The folder of a demo's project."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from sokuji.config import SETTINGS_FILE, Config
from sokuji.errors import SokujiError
from sokuji.roles.base import ROLES

MARK = "# Made by `sokuji demo`, which deletes this folder when it runs again."


def make(folder: Path, files: Mapping[str, str]) -> None:
    """Create the project's folder again; its `sokuji.toml` must begin with MARK.

    Raises:
        SokujiError: the folder exists and was not made by a demo.
    """
    settings = folder / SETTINGS_FILE
    if folder.exists():
        if not settings.is_file() or MARK not in settings.read_text():
            raise SokujiError(f"{folder} exists and was not made by the demo; choose another with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def free_ports() -> dict[str, int]:
    """A port for each setting of one, such as `track.port`: the default if nobody listens on it."""
    return {setting: _free_port(port) for role in ROLES for setting, _, port in role.ports(Config())}


def _free_port(wanted: int) -> int:
    """This port of 127.0.0.1 if nobody listens on it, else another free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SokujiError("no free port on 127.0.0.1")

"""`sokuji doctor`: check whether this machine can run this project. One line per finding, each problem with its fix."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import socket
import sys
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sokuji.config import Config
from sokuji.disk.private import is_private
from sokuji.errors import SokujiError
from sokuji.roles.base import ROLES

MINIMUM_FREE_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `fix` says what to do, and is empty if all is well."""

    subject: str
    found: str
    fix: str = ""


def examine(config: Config, *, is_running: bool = False) -> list[Finding]:
    """All checks, in the order in which a person would do them. If the platform `is_running`, it may use its own ports."""
    return [
        _python(),
        *_packages(),
        _disk(config.data),
        *_privacy(config.data),
        *_ports(config, is_running),
        *_time_zones(),
        _analyzer(),
        *_unknown(config),
    ]


def _python() -> Finding:
    fix = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    return Finding("Python", f"{platform.python_version()} on {platform.machine()}", fix)


def _packages() -> Iterator[Finding]:
    """Compare the installed versions of pinned packages with those this release is made for."""
    for requirement in importlib.metadata.requires("sokuji") or []:
        pinned = re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9.]+)", requirement)
        if pinned:
            name, wanted = pinned.groups()
            version = importlib.metadata.version(name)
            yield Finding(name, version, "" if version == wanted else f"pip install {name}=={wanted}")
    optional = {"xgboost-cpu": "ml", "matplotlib": "plot", "numba": "realtime"}
    for name, extra in optional.items():
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, f"not installed (optional): pip install 'sokuji[{extra}]'")


def _disk(data: Path) -> Finding:
    folder = data
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    free_space = f"{free / 1024**3:.1f} GiB free for {data}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", free_space, f"{folder} is not writable; set `data` in sokuji.toml to a folder that is")
    return Finding("disk", free_space, "" if free >= MINIMUM_FREE_BYTES else "free at least 2 GiB, or set `data` to a larger disk")


def _privacy(data: Path) -> Iterator[Finding]:
    if data.exists():
        fix = "" if is_private(data) else f"chmod -R go= {shlex.quote(str(data))}"
        yield Finding("privacy", f"{data} has mode {data.stat().st_mode & 0o777:o}; it stores personal data", fix)


def _ports(config: Config, is_running: bool) -> Iterator[Finding]:
    for setting, host, port in chain.from_iterable(role.ports(config) for role in ROLES):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if is_running:
                    yield Finding(setting, f"{host}:{port} taken, while this platform runs")
                else:
                    yield Finding(setting, f"{host}:{port} {error.strerror}", f"stop what listens there, or set {setting} in sokuji.toml")
            else:
                yield Finding(setting, f"{host}:{port} free")


def _time_zones() -> Iterator[Finding]:
    zone = "Asia/Tokyo"
    try:
        zoneinfo.ZoneInfo(zone)
    except zoneinfo.ZoneInfoNotFoundError:
        yield Finding("time zones", f"{zone} unknown", "pip install tzdata")
    else:
        yield Finding("time zones", f"{importlib.metadata.version('tzdata')} (tzdata)")


def _analyzer() -> Finding:
    from sokuji.sql.front.wasm import cache_file

    cached = cache_file()
    ready = cached is not None and cached.exists()
    return Finding("SQL analyzer", "compiled" if ready else "not compiled yet: the first query takes about 20 s more")


def _unknown(config: Config) -> Iterator[Finding]:
    """Tables and models in the data folder that the database does not know: it was lost, or is an older copy. Nothing deletes them."""
    if not any((config.data / name).exists() for name in ("models", "lake")):
        return
    try:
        yield from _compared(config)
    except SokujiError as error:
        yield Finding("stores", str(error), "do as it says, then look again")


def _compared(config: Config) -> Iterator[Finding]:
    from sokuji.backends import Backends

    backends = Backends(config)
    try:
        orphans = backends.models.orphans()
        readable = [orphan for orphan in orphans if orphan.version is not None]
        fix = "`sokuji adopt` registers them" if readable else "move them away"
        if orphans:
            yield Finding(
                "models", f"{len(orphans)} folders that the database does not know: {_listed([str(o.folder) for o in orphans])}", fix
            )
        known = {table.ref for table in backends.catalog.tables()}
        tables = [str(ref) for ref in backends.tables.stored() if ref not in known]
        if tables:
            yield Finding("tables", f"{len(tables)} that the database does not know: {_listed(tables)}", "`sokuji adopt` registers them")
    finally:
        backends.close()


def _listed(names: list[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])

"""A PostgreSQL server for the tests: on a socket in its own folder, as a user who is not root, stopped with the tests."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa


def programs() -> Path | None:
    """Where PostgreSQL's programs are; None if it is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return max((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)


@contextmanager
def server(bin_: Path) -> Iterator[Callable[[], str]]:
    """Start one; gives what makes a new database and returns its URL for SQLAlchemy."""
    # A socket's path may have 107 bytes: not below pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="sokuji-pg-"))
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        user = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_name in {"postgres", "nobody"})
        shutil.chown(folder, user)
    data, log = folder / "data", folder / "log"

    def run(name: str, *arguments: str | Path) -> None:
        command = [bin_ / name, *arguments]
        done = subprocess.run(command, check=False, user=user, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}"

    try:
        run("initdb", "-D", data, "-U", "sokuji", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off -c shared_buffers=16MB"
        run("pg_ctl", "start", "-w", "-t", "120", "-D", data, "-l", log, "-o", options)
        try:
            numbers = itertools.count()

            def new_database() -> str:
                name = f"test_{next(numbers)}"
                engine = sa.create_engine(f"postgresql+psycopg://sokuji@/postgres?host={folder}", isolation_level="AUTOCOMMIT")
                with engine.connect() as connection:
                    connection.exec_driver_sql(f"CREATE DATABASE {name}")
                engine.dispose()
                return f"postgresql+psycopg://sokuji@/{name}?host={folder}"

            yield new_database
        finally:
            run("pg_ctl", "stop", "-m", "immediate", "-D", data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

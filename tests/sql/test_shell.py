"""The interactive shell, at a real terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from sokuji.sql.engine import Engine
from sokuji.sql.shell import NameCompleter

PROGRAM = """
import sys
from pathlib import Path
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.sql.shell import run_shell
folder = Path(sys.argv[1])
catalog = SqlCatalog(f"sqlite:///{folder}/catalog.db")
with catalog, Engine(catalog, DeltaLake(folder / "lake"), DuckDb([folder / "lake"], folder / "spill")) as engine:
    catalog.create_dataset("shop", if_not_exists=True)
    run_shell(engine, folder / "history")
"""
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()=>].?)")


class Terminal:
    """A shell in a pseudo-terminal."""

    def __init__(self, folder: Path) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "50", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.unread = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, text: str, seconds: float = 30) -> str:
        """What appeared up to and with `text`, after what was read before."""
        end = time.monotonic() + seconds
        while text not in self.unread:
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} did not appear in {self.unread!r}")
            self.unread += _ESCAPES.sub("", os.read(self.master, 65536).decode(errors="replace"))
        seen, found, self.unread = self.unread.partition(text)
        return seen + found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


@pytest.mark.e2e
def test_a_session(terminal: Terminal, tmp_path: Path) -> None:
    terminal.read_until("sokuji>")
    terminal.type("SELECT 6 *\r")
    terminal.read_until("...>")
    terminal.type("7 AS answer;\r")
    assert "42" in terminal.read_until("1 row in")
    terminal.read_until("sokuji>")
    terminal.type("DECLARE x INT64 DEFAULT 5;\r")
    terminal.read_until("...>")
    terminal.type("IF x > 1 THEN SELECT x * 111 AS inside;\r")
    terminal.read_until("...>")
    terminal.type("END IF;\r")
    assert "555" in terminal.read_until("1 row in")
    terminal.read_until("sokuji>")
    terminal.type("SELECT nothing;\r")
    assert "Unrecognized name: nothing [at 1:8]" in terminal.read_until("^")
    terminal.read_until("sokuji>")
    terminal.type("CREATE TABLE shop.visits AS SELECT 1 AS visitor;\r")
    terminal.read_until("Created table shop.visits")
    terminal.read_until("sokuji>")
    terminal.type("SELECT visi\t")
    terminal.read_until("visitor")  # a column of the new table
    terminal.type(" + 41 AS total FROM shop.visits;\r")
    assert "42" in terminal.read_until("1 row in")
    terminal.read_until("sokuji>")
    terminal.type("exit\r")
    assert terminal.process.wait(timeout=20) == 0
    assert "7 AS answer;" in (tmp_path / "history").read_text()


@pytest.mark.e2e
def test_ctrl_c_cancels_what_runs_and_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.read_until("sokuji>")
    array = "UNNEST(GENERATE_ARRAY(1, 16000))"
    terminal.type(f"SELECT COUNTIF(MOD(a * b + c, 7) = 3) FROM {array} AS a, {array} AS b, {array} AS c;\r")
    time.sleep(3)
    for _ in range(20):  # as who is impatient: not one of them may end the shell
        terminal.process.send_signal(signal.SIGINT)
        time.sleep(0.0005)
    terminal.read_until("was cancelled")
    terminal.read_until("sokuji>")
    terminal.type("SELECT 1;\r")
    terminal.read_until("1 row in")
    terminal.read_until("sokuji>")
    terminal.type("\x04")
    assert terminal.process.wait(timeout=20) == 0


def test_names_are_completed(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.visits AS SELECT 1 AS visitor_id")
    completer = NameCompleter(engine)

    def completed(text: str) -> list[str]:
        return [completion.text for completion in completer.get_completions(Document(text), CompleteEvent())]

    assert completed("SELECT visit") == ["visitor_id"]
    assert completed("SELECT 1 FROM shop.v") == ["shop.visits"]
    assert "FARM_FINGERPRINT(" in completed("SELECT farm")
    assert "SELECT" in completed("sel")
    assert completed("SELECT ") == []
    engine.execute("CREATE VIEW shop.visitors AS SELECT 1 AS x")
    assert completed("SELECT 1 FROM shop.visito") == ["shop.visitors"]

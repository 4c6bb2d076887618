"""The interactive SQL shell."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.bindings.named_commands import accept_line

from sokuji.errors import SokujiError, SqlError
from sokuji.sql.engine import Engine
from sokuji.sql.printing import print_result

_KEYWORDS = """
SELECT FROM WHERE GROUP BY HAVING QUALIFY WINDOW ORDER LIMIT OFFSET WITH RECURSIVE AS DISTINCT EXCEPT REPLACE UNION ALL
INTERSECT JOIN LEFT RIGHT FULL CROSS INNER ON USING UNNEST STRUCT ARRAY CASE WHEN THEN ELSE END AND OR NOT IN EXISTS BETWEEN
LIKE IS NULL TRUE FALSE CAST SAFE_CAST EXTRACT INTERVAL OVER PARTITION ROWS RANGE INSERT INTO VALUES UPDATE SET DELETE MERGE
MATCHED CREATE TABLE VIEW SCHEMA MODEL OPTIONS IF DROP ALTER ADD COLUMN RENAME TRUNCATE CLUSTER DATE TIMESTAMP DATETIME TIME
NUMERIC JSON PIVOT UNPIVOT TABLESAMPLE FOR SYSTEM_TIME OF ASC DESC NULLS FIRST LAST
"""
_WORD = re.compile(r"[\w.]+$")
_COLUMNS_MAX = 20_000  # for completion; a catalog with millions of columns must not slow down the prompt


def run_shell(engine: Engine, history_file: Path | None = None) -> None:
    """Read statements from the terminal until Ctrl-D or `exit`, run them and show their results.

    A statement ends with `;`; before that, Enter continues on the next line. Ctrl-C drops the typed text, or cancels the running statement.
    Typed statements are stored in `history_file`, by default one file for all projects of this user.
    """
    history_file = history_file or _history_file()
    history_file.parent.mkdir(parents=True, exist_ok=True)
    history_file.touch(0o600)  # statements contain personal data
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history_file)),
        completer=NameCompleter(engine),
        complete_while_typing=False,
        multiline=True,
        key_bindings=_bindings(engine),
        prompt_continuation="   ...> ",
    )
    print("GoogleSQL; statements end with ; and Tab completes names. exit or Ctrl-D leaves.")  # noqa: T201
    while True:
        try:
            text = session.prompt("sokuji> ")
            if text.strip().rstrip(";").lower() in {"exit", "quit"}:
                return
            if text.strip():
                run_shown(engine, text)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _history_file() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "sokuji" / "sql_history"


def run_shown(engine: Engine, text: str) -> None:
    """Run statements. Show results with their run times, and errors with their positions. Ctrl-C cancels."""
    query_id = uuid.uuid4().hex
    done = threading.Event()

    def work() -> None:
        try:
            _show(engine, text, query_id)
        finally:
            done.set()

    # A separate thread is needed: Python handles Ctrl-C only between its own instructions, and a DuckDB call takes long.
    with _interrupts() as asked:
        threading.Thread(target=work, daemon=True).start()
        while not done.wait(timeout=0.1):
            if asked and engine.cancel(query_id):
                asked.clear()


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A block in which Ctrl-C raises nothing. Each Ctrl-C adds to the yielded list."""
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _show(engine: Engine, text: str, query_id: str) -> None:
    started = time.monotonic()
    try:
        for result in engine.execute_script(text, query_id=query_id):
            count = print_result(result, "table", sys.stdout)
            rows = f"{count:,} row{'' if count == 1 else 's'} in " if result.schema else ""
            print(f"{rows}{time.monotonic() - started:.2f} s")  # noqa: T201
            started = time.monotonic()
    except SqlError as error:
        print(f"error: {error.pretty()}")  # noqa: T201
    except SokujiError as error:
        print(f"error: {error}")  # noqa: T201


def _bindings(engine: Engine) -> KeyBindings:
    bindings = KeyBindings()

    @Condition
    def complete() -> bool:
        from prompt_toolkit.application import get_app

        text = get_app().current_buffer.text.strip()
        if not text.endswith(";"):
            return not text or text.lower() in {"exit", "quit"}
        return not engine.analyzer.unfinished(text)

    @bindings.add("enter", filter=complete)
    def _accept(event: KeyPressEvent) -> None:
        accept_line(event)

    return bindings


class NameCompleter(Completer):
    """Completes keywords, functions, and the catalog's datasets, tables, models and columns. Reads the catalog again after changes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._version: int | None = None
        self._names: tuple[str, ...] = ()

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002 the interface
        found = _WORD.search(document.text_before_cursor)
        if found is None:
            return
        word = found.group().lower()
        for name in self.names():
            if name.lower().startswith(word) and name.lower() != word:
                yield Completion(name, start_position=-len(word))

    def names(self) -> tuple[str, ...]:
        """All names that can be completed."""
        version = self._engine.catalog.version()
        if version != self._version:
            self._names, self._version = tuple(dict.fromkeys(self._read())), version
        return self._names

    def _read(self) -> Iterator[str]:
        catalog = self._engine.catalog
        yield from catalog.datasets()
        columns = 0
        for table in catalog.tables():
            yield str(table.ref)
            if columns < _COLUMNS_MAX:
                yield from (column.name for column in table.columns)
                columns += len(table.columns)
        yield from (str(model) for model in catalog.reserved())
        yield from (f"{function.ref}(" for function in catalog.functions())
        yield from _KEYWORDS.split()
        yield from (f"{name.upper()}(" for name in self._engine.analyzer.functions())

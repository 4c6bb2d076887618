"""Structured logs: one JSON object per line, or readable lines on a terminal.

Put variable data into fields, not into the text: `logger.info("committed", extra={"rows": 500})`.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_RESET = "\x1b[0m"


def configure(role: str, *, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send this process's log messages to `stream` (standard error if None): readable on a terminal, else as JSON.

    Args:
        role: the name of this process's role, which every line has.
        stream: the target.
        level: messages below this level are dropped.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ReadableFormatter(role) if stream.isatty() else JsonFormatter(role))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class JsonFormatter(logging.Formatter):
    """A record as one line: time (UTC), level, role, logger, message, the record's own fields, and `error` with a traceback."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line end."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((f"field_{name}" if name in line else name, value) for name, value in _fields(record).items())
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class ReadableFormatter(logging.Formatter):
    """A record for people: local time, role, level (from warning up), message, fields, traceback."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line end; several lines if there is a traceback."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        fields = "".join(f"  {name}={value}" for name, value in _fields(record).items())
        colour = _COLOURS.get(record.levelno, "")
        line = f"{time} {self._role:<8} {colour}{level}{record.getMessage()}{_RESET if colour else ''}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _PLAIN}

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from sokuji.service import logs

LOG = logging.getLogger("sokuji.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # else `configure` would close pytest's
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_when_nobody_watches() -> None:
    stream = io.StringIO()
    logs.configure("sink", stream=stream)
    LOG.info("committed %d tables", 2, extra={"rows": 500, "message_bytes": 12, "level": "x"})
    LOG.debug("too much")
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        LOG.exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {
        "level": "info",
        "role": "sink",
        "logger": "sokuji.test",
        "message": "committed 2 tables",
        "rows": 500,
        "message_bytes": 12,
        "field_level": "x",
    }
    assert (second["level"], second["message"]) == ("error", "failed")
    assert second["error"].endswith("ValueError: bad\nvalue")


def test_readable_lines_on_a_terminal() -> None:
    stream = Terminal()
    logs.configure("sink", stream=stream)
    LOG.info("committed", extra={"rows": 500})
    LOG.warning("slow")
    first, second = stream.getvalue().splitlines()
    assert first[8:] == " sink     committed  rows=500"
    assert second[8:] == " sink     \x1b[33mwarning: slow\x1b[0m"

"""The log says whose requests were refused, in few lines."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from sokuji.service.proxies import Proxies
from sokuji.web.refusals import Refusals
from tests.track.collector import basic, collecting


def reported(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    fields = ("client", "reason", "times")
    return [tuple(getattr(record, field) for field in fields) for record in caplog.records if record.message == "refused"]


@pytest.mark.e2e
def test_the_log_names_who_was_refused_and_how_often(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with collecting(tmp_path, proxies=Proxies(["127.0.0.9/32"])) as collector:
        for _ in range(3):
            assert collector.post("/v1/t", {}, key="nobody's", source="127.0.0.2").status == 401
        forwarded = {"X-Forwarded-For": "192.0.2.7"} | basic("nobody's")
        assert collector.post("/v1/t", {}, forwarded, key=None, source="127.0.0.9").status == 401
        assert collector.raw(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert collector.post("/v1/t", {"event": "buy", "anonymousId": "v"}, source="127.0.0.3").status == 200
    assert reported(caplog) == [("127.0.0.2", "401", 3), ("192.0.2.7", "401", 1), ("127.0.0.1", "400", 1)]


def test_neither_the_log_nor_memory_grows_with_addresses(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    for number in range(100_000):
        refusals.add("401", f"192.0.2.{number}")
    with caplog.at_level(logging.WARNING):
        refusals.report()
    assert ("others", "401", 99_000) in reported(caplog)
    assert len(caplog.records) == 11
    assert caplog.records[-1].message == "991 refusals more, of 991 addresses"
    refusals.report()
    assert len(caplog.records) == 11


def test_a_report_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    start = refusals.since
    for seconds, expected in ((1, 0), (59, 0), (61, 1), (62, 1), (122, 2)):
        refusals.add("401", "192.0.2.1")
        refusals.report_when_due(start + seconds)
        assert len(caplog.records) == expected

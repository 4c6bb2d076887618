"""The collector as a process: the effect of a signal on requests in progress."""

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
from http.client import HTTPException
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from sokuji.config import TrackSettings
from sokuji.track.app import Track
from sokuji.web.server import run, serve
from tests.track.collector import ANY_PORT, SOURCES, Collector, collecting, logs

pytestmark = pytest.mark.e2e


def collect(folder: Path, pipe: Connection) -> None:
    with logs(folder) as (events, bad_events):
        serve(Track(SOURCES, events, bad_events, ANY_PORT), ANY_PORT, pipe.send)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_nothing_acknowledged_is_missing(tmp_path: Path, number: signal.Signals) -> None:
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe()
    process = context.Process(target=collect, args=(tmp_path, sending))
    process.start()
    sending.close()  # so that its death is the pipe's end
    port = receiving.recv()
    with logs(tmp_path) as (events, bad_events):
        collector = Collector(port, Track(SOURCES, events, bad_events, ANY_PORT), events, bad_events)
        acknowledged: list[str] = []
        enough = threading.Event()

        def client(name: str) -> None:
            for count in range(100_000):
                message_id = f"{name}-{count}"
                try:
                    status = collector.post("/v1/t", {"event": "buy", "anonymousId": name, "messageId": message_id}).status
                except (OSError, HTTPException):
                    return
                if status != 200:
                    assert status == 503
                    return
                acknowledged.append(message_id)
                if len(acknowledged) > 100:
                    enough.set()

        clients = [threading.Thread(target=client, args=(str(name),)) for name in range(4)]
        for thread in clients:
            thread.start()
        assert enough.wait(30)
        assert process.pid is not None
        os.kill(process.pid, number)
        process.join(20)
        for thread in clients:
            thread.join(20)
        assert process.exitcode == 0
        stored = [event["message_id"] for event in collector.events()]
        assert len(stored) == len(set(stored))
        assert set(acknowledged) <= set(stored)
        for name in range(4):
            counts = [int(message_id.partition("-")[2]) for message_id in stored if message_id.startswith(f"{name}-")]
            assert counts == list(range(len(counts)))


def test_two_collectors_cannot_share_a_port(tmp_path: Path) -> None:
    with collecting(tmp_path / "one") as first, logs(tmp_path / "two") as (events, bad_events):
        settings = TrackSettings(port=first.port)
        with pytest.raises(OSError, match="in use"):
            asyncio.run(run(Track(SOURCES, events, bad_events, settings), settings, asyncio.Event()))


def test_a_port_that_was_just_left_can_be_taken_again(tmp_path: Path) -> None:
    with collecting(tmp_path) as first, socket.create_connection(("127.0.0.1", first.port)):
        assert first.post("/v1/page", {"anonymousId": "v"}).status == 200
    with collecting(tmp_path, TrackSettings(port=first.port)) as second:
        assert second.post("/v1/page", {"anonymousId": "v"}).status == 200
        assert len(second.events()) == 2

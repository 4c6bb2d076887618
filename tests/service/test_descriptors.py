"""The limit of open files: a process raises it as far as allowed, and a low limit never stops the service."""

from __future__ import annotations

import json
import multiprocessing
import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from sokuji.service.proxies import Proxies
from sokuji.track.app import Track
from sokuji.web.server import serve
from tests.track.collector import ANY_PORT, SOURCES, Collector, logs


@pytest.mark.parametrize(("soft", "hard"), [(400, 4_000), (400, 400)])
def test_roles_with_files_of_each_dataset_take_all_that_is_allowed(soft: int, hard: int) -> None:
    program = f"""
import resource
from sokuji.service.descriptors import allow_all
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
allow_all()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout == f"{hard}\n"


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "expected"),
    [
        (400, 4_000, 200, (200, 400)),  # enough
        (400, 4_000, 1_000, (1_000, 1_128)),
        (400, 900, 1_000, (900 - 128, 900)),
        (400, 400, 1_000, (400 - 128, 400)),
        (200, 200, 1_000, (100, 200)),
    ],
)
def test_it_is_raised_as_far_as_needed_and_allowed(soft: int, hard: int, wanted: int, expected: tuple[int, int]) -> None:
    program = f"""
import json, resource
from sokuji.service.descriptors import connections
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(json.dumps([connections({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0]]))
"""
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert tuple(json.loads(ran.stdout)) == expected
    assert ("ulimit -n" in ran.stderr) is (expected[0] < wanted)


def collect(folder: Path, pipe: Connection) -> None:
    with logs(folder) as (events, bad_events):
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        serve(Track(SOURCES, events, bad_events, ANY_PORT, proxies=Proxies(())), ANY_PORT, pipe.send)


@pytest.mark.e2e
def test_beside_more_connections_than_files_another_address_is_served(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe()
    process = context.Process(target=collect, args=(tmp_path, sending), daemon=True)
    process.start()
    sending.close()  # so that its death is the pipe's end
    port = receiving.recv()
    with logs(tmp_path) as (events, bad_events), ExitStack() as stack:
        collector = Collector(port, Track(SOURCES, events, bad_events, ANY_PORT), events, bad_events)
        for _ in range(300):
            client = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=("127.0.0.2", 0))
            try:
                stack.enter_context(client).sendall(b"POST /v1/t HTTP/1.1\r\nX")
            except ConnectionError:  # it was not taken at all
                continue
        for number in range(20):
            event = {"event": "buy", "anonymousId": "v", "messageId": str(number)}
            assert collector.post("/v1/t", event, source="127.0.0.3").status == 200
    process.terminate()
    process.join(20)
    assert process.exitcode == 0

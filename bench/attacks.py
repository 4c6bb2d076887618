"""The collector under attack: what others' acknowledgements take while one address does its worst.

A collector process, an attacker process at 127.0.0.2 and a client at 127.0.0.3 that opens a connection for each of its single events, as
pages do. Each attack is one that once stopped the collector for seconds. The figure is the worst p99 of them all.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from multiprocessing.connection import Connection

from bench._report import quantile, report
from sokuji.config import LogSettings, TrackSettings
from sokuji.events import BAD_EVENT_SCHEMA, BAD_EVENTS_LOG, EVENT_SCHEMA, EVENTS_LOG
from sokuji.log.local.log import LocalLog
from sokuji.service.proxies import Proxies
from sokuji.track.app import Track
from sokuji.web.server import serve
from sokuji.web.write_keys import EventSource

KEY = "bench"
ATTACKER, OTHER = "127.0.0.2", "127.0.0.3"
_THREADS = 4
_CLIENTS = 16
_AUTHORIZED = {"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}
_EVENTS = (b"{}", b"1", b'{"messageId":5,"type":7}', b'{"type":"page","userId":"u","name":"x"}', b'{"type":"page","userId":"u"}')


def posting(text: bytes, headers: dict[str, str]) -> Callable[[int], None]:
    """An attack: the same body again and again on a few connections."""

    def attack(port: int) -> None:
        def post() -> None:
            while True:
                with suppress(OSError):
                    connection = HTTPConnection("127.0.0.1", port, source_address=(ATTACKER, 0), timeout=60)
                    connection.request("POST", "/v1/batch", text, headers)
                    connection.getresponse().read()
                    connection.close()

        threads = [threading.Thread(target=post, daemon=True) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        threads[0].join()

    return attack


def holding(count: int, text: bytes) -> Callable[[int], None]:
    """An attack: many connections that begin a request and do not end it; those that are ended are opened again."""

    def attack(port: int) -> None:
        with ExitStack() as stack:
            while True:
                for _ in range(count):
                    with suppress(OSError):
                        client = socket.create_connection(("127.0.0.1", port), source_address=(ATTACKER, 0))
                        stack.enter_context(client).sendall(text)
                time.sleep(5)
                stack.close()

    return attack


def attacks() -> dict[str, Callable[[int], None] | None]:
    """By name; None: nobody attacks."""
    quotes = gzip.compress(b'"' * 4_000_000)
    head = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n{"
    return {
        "nobody": None,
        "4 MB of quotes without a key": posting(quotes, {}),
        "4 MB of quotes with the key": posting(quotes, _AUTHORIZED),
        "a million NaN": posting(gzip.compress(b'{"batch":[{"properties":[' + b",".join([b"NaN"] * 1_000_000) + b"]}]}"), _AUTHORIZED),
        **{
            f"100,000 times {event.decode()}": posting(gzip.compress(b'{"batch":[' + b",".join([event] * 100_000) + b"]}"), _AUTHORIZED)
            for event in _EVENTS
        },
        "116 connections that announce 5 MB": holding(116, head),
        "1,100 slow connections": holding(1100, head[:40]),
    }


def collect(folder: str, pipe: Connection) -> None:
    """The collector's process, as on the open internet: no address is a proxy's. Sends its port."""
    settings = TrackSettings(port=0)
    with (
        LocalLog(folder, EVENT_SCHEMA, name=EVENTS_LOG, partitions=LogSettings().partitions) as events,
        LocalLog(folder, BAD_EVENT_SCHEMA, name=BAD_EVENTS_LOG, partitions=1) as bad_events,
    ):
        serve(Track({KEY: EventSource("shop", "main")}, events, bad_events, settings, proxies=Proxies(())), settings, pipe.send)


def attack(name: str, port: int) -> None:
    """The attacker's process."""
    run = attacks()[name]
    if run is not None:
        run(port)


def acknowledgements(port: int, seconds: float, rate: float) -> list[float]:
    """Milliseconds from when a request was due to its 200; `_CLIENTS` take turns, so that one that waits does not keep the next."""
    started = time.perf_counter()

    def post(number: int) -> float:
        due = started + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        connection = HTTPConnection("127.0.0.1", port, source_address=(OTHER, 0), timeout=60)
        connection.request("POST", "/v1/track", b'{"event":"buy","anonymousId":"v"}', _AUTHORIZED)
        status = connection.getresponse().status
        connection.close()
        if status != 200:
            raise SystemExit(f"another address got {status}")
        return (time.perf_counter() - due) * 1000

    with ThreadPoolExecutor(_CLIENTS) as clients:
        return list(clients.map(post, range(int(seconds * rate))))


def measure(name: str, seconds: float, rate: float) -> list[float]:
    """The acknowledgements of another address during this attack, on a collector of its own."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-attacks-") as folder:
        receiver, sender = context.Pipe()
        collector = context.Process(target=collect, args=(folder, sender), daemon=True)
        collector.start()
        sender.close()  # so that its death is the pipe's end
        port = receiver.recv()
        attacker = context.Process(target=attack, args=(name, port), daemon=True)
        attacker.start()
        time.sleep(1.0)  # until it is at it
        found = acknowledgements(port, seconds, rate)
        attacker.kill()
        attacker.join()
        collector.kill()
        collector.join()
    return found


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="sokuji bench attacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each attack")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second of the other client")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    p99 = {}
    for name in attacks():
        found = measure(name, options.seconds, options.rate)
        p99[name] = round(quantile(found, 0.99), 1)
    report("attacks", max(p99.values()), "ms p99", as_json=options.json, p99_ms=p99)

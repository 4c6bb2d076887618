"""Turns of addresses, on the event loop and beside it."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from sokuji.errors import InvalidRequestError
from sokuji.service.proxies import Proxies
from sokuji.track.segment_answers import ACCEPTED
from sokuji.web import turns
from sokuji.web.body import Bodies
from sokuji.web.connection import Connection, Connections, Exchange
from sokuji.web.turns import Beside, Turns


class Walker:
    """Has so many steps to take, and notes them."""

    def __init__(self, address: str, steps: int, taken: list[str], turns: Turns) -> None:
        self.address, self._left, self._taken, self._turns = address, steps, taken, turns

    def step(self) -> bool:
        if not self._left:
            return False
        self._left -= 1
        self._taken.append(self.address)
        return True

    def go_on(self, until: float) -> None:
        self._turns.serve(self, until)


def test_addresses_take_turns_on_the_loop_however_many_connections_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_FREE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_SPARE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_TURN_SECONDS", 0.0)
    taken: list[str] = []

    async def serve() -> None:
        shared = Turns()
        for address, steps in [("a", 3)] * 50 + [("b", 4)]:
            assert not shared.serve(Walker(address, steps, taken, shared))
        while len(taken) < 154:  # noqa: ASYNC110 - rounds are counted
            await asyncio.sleep(0)

    asyncio.run(serve())
    assert taken[:8] == ["a", "b"] * 4
    assert taken.count("a") == 150


def test_who_needs_little_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_FREE_SECONDS", 60.0)
    taken: list[str] = []

    async def serve() -> None:
        shared = Turns()
        assert shared.serve(Walker("a", 3, taken, shared))

    asyncio.run(serve())
    assert taken == ["a"] * 3


def test_who_fails_in_its_turn_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_FREE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_SPARE_SECONDS", 0.0)
    taken: list[str] = []

    async def serve() -> list[Any]:
        shared, failures = Turns(), []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
        failing = Walker("a", 3, taken, shared)
        shared.serve(failing)
        shared.serve(Walker("b", 3, taken, shared))
        monkeypatch.setattr(failing, "step", lambda: 1 // 0)
        for _ in range(10):
            await asyncio.sleep(0)
        return failures

    assert [type(failure) for failure in asyncio.run(serve())] == [ZeroDivisionError]
    assert taken == ["b"] * 3


def test_addresses_take_turns_beside_the_loop() -> None:
    done: list[str] = []

    async def work() -> None:
        with ThreadPoolExecutor(1) as thread:
            beside = Beside(thread)
            names = ["a1", "a2", "a3", "b1"]
            await asyncio.gather(*(beside.run(name[0], lambda name=name: done.append(name)) for name in names))  # type: ignore[misc]

    asyncio.run(work())
    assert done == ["a1", "a2", "b1", "a3"]


def test_a_failure_beside_the_loop_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> list[object]:
        with ThreadPoolExecutor(1) as thread:
            beside = Beside(thread)
            works: list[Callable[[], object]] = [lambda: 1, lambda: 1 // 0, lambda: 3]
            return list(await asyncio.gather(*(beside.run("a", each) for each in works), return_exceptions=True))

    first, failure, last = asyncio.run(work())
    assert (first, last) == (1, 3)
    assert isinstance(failure, ZeroDivisionError)


def test_what_takes_long_beside_the_loop_lets_go_of_the_interpreter_soon() -> None:
    before = sys.getswitchinterval()

    async def work() -> float:
        with ThreadPoolExecutor(1) as thread:
            beside = Beside(thread)
            with pytest.raises(ZeroDivisionError):
                await beside.run("a", lambda: 1 // 0)
            return await beside.run("a", sys.getswitchinterval)

    assert asyncio.run(work()) == pytest.approx(0.0005)
    assert sys.getswitchinterval() == pytest.approx(before)


class Answering:
    """An application that answers all at once."""

    def __init__(self) -> None:
        self.proxies, self.bodies = Proxies(()), Bodies(1_000_000)
        self.bodies_seen: list[bytes] = []

    def admit(self, exchange: Exchange) -> None:
        pass

    def handle(self, exchange: Exchange) -> None:
        self.bodies_seen.append(exchange.body)
        exchange.answer(*ACCEPTED)

    def refused(self, problem: InvalidRequestError) -> None:
        raise AssertionError(problem)


class Wire(asyncio.Transport):
    """The other end: whether it is read from."""

    is_read = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 4711) if name == "peername" else default

    def write(self, data: Any) -> None:
        pass

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


CHUNKS = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "bodies"),
    [(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 3_000, [b""] * 3_000), (CHUNKS, [b"x" * 20_000])],
    ids=["requests", "chunks"],
)
def test_a_packet_of_very_many_parts_is_read_in_turns(text: bytes, bodies: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """256 KB of requests, or of chunks of one byte, held the event loop for 0.1 s; ten connections of them for a second."""
    monkeypatch.setattr(turns, "_FREE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_SPARE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_TURN_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_ROUND_SECONDS", 0.0005)

    async def read() -> int:
        app, wire = Answering(), Wire()
        connection = Connection(cast("Any", app), Connections(10, app.proxies))
        connection.connection_made(wire)
        connection.data_received(text)
        assert not wire.is_read
        rounds = 0
        while len(app.bodies_seen) < len(bodies):
            await asyncio.sleep(0)
            rounds += 1
        await asyncio.sleep(0)
        assert app.bodies_seen == bodies
        assert wire.is_read
        return rounds

    assert asyncio.run(read()) >= 5

"""Whoever waits for a call into DuckDB may leave it, and it ends alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sokuji.errors import QueryCancelledError, SqlError
from sokuji.sql.duckdb import native_calls
from sokuji.sql.duckdb.native_calls import LEFT_MAX, NativeCalls
from sokuji.sql.stop import Stop
from tests.waiting import until

WAIT_SECONDS = 60.0


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    """What the calls of a test wait for: they end with it."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_calls, "GRACE_SECONDS", 0.01)


def test_a_call_gives_what_its_function_does() -> None:
    calls = NativeCalls()
    assert calls.run(lambda: 7, Stop()) == 7
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 // 0, Stop())
    done: list[int] = []
    calls.finish(lambda: done.append(1))
    assert (done, calls.under_way, calls.left) == ([1], 0, 0)


def test_a_query_that_is_to_end_makes_no_call() -> None:
    stop, calls = Stop(), NativeCalls()
    stop.now("enough")
    with pytest.raises(QueryCancelledError, match="enough"):
        calls.run(lambda: pytest.fail("called"), stop)


def test_calls_one_after_another_share_a_thread_that_ends_when_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_calls, "_IDLE_SECONDS", 0.2)
    calls = NativeCalls()
    threads = {calls.run(threading.current_thread, Stop()) for _ in range(20)}
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    until(lambda: not any(thread.is_alive() for thread in threads), WAIT_SECONDS)
    assert calls.run(lambda: 7, Stop()) == 7


def test_the_caller_leaves_when_the_query_is_to_end(go_on: threading.Event) -> None:
    stop, calls, ended = Stop(), NativeCalls(), threading.Event()

    def work() -> None:
        go_on.wait()
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(calls.run, work, stop)
        until(lambda: calls.under_way == 1, WAIT_SECONDS)
        stop.now("enough")
        with pytest.raises(QueryCancelledError, match="enough"):
            query.result(WAIT_SECONDS)
    assert (calls.under_way, calls.left, ended.is_set()) == (1, 1, False)
    assert calls.run(lambda: 7, Stop()) == 7, "others go on"
    go_on.set()
    until(lambda: calls.under_way == 0, WAIT_SECONDS)
    assert (calls.left, ended.is_set()) == (0, True)


def test_a_call_that_ends_in_time_says_itself_how(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, calls = Stop(), NativeCalls()
    monkeypatch.setattr(native_calls, "GRACE_SECONDS", WAIT_SECONDS)

    def interrupted() -> None:
        until(lambda: stop.reason is not None, WAIT_SECONDS)
        raise SqlError("interrupted")

    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(calls.run, interrupted, stop)
        until(lambda: calls.under_way == 1, WAIT_SECONDS)
        stop.now("enough")
        with pytest.raises(SqlError, match="interrupted"):
            query.result(WAIT_SECONDS)
    assert calls.left == 0


def test_ctrl_c_leaves_a_call(go_on: threading.Event) -> None:
    calls = NativeCalls()

    def press() -> None:
        until(lambda: calls.under_way == 1, WAIT_SECONDS)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        calls.run(go_on.wait, Stop())
    presser.join()
    assert (calls.under_way, calls.left) == (1, 1)


def test_no_query_starts_while_too_many_were_left(go_on: threading.Event) -> None:
    calls = NativeCalls()
    for number in range(LEFT_MAX):
        calls.check()
        calls.finish(lambda: until(go_on.is_set, WAIT_SECONDS))
        assert calls.left == number + 1
    with pytest.raises(SqlError, match=f"{LEFT_MAX} queries that were cancelled"):
        calls.check()
    go_on.set()
    until(lambda: calls.left == 0, WAIT_SECONDS)
    calls.check()


def test_what_calls_need_is_released_after_the_last_of_them(go_on: threading.Event) -> None:
    calls, released = NativeCalls(), threading.Event()
    calls.close(released.set)
    assert released.is_set()
    released.clear()
    calls.finish(lambda: until(go_on.is_set, WAIT_SECONDS))
    calls.close(released.set)
    assert not released.is_set()
    go_on.set()
    assert released.wait(WAIT_SECONDS)

"""Waiting for the decisions on an event, as the collector does before it responds."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from sokuji.act.decision import Recorded
from sokuji.act.pages.waiter import Waiter
from sokuji.errors import CorruptLogError
from sokuji.log.base import Log
from tests.act.api import append, decisions_log, row
from tests.log.opening import Opening

T = TypeVar("T")


@pytest.fixture
def log(tmp_path: Path, opening: Opening) -> Iterator[Log]:
    with decisions_log(tmp_path, opening) as opened:
        yield opened


class Worker:
    """How far the events log is analyzed, by partition."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}

    def __call__(self) -> dict[int, int]:
        return self.ends


def ids(decisions: list[Recorded]) -> list[str]:
    return [each.decision.id for each in decisions]


async def timed(waiting: Awaitable[list[Recorded]]) -> tuple[list[str], float]:
    started = time.perf_counter()
    found = await waiting
    return ids(found), time.perf_counter() - started


def later(seconds: float, what: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(seconds, what)


def test_it_returns_with_the_decisions_on_its_messages(log: Log) -> None:
    async def main() -> None:
        waiter = Waiter(log, Worker())
        rows = [row(trigger_id="m1", name="a"), row(trigger_id="other"), row(trigger_id="m2", name="b"), row(trigger_id="m1", name="c")]
        later(0.05, lambda: append(log, *rows))
        found, seconds = await timed(waiter.wait("main", ["m1", "m2"], {0: 10}, 5))
        assert found == ["a", "b", "c"]
        assert 0.04 < seconds < 1

    asyncio.run(main())


def test_how_long_it_waits_tells_nothing_of_decisions_for_others(log: Log) -> None:
    """A sender who proves one visitor may name others in the same request, and would learn whether a rule held for them."""

    async def main() -> None:
        waiter = Waiter(log, Worker())
        append(log, row(trigger_id="before", name="theirs"))
        later(0.02, lambda: append(log, row(trigger_id="now", name="theirs")))
        later(0.2, lambda: append(log, row(trigger_id="now", name="own")))

        def is_own(recorded: Recorded) -> bool:
            return recorded.decision.id == "own"

        assert await waiter.wait("main", ["before"], {0: 10}, 0.05, is_own) == []
        found, seconds = await timed(waiter.wait("main", ["before", "now"], {0: 10}, 5, is_own))
        assert found == ["own"]
        assert seconds > 0.1

    asyncio.run(main())


def test_an_event_that_causes_nothing_waits_until_it_is_analyzed(log: Log) -> None:
    async def main() -> None:
        worker = Worker()
        waiter = Waiter(log, worker)
        worker.ends = {0: 9, 1: 5}
        later(0.05, lambda: worker.ends.update({0: 10}))
        found, seconds = await timed(waiter.wait("main", ["m1"], {0: 10, 1: 5}, 5))
        assert found == []
        assert 0.04 < seconds < 1

    asyncio.run(main())


def test_what_is_decided_just_before_the_worker_is_done_is_seen(log: Log) -> None:
    async def main() -> None:
        worker = Worker()
        waiter = Waiter(log, worker)

        def work() -> None:
            append(log, row(trigger_id="m1", name="a"))
            worker.ends = {0: 10}

        later(0.05, work)
        assert ids(await waiter.wait("main", ["m1"], {0: 10}, 5)) == ["a"]

    asyncio.run(main())


def test_the_wait_is_bounded(log: Log) -> None:
    async def main() -> None:
        found, seconds = await timed(Waiter(log, Worker()).wait("main", ["m1"], {0: 10}, 0.1))
        assert found == []
        assert 0.09 < seconds < 1

    asyncio.run(main())


def test_a_decision_may_be_there_before_it_is_asked_for(log: Log) -> None:
    async def main() -> None:
        waiter = Waiter(log, Worker())
        append(log, row(trigger_id="m1", name="a"))
        assert ids(await waiter.wait("main", ["m1"], {0: 1}, 1)) == ["a"]
        assert ids(await waiter.wait("main", ["m1"], {0: 1}, 1)) == ["a"]  # a client that asks again

    asyncio.run(main())


def test_of_other_datasets_and_not_for_pages_is_not_for_it(log: Log) -> None:
    async def main() -> None:
        worker = Worker()
        worker.ends = {0: 10}
        waiter = Waiter(log, worker)
        webhook = {"kind": "webhook", "url": "https://x.example/", "body": {}}
        append(log, row(trigger_id="m1", dataset="mobile"), row(trigger_id="m1", action=None), row(trigger_id="m1", action=webhook))
        assert await waiter.wait("main", ["m1"], {0: 10}, 1) == []

    asyncio.run(main())


def test_thousands_wait_at_once_and_are_told_apart(log: Log) -> None:
    async def main() -> None:
        waiter = Waiter(log, Worker())
        waits = [asyncio.create_task(waiter.wait("main", [f"m{n}"], {0: n + 1}, 10)) for n in range(2_000)]
        await asyncio.sleep(0.05)
        append(log, *(row(trigger_id=f"m{n}", name=f"d{n}") for n in range(2_000)))
        assert [ids(await wait) for wait in waits] == [[f"d{n}"] for n in range(2_000)]

    asyncio.run(main())


def test_when_too_many_wait_the_next_one_does_not(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.act.pages.waiter._WAITING_MAX", 5)

    async def main() -> None:
        waiter = Waiter(log, Worker())
        waits = [asyncio.create_task(waiter.wait("main", [f"m{n}"], {0: n + 1}, 0.3)) for n in range(5)]
        await asyncio.sleep(0.01)
        assert (await timed(waiter.wait("main", ["late"], {0: 9}, 0.3)))[1] < 0.2
        assert await asyncio.gather(*waits) == [[]] * 5

    asyncio.run(main())


def test_who_waits_for_many_messages_takes_one_place(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten batches of 1,000 events took all places, and nobody else's request waited."""
    monkeypatch.setattr("sokuji.act.pages.waiter._WAITING_MAX", 2)

    async def main() -> None:
        waiter = Waiter(log, Worker())
        many = asyncio.create_task(waiter.wait("main", [f"m{n}" for n in range(1_000)], {0: 1_000}, 5))
        await asyncio.sleep(0.01)
        later(0.05, lambda: append(log, row(trigger_id="other", name="a"), row(trigger_id="m7", name="b")))
        assert ids(await waiter.wait("main", ["other"], {0: 1_001}, 5)) == ["a"]
        assert ids(await many) == ["b"]

    asyncio.run(main())


def test_memory_of_large_decisions_is_bounded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.act.pages.waiter._KEPT_BYTES_MAX", 100_000)

    async def main() -> None:
        waiter = Waiter(log, Worker())
        later(0.05, lambda: append(log, *(row("v" * 10_000, trigger_id=f"m{n}", name=f"d{n}") for n in range(30))))
        assert ids(await waiter.wait("main", ["m29"], {0: 1}, 5)) == ["d29"]
        assert 0 < len(waiter._kept) < 10
        assert ids(await waiter.wait("main", ["m28"], {0: 1}, 5)) == ["d28"]

    asyncio.run(main())


def test_nothing_is_left_behind(log: Log) -> None:
    async def main() -> None:
        waiter = Waiter(log, Worker())
        gone = asyncio.create_task(waiter.wait("main", ["m1"], {0: 1}, 10))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.gather(*(waiter.wait("main", [f"m{n}"], {0: 1}, 0.01) for n in range(100)), gone, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks()) == 1  # it reads the log only while someone waits
        assert not waiter._waiting
        assert not waiter._behind
        # And it begins again.
        later(0.02, lambda: append(log, row(trigger_id="m1", name="a")))
        assert ids(await waiter.wait("main", ["m1"], {0: 1}, 5)) == ["a"]

    asyncio.run(main())


def test_a_worker_that_cannot_be_asked_fails_the_wait(log: Log) -> None:
    def broken() -> dict[int, int]:
        raise CorruptLogError("the batches log is damaged")

    async def main() -> None:
        with pytest.raises(CorruptLogError):
            await Waiter(log, broken).wait("main", ["m1"], {0: 1}, 5)

    asyncio.run(main())

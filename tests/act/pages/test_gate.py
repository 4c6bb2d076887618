"""The check before display: it uses all acknowledged events, and records each reason once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sokuji.act.decision import Recorded, decisions
from sokuji.act.pages.gate import Eligibility
from sokuji.clock import now_us
from sokuji.errors import InvalidRequestError, OnlineStoreError
from sokuji.log.base import Log
from sokuji.rules.decision import Decision
from tests.act.api import Told, append, decisions_log, row
from tests.log.opening import Opening


@pytest.fixture
def log(tmp_path: Path, opening: Opening) -> Iterator[Log]:
    with decisions_log(tmp_path, opening) as opened:
        yield opened


def made(log: Log, *names: str) -> list[Decision]:
    return [each.decision for each in read(log, *names)]


def read(log: Log, *names: str) -> list[Recorded]:
    start = append(log, *(row(name=name) for name in names))
    return [each for each in decisions(log.read(0, start, len(names))) if isinstance(each, Recorded)]


def eligibility(log: Log, state: Told, progress: int | None = None) -> Eligibility:
    return Eligibility(state, log, lambda: {0: log.end(0) if progress is None else progress}, log, now_us)


def records(log: Log) -> list[tuple[str, str]]:
    """The decision and the reason of what was recorded."""
    rows = [each for each in log.read(0, 0, 1000).batch.to_pylist() if each["event_name"] == "action_ineligible"]
    assert all((each["source"], each["type"], each["dataset"]) == ("sokuji", "track", "main") for each in rows)
    properties = [json.loads(each["properties"]) for each in rows]
    assert all((each["rule"], each["arm"]) == ("three_items", "a") for each in properties)
    return [(each["decision_id"], each["reason"]) for each in properties]


def test_what_is_not_shown_is_recorded_once_a_reason_whoever_asks_again(log: Log) -> None:
    found = read(log, "d1", "d2")
    first, second = (each.decision for each in found)

    async def ask() -> None:
        told = {"d1": "stopped"}
        checks = eligibility(log, Told(lambda question: told.get(question.decision.id)))
        assert await checks.reasons([first, second, first], "1.1.1.1", []) == ["stopped", None, "stopped"]
        assert await checks.eligible(found, "1.1.1.1", []) == [found[1]]
        assert records(log) == [("d1", "stopped")]
        told["d1"] = "quiet_hours"
        await checks.reasons([first], "1.1.1.1", [])
        await checks.record(second, "expired", "1.1.1.1")
        checks.close()
        told |= {"d1": "stopped", "d2": "no_longer_true"}
        again = eligibility(log, Told(lambda question: told[question.decision.id]))  # after a restart
        assert await again.reasons([first, second], "1.1.1.1", []) == ["stopped", "no_longer_true"]
        again.close()

    asyncio.run(ask())
    assert records(log) == [("d1", "stopped"), ("d1", "quiet_hours"), ("d2", "expired"), ("d2", "no_longer_true")]


def test_who_asks_at_the_same_time_shares_a_question(log: Log) -> None:
    found = made(log, *(f"d{number}" for number in range(50)))
    state = Told(lambda question: "stopped" if question.decision.id == "d7" else None)

    async def ask() -> list[list[str | None]]:
        checks = eligibility(log, state)
        answers = await asyncio.gather(*(checks.reasons([decision, found[0]], "1.1.1.1", []) for decision in found))
        checks.close()
        return answers

    assert asyncio.run(ask()) == [["stopped", None] if number == 7 else [None, None] for number in range(50)]
    assert state.times <= 2


def test_the_state_is_not_asked_before_it_has_what_is_acknowledged(log: Log) -> None:
    [decision] = made(log, "d1")
    state, progress = Told(lambda _: None), {0: 0}

    async def ask() -> None:
        checks = Eligibility(state, log, lambda: progress, log, now_us)
        question = asyncio.create_task(checks.reasons([decision], "1.1.1.1", []))
        await asyncio.sleep(0.1)
        assert state.times == 0
        progress[0] = log.end(0)
        assert await question == [None]
        checks.close()

    asyncio.run(ask())


def test_what_cannot_be_told_is_an_error_and_nothing_is_recorded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.act.pages.gate._BEHIND_SECONDS", 0.1)
    [decision] = made(log, "d1")

    def gone(_: object) -> str | None:
        raise OnlineStoreError("the writer stopped")

    async def ask() -> None:
        for checks in (eligibility(log, Told(lambda _: None), progress=0), eligibility(log, Told(gone))):
            assert await checks.reasons([], "1.1.1.1", []) == []
            with pytest.raises(InvalidRequestError) as refused:
                await checks.reasons([decision], "1.1.1.1", [])
            assert refused.value.status == 503
            with pytest.raises(InvalidRequestError):  # and asked again
                await checks.reasons([decision], "1.1.1.1", [])
            checks.close()

    asyncio.run(ask())
    assert records(log) == []

"""A state in a folder: a checkpoint that did not finish is as if it had not been, whatever was written of it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sokuji.analyze.state import served
from sokuji.analyze.state.folder import FolderStates
from sokuji.analyze.state.served import SERVED_LOG, SERVED_SCHEMA
from sokuji.config import AnalyzeSettings
from sokuji.dedup.rule import RepeatRule
from sokuji.errors import DamagedFileError, OnlineStoreError
from sokuji.log.base import Log
from sokuji.online.shared.store import SharedStore
from tests.analyze.state.streaming import COUNTING, STREAM, Streaming, expected, place
from tests.log.opening import on_disk
from tests.searching import examples

COUNT = len(STREAM)
ROUNDS = examples(4)


def folder_states() -> FolderStates:
    settings = AnalyzeSettings(profiles_max=1_000, served_sample=1.0)
    return FolderStates(SharedStore, open_log, settings, RepeatRule(1_000_000, 1))


def open_log(folder: Path) -> Log:
    return on_disk(folder, SERVED_SCHEMA, SERVED_LOG, 1)


@pytest.fixture
def streaming(tmp_path: Path) -> Streaming:
    return Streaming(tmp_path, folder_states())


def save(streaming: Streaming, batches: int) -> None:
    stream = streaming.open()
    stream.work(stream.state.position().number, batches)
    stream.save(batches)
    stream.close()


def test_a_checkpoint_whose_rows_were_not_saved_has_not_been(streaming: Streaming, monkeypatch: pytest.MonkeyPatch) -> None:
    save(streaming, 4)
    stream = streaming.open()
    stream.work(4, COUNT)
    with monkeypatch.context() as patch:
        patch.setattr(SharedStore, "checkpoint", _fail)
        with pytest.raises(OnlineStoreError, match="the disk is full"):
            stream.save(COUNT)  # identities, messages and strings are saved, and what was served
    stream.close()
    stream = streaming.open()
    assert (stream.state.position(), stream.features()) == (place(4), expected(4))
    assert [stream.state.identity.profile(visitor) for visitor in "ab"] == ["v:a", "v:b"]
    assert [outcome.duplicates for outcome in stream.work(3, COUNT)] == [1, 0, 0, 0, 0]
    assert stream.features() == expected(COUNT)
    stream.save(COUNT)
    stream.close()
    kept = served.read(streaming.path, open_log, 1.0)
    assert kept.rows.column("offset").to_pylist() == [0, 1, 2, 4, 5, 6, 7], "each once, though most are served a second time"


def _fail(*_: object, **__: object) -> None:
    raise OnlineStoreError("the disk is full")


@pytest.mark.parametrize("name", ["identities.jsonl", "ids/0-0.ids"])
@pytest.mark.parametrize("rest", [b"torn", bytes(16), b'["a","x"]\n'])
def test_what_came_after_the_last_checkpoint_is_cut_off(streaming: Streaming, name: str, rest: bytes) -> None:
    save(streaming, 6)
    with (streaming.path / name).open("ab") as file:
        file.write(rest)
    stream = streaming.open()
    assert (stream.state.position(), stream.features(), stream.state.identity.profile("a")) == (place(6), expected(6), "u:u")
    assert [outcome.duplicates for outcome in stream.work(6, COUNT)] == [0, 0]
    stream.save(COUNT)
    stream.close()
    stream = streaming.open()
    assert stream.features() == expected(COUNT)
    stream.close()


def _cut(content: bytes) -> bytes:
    return content[:-1]


def _flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("damage", [_cut, _flip])
def test_what_a_checkpoint_counts_on_and_is_not_there_is_noticed(streaming: Streaming, damage: Callable[[bytes], bytes]) -> None:
    save(streaming, 6)
    ids, identities, strings = (
        streaming.path / "ids" / "0-0.ids",
        streaming.path / "identities.jsonl",
        streaming.path.parent / "strings.jsonl",
    )
    for path in (identities, strings):
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        with pytest.raises(DamagedFileError, match=r"(identities|strings)\.jsonl is damaged"):
            streaming.open()
        path.write_bytes(whole)
    ids.write_bytes(damage(ids.read_bytes()))
    stream = streaming.open()
    assert (stream.state.knows_messages, stream.features()) == (False, expected(6)), "they can be learned again beside the rest"
    stream.close()


@pytest.mark.slow
@pytest.mark.e2e
def test_killed_at_any_moment_it_opens_as_at_one_of_its_checkpoints(streaming: Streaming, tmp_path: Path) -> None:
    chance, before = random.Random(11), 0
    for _ in range(ROUNDS):
        command = [sys.executable, "-m", "tests.analyze.state.saving", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(chance.randint(3, 60)):
            assert process.stdout.readline() == b"saving\n"
        process.kill()
        process.communicate()
        stream = streaming.open()
        number = stream.state.position().number
        assert number >= before
        assert stream.state.versions == ({COUNTING: number} if number else {})
        [found] = stream.state.features([f"v:{COUNTING}"], 0)
        assert (found["n"], found["last_item"]) == (number, f"i{number - 1}" if number else None)
        assert stream.count(number).duplicates == 0, "the first message that it does not have"
        if number:
            assert stream.count(number - 1).duplicates == 1, "the last one that it has"
        before = number
        stream.close()
    assert before, "after two that were begun the first one is complete"

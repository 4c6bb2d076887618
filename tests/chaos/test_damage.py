"""Every file of a data folder is damaged in turn after a real run: the answers stay right, or one line names the file and the remedy.

An oracle that shares no code with the platform computes the right answers from the sent events.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import sokuji
from sokuji.act.deliver.queue import Delivery, Queue
from sokuji.clock import now_us
from sokuji.disk.stored import encode_record
from sokuji.errors import FormatError, SokujiError
from sokuji.platform import Platform

FEATURES = """
from sokuji.features import events, view

view("buyer", entity="visitor", buys=events("buy").count(), spend=events("buy").sum("revenue"), last=events("buy").last("item"))
"""
SETTINGS = """
[sources.web]
write_key = "w"
[log]
partitions = 2
[analyze]
served_sample = 1.0
profiles_max = 1000
"""
VISITORS = 4
DELIVERY = Delivery(
    "d1", "https://shop.example:443", 5, 1, 2**60, "main", "v0", None, "rule", None, "https://shop.example/hook", b'{"a":1}'
)

Answers = dict[str, Any]


def event(number: int) -> dict[str, Any]:
    properties = {"revenue": 10 * number + 1, "item": f"item {number}"}
    who = f"v{number % VISITORS}"
    return {"type": "track", "event": "buy", "messageId": f"m{number}", "anonymousId": who, "properties": properties}


def oracle(count: int) -> Answers:
    """What is to be answered once `count` events were sent."""
    sent = [event(number) for number in range(count)]
    by_visitor = {f"v{who}": [each["properties"] for each in sent if each["anonymousId"] == f"v{who}"] for who in range(VISITORS)}
    return {
        "rows": sorted((each["anonymousId"], each["properties"]["revenue"] * 1.0) for each in sent),
        "features": {
            who: {"buys": len(bought), "spend": sum(each["revenue"] for each in bought) * 1.0, "last": bought[-1]["item"]}
            for who, bought in by_visitor.items()
        },
        "table": [(1, "one"), (2, "two")],
        "view": [(3,)],
        "model": [(21.0, 0.0)],
        "queue": [DELIVERY],
        "mismatches": 0,
    }


SENT = 24
MODEL = (
    "CREATE OR REPLACE MODEL main.line OPTIONS(model_type='linear_reg') AS SELECT x, {} AS label FROM UNNEST(GENERATE_ARRAY(1, 20)) AS x"
)
PREDICTED = """
SELECT ROUND(predicted_label, 3), ROUND(mean_absolute_error, 3)
FROM ML.PREDICT(MODEL main.line, (SELECT 10 AS x)), ML.EVALUATE(MODEL main.line)
"""


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Platform]:
    with sokuji.open(folder) as platform:
        yield platform


def send(platform: Platform, numbers: range) -> None:
    for number in numbers:
        platform.track(event(number))


def work(platform: Platform, folder: Path) -> dict[str, Any]:
    """Bring everything up to date, and read the features."""
    with platform._backends.make_worker(folder) as worker:
        while worker.run_once() or worker.is_replaying:
            pass
        worker.checkpoint(wait=True)
        return {f"v{who}": platform.online_features(f"v{who}") for who in range(VISITORS)}


def sink(platform: Platform) -> None:
    with platform._backends.make_sink() as running:
        running.drain()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project after a run, and a copy of its data from the middle of it."""
    folder = tmp_path_factory.mktemp("damage") / "project"
    folder.mkdir()
    (folder / "sokuji.toml").write_text(SETTINGS)
    (folder / "features.py").write_text(FEATURES)
    with opened(folder) as platform:
        send(platform, range(SENT // 3))
        sink(platform)
        platform.sql("CREATE TABLE main.kept AS SELECT 1 AS id, 'one' AS name")
        platform.sql("CREATE VIEW main.total AS SELECT MAX(id) AS ids FROM main.kept")
        platform.sql(MODEL.format("x"))
        work(platform, folder)
        send(platform, range(SENT // 3, SENT // 2))
        work(platform, folder)
    older = folder.with_name("older")
    shutil.copytree(folder, older)
    with opened(folder) as platform:
        platform.sql("INSERT INTO main.kept VALUES (2, 'two')")
        platform.sql("CREATE OR REPLACE VIEW main.total AS SELECT SUM(id) AS ids FROM main.kept")
        platform.sql(MODEL.format("2 * x + 1"))
        sink(platform)
        send(platform, range(SENT // 2, SENT))
        work(platform, folder)
        sink(platform)
        queue = Queue(data(folder) / "deliver" / "queue.db")
        queue.take_in([DELIVERY], 0)
        queue.close()
    return folder, older


def data(folder: Path) -> Path:
    return folder / ".sokuji"


def answers(folder: Path) -> Answers:
    """What a platform that is started on the folder says."""
    with opened(folder) as platform:
        sink(platform)
        features = work(platform, folder)
        queue = Queue(data(folder) / "deliver" / "queue.db", is_new=False)
        waiting = queue.due(DELIVERY.endpoint, now_us(), 10)
        queue.close()
        return {
            "rows": sorted(platform.sql("SELECT keys.visitor_id, revenue FROM main.events WHERE source != 'sokuji'").rows()),
            "features": features,
            "table": platform.sql("SELECT id, name FROM main.kept ORDER BY id").rows(),
            "view": platform.sql("SELECT ids FROM main.total").rows(),
            "model": platform.sql(PREDICTED).rows(),
            "queue": waiting,
            "mismatches": platform.verify_features().mismatches,
        }


def flip(path: Path, _older: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut(path: Path, _older: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def delete(path: Path, _older: Path, _chance: random.Random) -> None:
    path.unlink()


def swap(path: Path, older: Path, _chance: random.Random) -> None:
    shutil.copyfile(older, path)


DAMAGES: dict[str, Callable[[Path, Path, random.Random], None]] = {"flip": flip, "cut": cut, "delete": delete, "swap": swap}


def outcome(folder: Path, older: Path, file: Path, damage: str, chance: random.Random, place: Path) -> str:
    """What came of it: recovered, named, or what was wrong instead."""
    broken = place / "project"
    shutil.copytree(folder, broken)
    path, before = broken / file, older / file
    if not path.stat().st_size and damage in {"flip", "cut"}:
        return "recovered"
    DAMAGES[damage](path, before, chance)
    try:
        found = answers(broken)
    except SokujiError as error:
        named = "/".join(path.parent.parts[-3:]) in str(error) and "\n" not in str(error)  # itself, or what it no longer fits
        return "named" if named else f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 the finding
        return f"raw {type(error).__name__}: {error}"
    finally:
        shutil.rmtree(broken)
    expected = oracle(SENT)
    wrong = [key for key in expected if found[key] != expected[key]]
    return f"other {', '.join(wrong)}: {[found[key] for key in wrong]}" if wrong else "recovered"


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in data(folder).rglob("*") if path.is_file() and path.name not in {"lock", ".lock"})


def test_without_damage_the_answers_are_the_oracles(run: tuple[Path, Path]) -> None:
    assert answers(run[0]) == oracle(SENT)


SHORT = {
    ("log/events/ends", "cut"): "recovered",
    ("log/events/log.json", "cut"): "named",
    ("log/events/consumers/sink.json", "cut"): "named",
    ("analyze/progress", "cut"): "recovered",
    ("deliver/queue.db", "cut"): "named",
    ("meta.db", "cut"): "named",
    ("meta.db", "swap"): "named",
    ("lake/main/kept/_delta_log/00000000000000000002.json", "delete"): "named",
}


@pytest.mark.parametrize(("file", "damage"), SHORT)
def test_a_damaged_file_is_found_again_or_named(run: tuple[Path, Path], tmp_path: Path, file: str, damage: str) -> None:
    assert outcome(*run, Path(".sokuji") / file, damage, random.Random(file), tmp_path) == SHORT[file, damage]


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_every_file_damaged_in_turn(run: tuple[Path, Path], tmp_path: Path) -> None:
    folder, older = run
    wrong = {}
    for number, (file, damage) in enumerate(itertools.product(files(folder), DAMAGES)):
        before = older / file
        if damage == "swap" and (not before.exists() or before.read_bytes() == (folder / file).read_bytes()):
            continue
        found = outcome(folder, older, file, damage, random.Random(f"{file}{damage}"), tmp_path / str(number))
        print(number, file, damage, found, flush=True)
        if found not in {"recovered", "named"}:
            wrong[f"{file} {damage}"] = found
    assert not wrong


UNREAD = ("/main/line/1-", "/seen/main/manifest.json")
"""Nobody reads these here: a model that was replaced, ids while no message comes."""


def newer(path: Path) -> bool:
    """Give a file that says its format the format 99; False for one that says none, or is of another store's."""
    content = path.read_bytes()
    if content.startswith(b'{"format":'):
        fields = msgspec.json.decode(content.partition(b"\n")[0])
        path.write_bytes(encode_record({name: value for name, value in fields.items() if name != "format"}, format=99))
    elif path.suffix == ".segment" and content:
        path.write_bytes(content[:7] + b"\x63" + content[8:])
    elif path.name in {"meta.db", "queue.db"}:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE format SET format = 99" if path.name == "meta.db" else "PRAGMA user_version = 99")
            database.commit()
    else:
        return False
    return True


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_every_store_of_a_newer_release_is_refused(run: tuple[Path, Path], tmp_path: Path) -> None:
    said, wrong = set(), {}
    for number, file in enumerate(files(run[0])):
        broken = tmp_path / str(number)
        shutil.copytree(run[0], broken)
        if newer(broken / file):
            said.add(file.name)
            try:
                found = answers(broken)
                if found != oracle(SENT) or not any(part in str(file) for part in UNREAD):
                    wrong[str(file)] = "it opens"
            except FormatError as error:
                if "has format 99" not in str(error) or "\n" in str(error):
                    wrong[str(file)] = str(error)
            except Exception as error:  # noqa: BLE001 the finding
                wrong[str(file)] = f"raw {type(error).__name__}: {error}"
        shutil.rmtree(broken)
    assert not wrong
    assert said >= {
        "log.json",
        "sink.json",
        "manifest.json",
        "layout.json",
        "version.json",
        ".format.json",
        "meta.db",
        "queue.db",
        "meta.changes",
    }

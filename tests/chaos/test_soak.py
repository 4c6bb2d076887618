"""A long run under moderate load: no resource of a role grows, and at the end all readers agree.

`make test-long ARGS=tests/chaos/test_soak.py` runs it for ten minutes, or for `SOKUJI_SOAK_SECONDS`. In the first half declarations
change, roles are killed and queries run. In the second half only queries run, and the resources of each role are measured.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from deltalake import DeltaTable

from sokuji.config import load
from sokuji.roles.base import ROLES
from sokuji.roles.up import running
from tests.act.receiver import Receiver
from tests.chaos import oracle, shop
from tests.chaos.shop import Customer, trading
from tests.e2e.killing import kill_role, role_pid

SECONDS = float(os.environ.get("SOKUJI_SOAK_SECONDS", "600"))
CUSTOMERS = 4
NAMES = ("track", "analyze", "sink", "deliver", "api")
_ROUND_SECONDS = 5.0
_SAMPLES_MIN = 12
_LAG = re.compile(r"^(sokuji_\w+_(?:lag_rows|queue|queue_events|held_bytes|streams)) (\S+)$", re.MULTILINE)
_FORGET = "\ntime_travel_hours = 0.02\n"  # so that old versions and segments are gone within the run
_OTHER_FEATURE = '\nview("more", entity="visitor", cheapest=buys.min("revenue"))\n'

Sample = dict[str, float]
"""What is held, by name."""


def sample(folder: Path, supervisor: int) -> Sample:
    """Memory, descriptors and threads of each role, rows that wait, and the files of the project."""
    found: Sample = {}
    for name in NAMES:
        pid = role_pid(supervisor, name)
        process = Path(f"/proc/{pid}")
        found[f"{name} memory MiB"] = _resident_mib(process)
        found[f"{name} descriptors"] = len(list((process / "fd").iterdir()))
        found[f"{name} threads"] = len(list((process / "task").iterdir()))
    config = load(folder)
    for role in ROLES:
        _, host, port = role.health(config)
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=20) as response:
            lags = _LAG.findall(response.read().decode())
        assert lags, f"{role.name} does not say what waits"
        found |= {f"{role.name} {lag}": float(value) for lag, value in lags}
    data = folder / ".sokuji"
    for part in ("log", "sink", "analyze", "deliver"):
        found[f"files of {part}"] = sum(path.is_file() for path in (data / part).rglob("*"))
    tables = [path.parent for path in (data / "lake").glob("*/*/_delta_log")]  # others of their files are kept for an hour at least
    found["files of lake"] = sum(len(DeltaTable(str(folder)).file_uris()) for folder in tables)
    return found


def _resident_mib(process: Path) -> float:
    """Anonymous memory: pages of files in memory are the kernel's to take back."""
    [anonymous] = re.findall(r"^RssAnon:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
    return int(anonymous) / 1024


def growth(samples: list[Sample]) -> dict[str, tuple[float, float]]:
    """What the last sixth has more of than the second third, beyond what comes and goes: the lower quartiles of both.

    Lower quartiles, as memory of a commit or a compaction is given back: what matters is what it falls back to.
    """
    assert len(samples) >= _SAMPLES_MIN, f"{len(samples)} samples say nothing"
    third, sixth = len(samples) // 3, len(samples) // 6
    grown = {}
    for name in samples[0]:
        before = statistics.quantiles(each[name] for each in samples[third : 2 * third])[0]
        after = statistics.quantiles(each[name] for each in samples[-sixth:])[0]
        if after > before + _slack(name, before):
            grown[name] = (before, after)
    return grown


def _slack(name: str, before: float) -> float:
    """What comes and goes."""
    if name.endswith("MiB"):
        return 0.1 * before + 12
    if name.endswith("lag_rows"):
        return 0.5 * before + 5000
    if name.endswith("queue_events"):  # what the next flush takes, at the moment that is looked at
        return 0.5 * before + 500
    if name.endswith("held_bytes"):
        return 0.5 * before + 1_000_000
    return 0.25 * before + 8


def _until(deadline: float, *work: Callable[[], object]) -> None:
    while time.monotonic() < deadline:
        for each in work:
            each()
        time.sleep(_ROUND_SECONDS)


def _change(folder: Path) -> None:
    """The declarations are others, and the running platform takes them up."""
    path = folder / "features.py"
    path.write_text(shop.FEATURES if _OTHER_FEATURE in path.read_text() else shop.FEATURES + _OTHER_FEATURE)
    subprocess.run(
        [sys.executable, "-m", "sokuji", "apply", "-p", str(folder)], check=True, capture_output=True, timeout=oracle.COMMAND_SECONDS
    )


@pytest.mark.parametrize("name", ["sink memory MiB", "track descriptors", "api threads", "deliver sokuji_deliver_queue", "files of log"])
def test_what_grows_is_seen(name: str) -> None:
    """Slowly all the time, and at once in the last minutes; what goes to and fro is none."""
    flat = [{name: 200.0 + 140 * (number % 3 == 0), "other": 7.0} for number in range(48)]
    assert growth(flat) == {}
    for more in ([6.0 * number for number in range(48)], [0.0] * 38 + [100.0] * 10):
        assert list(growth([each | {name: each[name] + added} for each, added in zip(flat, more, strict=True)])) == [name]


@pytest.mark.e2e
@pytest.mark.long
def test_a_long_run_holds_no_more_at_its_end(tmp_path: Path) -> None:
    chance = random.Random(0)
    with closing(Receiver()) as receiver:
        port = shop.make(tmp_path, receiver.host)
        settings = (tmp_path / "sokuji.toml").read_text()
        settings = settings.replace("[lake]", "[lake]" + _FORGET).replace("[log]", "[log]\nretention_hours = 0.02")
        (tmp_path / "sokuji.toml").write_text(settings)
        customers = [Customer(f"c{number}", port, 0, pause_seconds=0.02) for number in range(CUSTOMERS)]
        samples: list[Sample] = []
        with running(tmp_path) as supervisor:
            with trading(customers):
                start = time.monotonic()

                def ask() -> None:
                    assert oracle.sql(tmp_path, "SELECT COUNT(*) AS n, SUM(revenue) AS s FROM main.events WHERE event_name = 'buy'")[0]["n"]

                _until(start + SECONDS / 2, ask, lambda: kill_role(supervisor.pid, chance.choice(NAMES)), lambda: _change(tmp_path))
                if _OTHER_FEATURE in (tmp_path / "features.py").read_text():
                    _change(tmp_path)
                _until(time.monotonic() + SECONDS / 2, ask, lambda: samples.append(sample(tmp_path, supervisor.pid)))
            oracle.check_running(tmp_path, customers)
        oracle.check(tmp_path, customers, receiver)
    for name in samples[0]:
        print(f"{name}: {json.dumps([round(each[name]) for each in samples[:: max(1, len(samples) // 20)]])}")
    assert growth(samples) == {}

"""Several processes replace one model: each creates its own version, and a killed process damages nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sokuji
from sokuji.meta.objects import Ref
from sokuji.platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REPLACE = """
import sys, sokuji
with sokuji.open(sys.argv[1]) as platform:
    for _ in range(int(sys.argv[2])):
        platform.sql("CREATE OR REPLACE MODEL d.m OPTIONS(model_type='kmeans', num_clusters=3) AS SELECT x FROM d.t")
        print("made", flush=True)
"""


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with sokuji.open(tmp_path) as opened:
        opened.sql("CREATE SCHEMA d; CREATE TABLE d.t AS SELECT x FROM UNNEST(GENERATE_ARRAY(1, 300)) AS x")
        yield opened


def replacing(folder: Path, times: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", REPLACE, str(folder), str(times)], stdout=subprocess.PIPE, text=True)


def check(platform: Platform) -> int:
    """The newest version is the champion and answers; how many there are."""
    versions = [version.version for version in platform.models.versions(Ref("d", "m"))]
    assert versions == list(range(1, len(versions) + 1))
    assert platform.models.aliases(Ref("d", "m")) == {"champion": versions[-1], "previous": versions[-2]}
    for version in ("champion", "previous"):
        call = f"ML.PREDICT(MODEL d.m, TABLE d.t, STRUCT('{version}' AS version))"
        assert platform.sql(f"SELECT COUNT(CENTROID_ID) FROM {call}").rows() == [(300,)]
    return len(versions)


def test_two_processes_replace_a_model_at_the_same_time(platform: Platform, tmp_path: Path) -> None:
    processes = [replacing(tmp_path, 5) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for process in processes:
        process.communicate()
    assert check(platform) == 10


def test_kill_9_while_a_model_is_replaced_leaves_the_old_one_serving(platform: Platform, tmp_path: Path) -> None:
    random.seed(3)
    made = 0
    for _ in range(3):
        with replacing(tmp_path, 1000) as process:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["made\n"] * 2
            time.sleep(random.uniform(0, 0.1))
            process.kill()
        found = check(platform)
        assert found >= made + 2
        made = found

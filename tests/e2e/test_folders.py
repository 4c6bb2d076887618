"""A project works in any folder, whatever the names of the folders above it."""

from __future__ import annotations

from pathlib import Path

import pytest

import sokuji
from sokuji.errors import LakeError, SokujiError
from sokuji.platform import Platform

FEATURES = """
from sokuji.features import events, view

view("buyer", entity="visitor", buys=events("buy").count(), last_env=events("buy").last("env"))
"""


def test_every_part_works_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "env=prod" / "it's 東京 100% #1 [a]?"
    folder.mkdir(parents=True)
    (folder / "sokuji.toml").write_text('data = "env=test"\n[sources.web]\nwrite_key = "w"\n[analyze]\nserved_sample = 1.0\n')
    (folder / "features.py").write_text(FEATURES)
    with sokuji.open(folder) as platform:
        _track(platform, "v1", 3)
        _sink(platform)
        assert platform.sql("SELECT env, COUNT(*) FROM main.events GROUP BY env").rows() == [("shop", 3)]
        _work(platform, folder)  # history first
        _track(platform, "v1", 2)
        _work(platform, folder)
        _sink(platform)
        assert platform.verify_features().mismatches == 0
        _tables(platform)
        _models(platform)
    (folder / "env=test" / "sink" / "seen" / "main" / "manifest.json").unlink()
    with sokuji.open(folder) as platform:
        _sink(platform)  # learns from the table which messages it has
        _track(platform, "v2", 1)
        assert platform.sql("SELECT env, COUNT(*) FROM main.events GROUP BY env").rows() == [("shop", 6)]


def _track(platform: Platform, visitor: str, count: int) -> None:
    for _ in range(count):
        platform.track({"type": "track", "event": "buy", "anonymousId": visitor, "properties": {"env": "shop", "revenue": 5}})


def _sink(platform: Platform) -> None:
    with platform._backends.make_sink() as sink:
        sink.drain()
        sink.maintain()


def _work(platform: Platform, folder: Path) -> None:
    with platform._backends.make_worker(folder) as worker:
        while worker.run_once() or worker.is_replaying:
            pass
        worker.checkpoint(wait=True)


def _tables(platform: Platform) -> None:
    platform.sql("CREATE TABLE main.`my table ü` AS SELECT 'mine' AS env, 1 AS n")
    platform.sql("CREATE TEMP TABLE fresh AS SELECT 'mine' AS env, 2 AS n; INSERT INTO main.`my table ü` SELECT * FROM fresh")
    before = platform.sql("SELECT CURRENT_TIMESTAMP()").rows()[0][0]
    platform.sql("UPDATE main.`my table ü` SET n = n + 10 WHERE n = 2")
    assert platform.sql("SELECT env, n FROM main.`my table ü` ORDER BY n").rows() == [("mine", 1), ("mine", 12)]
    old = platform.sql("SELECT env, n FROM main.`my table ü` FOR SYSTEM_TIME AS OF @at ORDER BY n", {"at": before})
    assert old.rows() == [("mine", 1), ("mine", 2)]


def _models(platform: Platform) -> None:
    platform.sql("""
        CREATE MODEL main.`model 1` OPTIONS (model_type = 'kmeans', num_clusters = 2) AS SELECT n FROM main.`my table ü`
    """)
    assert len(platform.sql("SELECT * FROM ML.PREDICT(MODEL main.`model 1`, TABLE main.`my table ü`)").rows()) == 2


@pytest.mark.parametrize("name", ["%41", "a%20b", "back\\\\slash", "new\\nline", "n" * 201])
@pytest.mark.parametrize("temporary", ["", "TEMP "])
def test_nothing_is_made_of_a_table_that_cannot_have_its_name(tmp_path: Path, name: str, temporary: str) -> None:
    with sokuji.open(tmp_path) as platform:
        platform.sql("CREATE SCHEMA d; CREATE TABLE d.A AS SELECT 1 AS x")
        dataset = "" if temporary else "d."
        with pytest.raises(SokujiError, match="is not allowed; use up to 200 bytes of letters"):
            platform.sql(f"CREATE OR REPLACE {temporary}TABLE {dataset}`{name}` AS SELECT 2 AS x")
        assert [path.name for path in (tmp_path / ".sokuji" / "lake" / "d").iterdir()] == ["A"]


@pytest.mark.parametrize("name", ["a%20b", "new\nline", "back\\slash"])
def test_a_folder_that_delta_would_take_for_another_is_refused(tmp_path: Path, name: str) -> None:
    with sokuji.open(tmp_path / name) as platform, pytest.raises(LakeError, match=r"(a%20b|new.nline|back..slash).*rename the folder"):
        platform.sql("SELECT 1")

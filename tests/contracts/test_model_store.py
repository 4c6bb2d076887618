"""The contract of `ModelStore`; and the contract of a store in folders, which other processes open and which may be damaged."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from sokuji import types as t
from sokuji.disk.stored import sealed, write_record
from sokuji.errors import AlreadyExistsError, DamagedFileError, FormatError, ModelError, NotFoundError
from sokuji.meta.memory import MemoryCatalog
from sokuji.meta.objects import Ref, Table, TableKind
from sokuji.meta.store import SqlCatalog
from sokuji.models.base import ModelStore
from sokuji.models.folder import check, read
from sokuji.models.local import LocalModelStore
from sokuji.models.memory import MemoryModelStore
from sokuji.models.versions import CHALLENGER, CHAMPION, PREVIOUS, ModelSignature, ModelVersion
from sokuji.sql.front.lookup import find_model

CHURN = Ref("shop", "churn model")
OTHER = Ref("shop", "other")


class OpenStore(Protocol):
    """Opens one and the same store each time, as another process would."""

    def __call__(self) -> LocalModelStore | MemoryModelStore: ...


class OpenLocal(Protocol):
    """Opens one and the same store in folders each time, as another process would."""

    def __call__(self) -> LocalModelStore: ...


def opened_at(folder: Path, url: str) -> LocalModelStore:
    catalog = SqlCatalog(url)
    catalog.create_dataset("shop", if_not_exists=True)
    return LocalModelStore(folder / "models", catalog)


@contextmanager
def opening(folder: Path, url: str) -> Iterator[OpenLocal]:
    """Closes what it opens."""
    with ExitStack() as stack:

        def open_one() -> LocalModelStore:
            store = opened_at(folder, url)
            stack.enter_context(store.catalog)
            return stack.enter_context(store)

        yield open_one


@pytest.fixture
def open_local(database_url: str, tmp_path: Path) -> Iterator[OpenLocal]:
    with opening(tmp_path, database_url) as open_one:
        yield open_one


@pytest.fixture
def open_store(url_if_any: str | None, tmp_path: Path) -> Iterator[OpenStore]:
    if url_if_any is not None:
        with opening(tmp_path, url_if_any) as open_one:
            yield open_one
        return
    with MemoryModelStore(tmp_path / "models", MemoryCatalog()) as store:
        store.catalog.create_dataset("shop")
        yield lambda: store


def version_of(ref: Ref, folder: Path) -> ModelVersion:
    return ModelVersion(
        signature=ModelSignature(
            ref=ref,
            model_type="LOGISTIC_REG",
            inputs=(t.Field("recency", t.FLOAT64), t.Field("keys", t.struct([t.Field("id", t.STRING)]))),
            labels=(t.Field("churned", t.BOOL),),
            outputs=(t.Field("predicted_churned", t.BOOL),),
        ),
        version=0,
        folder=folder,
        created_at_us=1_700_000_000_000_000,
        sql="CREATE MODEL shop.`churn model` AS SELECT 1",
        options={"l2_reg": 0.5, "early_stop": True, "num_clusters": None, "input_label_cols": ["churned"]},
        serving="native",
        serving_reason="differs by 0.5",
        metrics={"roc_auc": 0.75},
    )


def register(store: ModelStore, ref: Ref = CHURN, content: str = "weights") -> ModelVersion:
    folder = store.stage(ref)
    (folder / "model.onnx").write_text(content)
    (folder / "deeper").mkdir()
    (folder / "deeper" / "more").write_text(content)
    return store.register(version_of(ref, folder))


def test_a_registered_version_comes_back_whole_from_every_opening_of_the_store(open_store: OpenStore) -> None:
    registered = register(open_store(), content="first")

    found = open_store().get(CHURN)

    assert found == registered
    assert found == replace(version_of(CHURN, found.folder), version=1)
    assert (found.folder / "model.onnx").read_text() == "first"
    assert (found.folder / "deeper" / "more").read_text() == "first"


def test_versions_count_up_per_model_and_champion_and_previous_move_along(open_store: OpenStore) -> None:
    store = open_store()
    assert store.versions(CHURN) == []
    assert store.aliases(CHURN) == {}

    first = register(store)
    assert store.aliases(CHURN) == {CHAMPION: 1}
    second, third, other = register(store), register(store), register(store, OTHER)

    assert [version.version for version in store.versions(CHURN)] == [1, 2, 3]
    assert store.versions(CHURN) == [first, second, third]
    assert store.aliases(CHURN) == {CHAMPION: 3, PREVIOUS: 2}
    assert store.aliases(OTHER) == {CHAMPION: 1}
    assert store.get(CHURN) == third
    assert store.get(CHURN, PREVIOUS) == second
    assert store.get(CHURN, 1) == first
    assert store.get(OTHER) == other
    assert len({version.folder for version in (first, second, third, other)}) == 4


def test_an_alias_points_where_it_was_last_set(open_store: OpenStore) -> None:
    store = open_store()
    first, second = register(store), register(store)

    store.set_alias(CHURN, CHALLENGER, 2)
    store.set_alias(CHURN, CHAMPION, 1)

    assert open_store().aliases(CHURN) == {CHAMPION: 1, PREVIOUS: 2, CHALLENGER: 2}
    assert store.get(CHURN) == first
    assert store.get(CHURN, CHALLENGER) == second
    store.set_alias(CHURN, CHAMPION, 1)
    assert store.aliases(CHURN)[PREVIOUS] == 2  # nothing moved


def test_sql_sees_the_champion(open_store: OpenStore) -> None:
    store = open_store()
    inputs = [(t.Field("x", t.FLOAT64),), (t.Field("x", t.FLOAT64), t.Field("y", t.STRING))]
    versions = []
    for columns in inputs:
        version = version_of(CHURN, store.stage(CHURN))
        versions.append(store.register(replace(version, signature=replace(version.signature, inputs=columns))))

    def seen() -> ModelSignature | None:
        with_another_connection = find_model(open_store(), ("shop", "churn model"))
        assert with_another_connection == find_model(store, ("project.shop", "churn model"))
        return with_another_connection

    assert seen() == versions[1].signature
    for number in (1, 2, 1, 1):
        store.set_alias(CHURN, CHAMPION, number)
        assert seen() == versions[number - 1].signature
    store.set_alias(CHURN, CHALLENGER, 2)
    assert seen() == versions[0].signature
    store.delete(CHURN)
    assert seen() is None


def test_a_models_name_is_kept_from_tables_for_as_long_as_it_has_versions(open_store: OpenStore) -> None:
    store = open_store()
    register(store)
    register(store)
    assert open_store().catalog.reserved() == [CHURN]
    with pytest.raises(AlreadyExistsError, match="it is a model"):
        store.catalog.put_table(Table(CHURN, TableKind.TABLE, ()), replace=True)
    store.delete(CHURN)
    assert open_store().catalog.reserved() == []
    store.catalog.put_table(Table(CHURN, TableKind.TABLE, ()))


def test_a_versions_files_are_fetched_whole_from_every_opening_of_the_store(open_store: OpenStore) -> None:
    first, second = register(open_store(), content="first"), register(open_store(), content="second")
    store = open_store()
    folders = [store.fetch(version) for version in (first, second, store.get(CHURN))]
    assert [(folder / "deeper" / "more").read_text() for folder in folders] == ["first", "second", "second"]
    assert folders[1] == folders[2]  # what was loaded from it stays right


def test_a_table_keeps_its_name(open_store: OpenStore) -> None:
    store = open_store()
    store.catalog.put_table(Table(CHURN, TableKind.TABLE, ()))
    with pytest.raises(AlreadyExistsError, match="it is a table"):
        register(store)
    assert (store.versions(CHURN), store.aliases(CHURN), store.orphans()) == ([], {}, [])
    with pytest.raises(NotFoundError, match="dataset nowhere"):
        register(store, Ref("nowhere", "m"))


def test_one_of_those_who_make_a_new_model_makes_it(open_store: OpenStore) -> None:
    stores = [open_store() for _ in range(4)]

    def make(store: ModelStore) -> bool:
        try:
            store.register(version_of(CHURN, store.stage(CHURN)), is_new=True)
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(make, stores)) == [False, False, False, True]
    assert [version.version for version in stores[0].versions(CHURN)] == [1]


def test_models_outlive_their_database(open_local: OpenLocal, tmp_path: Path) -> None:
    store = open_local()
    first, second, other = register(store, content="1"), register(store, content="2"), register(store, OTHER)

    lost = opened_at(tmp_path, f"sqlite:///{tmp_path}/new.db")  # empty
    assert lost.versions(CHURN) == []
    assert [orphan.folder for orphan in lost.orphans()] == [first.folder, second.folder, other.folder]
    assert lost.adopt() == [first, second, other]

    assert (lost.versions(CHURN), lost.versions(OTHER), lost.orphans()) == ([first, second], [other], [])
    assert lost.aliases(CHURN) == {CHAMPION: 2, PREVIOUS: 1}
    assert lost.catalog.reserved() == [CHURN, OTHER]
    assert lost.adopt() == []
    lost.catalog.close()


def test_what_an_older_copy_of_the_database_does_not_know_is_adopted_beside_what_it_knows(open_local: OpenLocal, tmp_path: Path) -> None:
    store = open_local()
    register(store, content="1")
    copy = opened_at(tmp_path, f"sqlite:///{tmp_path}/new.db")
    copy.adopt()
    newer = register(store, content="2")
    beside = register(copy, content="made after the copy was put in place")

    assert [orphan.version for orphan in copy.orphans()] == [newer]
    [adopted] = copy.adopt()
    assert (adopted.version, (adopted.folder / "model.onnx").read_text()) == (3, "2")
    assert copy.get(CHURN) == beside  # who leads is not changed
    copy.catalog.close()


def test_a_folder_that_nobody_knows_stays(open_local: OpenLocal, tmp_path: Path) -> None:
    strange = tmp_path / "models" / "shop" / "by hand" / "1-mine"
    strange.mkdir(parents=True)
    (strange / "weights").write_text("mine")
    store = open_local()
    [orphan] = store.orphans()
    assert (orphan.folder, orphan.version, store.adopt()) == (strange, None, [])
    assert (strange / "weights").read_text() == "mine"


def test_a_version_registered_by_an_earlier_release_is_made_adoptable(open_local: OpenLocal, tmp_path: Path) -> None:
    registered = register(open_local())
    (registered.folder / "version.json").unlink()
    open_local()
    lost = opened_at(tmp_path, f"sqlite:///{tmp_path}/new.db")
    assert lost.adopt() == [registered]
    lost.catalog.close()


def test_a_database_of_format_2_which_kept_signatures_with_the_names_is_read(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    with closing(opened_at(tmp_path, f"sqlite:///{path}")) as store:
        champion = register(store)
        register(store)
        store.set_alias(CHURN, CHAMPION, 1)
        store.catalog.close()
    with closing(sqlite3.connect(path)) as database, database:
        signature = sealed(msgspec.json.encode(champion.signature))
        assert database.execute("UPDATE objects SET definition = ? WHERE kind = 'model'", [signature]).rowcount == 1
        database.execute("UPDATE format SET format = 2")
    with closing(opened_at(tmp_path, f"sqlite:///{path}")) as store:
        assert store.catalog.reserved() == [CHURN]
        assert find_model(store, CHURN) == champion.signature
        with pytest.raises(AlreadyExistsError, match="it is a model"):
            store.catalog.put_table(Table(CHURN, TableKind.TABLE, ()))
        third = register(store)
        assert (store.versions(CHURN)[0], store.get(CHURN), store.aliases(CHURN)[PREVIOUS]) == (champion, third, 1)
        store.delete(CHURN)
        assert store.catalog.reserved() == []
        store.catalog.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT format FROM format").fetchall() == [(3,)]


@pytest.mark.parametrize("name", ["model.onnx", "deeper/more", "version.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damage_of_a_models_file_is_named(open_local: OpenLocal, name: str, damage: str) -> None:
    folder = register(open_local()).folder
    check(folder)
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if damage == "flip" else b""))
    if damage == "delete":
        path.unlink()
    if (name, damage) == ("version.json", "delete"):
        check(folder)  # as of a release that had no checksums
        open_local()
        check(folder)
        assert path.exists()
        return
    with pytest.raises(ModelError, match=rf"^{path} is damaged: .*; restore it from a copy, or train the model again$"):
        check(folder)


def test_a_models_folder_of_the_first_format_is_read_unchecked_and_one_of_a_newer_refused(open_local: OpenLocal) -> None:
    store = open_local()
    registered = register(store)
    path = registered.folder / "version.json"
    row = msgspec.to_builtins(replace(registered, folder=Path()), enc_hook=str)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(row)))
    (registered.folder / "model.onnx").write_text("other")
    check(registered.folder)
    assert read(registered.folder) == registered
    write_record(path, {"row": row, "files": {}}, format=99)
    with pytest.raises(FormatError, match=r"version\.json has format 99"):
        check(registered.folder)


def test_flipped_bits_in_what_a_sqlite_file_says_of_models_are_named(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    with closing(opened_at(tmp_path, f"sqlite:///{path}")) as store:
        register(store)
        second = register(store)
        store.set_alias(CHURN, CHALLENGER, 1)
        known = (store.get(CHURN), store.get(CHURN, CHALLENGER), store.aliases(CHURN))
        store.catalog.close()
    whole, outcomes = path.read_bytes(), set()
    places = [
        match.start()
        for word in (b"CREATE MODEL", b"differs", b"l2_reg", b"challenger", second.folder.name.encode())
        for match in re.finditer(word, whole)
    ]
    assert places
    for at in [place + after for place in places for after in (0, 10)]:
        content = bytearray(whole)
        content[at] ^= 2
        path.write_bytes(content)
        for more in ("-wal", "-shm"):
            path.with_name(path.name + more).unlink(missing_ok=True)
        try:
            with closing(opened_at(tmp_path, f"sqlite:///{path}")) as store:
                outcomes.add((store.get(CHURN), store.get(CHURN, CHALLENGER), store.aliases(CHURN)) == known)
                store.catalog.close()
        except DamagedFileError as error:
            outcomes.add(str(path) in str(error) and "\n" not in str(error))
    assert outcomes == {True}


def test_what_is_not_there_is_named(open_store: OpenStore) -> None:
    store = open_store()
    with pytest.raises(NotFoundError, match=r"Model shop\.churn model alias 'champion'"):
        store.get(CHURN)
    register(store)
    with pytest.raises(NotFoundError, match=r"Model shop\.churn model version 2"):
        store.get(CHURN, 2)
    with pytest.raises(NotFoundError, match="alias 'challenger'"):
        store.get(CHURN, CHALLENGER)
    with pytest.raises(NotFoundError, match="version 7"):
        store.set_alias(CHURN, CHALLENGER, 7)
    with pytest.raises(NotFoundError, match=r"shop\.other"):
        store.delete(OTHER)


def test_a_deleted_model_is_gone_and_its_name_starts_again_in_new_folders(open_store: OpenStore) -> None:
    store = open_store()
    old, kept = register(store), register(store, OTHER)

    store.delete(CHURN)

    assert not old.folder.exists()
    assert store.versions(CHURN) == []
    assert store.aliases(CHURN) == {}
    assert store.get(OTHER) == kept
    new = register(store)
    assert new.version == 1
    assert new.folder != old.folder  # so that nothing cached for the old folder is taken for the new one


def test_only_a_staged_folder_can_be_registered_and_only_once(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store()
    with pytest.raises(ModelError, match="was not staged"):
        store.register(version_of(CHURN, tmp_path))
    folder = store.stage(CHURN)
    store.register(version_of(CHURN, folder))
    with pytest.raises(ModelError, match="registered already"):
        store.register(version_of(CHURN, folder))
    assert len(store.versions(CHURN)) == 1


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden"])
def test_a_name_cannot_lead_out_of_the_store(open_store: OpenStore, name: str) -> None:
    with pytest.raises(ModelError, match="not allowed"):
        open_store().stage(Ref("shop", name))


def test_what_was_staged_and_not_registered_is_removed_only_when_its_owner_is_gone(open_store: OpenStore) -> None:
    owner = open_store()
    folder = owner.stage(CHURN)
    (folder / "half").write_text("written")

    open_store()
    assert (folder / "half").exists()

    owner.close()
    assert not folder.exists()


def test_writers_at_the_same_time_get_numbers_of_their_own(open_store: OpenStore) -> None:
    stores = [open_store() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        registered = list(pool.map(lambda number: register(stores[number % 4], content=str(number)), range(20)))

    assert sorted(version.version for version in registered) == list(range(1, 21))
    found = open_store().versions(CHURN)
    assert [(version.folder / "model.onnx").read_text() for version in found] == [
        (version.folder / "model.onnx").read_text() for version in sorted(registered, key=lambda version: version.version)
    ]
    assert open_store().aliases(CHURN) == {CHAMPION: 20, PREVIOUS: 19}


def _register_forever(folder: Path, url: str) -> None:
    store = opened_at(folder, url)
    while True:
        register(store, content="x" * 50_000)


@pytest.mark.e2e
def test_after_kill_9_while_registering_every_version_is_whole_or_absent(database_url: str, tmp_path: Path) -> None:
    random.seed(1)
    processes = multiprocessing.get_context("spawn")
    seen = 0
    with closing(opened_at(tmp_path, database_url)) as looking:
        for _ in range(3):
            process = processes.Process(target=_register_forever, args=(tmp_path, database_url))
            process.start()
            before = seen
            while seen == before:  # the process is at work
                time.sleep(0.05)
                seen = len(looking.versions(CHURN))
            time.sleep(random.uniform(0, 0.05))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            process.close()

            store = opened_at(tmp_path, database_url)
            found = store.versions(CHURN)
            assert [version.version for version in found] == list(range(1, len(found) + 1))
            assert store.get(CHURN) == found[-1]
            for version in [*found, *(orphan.version for orphan in store.orphans())]:  # an orphan: killed between folder and row
                assert version is not None
                assert (version.folder / "model.onnx").read_text() == "x" * 50_000
                assert (version.folder / "deeper" / "more").read_text() == "x" * 50_000
            seen = len(found)
            assert len(list((tmp_path / "models" / "shop" / "churn model").iterdir())) == seen + len(store.orphans())
            assert list((tmp_path / "models" / ".staging").iterdir()) == []
            store.catalog.close()
        looking.catalog.close()

"""The contract of `Catalog`; and the contract of a catalog in a database, which other processes open and which may be damaged."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji import types as t
from sokuji.errors import AlreadyExistsError, ConflictError, DamagedFileError, FormatError, NotFoundError, SokujiError
from sokuji.meta.applied import AppliedFiles
from sokuji.meta.base import Catalog
from sokuji.meta.changes import Changes
from sokuji.meta.memory import MemoryCatalog
from sokuji.meta.objects import Argument, Column, Function, Ref, Table, TableKind
from sokuji.meta.store import SqlCatalog, sqlite_url
from sokuji.models.local import LocalModelStore

ORDERS = Table(
    ref=Ref("shop", "orders"),
    kind=TableKind.TABLE,
    columns=(
        Column("id", t.INT64, not_null=True, description="the order's number"),
        Column("keys", t.struct([t.Field("visitor_id", t.STRING), t.Field("two words", t.array(t.NUMERIC)), t.Field("", t.JSON)])),
    ),
    partition_by="DATE(_date)",
    cluster_by=("id", "keys.visitor_id"),
    description="paid orders",
    options={"labels": [["team", "shop"]], "expiration": 3.5, "nothing": None},
    created_at_us=1_700_000_000_000_000,
)
VIEW = Table(ref=Ref("shop", "big"), kind=TableKind.VIEW, columns=(Column("id", t.INT64),), query="SELECT id FROM shop.orders")
MODEL = Ref("shop", "churn")

FUNCTION = Function(
    ref=Ref("shop", "in_euro"),
    arguments=(Argument("amount", t.array(t.NUMERIC)), Argument("currency", None), Argument("rate", t.FLOAT64, not_aggregate=True)),
    body="SUM(amount) * rate",
    returns=t.FLOAT64,
    aggregate=True,
    tables=(("shop", "orders"), ("project.shop.rates",)),
    functions=(("shop", "rate"),),
    description="what it costs",
    created_at_us=1_700_000_000_000_000,
)


class OpenCatalog(Protocol):
    """Opens one and the same catalog each time, as another process or thread would."""

    def __call__(self) -> Catalog: ...


@pytest.fixture
def open_catalog(url_if_any: str | None) -> Iterator[OpenCatalog]:
    memory = MemoryCatalog()
    with ExitStack() as stack:
        yield lambda: memory if url_if_any is None else stack.enter_context(SqlCatalog(url_if_any))


@pytest.fixture
def catalog(open_catalog: OpenCatalog) -> Catalog:
    """A catalog with one dataset, `shop`."""
    catalog = open_catalog()
    catalog.create_dataset("shop")
    return catalog


def test_a_new_catalog_is_empty(open_catalog: OpenCatalog) -> None:
    catalog = open_catalog()
    assert (catalog.datasets(), catalog.tables(), catalog.reserved(), catalog.functions(), catalog.version()) == ([], [], [], [], 0)


def test_any_number_open_a_new_catalog_at_the_same_moment(database_url: str, tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def open_all(_number: int) -> int:
        barrier.wait()
        applied = AppliedFiles(database_url)
        applied.close()
        with SqlCatalog(database_url) as catalog:
            LocalModelStore(tmp_path / "models", catalog).close()
            return catalog.version()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(open_all, range(8))) == [0] * 8


def test_datasets_are_listed_by_name(catalog: Catalog) -> None:
    catalog.create_dataset("karte")
    catalog.create_dataset("Karte")  # names are case-sensitive
    assert catalog.datasets() == ["Karte", "karte", "shop"]


def test_a_dataset_is_created_once(catalog: Catalog) -> None:
    version = catalog.version()
    catalog.create_dataset("shop", if_not_exists=True)
    with pytest.raises(AlreadyExistsError, match="dataset shop"):
        catalog.create_dataset("shop")
    assert catalog.version() == version


@pytest.mark.parametrize("name", ["", "a-b", "a/b", "..", "日本", "a" * 201])
def test_a_dataset_name_is_letters_digits_and_underscores(catalog: Catalog, name: str) -> None:
    with pytest.raises(SokujiError, match="is not allowed"):
        catalog.create_dataset(name)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".", "a.b", "é" * 101])
def test_a_table_name_fits_into_a_path(catalog: Catalog, name: str) -> None:
    with pytest.raises(SokujiError, match="is not allowed"):
        catalog.put_table(replace(ORDERS, ref=Ref("shop", name)))


def test_a_table_comes_back_as_it_was_put(catalog: Catalog) -> None:
    catalog.put_table(ORDERS)
    assert catalog.table(ORDERS.ref) == ORDERS
    catalog.put_table(replace(ORDERS, ref=Ref("shop", "日本 orders-2")))
    assert catalog.table(Ref("shop", "日本 orders-2")).columns == ORDERS.columns


def test_tables_and_views_are_listed_by_name_of_one_dataset_or_of_all(catalog: Catalog) -> None:
    catalog.create_dataset("a")
    other = replace(ORDERS, ref=Ref("a", "z"))
    for table in (ORDERS, VIEW, other):
        catalog.put_table(table)
    catalog.reserve(MODEL, "model")
    assert catalog.tables("shop") == [VIEW, ORDERS]
    assert catalog.tables() == [other, VIEW, ORDERS]
    assert catalog.tables("nowhere") == []


def test_a_table_is_replaced_only_when_asked(catalog: Catalog) -> None:
    catalog.put_table(ORDERS)
    changed = replace(ORDERS, columns=(Column("id", t.STRING),))
    with pytest.raises(AlreadyExistsError, match=r"shop\.orders"):
        catalog.put_table(changed)
    assert catalog.table(ORDERS.ref) == ORDERS
    catalog.put_table(changed, replace=True)
    assert catalog.table(ORDERS.ref) == changed


def test_a_table_is_replaced_only_in_the_place_of_the_expected(catalog: Catalog) -> None:
    catalog.put_table(ORDERS)
    changed, other = replace(ORDERS, columns=()), replace(ORDERS, description="other")
    for expected in (changed, replace(VIEW, ref=ORDERS.ref)):
        with pytest.raises(ConflictError, match=r"shop\.orders was changed"):
            catalog.put_table(other, replace=True, expected=expected)
    catalog.put_table(changed, replace=True, expected=ORDERS)
    assert catalog.table(ORDERS.ref) == changed
    catalog.drop_table(ORDERS.ref)
    version = catalog.version()
    with pytest.raises(ConflictError, match=r"shop\.orders was changed"):
        catalog.put_table(other, replace=True, expected=changed)
    assert (catalog.tables(), catalog.version()) == ([], version)


def test_closing_twice(catalog: Catalog) -> None:
    catalog.close()
    catalog.close()


def test_what_is_not_there_is_named(catalog: Catalog) -> None:
    missing = Ref("shop", "none")
    for action in (catalog.table, catalog.drop_table, catalog.release, catalog.function, catalog.drop_function):
        with pytest.raises(NotFoundError, match=r"shop\.none"):
            action(missing)
    with pytest.raises(NotFoundError, match="dataset nowhere"):
        catalog.put_table(replace(ORDERS, ref=Ref("nowhere", "orders")))
    with pytest.raises(NotFoundError, match="dataset nowhere"):
        catalog.reserve(Ref("nowhere", "m"), "model")
    with pytest.raises(NotFoundError, match="dataset nowhere"):
        catalog.put_function(replace(FUNCTION, ref=Ref("nowhere", "f")))
    with pytest.raises(NotFoundError, match="dataset nowhere"):
        catalog.drop_dataset("nowhere")


def test_a_dropped_table_is_gone(catalog: Catalog) -> None:
    catalog.put_table(ORDERS)
    catalog.drop_table(ORDERS.ref)
    assert catalog.tables() == []
    catalog.put_table(ORDERS)


def test_names_are_reserved_and_released(catalog: Catalog) -> None:
    catalog.create_dataset("a")
    for ref in (MODEL, Ref("a", "z"), MODEL):
        catalog.reserve(ref, "model")
    assert (catalog.reserved(), catalog.reserved("shop"), catalog.reserved("nowhere")) == ([Ref("a", "z"), MODEL], [MODEL], [])
    with pytest.raises(AlreadyExistsError, match=r"shop\.churn already exists: it is a model"):
        catalog.reserve(MODEL, "index")
    with pytest.raises(SokujiError, match="is not allowed"):
        catalog.reserve(Ref("shop", "a/b"), "model")
    catalog.release(MODEL)
    assert catalog.reserved() == [Ref("a", "z")]
    catalog.put_table(replace(ORDERS, ref=MODEL))


def test_tables_and_models_share_one_namespace(catalog: Catalog) -> None:
    catalog.put_table(ORDERS)
    catalog.reserve(MODEL, "model")
    with pytest.raises(AlreadyExistsError, match=r"shop\.orders .* table"):
        catalog.reserve(ORDERS.ref, "model")
    with pytest.raises(AlreadyExistsError, match=r"shop\.churn .* model"):
        catalog.put_table(replace(ORDERS, ref=MODEL), replace=True)
    with pytest.raises(NotFoundError):
        catalog.drop_table(MODEL)
    with pytest.raises(NotFoundError):
        catalog.release(ORDERS.ref)


def test_a_function_comes_back_as_it_was_put(catalog: Catalog) -> None:
    catalog.put_function(FUNCTION)
    assert catalog.function(FUNCTION.ref) == FUNCTION
    catalog.create_dataset("a")
    other = replace(FUNCTION, ref=Ref("a", "z"))
    catalog.put_function(other)
    assert (catalog.functions(), catalog.functions("shop"), catalog.functions("nowhere")) == ([other, FUNCTION], [FUNCTION], [])


def test_a_function_is_replaced_only_when_asked_and_dropped(catalog: Catalog) -> None:
    catalog.put_function(FUNCTION)
    changed = replace(FUNCTION, body="0", arguments=())
    with pytest.raises(AlreadyExistsError, match=r"function shop\.in_euro"):
        catalog.put_function(changed)
    assert catalog.function(FUNCTION.ref) == FUNCTION
    catalog.put_function(changed, replace=True)
    assert catalog.functions() == [changed]
    catalog.drop_function(FUNCTION.ref)
    assert catalog.functions() == []


def test_functions_have_a_namespace_of_their_own(catalog: Catalog) -> None:
    catalog.put_table(ORDERS)
    catalog.put_function(replace(FUNCTION, ref=ORDERS.ref))
    catalog.drop_table(ORDERS.ref)
    assert catalog.function(ORDERS.ref).body == FUNCTION.body
    with pytest.raises(SokujiError, match="is not allowed"):
        catalog.put_function(replace(FUNCTION, ref=Ref("shop", "a/b")))


def test_a_dataset_is_dropped_when_it_is_empty(catalog: Catalog) -> None:
    catalog.put_table(ORDERS)
    catalog.reserve(MODEL, "model")
    catalog.put_function(FUNCTION)
    with pytest.raises(SokujiError, match="churn, in_euro, orders"):
        catalog.drop_dataset("shop")
    catalog.drop_table(ORDERS.ref)
    catalog.release(MODEL)
    catalog.drop_function(FUNCTION.ref)
    catalog.drop_dataset("shop")
    assert catalog.datasets() == []


def test_every_change_raises_the_version_and_a_refused_one_does_not(catalog: Catalog) -> None:
    versions = [catalog.version()]
    changes: list[Callable[[], None]] = [
        lambda: catalog.create_dataset("other"),
        lambda: catalog.put_table(ORDERS),
        lambda: catalog.put_table(ORDERS, replace=True),
        lambda: catalog.reserve(MODEL, "model"),
        lambda: catalog.release(MODEL),
        lambda: catalog.drop_table(ORDERS.ref),
        lambda: catalog.put_function(FUNCTION),
        lambda: catalog.put_function(FUNCTION, replace=True),
        lambda: catalog.drop_function(FUNCTION.ref),
        lambda: catalog.drop_dataset("other"),
    ]
    for change in changes:
        change()
        versions.append(catalog.version())
    assert versions == sorted(set(versions))
    with pytest.raises(NotFoundError):
        catalog.drop_table(ORDERS.ref)
    assert catalog.version() == versions[-1]


def test_another_opening_sees_a_change_at_once(catalog: Catalog, open_catalog: OpenCatalog) -> None:
    other = open_catalog()
    version = other.version()
    catalog.put_table(ORDERS)
    assert other.version() > version
    assert other.table(ORDERS.ref) == ORDERS


def test_concurrent_writers_take_turns_and_none_is_lost(open_catalog: OpenCatalog) -> None:
    catalogs = [open_catalog() for _ in range(4)]
    catalogs[0].create_dataset("shop")

    def write(number: int) -> None:
        catalogs[number % 4].create_dataset("other", if_not_exists=True)
        catalogs[number % 4].put_table(replace(ORDERS, ref=Ref("shop", f"t{number:02}")))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(40)))
    assert [table.ref.name for table in catalogs[1].tables("shop")] == [f"t{number:02}" for number in range(40)]
    assert catalogs[1].version() >= 42


SCALARS = st.sampled_from([t.Type(kind) for kind in t.Kind if kind not in {t.Kind.ARRAY, t.Kind.STRUCT}])
TYPES = st.recursive(
    SCALARS,
    lambda inner: inner.map(t.array) | st.lists(st.builds(t.Field, st.text(max_size=5), inner), max_size=3).map(t.struct),
    max_leaves=6,
)


@given(columns=st.lists(st.builds(Column, st.text(max_size=8), TYPES, st.booleans(), st.text(max_size=8)), max_size=4).map(tuple))
def test_columns_of_every_type_come_back(columns: tuple[Column, ...], tmp_path_factory: pytest.TempPathFactory) -> None:
    with SqlCatalog(f"sqlite:///{tmp_path_factory.mktemp('catalog')}/catalog.db") as catalog:
        catalog.create_dataset("shop")
        catalog.put_table(replace(ORDERS, columns=columns))
        assert catalog.table(ORDERS.ref).columns == columns


def test_a_database_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    SqlCatalog(sqlite_url(path)).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE format SET format = 99")
    database.close()
    with pytest.raises(FormatError, match=r"meta\.db has format 99"):
        SqlCatalog(sqlite_url(path))


def test_an_older_copy_of_a_database_is_refused_until_it_is_taken_for_what_it_is(tmp_path: Path) -> None:
    path, changes = tmp_path / "meta.db", Changes(tmp_path / "meta.changes")
    with SqlCatalog(sqlite_url(path), changes) as catalog:
        catalog.create_dataset("shop")
    older = path.read_bytes()
    with SqlCatalog(sqlite_url(path), changes) as catalog:
        catalog.put_table(ORDERS)
        assert changes.read() == catalog.version()
    for content in (older, b""):
        for old in tmp_path.glob("meta.db*"):
            old.unlink()
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=rf"^{path} is damaged: it has seen \d of the 2 changes .*sokuji adopt"):
            SqlCatalog(sqlite_url(path), changes)
    changes.forget()
    with SqlCatalog(sqlite_url(path), changes) as catalog:
        catalog.create_dataset("shop")
    assert changes.read() == 1
    (tmp_path / "meta.changes").write_bytes(b"{")
    SqlCatalog(sqlite_url(path), changes).close()
    assert changes.read() == 1


def test_flipped_bits_in_a_database_file_are_named_or_change_nothing(tmp_path: Path) -> None:
    path, chance = tmp_path / "meta.db", random.Random(5)
    with SqlCatalog(sqlite_url(path)) as catalog:
        catalog.create_dataset("shop")
        catalog.put_table(ORDERS)
    whole, outcomes = path.read_bytes(), set()
    for at in [*range(100), *chance.sample(range(len(whole)), 150)]:
        content = bytearray(whole)
        content[at] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        for more in ("-wal", "-shm"):
            path.with_name(path.name + more).unlink(missing_ok=True)
        try:
            with SqlCatalog(sqlite_url(path)) as catalog:
                outcomes.add(catalog.table(ORDERS.ref) == ORDERS)
        except (DamagedFileError, FormatError) as error:
            outcomes.add(str(path) in str(error) and "\n" not in str(error))
    assert outcomes == {True}


def test_definitions_without_checksums_are_read(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    with SqlCatalog(sqlite_url(path)) as catalog:
        catalog.create_dataset("shop")
        catalog.put_table(ORDERS)
        with sqlite3.connect(path) as database:
            [(stored,)] = database.execute("SELECT definition FROM objects").fetchall()
            database.execute("UPDATE objects SET definition = ?", (stored.partition(b"\n")[0],))
            database.execute("DROP TABLE format")
        database.close()
    with SqlCatalog(sqlite_url(path)) as catalog:
        assert catalog.table(ORDERS.ref) == ORDERS

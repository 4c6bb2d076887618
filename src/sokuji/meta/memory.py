"""A catalog in the memory of one process: for temporary data and tests."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from sokuji.errors import AlreadyExistsError, ConflictError, NotFoundError, SokujiError
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Function, Ref, Table, check_dataset_name, check_name

Definition = TypeVar("Definition", Table, Function)


class MemoryCatalog(Catalog):
    """Dicts by name. Thread-safe."""

    def __init__(self) -> None:
        self._lock, self._version = threading.RLock(), 0
        self._datasets: set[str] = set()
        self._tables: dict[Ref, Table] = {}
        self._reserved: dict[Ref, str] = {}  # with the kind of thing
        self._functions: dict[Ref, Function] = {}

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Lock out all other calls during the block, and raise the version if it succeeds.

        A failed block is not rolled back.
        """
        with self._lock:
            yield
            self._version += 1

    def version(self) -> int:
        """See `Catalog.version`."""
        with self._lock:
            return self._version

    def datasets(self) -> list[str]:
        """See `Catalog.datasets`."""
        with self._lock:
            return sorted(self._datasets)

    def create_dataset(self, name: str, *, if_not_exists: bool = False) -> None:
        """See `Catalog.create_dataset`."""
        check_dataset_name(name)
        with self._lock:
            if if_not_exists and name in self._datasets:
                return
            with self._change():
                if name in self._datasets:
                    raise AlreadyExistsError(f"dataset {name} already exists")
                self._datasets.add(name)

    def drop_dataset(self, name: str) -> None:
        """See `Catalog.drop_dataset`."""
        with self._change():
            self._check_dataset(name)
            inside = sorted(ref.name for refs in (self._tables, self._reserved, self._functions) for ref in refs if ref.dataset == name)
            if inside:
                raise SokujiError(f"dataset {name} is not empty; drop what is in it first: {', '.join(inside)}")
            self._datasets.remove(name)

    def tables(self, dataset: str | None = None) -> list[Table]:
        """See `Catalog.tables`."""
        with self._lock:
            return _sorted(self._tables.values(), dataset)

    def table(self, ref: Ref) -> Table:
        """See `Catalog.table`."""
        with self._lock:
            return _known(self._tables, ref, "table")

    def put_table(self, table: Table, *, replace: bool = False, expected: Table | None = None) -> None:
        """See `Catalog.put_table`."""
        check_name(table.ref)
        with self._change():
            stored = self._tables.get(table.ref)
            if expected is not None and stored != expected:
                raise ConflictError(f"the definition of {table.ref} was changed by another statement; run the statement again")
            self._check_dataset(table.ref.dataset)
            kind = self._reserved.get(table.ref) or (None if stored is None or replace else stored.kind)
            if kind is not None:
                raise AlreadyExistsError(f"{table.ref} already exists: it is a {kind}")
            self._tables[table.ref] = table

    def drop_table(self, ref: Ref) -> None:
        """See `Catalog.drop_table`."""
        with self._change():
            del self._tables[_known(self._tables, ref, "table").ref]

    def reserved(self, dataset: str | None = None) -> list[Ref]:
        """See `Catalog.reserved`."""
        with self._lock:
            return sorted(ref for ref in self._reserved if dataset is None or ref.dataset == dataset)

    def reserve(self, ref: Ref, kind: str) -> None:
        """See `Catalog.reserve`."""
        check_name(ref)
        with self._change():
            self._check_dataset(ref.dataset)
            taken = self._tables[ref].kind if ref in self._tables else self._reserved.get(ref, kind)
            if taken != kind:
                raise AlreadyExistsError(f"{ref} already exists: it is a {taken}")
            self._reserved[ref] = kind

    def release(self, ref: Ref) -> None:
        """See `Catalog.release`."""
        with self._change():
            if self._reserved.pop(ref, None) is None:
                raise NotFoundError(f"the name {ref} is not reserved")

    def functions(self, dataset: str | None = None) -> list[Function]:
        """See `Catalog.functions`."""
        with self._lock:
            return _sorted(self._functions.values(), dataset)

    def function(self, ref: Ref) -> Function:
        """See `Catalog.function`."""
        with self._lock:
            return _known(self._functions, ref, "function")

    def put_function(self, function: Function, *, replace: bool = False) -> None:
        """See `Catalog.put_function`."""
        check_name(function.ref)
        with self._change():
            self._check_dataset(function.ref.dataset)
            if function.ref in self._functions and not replace:
                raise AlreadyExistsError(f"function {function.ref} already exists")
            self._functions[function.ref] = function

    def drop_function(self, ref: Ref) -> None:
        """See `Catalog.drop_function`."""
        with self._change():
            del self._functions[_known(self._functions, ref, "function").ref]

    def close(self) -> None:
        """See `Catalog.close`. There is nothing to release."""

    def _check_dataset(self, name: str) -> None:
        if name not in self._datasets:
            raise NotFoundError(f"dataset {name} was not found")


def _known(definitions: Mapping[Ref, Definition], ref: Ref, kind: str) -> Definition:
    if ref not in definitions:
        raise NotFoundError(f"{kind} {ref} was not found")
    return definitions[ref]


def _sorted(definitions: Iterable[Definition], dataset: str | None) -> list[Definition]:
    selected = [definition for definition in definitions if dataset is None or definition.ref.dataset == dataset]
    return sorted(selected, key=lambda definition: definition.ref)

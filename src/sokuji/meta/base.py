"""The contract of the catalog: which datasets, tables, views, functions and models there are, and how they are defined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from sokuji.meta.objects import Function, ModelSignature, Ref, Table


class Catalog(ABC):
    """Names and definitions. Every change is one transaction and raises `version`, by which readers know their copy is stale."""

    @abstractmethod
    def version(self) -> int:
        """Grows with every change, from whichever process."""

    @abstractmethod
    def datasets(self) -> list[str]:
        """The names of all datasets, sorted."""

    @abstractmethod
    def create_dataset(self, name: str, *, if_not_exists: bool = False) -> None:
        """Raises AlreadyExistsError."""

    @abstractmethod
    def drop_dataset(self, name: str) -> None:
        """Drop an empty dataset. Raises NotFoundError; SokujiError when something is in it (it is named)."""

    @abstractmethod
    def tables(self, dataset: str | None = None) -> list[Table]:
        """All tables and views, of one dataset or of all, sorted by name."""

    @abstractmethod
    def table(self, ref: Ref) -> Table:
        """Raises NotFoundError."""

    @abstractmethod
    def put_table(self, table: Table, *, replace: bool = False, expected: Table | None = None) -> None:
        """Add a table, or with `replace` put it in the place of one, which must be `expected` if that is given.

        Raises:
            AlreadyExistsError: without `replace`, or for a model's name, as tables and models share one namespace.
            NotFoundError: of the dataset.
            ConflictError: the stored one is not `expected`.
        """

    @abstractmethod
    def drop_table(self, ref: Ref) -> None:
        """Raises NotFoundError."""

    @abstractmethod
    def models(self, dataset: str | None = None) -> list[ModelSignature]:
        """The signatures of the models' current versions, sorted by name."""

    @abstractmethod
    def put_model(self, signature: ModelSignature) -> None:
        """Add or replace. Raises AlreadyExistsError when a table has that name; NotFoundError for the dataset."""

    @abstractmethod
    def drop_model(self, ref: Ref) -> None:
        """Raises NotFoundError."""

    @abstractmethod
    def functions(self, dataset: str | None = None) -> list[Function]:
        """All functions, of one dataset or of all, sorted by name."""

    @abstractmethod
    def function(self, ref: Ref) -> Function:
        """Raises NotFoundError."""

    @abstractmethod
    def put_function(self, function: Function, *, replace: bool = False) -> None:
        """Raises AlreadyExistsError unless `replace`; NotFoundError for the dataset. Functions have a namespace of their own."""

    @abstractmethod
    def drop_function(self, ref: Ref) -> None:
        """Raises NotFoundError."""

    @abstractmethod
    def close(self) -> None:
        """Release what is held. Closing twice is a no-op."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

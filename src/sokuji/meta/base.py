"""The contract of the catalog: all datasets, tables, views, functions and models, and their definitions."""

from __future__ import annotations

from abc import abstractmethod

from sokuji.closing import Closing
from sokuji.meta.objects import Function, Ref, Table


class Catalog(Closing):
    """Names and definitions. Every change is one transaction and raises `version`, which tells readers that their copy is stale."""

    @abstractmethod
    def version(self) -> int:
        """The number of the catalog's state. It grows with every change, by any process."""

    @abstractmethod
    def datasets(self) -> list[str]:
        """The names of all datasets, sorted."""

    @abstractmethod
    def create_dataset(self, name: str, *, if_not_exists: bool = False) -> None:
        """Create a dataset. Raises AlreadyExistsError."""

    @abstractmethod
    def drop_dataset(self, name: str) -> None:
        """Drop an empty dataset. Raises NotFoundError; SokujiError if the dataset is not empty (the error names its content)."""

    @abstractmethod
    def tables(self, dataset: str | None = None) -> list[Table]:
        """All tables and views, of one dataset or of all, sorted by name."""

    @abstractmethod
    def table(self, ref: Ref) -> Table:
        """The table or view with this name. Raises NotFoundError."""

    @abstractmethod
    def put_table(self, table: Table, *, replace: bool = False, expected: Table | None = None) -> None:
        """Add a table. With `replace`, an existing table is replaced; it must equal `expected` if that is given.

        Raises:
            AlreadyExistsError: a table exists (without `replace`), or a model does: tables and models share one namespace.
            NotFoundError: there is no such dataset.
            ConflictError: the stored table is not `expected`.
        """

    @abstractmethod
    def drop_table(self, ref: Ref) -> None:
        """Drop a table or view. Raises NotFoundError."""

    @abstractmethod
    def reserved(self, dataset: str | None = None) -> list[Ref]:
        """The names that others have reserved, sorted: those of the models."""

    @abstractmethod
    def reserve(self, ref: Ref, kind: str) -> None:
        """Keep a name from tables, for a `kind` of thing that another store has. The same again changes nothing.

        Raises:
            AlreadyExistsError: a table has the name, or it is reserved for another kind.
            NotFoundError: there is no such dataset.
        """

    @abstractmethod
    def release(self, ref: Ref) -> None:
        """Give a reserved name back. Raises NotFoundError."""

    @abstractmethod
    def functions(self, dataset: str | None = None) -> list[Function]:
        """All functions, of one dataset or of all, sorted by name."""

    @abstractmethod
    def function(self, ref: Ref) -> Function:
        """The function with this name. Raises NotFoundError."""

    @abstractmethod
    def put_function(self, function: Function, *, replace: bool = False) -> None:
        """Add a function. Raises AlreadyExistsError unless `replace`; NotFoundError for the dataset. Functions have their own namespace."""

    @abstractmethod
    def drop_function(self, ref: Ref) -> None:
        """Drop a function. Raises NotFoundError."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources. Closing twice is a no-op."""

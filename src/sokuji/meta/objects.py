"""The named objects of the catalog (tables, views and functions), and the rules for all names, those of models included."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sokuji.errors import SokujiError
from sokuji.types import Field, Type

# BigQuery's rule (letters, marks, numbers, connectors, dashes, spaces), within the limits of a file name.
_NAME = re.compile(r"\w[\w\- ]*")
_NAME_BYTES_MAX = 200
_DATASET_NAME = re.compile(r"[A-Za-z0-9_]{1,200}")


class Ref(NamedTuple):
    """`dataset.name`: a table, view, function or model. Both parts are case-sensitive, as in BigQuery."""

    dataset: str
    name: str

    def __str__(self) -> str:
        return f"{self.dataset}.{self.name}"


def check_name(ref: Ref) -> None:
    """Refuse names that no object may have.

    Raises:
        SokujiError: the name is not allowed.
    """
    if _NAME.fullmatch(ref.name) is None or len(ref.name.encode()) > _NAME_BYTES_MAX:
        raise SokujiError(
            f"name {ref.name!r} is not allowed; use up to {_NAME_BYTES_MAX} bytes of letters, digits, underscores, dashes and spaces"
        )


def check_dataset_name(name: str) -> None:
    """Refuse names that no dataset may have.

    Raises:
        SokujiError: the name is not allowed.
    """
    if _DATASET_NAME.fullmatch(name) is None:
        raise SokujiError(f"dataset name {name!r} is not allowed; use 1 to 200 letters, digits and underscores")


class TableKind(enum.StrEnum):
    """The kind of data behind a table's name."""

    EVENTS = "events"  # fed from the log: committed files plus the log's tail
    TABLE = "table"
    VIEW = "view"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    type: Type
    not_null: bool = False
    description: str = ""

    @property
    def field(self) -> Field:
        """The column's name and type alone."""
        return Field(self.name, self.type)


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view. `query` is the view's GoogleSQL. Partitioning and clustering are the column expressions as written.

    `query_names` are the query's own column names, if the view was created with other names.
    """

    ref: Ref
    kind: TableKind
    columns: tuple[Column, ...]
    query: str | None = None
    partition_by: str | None = None
    cluster_by: tuple[str, ...] = ()
    description: str = ""
    options: Mapping[str, object] = field(default_factory=dict)  # OPTIONS(...) as given, JSON values
    created_at_us: int = 0
    query_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a function."""

    name: str
    type: Type | None  # None: ANY TYPE, the type of the value in each call
    not_aggregate: bool = False  # for an aggregate function: one value for all rows


@dataclass(frozen=True, slots=True)
class Function:
    """A function whose body is a GoogleSQL expression over its arguments. `tables` and `functions` are the paths as written in the body."""

    ref: Ref
    arguments: tuple[Argument, ...]
    body: str
    returns: Type | None = None  # as declared; None: the type of the body
    aggregate: bool = False
    tables: tuple[tuple[str, ...], ...] = ()
    functions: tuple[tuple[str, ...], ...] = ()
    description: str = ""
    created_at_us: int = 0

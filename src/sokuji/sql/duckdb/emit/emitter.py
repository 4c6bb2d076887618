"""What every emitting function is handed: the rest of the emitter, and what the statement's names mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from zetasql.wasi._pb2.zetasql.public import type_pb2

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.front.protos import from_type, nodes
from sokuji.types import STRING, Type


class Relations(Protocol):
    """What stands behind the tables and table functions of one statement."""

    def table(self, scan: Any) -> str:
        """DuckDB SQL that can follow FROM, for a `ResolvedTableScanProto`; its columns have the table's column names."""

    def table_function(self, scan: Any, queries: Sequence[str], emitter: Emitter) -> str:
        """DuckDB SQL that can follow FROM, for a `ResolvedTVFScanProto`; its columns have the names of the function's result.

        `queries` are the SELECT statements of the relation arguments, within the statement that `emitter` is at.
        """


Emit = Callable[["Emitter", Any], str]


class Emitter:
    """Turns the nodes of one statement into SQL text by two tables of functions, keyed by the nodes' names.

    A column of the resolved tree is called `c<column id>` everywhere: ids are unique in a statement, so that a correlated
    reference needs no qualification.
    """

    def __init__(
        self, scans: Mapping[str, Emit], expressions: Mapping[str, Emit], relations: Relations, parameters: Mapping[str, str]
    ) -> None:
        self.relations = relations
        self.parameters = parameters  # DuckDB expressions by lower-cased name, or by position from 1
        self.replaced: dict[int, str] = {}  # SQL for the columns that are not simply `c<id>`
        self.tables: dict[str, tuple[str, Sequence[int]]] = {}  # of WITH, by name: the name in DuckDB and the column ids
        self.definitions: list[str] = []  # the WITH entries in scope, as SQL
        self.recursions: list[tuple[str, Sequence[int]]] = []  # the recursive tables being defined, the innermost last
        self.lifted: dict[int, str] | None = None  # see `lifting`
        self.volatile = False  # a call was emitted whose value differs from row to row
        self._scans, self._expressions = scans, expressions
        self._names = 0

    def scan(self, node: Any) -> str:
        """A SELECT statement whose columns are those of the scan's column list.

        Raises:
            UnsupportedSqlError: the scan cannot be run here.
        """
        name, inner = unwrap(node)
        if name not in self._scans:
            raise unsupported(name)
        before, self.lifted = self.lifted, None
        text = self._scans[name](self, inner)
        self.lifted = before
        return text

    def expression(self, node: Any) -> str:
        """A DuckDB expression, safe to embed without more parentheses.

        Raises:
            UnsupportedSqlError: the expression cannot be run here.
        """
        name, inner = unwrap(node)
        if name not in self._expressions:
            raise unsupported(name)
        return self._expressions[name](self, inner)

    def column(self, column_id: int) -> str:
        """The SQL that refers to a column."""
        return self.replaced.get(column_id) or f"c{column_id}"

    def name(self) -> str:
        """A name nothing else in the statement has."""
        self._names += 1
        return f"t{self._names}"

    def source(self, node: Any) -> str:
        """What follows FROM to read a scan."""
        return f"({self.scan(node)}) AS {self.name()}"

    def complete(self, query: str) -> str:
        """A SELECT statement emitted here, with the WITH entries in scope: one that can run alone."""
        return f"WITH RECURSIVE {', '.join(self.definitions)} {query}" if self.definitions else query

    def independent(self, expression: Any) -> str:
        """A DuckDB expression that has one and the same value however often it stands in the statement.

        Raises:
            UnsupportedSqlError: it depends on the row of a query around it, or on chance.
        """
        before, self.volatile = self.volatile, False
        text = self.expression(expression)
        varies, self.volatile = self.volatile, before
        if varies or any(node.is_correlated for node in nodes(expression, "ResolvedColumnRefProto")):
            raise UnsupportedSqlError("An argument that depends on other rows or on chance is not supported; use a constant or a subquery")
        return text

    @contextmanager
    def lifting(self) -> Iterator[dict[int, str]]:
        """Collect the outer columns that the arguments of aggregates name, for the SELECT below to hand up as its own.

        An aggregate over nothing but outer columns would be one of the outer query in DuckDB, as in standard SQL.
        """
        before, self.lifted = self.lifted, {}
        yield self.lifted
        self.lifted = before

    @contextmanager
    def replacing(self, columns: Mapping[int, str]) -> Iterator[None]:
        """Refer to these columns by other SQL in the meantime."""
        before = self.replaced
        self.replaced = {**before, **columns}
        yield
        self.replaced = before


def unwrap(node: Any) -> tuple[str, Any]:
    """The name and the message of the node inside nested `AnyResolved...Proto` wrappers."""
    name = ""
    while node.DESCRIPTOR.name.startswith("AnyResolved"):
        name = node.WhichOneof("node")
        node = getattr(node, name)
    return name, node


def unsupported(name: str) -> UnsupportedSqlError:
    """The error for a node that is in no table, by its name."""
    words = name.removeprefix("resolved_").removesuffix("_node").replace("_base", "").replace("_", " ")
    return UnsupportedSqlError(f"{words} is not supported")


def columns(scan: Any) -> list[Any]:
    """The distinct columns of a scan, as `ResolvedColumnProto`."""
    return list({column.column_id: column for column in _inherited(scan, "column_list")}.values())


def type_of(expression: Any) -> Type:
    """The type of an expression node, wrapped or not. Values of an enum (date parts, modes) are carried as their names."""
    proto = type_proto(expression)
    return STRING if proto.type_kind == type_pb2.TYPE_ENUM else from_type(proto)


def type_proto(expression: Any) -> Any:
    """The `TypeProto` of an expression node, wrapped or not."""
    return _inherited(unwrap(expression)[1], "type")


def _inherited(node: Any, name: str) -> Any:
    while name not in node.DESCRIPTOR.fields_by_name:
        node = node.parent
    return getattr(node, name)


def select(items: Sequence[str], rest: str) -> str:
    """A SELECT statement; one without columns still has rows."""
    return f"SELECT {', '.join(items) or '1 AS c0'} {rest}".rstrip()

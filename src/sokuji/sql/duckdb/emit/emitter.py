"""What every emitting function receives: the emitter for other nodes, and the meaning of the statement's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from zetasql.wasi._pb2.zetasql.public import type_pb2

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.front.protos import from_type, nodes
from sokuji.types import STRING, Type


class Relations(Protocol):
    """The tables and table functions of one statement."""

    def table(self, scan: Any) -> str:
        """DuckDB SQL for FROM, for a `ResolvedTableScanProto`. Its columns have the table's column names."""

    def table_function(self, scan: Any, queries: Sequence[str], emitter: Emitter) -> str:
        """DuckDB SQL for FROM, for a `ResolvedTVFScanProto`. Its columns have the names of the function's result.

        `queries` are the SELECT statements of the relation arguments, inside the statement that `emitter` writes.
        """


Emit = Callable[["Emitter", Any], str]


class Emitter:
    """Writes the nodes of one statement as SQL text, by two tables of functions, keyed by the names of nodes.

    A column of the resolved tree is named `c<column id>` everywhere. Ids are unique in a statement, so correlated references need no
    qualification.
    """

    def __init__(
        self, scans: Mapping[str, Emit], expressions: Mapping[str, Emit], relations: Relations, parameters: Mapping[str, str]
    ) -> None:
        self.relations = relations
        self.parameters = parameters  # DuckDB expressions by lower-case name, or by position from 1
        self.replaced: dict[int, str] = {}  # SQL for columns that are not simply `c<id>`
        self.tables: dict[str, tuple[str, Sequence[int]]] = {}  # tables of WITH, by name: the name in DuckDB and the column ids
        self.definitions: list[str] = []  # the WITH entries in scope, as SQL
        self.recursions: list[tuple[str, Sequence[int]]] = []  # the recursive tables being defined, the innermost last
        self.lifted: dict[int, str] | None = None  # see `lifting`
        self.volatile = False  # whether a call was emitted whose value differs from row to row
        self._scans, self._expressions = scans, expressions
        self._names = 0

    def scan(self, node: Any) -> str:
        """A SELECT statement with the columns of the scan's column list.

        Raises:
            UnsupportedSqlError: the scan is not supported.
        """
        name, inner = unwrap(node)
        if name not in self._scans:
            raise unsupported(name)
        before, self.lifted = self.lifted, None
        text = self._scans[name](self, inner)
        self.lifted = before
        return text

    def expression(self, node: Any) -> str:
        """A DuckDB expression that is safe to embed without more parentheses.

        Raises:
            UnsupportedSqlError: the expression is not supported.
        """
        name, inner = unwrap(node)
        if name not in self._expressions:
            raise unsupported(name)
        return self._expressions[name](self, inner)

    def column(self, column_id: int) -> str:
        """The SQL that refers to a column."""
        return self.replaced.get(column_id) or f"c{column_id}"

    def name(self) -> str:
        """A name that is unique in the statement."""
        self._names += 1
        return f"t{self._names}"

    def source(self, node: Any) -> str:
        """The text after FROM that reads a scan."""
        return f"({self.scan(node)}) AS {self.name()}"

    def complete(self, query: str) -> str:
        """A SELECT statement from this emitter with the WITH entries in scope, so that it can run alone."""
        return f"WITH RECURSIVE {', '.join(self.definitions)} {query}" if self.definitions else query

    def independent(self, expression: Any) -> str:
        """A DuckDB expression that has the same value wherever it occurs in the statement.

        Raises:
            UnsupportedSqlError: the value depends on the row of an outer query, or is random.
        """
        before, self.volatile = self.volatile, False
        text = self.expression(expression)
        varies, self.volatile = self.volatile, before
        if varies or any(node.is_correlated for node in nodes(expression, "ResolvedColumnRefProto")):
            raise UnsupportedSqlError("An argument that depends on other rows or on chance is not supported; use a constant or a subquery")
        return text

    @contextmanager
    def lifting(self) -> Iterator[dict[int, str]]:
        """Collect the outer columns in arguments of aggregates. An inner SELECT must return them as its own columns.

        DuckDB, like standard SQL, would take an aggregate over outer columns alone as an aggregate of the outer query.
        """
        before, self.lifted = self.lifted, {}
        yield self.lifted
        self.lifted = before

    @contextmanager
    def replacing(self, columns: Mapping[int, str]) -> Iterator[None]:
        """Refer to these columns by other SQL inside the block."""
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
    """The error for a node that is in no table, with its name."""
    words = name.removeprefix("resolved_").removesuffix("_node").replace("_base", "").replace("_", " ")
    return UnsupportedSqlError(f"{words} is not supported")


def columns(scan: Any) -> list[Any]:
    """The distinct columns of a scan, as `ResolvedColumnProto`."""
    return list({column.column_id: column for column in _inherited(scan, "column_list")}.values())


def type_of(expression: Any) -> Type:
    """The type of an expression node, wrapped or not. Values of an enum (date parts, modes) are represented by their names."""
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
    """A SELECT statement. Without items, it still has rows."""
    return f"SELECT {', '.join(items) or '1 AS c0'} {rest}".rstrip()

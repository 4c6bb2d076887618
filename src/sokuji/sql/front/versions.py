"""Rewrite tables as of a time so that ZetaSQL can resolve them.

ZetaSQL knows one set of columns per table, not one per time. So each table that a statement reads `FOR SYSTEM_TIME AS OF` gets a private
name in the statement's text, with the columns that the table had then. The clause stays in the text.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from google.protobuf.message import Message

from sokuji.meta.objects import Table
from sokuji.sql.front.lookup import Path
from sokuji.sql.front.protos import nodes, span
from sokuji.sql.front.statement import Statement
from sokuji.types import Type

VersionOf = Callable[[Table, dt.datetime], Table]
"""Returns a table that is not a view with the columns that it had at a time."""

_MAY_BE_OLD = re.compile(r"\bSYSTEM(?:_TIME|\s+TIME)\b", re.IGNORECASE)


class VersionResolver(Protocol):
    """The parts of the analyzer that resolving versions needs."""

    def parse(self, statement: Statement) -> Message:
        """The syntax tree (`AnyASTStatementProto`)."""

    def constant(self, statement: Statement) -> tuple[Any, Type]:
        """The value of an expression without columns, in which positional parameters are named `@_<position>`."""

    def table(self, path: Path) -> Table | None:
        """The table with versions that a path names; None if there is none."""


def resolve_versions(statement: Statement, resolver: VersionResolver, version_of: VersionOf) -> tuple[Statement, dict[Path, Table]]:
    """The statement with a private name for every table that is read as of a time, and these tables by private name.

    The body of a function stays unchanged: it is stored, and the time may be one of its arguments.

    Raises:
        SqlError: a time is not constant, or its expression fails.
        LakeError: the table has no version of that time.
    """
    if not _MAY_BE_OLD.search(statement.text):
        return statement, {}
    tree = resolver.parse(statement)
    if next(nodes(tree, "ASTCreateFunctionStatementProto"), None) is not None:
        return statement, {}
    parameters = sorted((span(node)[0], node.position) for node in nodes(tree, "ASTParameterExprProto") if node.position)
    found: dict[Path, Table] = {}
    renames = []
    for node in nodes(tree, "ASTTablePathExpressionProto"):
        if not (node.HasField("for_system_time") and node.HasField("path_expr")):
            continue
        names = tuple(name.id_string for name in node.path_expr.names)
        table = resolver.table(names)
        at, _ = resolver.constant(_time(statement, node.for_system_time.expression, parameters))
        if table is None or not isinstance(at, dt.datetime):
            continue  # ZetaSQL reports it
        private = (f"{'.'.join(names)}@{len(found)}",)  # no table can have this name
        found[private] = version_of(table, at)
        alias = "" if node.HasField("alias") else f" AS {_quoted(names[-1])}"
        renames.append((span(node.path_expr), f"{_quoted(private[0])}{alias}"))
    return _renamed(statement, sorted(renames), tuple(found)), found


def _time(statement: Statement, expression: Message, parameters: list[tuple[int, int]]) -> Statement:
    """The expression as a separate statement, with a name for each `?`."""
    start, end = span(expression)
    whole = statement.part(start, end)
    text = "".join(_named(statement.text.encode(), start, end, parameters))
    return Statement(text, whole.script, whole.pieces)


def _named(data: bytes, start: int, end: int, parameters: list[tuple[int, int]]) -> Iterator[str]:
    for at, position in parameters:
        if start <= at < end:
            yield data[start:at].decode()
            yield f"@_{position}"
            start = at + 1
    yield data[start:end].decode()


def _renamed(statement: Statement, renames: list[tuple[tuple[int, int], str]], tables: tuple[Path, ...]) -> Statement:
    data = statement.text.encode()
    text, pieces, done = "", [], 0
    for (start, end), name in [*renames, ((len(data), len(data)), "")]:
        kept = data[done:start].decode()
        where = len(data[:done].decode())
        pieces += [(len(text) + at - where, script) for at, script in _pieces(statement, where, where + len(kept))]
        text += kept
        if name:
            pieces.append((len(text), statement.script_offset(where + len(kept))))
            text += name
        done = end
    return Statement(text, statement.script, tuple(pieces), (*statement.tables, *tables))


def _pieces(statement: Statement, start: int, end: int) -> list[tuple[int, int]]:
    """The source of the characters from `start` to `end`, as `Statement.pieces`."""
    return [(start, statement.script_offset(start)), *(piece for piece in statement.pieces if start < piece[0] < end)]


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"

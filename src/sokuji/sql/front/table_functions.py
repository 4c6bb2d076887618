"""Rewrite calls of `ML.*` table functions so that ZetaSQL can resolve them.

ZetaSQL must know a function's output columns before it resolves the query around the call. The columns depend on the model and the input.
So each call is resolved alone, inner calls first: its input is analysed as a separate query (with the WITH clauses in its scope), its
constants are evaluated, and the function computes its columns. Then the call is renamed, in place and at the same length, to a private
function with exactly these columns.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from google.protobuf.message import Message

from sokuji.errors import ConflictError, SqlError, UnsupportedSqlError
from sokuji.models.versions import ModelSignature
from sokuji.sql.extension import AnyTableFunction, RelationalFunction, TableCall
from sokuji.sql.front.lookup import Path, PrivateFunction
from sokuji.sql.front.protos import children, nodes, span
from sokuji.sql.front.statement import Statement
from sokuji.types import Field, Kind, Type, to_arrow

Span = tuple[int, int]
"""Start and end in bytes of a statement's text, as in ZetaSQL's parse locations."""

_MAY_CALL = re.compile(r"\bml\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ResolvedCall:
    """A call under its private name, with everything that running it needs."""

    name: str  # the public name of the function: "ML.PREDICT"
    private: PrivateFunction
    function: AnyTableFunction
    call: TableCall
    model_path: Path | None = None

    def rows(self, argument: pa.RecordBatchReader | None) -> pa.RecordBatchReader:
        """The result of a function that is computed in Python, over the rows of its relation argument, if it has one.

        Raises:
            ConflictError: the model is not the one any more that the statement was analysed with.
        """
        if isinstance(self.function, RelationalFunction):
            raise TypeError(f"{self.name} is a query itself, and has no rows of its own")
        result = self.function.run(self.call, argument)
        if [(field.name, field.type) for field in result.schema] != [(each.name, to_arrow(each.type)) for each in self.private.output]:
            raise ConflictError(f"the model that {self.name} names was replaced by another statement; run the statement again")
        return result


class CallResolver(Protocol):
    """The parts of the analyzer that resolving a call needs."""

    def parse(self, statement: Statement) -> Message:
        """The syntax tree (`AnyASTStatementProto`)."""

    def columns(self, statement: Statement, calls: Sequence[ResolvedCall]) -> tuple[Field, ...]:
        """The output columns of a query, in which positional parameters are named `@_<position>`."""

    def constant(self, statement: Statement) -> tuple[Any, Type]:
        """The value of an expression without columns, in which positional parameters are named `@_<position>`."""

    def model(self, path: Path) -> ModelSignature | None:
        """The model with this name, or None."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A call in the syntax tree, and the WITH entries in its scope: spans, each with whether it is RECURSIVE, outer ones first."""

    node: Any
    scopes: tuple[tuple[Span, bool], ...]


def resolve_calls(
    statement: Statement, functions: Mapping[str, AnyTableFunction], resolver: CallResolver
) -> tuple[Statement, tuple[ResolvedCall, ...]]:
    """The statement with every call renamed, and the calls.

    Raises:
        SqlError: a function or model is unknown, an input does not resolve, or the function refuses its arguments.
    """
    if not _MAY_CALL.search(statement.text):
        return statement, ()
    tree = resolver.parse(statement)
    found = [item for item in _find(tree, ()) if _name(item.node).startswith("ml.")]
    found.sort(key=lambda item: span(item.node)[1])
    parameters = sorted((span(node)[0], node.position) for node in nodes(tree, "ASTParameterExprProto") if node.position)
    calls: list[ResolvedCall] = []
    for item in found:
        call = _CallResolver(statement, functions, resolver, parameters, tuple(calls)).resolve(item)
        calls.append(call)
        statement = _renamed(statement, span(item.node.name), call.private.name)
    return statement, tuple(calls)


def _renamed(statement: Statement, place: Span, alias: str) -> Statement:
    data = statement.text.encode()
    start, end = place
    text = data[:start] + alias.encode().ljust(end - start) + data[end:]
    return Statement(text.decode(), statement.script, statement.pieces, statement.tables)


class _CallResolver:
    def __init__(
        self,
        statement: Statement,
        functions: Mapping[str, AnyTableFunction],
        resolver: CallResolver,
        parameters: Sequence[tuple[int, int]],  # the offset of each `?`, and its position
        inner: tuple[ResolvedCall, ...],
    ) -> None:
        self.statement, self.functions, self.resolver, self.parameters, self.inner = statement, functions, resolver, parameters, inner
        self.data = statement.text.encode()

    def resolve(self, item: _Found) -> ResolvedCall:
        name = _name(item.node)
        function = self.functions.get(name)
        if function is None:
            raise self.error(_unknown(name, self.functions), span(item.node.name))
        if isinstance(function, RelationalFunction):
            return self.relational(item, name.upper(), function)
        kinds, model, model_path = [], None, None
        inputs: list[tuple[Field, ...]] = []
        settings: dict[str, Any] = {}
        constants: list[Any] = []
        for entry in item.node.argument_entries:
            kind = _kind(entry)
            kinds.append(kind)
            if kind == "model":
                model_path, model = self.model(entry)
            elif kind == "relation" and not inputs:
                inputs.append(self.input(entry, item.scopes))
            elif kind == "constant":
                value, type_ = self.constant(entry)
                if type_.kind is Kind.STRUCT:
                    settings = {key.lower(): item for key, item in (value or {}).items()}
                else:
                    constants.append(value)
            else:
                refused = "further relation" if kind == "relation" else kind
                raise self.error(f"{name.upper()} does not take {refused} arguments", span(entry), UnsupportedSqlError)
        call = TableCall(model, tuple(inputs), settings, tuple(constants))
        output = self.schema(item, lambda: function.schema(call))
        return ResolvedCall(name.upper(), self.private(kinds, output), function, call, model_path)

    def relational(self, item: _Found, name: str, function: RelationalFunction) -> ResolvedCall:
        """Resolve a call with named arguments. ZetaSQL checks and coerces these as for any function."""
        kinds: list[str | Field] = []
        inputs: list[tuple[Field, ...]] = []
        for entry in item.node.argument_entries:
            if _kind(entry) == "relation" and len(kinds) == len(inputs) < function.relations:
                inputs.append(self.input(entry, item.scopes))
                kinds.append("relation")
            elif _kind(entry) == "named":
                kinds.append(self.named_argument(entry, name, function, kinds))
            else:
                raise self.error(f"{name} takes {_signature(function)}", span(entry))
        if len(inputs) < function.relations:
            raise self.error(f"{name} takes {_signature(function)}", span(item.node))
        output = self.schema(item, lambda: function.schema(inputs))
        return ResolvedCall(name, self.private(kinds, output), function, TableCall(None, tuple(inputs)))

    def named_argument(self, entry: Any, name: str, function: RelationalFunction, before: Sequence[str | Field]) -> Field:
        argument = entry.expr.ast_named_argument_node.name.id_string.lower()
        if argument not in function.parameters:
            raise self.error(f"{name} has no argument {argument}; it takes {_signature(function)}", span(entry))
        field = Field(argument, function.parameters[argument])
        if field in before:
            raise self.error(f"{name}: the argument {argument} is given twice", span(entry))
        return field

    def private(self, arguments: Sequence[str | Field], output: tuple[Field, ...]) -> PrivateFunction:
        return PrivateFunction(f"_{len(self.inner)}", tuple(arguments), output)

    def schema(self, item: _Found, columns: Callable[[], tuple[Field, ...]]) -> tuple[Field, ...]:
        try:
            return columns()
        except SqlError as error:
            raise self.error(error.message, span(item.node), type(error)) from error

    def model(self, entry: Any) -> tuple[Path, ModelSignature]:
        path = entry.model_clause.model_path
        names = tuple(name.id_string for name in path.names)
        model = self.resolver.model(names)
        if model is None:
            raise self.error(f"Not found: Model {'.'.join(names)}", span(path))
        return names, model

    def input(self, entry: Any, scopes: Sequence[tuple[Span, bool]]) -> tuple[Field, ...]:
        """The columns of a relation argument, from `WITH ... SELECT * FROM <argument>`."""
        start, end = span(entry)
        if entry.HasField("table_clause"):
            clause = entry.table_clause
            start, end = span(clause.table_path if clause.HasField("table_path") else clause.tvf)
        parts: list[str | Span] = []
        for entries, recursive in scopes:
            parts += ["WITH RECURSIVE " if recursive else "WITH ", entries, " SELECT * FROM ("]
        parts += ["SELECT * FROM ", (start, end), ")" * len(scopes)]
        return self.resolver.columns(self.excerpt(parts), self.inner)

    def constant(self, entry: Any) -> tuple[Any, Type]:
        return self.resolver.constant(self.excerpt([span(entry)]))

    def excerpt(self, parts: Sequence[str | Span]) -> Statement:
        """A statement made of pieces of this statement, with text between them."""
        text = ""
        pieces: list[tuple[int, int]] = []
        for part in self.named(parts):
            if isinstance(part, str):
                text += part
                continue
            # Text between pieces has no position in the script; an error there gets a position near the piece before it.
            pieces.append((len(text), self.script_offset(part[0])))
            text += self.data[part[0] : part[1]].decode()
        return Statement(text, self.statement.script, tuple(pieces), self.statement.tables)

    def named(self, parts: Sequence[str | Span]) -> Iterator[str | Span]:
        """The same parts with a name for each `?`, because the pieces do not keep the positions of `?`."""
        for part in parts:
            if isinstance(part, str):
                yield part
                continue
            start, end = part
            for at, position in self.parameters:
                if start <= at < end:
                    yield (start, at)
                    yield f"@_{position}"
                    start = at + 1
            yield (start, end)

    def script_offset(self, byte: int) -> int:
        return self.statement.script_offset(len(self.data[:byte].decode()))

    def error(self, message: str, place: Span, kind: type[SqlError] = SqlError) -> SqlError:
        return self.statement.error_at(message, len(self.data[: place[0]].decode()), kind)


def _signature(function: RelationalFunction) -> str:
    tables = "a table or query" if function.relations == 1 else f"{function.relations} tables or queries"
    named = ", ".join(f"{name} => {type_}" for name, type_ in function.parameters.items())
    return f"{tables}, then any of {named}"


def _unknown(name: str, functions: Mapping[str, AnyTableFunction]) -> str:
    near = difflib.get_close_matches(name, functions, 1)
    hint = f"; did you mean {near[0].upper()}?" if near else "."
    return f"Table function not found: {name.upper()}{hint} Known: {', '.join(sorted(functions)).upper()}"


def _name(node: Any) -> str:
    return ".".join(name.id_string for name in node.name.names).lower()


def _kind(entry: Any) -> str:
    if entry.HasField("model_clause"):
        return "model"
    if entry.HasField("table_clause") or entry.expr.WhichOneof("node") == "ast_expression_subquery_node":
        return "relation"
    if entry.HasField("expr"):
        return "named" if entry.expr.WhichOneof("node") == "ast_named_argument_node" else "constant"
    return "connection or descriptor"


def _find(message: Message, scopes: tuple[tuple[Span, bool], ...]) -> Iterator[_Found]:
    """Every table function call below `message`, with the WITH entries in its scope."""
    name = message.DESCRIPTOR.name
    if name == "ASTTVFProto":
        yield _Found(message, scopes)
    below = list(children(message))
    if name == "ASTQueryProto" and message.HasField("with_clause"):
        clause: Any = message.with_clause
        entries = getattr(clause, "with")
        end = start = span(entries[0])[0]
        for entry in entries:
            visible = scopes if end == start else (*scopes, ((start, end), clause.recursive))
            yield from _find(entry, visible)
            end = span(entry)[1]
        scopes = (*scopes, ((start, end), clause.recursive))
        below = [child for child in below if child.DESCRIPTOR.name != "ASTWithClauseProto"]
    for child in below:
        yield from _find(child, scopes)

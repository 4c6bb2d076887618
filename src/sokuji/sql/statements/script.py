"""Run scripts of GoogleSQL's procedural statements, by walking the script's syntax tree from ZetaSQL.

https://cloud.google.com/bigquery/docs/reference/standard-sql/procedural-language. For the analyzer, variables are constants, so each
statement and expression is typed as usual, and columns hide variables. Not supported: procedures, transactions, SET of system variables.
The system variables are `@@error.message` and `@@row_count`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import pyarrow as pa
from zetasql.wasi._pb2.zetasql.public import value_pb2

from sokuji.errors import QueryCancelledError, SokujiError, SqlError, UnsupportedSqlError
from sokuji.sql.front import values
from sokuji.sql.front.analyzer import Analyzer
from sokuji.sql.front.parameters import Bound, Parameter
from sokuji.sql.front.protos import from_type, leaf, nodes, span
from sokuji.sql.front.sql_functions import SqlFunction, coercion
from sokuji.sql.front.statement import Statement
from sokuji.sql.front.variables import SYSTEM, Variable
from sokuji.sql.result import Result
from sokuji.types import BOOL, INT64, STRING, Field, Kind, Type, struct

_DECLARATION = "ast_variable_declaration_node"
_COERCION, _COERCED = "_as_declared", "_value"
_ERROR_MESSAGE, _ROW_COUNT = f"{SYSTEM}error.message", f"{SYSTEM}row_count"


class Execute(Protocol):
    """Runs one statement, and raises the engine's errors."""

    def __call__(
        self,
        statement: Statement,
        parameters: Bound,
        variables: Mapping[str, Variable],
        functions: Sequence[SqlFunction] = (),
    ) -> Result: ...


class _Jump(Exception):  # noqa: N818 not an error: BREAK and CONTINUE, up to their loop
    def __init__(self, node: Any, *, leaves: bool) -> None:
        super().__init__(node)
        self.node, self.leaves = node, leaves
        self.label = node.parent.label.name.id_string.lower()


class _Return(Exception):  # noqa: N818 not an error: RETURN
    pass


class Script:
    """One run of one script. Each result is read completely before the next statement runs, so that errors occur in order."""

    def __init__(self, text: str, analyzer: Analyzer, execute: Execute, parameters: Bound, check: Callable[[], None]) -> None:
        """Create a run. Each iteration of a loop calls `check`, which raises if the script must stop."""
        self._text, self._analyzer, self._execute, self._parameters, self._check = text, analyzer, execute, parameters, check
        self._variables: dict[str, Variable] = {}
        self._error: SokujiError | None = None  # the error that the current handler handles

    def run(self, tree: Any) -> Iterator[Result]:
        """Run an `ASTScriptProto`. Yields the results of statements that have one."""
        try:
            yield from self._list(tree.statement_list_node)
        except _Return:
            return
        except _Jump as jump:
            raise self._fail(jump.node, "BREAK and CONTINUE are for loops only, and for labels around them") from None

    def _list(self, statements: Any) -> Iterator[Result]:
        """Run the statements of an `ASTStatementListProto`. Variables declared in it end with it."""
        before = list(self._variables)
        started = False
        try:
            for statement in statements.statement_list:
                kind, node = leaf(statement)
                if kind == _DECLARATION and started:
                    raise self._fail(node, "Variable declarations are allowed only at the start of a block or script")
                started = kind != _DECLARATION
                if kind in self._ACTIONS:
                    self._ACTIONS[kind](self, node)
                elif kind in self._FLOWS:
                    yield from self._FLOWS[kind](self, node)
                else:
                    yield self._whole(self._execute(self._excerpt(node), self._parameters, self._variables))
        finally:
            self._variables = {name: value for name, value in self._variables.items() if name in before or name.startswith(SYSTEM)}

    def _whole(self, result: Result) -> Result:
        if result.rows_affected is not None:
            self._variables[_ROW_COUNT] = variable(result.rows_affected, INT64)
        if not result.schema:
            return result
        return Result(result.schema, result.arrow().to_reader(), message=result.message, rows_affected=result.rows_affected)

    # Expressions

    def _excerpt(self, node: Any, prefix: str = "", suffix: str = "") -> Statement:
        return self._analyzer.excerpt(self._text, *span(node), prefix=prefix, suffix=suffix)

    def _fail(self, node: Any, message: str, kind: type[SqlError] = SqlError) -> SqlError:
        offset = len(self._text.encode()[: span(node)[0]].decode())
        return Statement(self._text, self._text, ((0, 0),)).error_at(message, offset, kind)

    def _value(self, expression: Any, type_: Type | None = None) -> Variable:
        """The value of an expression. If a type is given, the value is coerced to it like an argument of a function."""
        found = self._only(self._execute(self._excerpt(expression, "SELECT "), self._parameters, self._variables))
        if type_ is None or found.type == type_:
            return found
        # Literals coerce to more types than other values, so coerce the expression itself. But a query must not run twice.
        again, known = self._excerpt(expression, f"SELECT {_COERCION}(", ")"), self._variables
        if any(nodes(expression, "ASTQueryProto")):
            again, known = replace(again, text=f"SELECT {_COERCION}({_COERCED})", tables=()), {_COERCED: found}
        try:
            return self._only(self._execute(again, self._parameters, known, (coercion(_COERCION, type_),)))
        except SqlError as error:
            if not error.message.startswith("No matching signature"):
                raise
            raise self._fail(expression, f"Cannot coerce expression of type {found.type} to type {type_}") from None

    def _only(self, result: Result) -> Variable:
        [column] = result.arrow().columns
        return variable(values.from_arrow(column, result.schema[0].type)[0], result.schema[0].type)

    def _holds(self, condition: Any) -> bool:
        return self._value(condition, BOOL).value is True

    def _known(self, identifier: Any) -> str:
        name = str(identifier.id_string.lower())
        if name not in self._variables:
            raise self._fail(identifier, f"Undeclared variable: {identifier.id_string}")
        return name

    # Statements

    def _declare(self, node: Any) -> None:
        if any(nodes(node.type, "ASTTypeParameterListProto")):
            raise self._fail(node.type, "Variables of parameterized types such as STRING(10) are not supported", UnsupportedSqlError)
        type_ = None
        if node.HasField("type"):
            null = self._analyzer.analyze(self._excerpt(node.type, "SELECT CAST(NULL AS ", ")"))
            type_ = from_type(null.node.output_column_list[0].column.type)
        value = self._value(node.default_value, type_) if node.HasField("default_value") else Variable(type_ or INT64)
        for identifier in node.variable_list.identifier_list:
            name = identifier.id_string.lower()
            if name in self._variables:
                raise self._fail(identifier, f"Variable '{identifier.id_string}' redeclaration")
            self._variables[name] = value

    def _set(self, node: Any) -> None:
        name = self._known(node.variable)
        self._variables[name] = self._value(node.expression, self._variables[name].type)

    def _set_several(self, node: Any) -> None:
        names = [self._known(identifier) for identifier in node.variables.identifier_list]
        wanted = struct(Field("", self._variables[name].type) for name in names)
        value = self._value(node.struct_expression, wanted)
        if not value.proto.HasField("struct_value"):
            raise self._fail(node.struct_expression, "Cannot SET several variables from a NULL STRUCT")
        for name, proto in zip(names, value.proto.struct_value.field, strict=True):
            self._variables[name] = Variable(self._variables[name].type, proto)

    def _if(self, node: Any) -> Iterator[Result]:
        branches = [(node.condition, node.then_list), *((clause.condition, clause.body) for clause in node.elseif_clauses.elseif_clauses)]
        body = next((body for condition, body in branches if self._holds(condition)), node.else_list)
        yield from self._list(body)

    def _case(self, node: Any) -> Iterator[Result]:
        for clause in node.when_then_clauses.when_then_clauses:
            if node.HasField("expression"):
                start, end = span(node.expression)
                left = self._text.encode()[start:end].decode()
                test = self._excerpt(clause.condition, f"SELECT ({left}) = (", ")")
                holds = self._only(self._execute(test, self._parameters, self._variables)).value is True
            else:
                holds = self._holds(clause.condition)
            if holds:
                yield from self._list(clause.body)
                return
        if not node.HasField("else_list"):
            raise self._fail(node, "No WHEN of this CASE holds, and it has no ELSE")
        yield from self._list(node.else_list)

    def _while(self, node: Any) -> Iterator[Result]:
        while not node.HasField("condition") or self._holds(node.condition):
            if (yield from self._turn(node.parent)):
                return

    def _repeat(self, node: Any) -> Iterator[Result]:
        while True:
            if (yield from self._turn(node.parent)) or self._holds(node.until_clause.condition):
                return

    def _for(self, node: Any) -> Iterator[Result]:
        name = node.variable.id_string.lower()
        if name in self._variables:
            raise self._fail(node.variable, f"Variable '{node.variable.id_string}' redeclaration")
        result = self._execute(self._excerpt(node.query), self._parameters, self._variables)
        row = struct(result.schema)
        rows: pa.Table = result.arrow()
        columns = [values.from_arrow(column, field.type) for column, field in zip(rows.columns, result.schema, strict=True)]
        try:
            for fields in zip(*columns, strict=True):
                self._variables[name] = variable(fields, row)
                if (yield from self._turn(node.parent)):
                    return
        finally:
            self._variables.pop(name, None)

    def _turn(self, loop: Any) -> Generator[Result, None, bool]:
        """Run the body of an `ASTLoopStatementProto` once. Returns whether to leave the loop."""
        self._check()
        try:
            yield from self._list(loop.body)
        except _Jump as jump:
            if jump.label not in {"", loop.label.name.id_string.lower()}:
                raise
            return jump.leaves
        return False

    def _break(self, node: Any) -> None:
        raise _Jump(node, leaves=True)

    def _continue(self, node: Any) -> None:
        raise _Jump(node, leaves=False)

    def _return(self, _node: Any) -> None:
        raise _Return

    def _block(self, node: Any) -> Iterator[Result]:
        try:
            yield from self._guarded(node)
        except _Jump as jump:
            if not jump.label or jump.label != node.label.name.id_string.lower():
                raise

    def _guarded(self, node: Any) -> Iterator[Result]:
        handlers = node.handler_list.exception_handler_list
        if not handlers:
            yield from self._list(node.statement_list_node)
            return
        try:
            yield from self._list(node.statement_list_node)
        except QueryCancelledError:
            raise
        except SokujiError as error:
            with self._handling(error):
                yield from self._list(handlers[0].statement_list)

    @contextmanager
    def _handling(self, error: SokujiError) -> Iterator[None]:
        before = self._error, self._variables.get(_ERROR_MESSAGE)
        self._error, self._variables[_ERROR_MESSAGE] = error, variable(str(error), STRING)
        try:
            yield
        finally:
            self._error = before[0]
            self._variables.pop(_ERROR_MESSAGE)
            if before[1] is not None:
                self._variables[_ERROR_MESSAGE] = before[1]

    def _raise(self, node: Any) -> None:
        if node.HasField("message"):
            raise self._fail(node, str(self._value(node.message, STRING).value))
        if self._error is None:
            raise self._fail(node, "Cannot re-raise an exception outside of an exception handler")
        raise self._error

    def _execute_immediate(self, node: Any) -> Iterator[Result]:
        text = self._value(node.sql, STRING).value
        if text is None:
            raise self._fail(node.sql, "The statement of EXECUTE IMMEDIATE is NULL")
        statements = self._analyzer.split(text)
        if len(statements) != 1:
            raise self._fail(node.sql, f"EXECUTE IMMEDIATE runs one statement, not {len(statements)}")
        result = self._execute(statements[0], self._arguments(node.using_clause.arguments), {})
        if node.HasField("into_clause"):
            self._into([self._known(identifier) for identifier in node.into_clause.identifiers.identifier_list], node, result)
        else:
            yield self._whole(result)

    def _arguments(self, arguments: Sequence[Any]) -> Bound:
        given = [self._value(argument.expression) for argument in arguments]
        for argument, value in zip(arguments, given, strict=True):
            if value.type.kind in {Kind.JSON, Kind.INTERVAL, Kind.BIGNUMERIC}:
                raise self._fail(argument, f"USING a value of type {value.type} is not supported", UnsupportedSqlError)
        names = [argument.alias.identifier.id_string for argument in arguments if argument.HasField("alias")]
        parameters = [Parameter(value.value, value.type) for value in given]
        if not names:
            return Bound({str(at): parameter for at, parameter in enumerate(parameters, start=1)}, is_positional=bool(given))
        if len(names) < len(given):
            raise self._fail(arguments[0], "Either all arguments after USING have names, or none has")
        return Bound({name.lower(): parameter for name, parameter in zip(names, parameters, strict=True)})

    def _into(self, names: Sequence[str], node: Any, result: Result) -> None:
        rows: pa.Table = result.arrow()
        if rows.num_rows > 1:
            raise self._fail(node, f"EXECUTE IMMEDIATE ... INTO wants one row at most; the statement gave {rows.num_rows}")
        if rows.num_columns != len(names):
            raise self._fail(node, f"EXECUTE IMMEDIATE ... INTO {len(names)} variables: the statement gave {rows.num_columns} columns")
        for name, column, field in zip(names, rows.columns, result.schema, strict=True):
            type_ = self._variables[name].type
            if field.type != type_:
                raise self._fail(node, f"EXECUTE IMMEDIATE ... INTO {name}: the column is {field.type}, the variable {type_}; CAST it")
            self._variables[name] = variable(values.from_arrow(column, type_)[0] if rows.num_rows else None, type_)

    def _not_supported(self, node: Any) -> None:
        raise self._fail(node, "SET of system variables and parameters is not supported", UnsupportedSqlError)

    _ACTIONS: ClassVar[Mapping[str, Callable[[Script, Any], None]]] = {
        _DECLARATION: _declare,
        "ast_single_assignment_node": _set,
        "ast_assignment_from_struct_node": _set_several,
        "ast_break_statement_node": _break,
        "ast_continue_statement_node": _continue,
        "ast_return_statement_node": _return,
        "ast_raise_statement_node": _raise,
        "ast_system_variable_assignment_node": _not_supported,
        "ast_parameter_assignment_node": _not_supported,
    }
    _FLOWS: ClassVar[Mapping[str, Callable[[Script, Any], Iterator[Result]]]] = {
        "ast_if_statement_node": _if,
        "ast_case_statement_node": _case,
        "ast_while_statement_node": _while,
        "ast_repeat_statement_node": _repeat,
        "ast_for_in_statement_node": _for,
        "ast_begin_end_block_node": _block,
        "ast_execute_immediate_statement_node": _execute_immediate,
    }


def variable(value: Any, type_: Type) -> Variable:
    """A variable with a value as in `front.values`."""
    proto = value_pb2.ValueProto()
    values.fill(proto, value, type_)
    return Variable(type_, proto)

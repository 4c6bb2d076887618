"""Google's analyzer over our catalog: it turns GoogleSQL text into resolved, typed statements."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from google.protobuf.message import Message
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto import options_pb2 as analyzer_options_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Table, TableKind
from sokuji.models.base import ModelStore
from sokuji.models.versions import ModelSignature
from sokuji.sql.extension import AnyTableFunction
from sokuji.sql.front import wasm
from sokuji.sql.front.lookup import Names, Path, find_functions, find_model, find_tables, to_catalog
from sokuji.sql.front.parameters import Bound, Parameters, bind
from sokuji.sql.front.protos import from_type, from_value, leaf, nodes, to_type, to_value
from sokuji.sql.front.registration import Registration
from sokuji.sql.front.sql_functions import GROUP, LIBRARY, SqlFunction
from sokuji.sql.front.statement import Statement
from sokuji.sql.front.table_functions import ResolvedCall, resolve_calls
from sokuji.sql.front.variables import SYSTEM, Variable
from sokuji.sql.front.versions import VersionOf, resolve_versions
from sokuji.sql.front.wasm import Reply, ZetaSql
from sokuji.sql.stop import Stop
from sokuji.types import Field, Kind, Type

# Features of ZetaSQL that BigQuery does not have, or that would change the meaning of BigQuery's statements.
_NOT_IN_BIGQUERY = (
    "TIMESTAMP_NANOS",
    "TIMESTAMP_PICOS",
    "TIMESTAMP_PRECISION",
    "PARSE_TIMESTAMP_WITH_PRECISION_AND_TIMEZONE",
    "AGGREGATION_THRESHOLD",
    "ENABLE_MEASURES",
    "EXPERIMENTAL_MODULES",
    "EXTENDED_TYPES",
    "FOR_UPDATE",
    "INSERT_ON_CONFLICT_CLAUSE",
    "KLL_FLOAT64_PRIMARY_WITH_DOUBLE_ALIAS",
    "MULTILEVEL_AGGREGATION",
    "MULTILEVEL_AGGREGATION_ON_UDAS",
    "UUID_TYPE",
)
_ALSO_IN_BIGQUERY = ("ALTER_COLUMN_SET_DATA_TYPE", "DISABLE_FLOAT32")

# Rewrites to plain scans, besides ZetaSQL's defaults. Each removes a kind of node that the emitter would have to handle.
_REWRITES = ("REWRITE_ARRAY_FILTER_TRANSFORM", "REWRITE_ARRAY_INCLUDES", "REWRITE_INLINE_SQL_FUNCTIONS", "REWRITE_INLINE_SQL_UDAS")

# BigQuery ML's scalar and analytic functions: ML.STANDARD_SCALER, HPARAM_RANGE.
_NOT_YET = re.compile(r"Function not found: ((?:ML\.|HPARAM_)\w+).*", re.IGNORECASE | re.DOTALL)
_UNQUALIFIED = re.compile(r"Table not found: ([^.;]+)(;.*)?")
_SQL_FUNCTION = re.compile(f"{GROUP}:", re.IGNORECASE)
_SPACE = r"(?:\s|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|/\*.*?\*/|;)*"
_BLANK = re.compile(_SPACE, re.DOTALL)
_ALTER = re.compile(rf"{_SPACE}ALTER\b", re.DOTALL | re.IGNORECASE)
_PROCEDURAL = re.compile(rf"{_SPACE}(?:EXECUTE|SET)\b", re.DOTALL | re.IGNORECASE)  # procedural statements that also parse as plain ones
_RETYPED = re.compile(r"\bALTER\s+COLUMN\s+(?:IF\s+EXISTS\s+)?`?(\w+)`?\s+SET\s+DATA\s+TYPE\s+(\w+)", re.IGNORECASE)
_MAY_CALL_STORED = re.compile(rf"\.{_SPACE}`?\w+`?{_SPACE}\(", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Scope:
    """The definitions made so far by the script around a statement."""

    functions: tuple[SqlFunction, ...] = ()
    variables: Mapping[str, Variable] = field(default_factory=dict)  # by lower-case name; the names of system variables begin with `@@`
    tables: Catalog | None = None  # the catalog of temporary tables
    versions: Mapping[Path, Table] = field(default_factory=dict)  # tables read as of a time, by private name


class ProceduralError(UnsupportedSqlError):
    """A text contains procedural statements where only plain ones are allowed; `tree` is the text's `ASTScriptProto`."""

    def __init__(self, message: str, tree: Any, **place: Any) -> None:
        super().__init__(message, **place)
        self.tree = tree


@dataclass(frozen=True, slots=True)
class Analysis:
    """A resolved statement (`AnyResolvedStatementProto`), the tables of its paths, and its table function calls by private name.

    `functions` are the paths of the called functions that are qualified with a dataset.
    """

    source: Statement
    statement: Any
    tables: Mapping[Path, Table]
    calls: Mapping[str, ResolvedCall]
    functions: tuple[Path, ...] = ()
    parameters: Bound = field(default_factory=Bound)

    def table(self, full_name: str) -> Table:
        """The table that ZetaSQL knows as `full_name`."""
        return next(table for path, table in self.tables.items() if ".".join(path) == full_name)

    @property
    def kind(self) -> str:
        """The name of the statement's node, such as "resolved_query_stmt_node"."""
        return leaf(self.statement)[0]

    @property
    def node(self) -> Any:
        """The statement's own message, such as `ResolvedQueryStmtProto`."""
        return leaf(self.statement)[1]


class _Registered:
    """A key by which an analyzer finds its registration in an instance."""


class Analyzer:
    """Analyses statements against a catalog. Calls may come from any thread."""

    def __init__(
        self,
        catalog: Catalog,
        functions: Mapping[str, AnyTableFunction] | None = None,
        zetasql: ZetaSql | None = None,
        *,
        models: ModelStore | None = None,
        version_of: VersionOf | None = None,
    ) -> None:
        """Create an analyzer. Without `models`, statements can name none. Without `version_of`, old versions have the current columns."""
        self._catalog, self._models, self._version_of = catalog, models, version_of
        self._functions = functions or {}
        self._zetasql = zetasql or wasm.zetasql()
        self._options = analyzer_options(self._zetasql)
        self._language = self._options.language_options
        self._registered = _Registered()

    def until(self, stop: Stop) -> Analyzer:
        """A copy of this analyzer for one query, whose calls end with `stop`."""
        bound = copy.copy(self)
        bound._zetasql = self._zetasql.until(stop)  # noqa: SLF001
        return bound

    def functions(self) -> list[str]:
        """The names of all functions and table functions, in lower case, sorted."""
        options = analyzer_options_pb2.ZetaSQLBuiltinFunctionOptionsProto(language_options=self._language)
        reply = self._zetasql.call("GetBuiltinFunctions", options, service.GetBuiltinFunctionsResponse)
        names = (".".join(function.name_path) for function in reply.function)
        library = (function.path[0] for function in LIBRARY)
        return sorted({*(name for name in names if not name.startswith("$")), *library, *self._functions})

    def split(self, script: str) -> list[Statement]:
        """Split a script into its statements, which `;` separates.

        Raises:
            ProceduralError: the whole script parses, but some statements are not plain.
            SqlError: a statement does not parse, or there is none.
        """
        data = script.encode()
        statements = []
        position = 0
        while not _BLANK.fullmatch(script, len(data[:position].decode())):
            statement, position = self._next(script, data, position)
            statements.append(statement)
        if not statements:
            raise SqlError("There is no statement in this text")
        return statements

    def _next(self, script: str, data: bytes, position: int) -> tuple[Statement, int]:
        try:
            tables, end = self._tables(script, position)
        except SqlError as error:
            if error.line is None:  # a limit was reached, which is not a syntax error
                raise
            raise self._refusal(script, Statement(script, script, ((0, 0),)).locate(error)) from None
        statement = Statement(data[position:end].decode(), script, ((0, len(data[:position].decode())),), tables)
        if _PROCEDURAL.match(statement.text):
            refusal = self._refusal(script, statement.error_at("", 0))
            if isinstance(refusal, ProceduralError):
                raise refusal
        return self._complete(statement), end

    def _tables(self, text: str, position: int) -> tuple[tuple[Path, ...], int]:
        """The tables that the statement at byte `position` of the text names, and the position of the next statement."""
        request = service.ExtractTableNamesFromNextStatementRequest(options=self._language)
        request.parse_resume_location.input = text
        request.parse_resume_location.byte_position = position
        request.parse_resume_location.allow_resume = True
        reply = self._zetasql.call("ExtractTableNamesFromNextStatement", request, service.ExtractTableNamesFromNextStatementResponse)
        return tuple(tuple(name.table_name_segment) for name in reply.table_name), reply.resume_byte_position

    def _complete(self, statement: Statement) -> Statement:
        return replace(statement, tables=(self._altered(statement), *statement.tables)) if _ALTER.match(statement.text) else statement

    def excerpt(self, script: str, start: int, end: int, *, prefix: str = "", suffix: str = "") -> Statement:
        """Make a statement of bytes `start` to `end` of a script that parses as a whole, with `prefix` and `suffix` around them."""
        data = script.encode()
        offset = len(data[:start].decode())
        text = f"{prefix}{data[start:end].decode()}{suffix}"
        pieces = ((0, offset), (len(prefix), offset)) if prefix else ((0, offset),)
        return self._complete(Statement(text, script, pieces, self._tables(text, 0)[0]))

    def _altered(self, statement: Statement) -> Path:
        """The name after ALTER TABLE. ZetaSQL does not include it in the tables that a statement names."""
        path = next(nodes(self.parse(statement), "ASTPathExpressionProto"))
        return tuple(name.id_string for name in path.names)

    def parse(self, statement: Statement) -> Message:
        """The syntax tree (`AnyASTStatementProto`)."""
        request = service.ParseRequest(sql_statement=statement.text, options=self._language)
        return self._zetasql.call("Parse", request, service.ParseResponse).parsed_statement

    def unfinished(self, script: str) -> bool:
        """Whether an interactive script is incomplete: a block is not closed, or there are only declarations so far."""
        try:
            statements = self._parse_script(script).statement_list_node.statement_list
        except SqlError as error:
            return "end of script" in error.message
        return bool(statements) and all(leaf(statement)[0] == "ast_variable_declaration_node" for statement in statements)

    def _parse_script(self, script: str) -> Any:
        request = service.ParseRequest(sql_statement=script, options=self._language, allow_script=True)
        return self._zetasql.call("Parse", request, service.ParseResponse).parsed_script

    def _refusal(self, script: str, error: SqlError) -> SqlError:
        """The error to raise for a script with a statement that is not plain; `error` is about this statement."""
        try:
            tree = self._parse_script(script)
        except SqlError as other:
            if other.line is None:
                return other
            # Raise the error that is further down in the script.
            return max(error, Statement(script, script, ((0, 0),)).locate(other), key=lambda found: (found.line or 0, found.column or 0))
        message = "Procedural statements (DECLARE, SET, IF, LOOP, BEGIN ... END, EXECUTE IMMEDIATE, ...) cannot stand here"
        return ProceduralError(message, tree, line=error.line, column=error.column, sql=script)

    def analyze(
        self,
        statement: Statement | str,
        parameters: Parameters | Bound | None = None,
        scope: Scope | None = None,
    ) -> Analysis:
        """Resolve one statement. The statement may name the definitions in `scope` and those in the catalog.

        Raises:
            SqlError: the statement is not valid. The error has ZetaSQL's message and position.
        """
        if isinstance(statement, str):
            statement = self.split(statement)[0]
        scope = scope or Scope()
        called = self._called(statement)
        paths = (*called, *(path for function in scope.functions for path in function.definition.functions))
        scope = replace(scope, functions=(*scope.functions, *find_functions(self._catalog, paths)))
        bound = bind(parameters)
        if self._version_of is not None:
            statement, versions = resolve_versions(statement, _Resolver(self, bound.by_name(), scope), self._version_of)
            scope = replace(scope, versions=versions)
        statement, calls = resolve_calls(statement, self._functions, _Resolver(self, bound.by_name(), scope))
        return replace(self._resolve(statement, calls, bound, scope), functions=called)

    def _called(self, statement: Statement) -> tuple[Path, ...]:
        if not _MAY_CALL_STORED.search(statement.text):
            return ()
        paths = (tuple(name.id_string for name in node.function.names) for node in nodes(self.parse(statement), "ASTFunctionCallProto"))
        return tuple(dict.fromkeys(path for path in paths if "." in ".".join(path)))

    def _resolve(self, statement: Statement, calls: Sequence[ResolvedCall], bound: Bound, scope: Scope) -> Analysis:
        """Resolve a statement whose table function calls are already resolved."""
        functions, variables = scope.functions, scope.variables
        paths = (*statement.tables, *(path for function in functions for path in function.definition.tables))
        tables = find_tables(self._catalog, paths, scope.tables) | dict(scope.versions)
        if (retyped := _RETYPED.findall(statement.text)) and not calls:
            tables = {path: _retyped(table, retyped) for path, table in tables.items()}
        constants = {name: variable.type for name, variable in variables.items() if not name.startswith(SYSTEM)}

        def resolve(parameters: Bound, undeclared: Collection[str] = ()) -> Any:
            request = service.AnalyzeRequest(options=self._with_parameters(parameters, undeclared), sql_statement=statement.text)
            for name in variables.keys() - constants.keys():
                request.options.system_variables.add(name_path=name.removeprefix(SYSTEM).split("."), type=to_type(variables[name].type))
            if calls or functions:  # calls and functions belong to this statement only, so the catalog is sent with it
                models = {call.model_path: call.call.model for call in calls if call.model_path and call.call.model}
                names = Names(tables, models, tuple(call.private for call in calls), tuple(functions), constants)
                request.simple_catalog.CopyFrom(to_catalog(names, self._language))
                return self._zetasql.call("Analyze", request, service.AnalyzeResponse).resolved_statement
            with self._zetasql.instance() as instance:
                registration = instance.kept.setdefault(self._registered, Registration(self._language))
                request.registered_catalog_id = registration.catalog(instance, tables, statement.tables, constants)
                return instance.call("Analyze", request, service.AnalyzeResponse).resolved_statement

        try:
            if bound.untyped:
                bound = bound.with_types(_wanted(resolve, bound, bound.untyped))
            if bound.structs:
                columns = (column.type for table in tables.values() for column in table.columns)
                bound = bound.in_order(_wanted(resolve, bound, bound.structs), columns)
            resolved = resolve(bound)
        except SqlError as error:
            raise _explained(statement.locate(error), calls) from None
        return Analysis(statement, resolved, tables, {call.private.name: call for call in calls}, parameters=bound)

    def _with_parameters(self, bound: Bound, undeclared: Collection[str] = ()) -> Any:
        """The options with the types of the parameters, except those in `undeclared`, whose types the statement determines.

        If parameters are positional and any is undeclared, none is declared.
        """
        options = analyzer_options_pb2.AnalyzerOptionsProto()
        options.CopyFrom(self._options)
        options.allow_undeclared_parameters = bool(undeclared)
        if bound.is_positional:
            options.parameter_mode = options_pb2.PARAMETER_POSITIONAL
            if not undeclared:
                options.positional_query_parameters.extend(to_type(parameter.type) for parameter in bound.values.values())
            return options
        for name, parameter in bound.values.items():
            if name not in undeclared:
                options.query_parameters.add(name=name, type=to_type(parameter.type))
        return options

    def constant(
        self, expression: Statement | str, parameters: Parameters | Bound | None = None, variables: Mapping[str, Variable] | None = None
    ) -> tuple[Any, Type]:
        """The value and type of an expression without columns, computed by GoogleSQL's reference implementation.

        Raises:
            SqlError: the expression is not valid, or fails.
        """
        if isinstance(expression, str):
            expression = Statement(expression, expression, ((0, 0),))
        bound = bind(parameters)
        request = service.EvaluateRequest(sql=expression.text, options=self._with_parameters(bound))
        for name, variable in (variables or {}).items():
            if name.startswith(SYSTEM):
                continue
            request.options.expression_columns.add(name=name, type=to_type(variable.type))
            request.columns.add(name=name, value=variable.proto)
        for name, parameter in bound.values.items():
            request.params.add(name=name, value=to_value(*parameter))
        try:
            reply = self._zetasql.call("Evaluate", request, service.EvaluateResponse)
        except SqlError as error:
            raise expression.locate(error) from None
        type_ = from_type(reply.prepared.output_type)
        return from_value(reply.value, type_), type_


class _Resolver:
    """The parts of an analyzer that resolving the calls of one statement needs."""

    def __init__(self, analyzer: Analyzer, bound: Bound, scope: Scope) -> None:
        self._analyzer, self._bound, self._scope = analyzer, bound, scope

    def parse(self, statement: Statement) -> Message:
        return self._analyzer.parse(statement)

    def columns(self, statement: Statement, calls: Sequence[ResolvedCall]) -> tuple[Field, ...]:
        analysis = self._analyzer._resolve(statement, calls, self._bound, self._scope)  # noqa: SLF001
        return tuple(Field(column.name, from_type(column.column.type)) for column in analysis.node.output_column_list)

    def constant(self, statement: Statement) -> tuple[Any, Type]:
        return self._analyzer.constant(statement, self._bound, self._scope.variables)

    def model(self, path: Path) -> ModelSignature | None:
        models = self._analyzer._models  # noqa: SLF001
        return None if models is None else find_model(models, path)

    def table(self, path: Path) -> Table | None:
        table = find_tables(self._analyzer._catalog, [path]).get(path)  # noqa: SLF001
        return None if table is None or table.kind is TableKind.VIEW else table


def _wanted(resolve: Callable[..., Any], bound: Bound, undeclared: Collection[str]) -> Mapping[str, Type]:
    """The types that a statement gives to parameters whose values do not determine their types."""
    try:
        resolved = resolve(bound, undeclared)
    except SqlError:  # the statement needs the types of these parameters
        return {}
    return {node.name.lower() or str(node.position): from_type(node.parent.type) for node in nodes(resolved, "ResolvedParameterProto")}


def _explained(error: SqlError, calls: Sequence[ResolvedCall]) -> SqlError:
    """ZetaSQL's error, with the names that the original statement has."""
    message = _SQL_FUNCTION.sub("", error.message)
    for call in calls:
        message = re.sub(rf"\b{call.private.name}\b", call.name, message)
    kind = SqlError
    if (unqualified := _UNQUALIFIED.fullmatch(error.message)) is not None:
        message = f'Table "{unqualified.group(1)}" must be qualified with a dataset (e.g. dataset.table).'
    if (not_yet := _NOT_YET.fullmatch(error.message)) is not None:
        message, kind = f"{not_yet.group(1)} is not supported yet; write the value in the query or the option", UnsupportedSqlError
    return error if message == error.message else kind(message, line=error.line, column=error.column, sql=error.sql)


class _Caller(Protocol):
    """The interface for single calls; `ZetaSql` and `wasm.Instance` have it."""

    def call(self, method: str, request: Message, reply: type[Reply]) -> Reply: ...


def language_options(zetasql: _Caller) -> Any:
    """The options of BigQuery's dialect, as `LanguageOptionsProto`."""
    request = service.LanguageOptionsRequest(maximum_features=True)
    options = zetasql.call("GetLanguageOptions", request, analyzer_options_pb2.LanguageOptionsProto)
    features = options_pb2.LanguageFeature
    enabled = set(options.enabled_language_features)
    enabled -= {features.Value(f"FEATURE_{name}") for name in _NOT_IN_BIGQUERY}
    enabled |= {features.Value(f"FEATURE_{name}") for name in _ALSO_IN_BIGQUERY}
    options.enabled_language_features[:] = sorted(enabled)
    options.product_mode = options_pb2.PRODUCT_EXTERNAL
    options.supported_statement_kinds.clear()  # an empty list allows all kinds
    options.reserved_keywords.append("QUALIFY")
    return options


def analyzer_options(zetasql: _Caller) -> Any:
    """The `AnalyzerOptionsProto` for statements of BigQuery's dialect."""
    options = zetasql.call("GetAnalyzerOptions", service.AnalyzerOptionsRequest(), analyzer_options_pb2.AnalyzerOptionsProto)
    # The defaults declare options of differential privacy. Their enum types need descriptors that we do not send.
    options.ClearField("allowed_hints_and_options")
    options.language_options.CopyFrom(language_options(zetasql))
    options.default_timezone = "UTC"
    options.prune_unused_columns = True
    options.parse_location_record_type = options_pb2.PARSE_LOCATION_RECORD_FULL_NODE_SCOPE
    options.enabled_rewrites.extend(options_pb2.ResolvedASTRewrite.Value(name) for name in _REWRITES)
    return options


def _retyped(table: Table, columns: Sequence[tuple[str, str]]) -> Table:
    """An events table with the column types that the statement sets. Any type is allowed, because stored events are read again."""
    if table.kind is not TableKind.EVENTS:
        return table
    kinds = {name.lower(): Kind[type_.upper()] for name, type_ in columns if type_.upper() in Kind.__members__}
    changed = (
        replace(column, type=Type(kinds[column.name.lower()])) if column.name.lower() in kinds else column for column in table.columns
    )
    return replace(table, columns=tuple(changed))

"""Run GoogleSQL statements: ZetaSQL analyses them, a backend runs queries, and handlers run other kinds of statements."""

from __future__ import annotations

import functools
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.closing import Closing
from sokuji.errors import AlreadyExistsError, ConflictError, QueryCancelledError, SqlError, UnsupportedSqlError
from sokuji.lake.acknowledged import Acknowledged, OnlyCommitted
from sokuji.lake.base import Lake
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Ref
from sokuji.models.base import ModelStore
from sokuji.sql.base import Backend, QueryRun
from sokuji.sql.definitions import check_current, version_of
from sokuji.sql.extension import AnyTableFunction, StatementHandler
from sokuji.sql.front.analyzer import Analyzer, ProceduralError, Scope
from sokuji.sql.front.lookup import find_tables
from sokuji.sql.front.parameters import Bound, Parameters, bind
from sokuji.sql.front.protos import leaf
from sokuji.sql.front.sql_functions import SqlFunction, from_statement
from sokuji.sql.front.statement import Statement
from sokuji.sql.front.variables import Variable
from sokuji.sql.front.wasm import TOO_DEEP
from sokuji.sql.result import Result
from sokuji.sql.session import Session
from sokuji.sql.statements import ddl, dml, events_tables
from sokuji.sql.statements.script import Script
from sokuji.types import STRING, Field

_ATTEMPTS = 10  # attempts of a statement whose tables others change meanwhile
_STATEMENTS = {**ddl.STATEMENTS, **dml.STATEMENTS}


class Engine(Closing):
    """Runs GoogleSQL over a catalog and a lake. Any number of threads may use it at once.

    `backend` runs the queries. The engine closes it.
    `acknowledged` gives the newest rows of the lake's tables; without it no log feeds them. `models` are those that statements may name.
    `handlers` run further kinds of statements (CREATE MODEL). `table_functions` are by lower-case name ("ml.predict").
    """

    def __init__(
        self,
        catalog: Catalog,
        lake: Lake,
        backend: Backend,
        *,
        acknowledged: Acknowledged | None = None,
        models: ModelStore | None = None,
        handlers: Mapping[str, StatementHandler] | None = None,
        table_functions: Mapping[str, AnyTableFunction] | None = None,
    ) -> None:
        self.catalog, self.lake, self._backend = catalog, lake, backend
        self._acknowledged, self._models = acknowledged or OnlyCommitted(lake), models
        self._handlers = handlers or {}
        self._table_functions: Mapping[str, AnyTableFunction] = table_functions or {}
        self._running: dict[str, QueryRun] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def analyzer(self) -> Analyzer:
        """The analyzer, started on first use."""
        versions = functools.partial(version_of, self.catalog, self.lake)
        return Analyzer(self.catalog, self._table_functions, models=self._models, version_of=versions)

    def execute(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Result:
        """Run a statement, or the statements of a script one after another. Returns the last result.

        `parameters` are values for `@name` (a mapping) or `?` (a sequence). Rows are a stream; reading them may raise errors.

        Raises:
            SqlError: a statement is not valid, or fails. If a part of a script does not parse, nothing of it runs.
            UnsupportedSqlError: the statement is valid GoogleSQL that is not supported.
            QueryCancelledError: `cancel` was called, or the time limit is reached, which is for all statements together.
            NotFoundError, AlreadyExistsError: a statement defines an object, and names one that is missing, or already exists.
        """
        last = Result((), message="The script ran")
        for result in self.execute_script(sql, parameters, query_id=query_id):
            last = result
        return last

    def execute_script(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Iterator[Result]:
        """Like `execute`, but yields every statement's result. Each must be read, as far as it is needed, before the next is requested.

        The results of a script with procedural statements are kept in memory.
        """
        bound = bind(parameters)
        name = query_id or uuid.uuid4().hex
        with self._lock:
            if name in self._running:
                raise SqlError(f"A query with the id {name} is running already")
            run = self._running[name] = self._backend.run()
        try:
            try:
                statements, procedure = self.analyzer.until(run.stop).split(sql), None
            except ProceduralError as error:
                statements, procedure = [], error.tree
            functions: dict[str, SqlFunction] = {}  # of CREATE TEMP FUNCTION; they exist as long as the script
            if procedure is not None:
                yield from self._procedural(sql, procedure, bound, run, functions)
                self._finish(name)
                return
            for statement in statements:
                result = self._execute(statement, bound, run, functions)
                if statement is not statements[-1]:
                    yield result
            result = _until_read(result, lambda: self._finish(name))
        except RecursionError as error:
            self._finish(name)
            raise SqlError(TOO_DEEP) from error
        except BaseException:
            self._finish(name)
            raise
        yield result

    def _procedural(self, sql: str, tree: Any, parameters: Bound, run: QueryRun, temporary: dict[str, SqlFunction]) -> Iterator[Result]:
        def execute(
            statement: Statement,
            parameters: Bound,
            variables: Mapping[str, Variable],
            functions: Sequence[SqlFunction] = (),
        ) -> Result:
            run.forget()
            known = temporary | {function.path[0]: function for function in functions} if functions else temporary
            return self._execute(statement, parameters, run, known, variables)

        yield from Script(sql, self.analyzer.until(run.stop), execute, parameters, run.check).run(tree)

    def _execute(
        self,
        statement: Statement,
        parameters: Bound,
        run: QueryRun,
        functions: dict[str, SqlFunction],
        variables: Mapping[str, Variable] | None = None,
    ) -> Result:
        for attempt in range(_ATTEMPTS):
            run.check()
            try:
                return self._attempt(statement, parameters, run, functions, variables)
            except ConflictError:
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _attempt(
        self,
        statement: Statement,
        parameters: Bound,
        run: QueryRun,
        functions: dict[str, SqlFunction],
        variables: Mapping[str, Variable] | None,
    ) -> Result:
        """Analyse and run a statement. If it raises ConflictError, nothing is done yet."""
        self._acknowledged.refresh()
        analyzer = self.analyzer.until(run.stop)
        scope = Scope(tuple(functions.values()), variables or {}, run.temporary_catalog)
        try:
            analysis = analyzer.analyze(statement, parameters, scope)
        except SqlError as error:
            if isinstance(error, QueryCancelledError):
                raise
            tables = find_tables(self.catalog, statement.tables).values()
            check_current(self.catalog, self._acknowledged, tables)
            raise events_tables.explained(error, tables) from None
        session = Session(self.catalog, self.lake, self._acknowledged, analyzer, run=run, analysis=analysis, variables=variables)
        kind, node = analysis.kind, analysis.node
        if kind == "resolved_query_stmt_node":
            return session.run_query(node.output_column_list, node.query)
        if kind == "resolved_explain_stmt_node":
            return _explain(node, session)
        if kind == "resolved_assert_stmt_node":
            return _assert(node, session)
        if kind == "resolved_create_view_stmt_node" and scope != Scope():
            analyzer.analyze(statement)  # without the scope, because the view will outlive it
        if kind == "resolved_create_function_stmt_node":
            return self._create_function(statement, node, session, functions, analyzer)
        if kind in self._handlers and getattr(node, "object_type", "MODEL") == "MODEL":
            if kind.startswith("resolved_create_"):
                ddl.check_name(node)
            return self._handlers[kind](node, statement.text.strip(), session)
        if kind in _STATEMENTS:
            return _STATEMENTS[kind](node, session)
        name = kind.removeprefix("resolved_").removesuffix("_stmt_node").replace("_", " ").upper()
        raise UnsupportedSqlError(f"{name} statements are not supported")

    def _create_function(
        self, statement: Statement, node: Any, session: Session, temporary: dict[str, SqlFunction], analyzer: Analyzer
    ) -> Result:
        name = ".".join(node.parent.name_path).lower()
        if name in analyzer.functions():
            raise AlreadyExistsError(f"{name} is a built-in function; choose another name")
        if session.analysis.calls:
            raise UnsupportedSqlError(f"Function {name}: a body that calls a table function is not supported")
        if node.parent.create_scope != enums.ResolvedCreateStatementEnums.CREATE_TEMP:
            analyzer.analyze(statement)  # without the script's definitions, because the function will outlive them
            return ddl.create_function(node, session)
        if name in temporary and node.parent.create_mode != enums.ResolvedCreateStatementEnums.CREATE_OR_REPLACE:
            raise AlreadyExistsError(f"Already Exists: Function {name}")
        source, called = session.analysis.source, session.analysis.functions
        temporary[name] = SqlFunction(tuple(node.parent.name_path), from_statement(node, Ref("", name), source.tables, called))
        return Result((), message=f"Created function {name}")

    def _finish(self, name: str) -> None:
        with self._lock:
            run = self._running.pop(name, None)
        if run is not None:
            run.close()

    def cancel(self, query_id: str) -> bool:
        """Stop the query that was started with this id. Returns False if none is running."""
        with self._lock:
            run = self._running.get(query_id)
        if run is None:
            return False
        run.cancel(f"The query {query_id} was cancelled")
        return True

    def running(self) -> list[str]:
        """The ids of queries that run, or whose rows are still being read."""
        with self._lock:
            return list(self._running)

    def close(self) -> None:
        """Cancel running queries and close everything."""
        for query_id in self.running():
            self.cancel(query_id)
        self._backend.close()


def _explain(node: Any, session: Session) -> Result:
    kind, query = leaf(node.statement)
    if kind != "resolved_query_stmt_node":
        raise UnsupportedSqlError("EXPLAIN is for queries only")
    plan = session.run.explain(session.query(query.output_column_list, query.query))
    return Result((Field("plan", STRING),), pa.table({"plan": [plan]}).to_reader())


def _assert(node: Any, session: Session) -> Result:
    if not session.holds(node.expression):
        raise session.located(node.expression, SqlError(f"Assertion failed{node.description and ': '}{node.description}"))
    return Result((), message="Assertion holds")


def _until_read(result: Result, finish: Callable[[], None]) -> Result:
    """The same result. `finish` is called once its rows are read, or are abandoned.

    The first two batches are read immediately, so that early errors are raised in `execute`, and small results hold no resources.
    """
    if not result.schema:
        finish()
        return result
    reader = result.reader()

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        finally:
            finish()

    rest = batches()
    first = list(itertools.islice(rest, 2))
    rows = pa.RecordBatchReader.from_batches(reader.schema, itertools.chain(first, rest))
    return Result(result.schema, rows, message=result.message, rows_affected=result.rows_affected)

"""Statements that define objects: CREATE and DROP of schemas, tables, views and functions, TRUNCATE, ALTER TABLE."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.errors import AlreadyExistsError, ConflictError, LakeError, NotFoundError, SqlError, UnsupportedSqlError
from sokuji.lake.delta.commits import LOG_FOLDER
from sokuji.lake.events import FED
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.meta.objects import check_name as check_object_name
from sokuji.sql.definitions import define, defined, follow
from sokuji.sql.front.lookup import INFORMATION_SCHEMA, SESSION, dataset, find_functions, ref
from sokuji.sql.front.protos import from_type, leaf, span
from sokuji.sql.front.sql_functions import from_statement
from sokuji.sql.result import Result, rows_said
from sokuji.sql.session import Session
from sokuji.sql.statements import events_tables
from sokuji.types import arrow_schema

_ATTEMPTS = 100
_SET_OPTIONS = "resolved_set_options_action_node"
_CREATE = enums.ResolvedCreateStatementEnums


def check_name(node: Any) -> None:
    """Refuse to create an object with an impossible name, or with the name of a table of the sink, before anything is created.

    Raises:
        SokujiError: the object has such a name.
    """
    created = _create(node)
    if _is_temporary(created):
        check_object_name(_temporary(created))
        return
    wanted = ref(created.name_path)
    check_object_name(wanted)
    if wanted.name in FED:
        raise SqlError(f"{wanted} cannot be created: tables named {', '.join(FED)} are fed from the log; choose another name")
    if wanted.name == LOG_FOLDER:
        raise SqlError(f"{wanted} cannot be created: a table's folder keeps its commits under that name; choose another name")


def create_schema(node: Any, session: Session) -> Result:
    """CREATE SCHEMA [IF NOT EXISTS]."""
    created = _create(node)
    if created.create_mode == _CREATE.CREATE_OR_REPLACE:
        raise UnsupportedSqlError("CREATE OR REPLACE SCHEMA is not supported; DROP SCHEMA first")
    name = dataset(created.name_path)
    if name == SESSION:
        raise SqlError(f"{SESSION} is the name of the dataset of temporary tables; choose another name")
    if name.upper() == INFORMATION_SCHEMA:
        raise SqlError(f"{name} is what describes all datasets; choose another name")
    session.catalog.create_dataset(name, if_not_exists=created.create_mode == _CREATE.CREATE_IF_NOT_EXISTS)
    return Result((), message=f"Created schema {name}")


def drop(node: Any, session: Session) -> Result:
    """DROP SCHEMA, TABLE and VIEW."""
    if node.object_type not in _DROPS:
        raise UnsupportedSqlError(f"DROP {node.object_type} is not supported")
    try:
        return _DROPS[node.object_type](node, session)
    except NotFoundError:
        if not node.is_if_exists:
            raise
        return Result((), message=f"{'.'.join(node.name_path)} does not exist")


def _drop_schema(node: Any, session: Session) -> Result:
    name = dataset(node.name_path)
    if node.drop_mode == enums.ResolvedDropStmtEnums.CASCADE and name in session.catalog.datasets():
        models = [str(model) for model in session.catalog.reserved(name)]
        if models:
            raise SqlError(f"DROP SCHEMA {name} CASCADE does not drop models; DROP MODEL {', '.join(models)} first")
        _settle(session.catalog.tables(name), session)
        for table in session.catalog.tables(name):
            _remove(table, session)
        for function in session.catalog.functions(name):
            session.catalog.drop_function(function.ref)
    session.catalog.drop_dataset(name)
    return Result((), message=f"Dropped schema {name}")


def _drop_table(node: Any, session: Session) -> Result:
    wanted = session.ref(node.name_path)
    table = session.home(wanted).catalog.table(wanted)
    if (table.kind is TableKind.VIEW) != (node.object_type == "VIEW"):
        raise SqlError(f"{table.ref} is a {_noun(table)}; use DROP {_noun(table).upper()}")
    if table.kind is TableKind.EVENTS:
        dataset = table.ref.dataset
        raise SqlError(
            f"{table.ref} is fed from the log and cannot be dropped alone; use DROP SCHEMA {dataset} CASCADE for all of {dataset}"
        )
    _remove(table, session)
    return Result((), message=f"Dropped {_noun(table)} {table.ref}")


_DROPS = {"SCHEMA": _drop_schema, "TABLE": _drop_table, "VIEW": _drop_table}


def _noun(table: Table) -> str:
    return "view" if table.kind is TableKind.VIEW else "table"


def _remove(table: Table, session: Session) -> None:
    # Drop the name first: a crash between the two leaves files that nobody sees, never a table without files.
    home = session.home(table.ref)
    home.catalog.drop_table(table.ref)
    if table.kind is not TableKind.VIEW:
        home.lake.drop(table.ref)
        home.acknowledged.forget(table.ref)


def _settle(tables: Iterable[Table], session: Session) -> None:
    """Commit rows that only the log has into the tables about to be dropped: later they would create the tables again."""
    for table in tables:
        if table.kind is TableKind.EVENTS:
            # The rows may be of another log than the table, or too many, and cannot be committed. Dropping the table solves this.
            with suppress(LakeError):
                session.acknowledged.settle(table.ref)


def create_table(node: Any, session: Session) -> Result:
    """CREATE TABLE with columns, or LIKE another table."""
    if node.HasField("clone_from") or node.HasField("copy_from"):
        raise UnsupportedSqlError("CREATE TABLE ... CLONE and COPY are not supported; use CREATE TABLE ... AS SELECT * FROM ...")
    if node.parent.like_table.full_name:
        columns = session.analysis.table(node.parent.like_table.full_name).columns
    else:
        columns = _columns(node.parent.column_definition_list, session)
    return _make(node, columns, session, None)


def create_table_as(node: Any, session: Session) -> Result:
    """CREATE TABLE ... AS SELECT."""
    columns = _columns(node.parent.column_definition_list, session)
    return _make(node, columns, session, lambda: session.run_query(node.output_column_list, node.query).reader())


def _make(node: Any, columns: tuple[Column, ...], session: Session, query: Callable[[], pa.RecordBatchReader] | None) -> Result:
    created = _create(node)
    if node.parent.check_constraint_list:
        raise UnsupportedSqlError("CHECK constraints are not supported")
    wanted = _temporary(created) if _is_temporary(created) else session.ref(created.name_path)
    if wanted.dataset == SESSION and not _is_temporary(created):
        raise SqlError(f"Use CREATE TEMP TABLE for {wanted}")
    home = session.home(wanted)
    known = _find(wanted, session)
    if known is not None and created.create_mode == _CREATE.CREATE_IF_NOT_EXISTS:
        return Result((), message=f"{wanted} exists already")
    check_name(node)
    if known is not None and created.create_mode != _CREATE.CREATE_OR_REPLACE:
        raise AlreadyExistsError(f"Already Exists: {_noun(known).title()} {wanted}")
    if wanted.dataset not in home.catalog.datasets():
        raise NotFoundError(f"Not found: Dataset {wanted.dataset}")
    table = Table(
        wanted,
        TableKind.TABLE,
        columns,
        partition_by=", ".join(_texts(node.partition_by_list, session)) or None,
        cluster_by=tuple(_texts(node.cluster_by_list, session)),
        options=_options(node.parent.option_list, session),
        created_at_us=time.time_ns() // 1000,
    )
    rows = _Checked(define(query() if query else _no_rows(columns), columns), columns)
    _write(table, rows, session, known)
    if query is None:
        return Result((), message=f"Created table {wanted}")
    return Result((), message=f"Created table {wanted} ({rows_said(rows.count)})", rows_affected=rows.count)


def _write(table: Table, rows: _Checked, session: Session, known: Table | None) -> None:
    """Write rows first and the name last, so that nobody sees an incomplete table."""
    catalog, lake, acknowledged = session.home(table.ref)
    if known is not None and known.kind is TableKind.TABLE:
        lake.replace(table.ref, rows.reader)
        catalog.put_table(table, replace=True)
        follow(catalog, acknowledged, table.ref)  # another one may have been replacing it as well
        return
    try:
        lake.create(table.ref, rows.reader.schema)
    except AlreadyExistsError as error:
        raise AlreadyExistsError(
            f"{error}, and the catalog does not know it: another process is creating it now, or a process that changed it was "
            "killed; `sokuji adopt` registers what is left, with its rows"
        ) from error
    try:
        lake.append(table.ref, rows.reader)
        catalog.put_table(table, replace=known is not None)
    except BaseException:
        lake.drop(table.ref)
        raise


def _is_temporary(created: Any) -> bool:
    return bool(created.create_scope == _CREATE.CREATE_TEMP)


def _temporary(created: Any) -> Ref:
    *dataset, name = ".".join(created.name_path).split(".")
    if dataset not in ([], [SESSION]):
        raise SqlError(f"CREATE TEMP TABLE {'.'.join(created.name_path)}: a temporary table has no dataset; leave it out")
    return Ref(SESSION, name)


def create_view(node: Any, session: Session) -> Result:
    """CREATE VIEW: the query is stored as it was written, with its current columns."""
    base = node.parent
    created = _create(node)
    wanted = ref(created.name_path)
    known = _find(wanted, session)
    if known is not None and created.create_mode == _CREATE.CREATE_IF_NOT_EXISTS:
        return Result((), message=f"{wanted} exists already")
    check_name(node)
    if known is not None and (created.create_mode != _CREATE.CREATE_OR_REPLACE or known.kind is not TableKind.VIEW):
        raise AlreadyExistsError(f"Already Exists: {_noun(known).title()} {wanted}")
    columns = tuple(Column(column.name, from_type(column.column.type)) for column in base.output_column_list)
    # The analysed text has private names. The same part of the script has the original text.
    start = session.analysis.source.text.rindex(base.sql)
    query = session.analysis.source.original(start, start + len(base.sql))
    view = Table(
        wanted,
        TableKind.VIEW,
        columns,
        query=query,
        query_names=session.query_names(query) if base.has_explicit_columns else (),
        options=_options(base.option_list, session),
        created_at_us=time.time_ns() // 1000,
    )
    session.catalog.put_table(view, replace=known is not None)
    return Result((), message=f"Created view {wanted}")


def create_function(node: Any, session: Session) -> Result:
    """CREATE FUNCTION dataset.name: the body is stored as it was written. The functions and tables in it are looked up at each use."""
    created = _create(node)
    wanted = ref(created.name_path, "Function")
    known = any(function.ref == wanted for function in session.catalog.functions(wanted.dataset))
    if known and created.create_mode == _CREATE.CREATE_IF_NOT_EXISTS:
        return Result((), message=f"{wanted} exists already")
    if known and created.create_mode != _CREATE.CREATE_OR_REPLACE:
        raise AlreadyExistsError(f"Already Exists: Routine {wanted}")
    if wanted.dataset not in session.catalog.datasets():
        raise NotFoundError(f"Not found: Dataset {wanted.dataset}")
    called = session.analysis.functions
    if any(function.definition.ref == wanted for function in find_functions(session.catalog, called)):
        raise SqlError(f"Function {wanted} calls itself, directly or through another function; recursive functions are not supported")
    function = from_statement(node, wanted, session.analysis.source.tables, called)
    description = str(_options(node.option_list, session).get("description") or "")
    session.catalog.put_function(replace(function, description=description), replace=known)
    return Result((), message=f"Created function {wanted}")


def drop_function(node: Any, session: Session) -> Result:
    """DROP FUNCTION [IF EXISTS]."""
    wanted = ref(node.name_path, "Function")
    try:
        session.catalog.drop_function(wanted)
    except NotFoundError:
        if not node.is_if_exists:
            raise NotFoundError(f"Not found: Routine {wanted}") from None
        return Result((), message=f"{wanted} does not exist")
    return Result((), message=f"Dropped function {wanted}")


def truncate(node: Any, session: Session) -> Result:
    """TRUNCATE TABLE."""
    table = session.analysis.table(node.table_scan.table.full_name)
    _check_stored(table)
    rows = define(_no_rows(table.columns), table.columns)
    session.home(table.ref).lake.replace(table.ref, rows, read_version=session.newest(table).version)
    return Result((), message=f"Truncated table {table.ref}")


def alter_table(node: Any, session: Session) -> Result:
    """ALTER TABLE: ADD COLUMN, DROP COLUMN, RENAME COLUMN."""
    return _alter(node.parent, session, node.parent.alter_action_list)


def set_options(node: Any, session: Session) -> Result:
    """ALTER TABLE SET OPTIONS."""
    return _alter(node, session, [node])


def _alter(node: Any, session: Session, changes: Sequence[Any]) -> Result:
    try:
        wanted = session.ref(node.name_path)
        table = session.home(wanted).catalog.table(wanted)
    except NotFoundError:
        if not node.is_if_exists:
            raise
        return Result((), message=f"{'.'.join(node.name_path)} does not exist")
    if table.kind is TableKind.EVENTS and not any(item is node for item in changes):
        return events_tables.alter(table, changes, session)
    _check_stored(table)
    for item in changes:
        kind, change = (_SET_OPTIONS, item) if item is node else leaf(item)
        if kind not in _ALTERATIONS:
            name = kind.removeprefix("resolved_").removesuffix("_action_node").replace("_", " ").upper()
            raise UnsupportedSqlError(f"ALTER TABLE ... {name} is not supported")
        _apply(_ALTERATIONS[kind], table.ref, change, session)
    return Result((), message=f"Altered table {table.ref}")


def _apply(alteration: Callable[[Table, Any, Session], None], altered: Ref, change: Any, session: Session) -> None:
    """Apply one change to the current table, even if others keep changing it. Earlier changes of the statement are already applied."""
    for attempt in range(_ATTEMPTS):
        session.check()
        session.renew()
        try:
            alteration(session.follow(altered), change, session)
        except ConflictError:
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return


def _add_column(table: Table, change: Any, session: Session) -> None:
    definition = change.column_definition
    if _position(table, definition.name) is not None:
        if change.is_if_not_exists:
            return
        raise AlreadyExistsError(f"Column already exists: {definition.name} in {table.ref}")
    schema = session.newest(table).schema
    # In tables of earlier releases, an added column may be in the catalog only.
    added = [column for column in (*table.columns, *_columns([definition], session)) if column.name not in schema.names]
    catalog, lake, acknowledged = session.home(table.ref)
    lake.add_columns(table.ref, defined(_no_rows(added).schema, added), expected=schema)
    follow(catalog, acknowledged, table.ref)


def _changed(table: Table, change: Any) -> int | None:
    """The position of the column that the change names; None if it is not there and need not be."""
    position = _position(table, change.name)
    if position is None and not change.is_if_exists:
        raise NotFoundError(f"Column not found: {change.name} in {table.ref}")
    return position


def _drop_column(table: Table, change: Any, session: Session) -> None:
    position = _changed(table, change)
    if position is None:
        return
    columns = table.columns[:position] + table.columns[position + 1 :]
    if not columns:
        raise SqlError(f"{change.name} is the only column of {table.ref}; DROP TABLE instead")
    _rewrite(table, columns, columns, session)


def _rename_column(table: Table, change: Any, session: Session) -> None:
    position = _changed(table, change)
    if position is None:
        return
    columns = list(table.columns)
    columns[position] = replace(columns[position], name=change.new_name)
    _rewrite(table, table.columns, columns, session)


def _set_options(table: Table, change: Any, session: Session) -> None:
    altered = replace(table, options={**table.options, **_options(change.option_list, session)})
    session.home(table.ref).catalog.put_table(altered, replace=True, expected=table)


_ALTERATIONS = {
    "resolved_add_column_action_node": _add_column,
    "resolved_drop_column_action_node": _drop_column,
    "resolved_rename_column_action_node": _rename_column,
    _SET_OPTIONS: _set_options,
}


def _rewrite(table: Table, read: Sequence[Column], columns: Sequence[Column], session: Session) -> None:
    """Rewrite all rows, with the columns `read` as `columns`: a freed name must not show old values later."""
    rows = session.rows(table, read)
    schema = pa.schema([field.with_name(column.name) for field, column in zip(rows.schema, columns, strict=True)])
    renamed = pa.RecordBatchReader.from_batches(schema, (pa.record_batch(batch.columns, schema=schema) for batch in rows))
    catalog, lake, acknowledged = session.home(table.ref)
    lake.replace(table.ref, define(renamed, columns), read_version=session.newest(table).version)
    follow(catalog, acknowledged, table.ref)


def _create(node: Any) -> Any:
    """The common part of all CREATE statements."""
    while "name_path" not in node.DESCRIPTOR.fields_by_name:
        node = node.parent
    return node


def _find(wanted: Ref, session: Session) -> Table | None:
    try:
        return session.home(wanted).catalog.table(wanted)
    except NotFoundError:
        return None


def _check_stored(table: Table) -> None:
    if table.kind is not TableKind.TABLE:
        what = "a view" if table.kind is TableKind.VIEW else "fed from the log"
        raise SqlError(f"{table.ref} is {what} and cannot be changed this way")


def _position(table: Table, name: str) -> int | None:
    return next((place for place, column in enumerate(table.columns) if column.name.lower() == name.lower()), None)


def _columns(definitions: Sequence[Any], session: Session) -> tuple[Column, ...]:
    return tuple(_column(definition, session) for definition in definitions)


def _column(definition: Any, session: Session) -> Column:
    for feature, what in (("default_value", "a DEFAULT"), ("generated_column_info", "a generated value")):
        if definition.HasField(feature):
            raise UnsupportedSqlError(f"Column {definition.name}: {what} is not supported")
    notes = definition.annotations
    if notes.HasField("type_parameters") and notes.type_parameters.ListFields():
        raise UnsupportedSqlError(f"Column {definition.name}: parameterized types such as STRING(10) are not supported")
    options = session.option_values(notes.option_list)
    description = str(options.get("description") or "")
    return Column(definition.name, from_type(definition.type), not_null=notes.not_null, description=description)


def _options(options: Sequence[Any], session: Session) -> dict[str, Any]:
    return session.option_values(options)


def _texts(expressions: Sequence[Any], session: Session) -> list[str]:
    return [session.analysis.source.part(*span(expression)).text for expression in expressions]


class _Checked:
    """A stream of rows for new columns: it counts the rows, and refuses NULL in a NOT NULL column."""

    def __init__(self, rows: pa.RecordBatchReader, columns: Sequence[Column]) -> None:
        self.count = 0
        self._required = [place for place, column in enumerate(columns) if column.not_null]
        self.reader = pa.RecordBatchReader.from_batches(rows.schema, self._batches(rows))

    def _batches(self, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in rows:
            for place in self._required:
                if batch.column(place).null_count:
                    raise SqlError(f"Required field {rows.schema.names[place]} cannot be null")
            self.count += batch.num_rows
            yield batch


def _no_rows(columns: Sequence[Column]) -> pa.RecordBatchReader:
    return arrow_schema(column.field for column in columns).empty_table().to_reader()


STATEMENTS: Mapping[str, Callable[[Any, Session], Result]] = {
    "resolved_create_schema_stmt_node": create_schema,
    "resolved_create_table_stmt_node": create_table,
    "resolved_create_table_as_select_stmt_node": create_table_as,
    "resolved_create_view_stmt_node": create_view,
    "resolved_drop_stmt_node": drop,
    "resolved_drop_function_stmt_node": drop_function,
    "resolved_truncate_stmt_node": truncate,
    "resolved_alter_table_stmt_node": alter_table,
    "resolved_alter_table_set_options_stmt_node": set_options,
}

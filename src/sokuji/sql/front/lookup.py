"""Look up a statement's names in the catalog, and give them to ZetaSQL as one small catalog.

The `SimpleCatalog` has only the names in statements. One of everything would be rebuilt at every change of any table, which takes seconds
for 500 datasets of 1,000 columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zetasql.wasi._pb2.zetasql.proto import simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import function_pb2, simple_table_pb2

from sokuji.errors import NotFoundError, SqlError
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.models.base import ModelStore
from sokuji.models.versions import ModelSignature
from sokuji.sql.front.protos import to_type
from sokuji.sql.front.sql_functions import LIBRARY, SqlFunction
from sokuji.types import INT64, STRING, TIMESTAMP, Field, Type

Path = tuple[str, ...]
"""A name as a statement writes it, one item per identifier: ("karte", "events"), or ("project.karte.events",) in backticks."""

_ARGUMENTS = {
    "model": function_pb2.ARG_TYPE_MODEL,
    "relation": function_pb2.ARG_TYPE_RELATION,
    "constant": function_pb2.ARG_TYPE_ARBITRARY,
}

INFORMATION_SCHEMA = "INFORMATION_SCHEMA"
SESSION = "_SESSION"
"""The dataset of temporary tables; it may stand in front of their names."""

_INFORMATION_SCHEMA_VIEWS = {
    "SCHEMATA": (("catalog_name", STRING), ("schema_name", STRING)),
    "TABLES": (("table_catalog", STRING), ("table_schema", STRING), ("table_name", STRING), ("table_type", STRING)),
    "COLUMNS": (
        ("table_catalog", STRING),
        ("table_schema", STRING),
        ("table_name", STRING),
        ("column_name", STRING),
        ("ordinal_position", INT64),
        ("is_nullable", STRING),
        ("data_type", STRING),
    ),
    "ROUTINES": (
        ("specific_catalog", STRING),
        ("specific_schema", STRING),
        ("specific_name", STRING),
        ("routine_catalog", STRING),
        ("routine_schema", STRING),
        ("routine_name", STRING),
        ("routine_type", STRING),
        ("data_type", STRING),
        ("routine_body", STRING),
        ("routine_definition", STRING),
        ("created", TIMESTAMP),
    ),
}


def ref(path: Sequence[str], what: str = "Table") -> Ref:
    """The table, model or function that a path names: the last two of its dotted parts. A project in front is allowed and ignored.

    Raises:
        SqlError: the path has no dataset, or too many parts. `what` is the kind of object, for the message.
    """
    found = _ref(path)
    if found is None:
        raise SqlError(f'{what} "{".".join(path)}" must be qualified with a dataset (e.g. dataset.{what.lower()}).')
    return found


def _ref(path: Sequence[str]) -> Ref | None:
    parts = ".".join(path).split(".")
    return Ref(parts[-2], parts[-1]) if 2 <= len(parts) <= 3 and "" not in parts else None


def dataset(path: Sequence[str]) -> str:
    """The dataset that a path names: the last of its dotted parts. A project in front is allowed and ignored."""
    return ".".join(path).split(".")[-1]


@dataclass(frozen=True, slots=True)
class PrivateFunction:
    """A table function with fixed output columns that replaces one call.

    `arguments` are "model", "relation" or "constant". A field is a named argument.
    """

    name: str
    arguments: tuple[str | Field, ...]
    output: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """The objects that the paths of one statement name."""

    tables: Mapping[Path, Table]
    models: Mapping[Path, ModelSignature] = field(default_factory=dict)
    functions: tuple[PrivateFunction, ...] = ()
    sql_functions: tuple[SqlFunction, ...] = ()
    constants: Mapping[str, Type] = field(default_factory=dict)  # the analyzer needs only the types of constants, not their values


def find_tables(catalog: Catalog, paths: Iterable[Path], temporary: Catalog | None = None) -> dict[Path, Table]:
    """The table of each path. Missing tables are left out; ZetaSQL reports them where they are named."""
    found = {}
    for path in paths:
        table = _find_table(catalog, path, temporary)
        if table is not None:
            found[path] = table
    return found


def _find_table(catalog: Catalog, path: Path, temporary: Catalog | None) -> Table | None:
    parts = ".".join(path).split(".")
    if len(parts) == 1 or parts[-2] == SESSION:
        return None if temporary is None else _known(temporary, Ref(SESSION, parts[-1]))
    if parts[-2].upper() == INFORMATION_SCHEMA:
        return _information_schema(parts)
    if parts[-1].endswith("*"):
        matching = members(catalog, ref(path))
        return wildcard(ref(path), matching) if matching else None
    return _known(catalog, ref(path))


def _known(catalog: Catalog, wanted: Ref) -> Table | None:
    try:
        return catalog.table(wanted)
    except NotFoundError:
        return None


TABLE_SUFFIX = "_TABLE_SUFFIX"


def wildcard(wanted: Ref, matching: Sequence[Table]) -> Table:
    """A table that combines all tables of a wildcard, with the columns of the newest."""
    newest = max(matching, key=lambda table: (table.created_at_us, table.ref.name))
    return Table(wanted, TableKind.TABLE, (*newest.columns, Column(TABLE_SUFFIX, STRING)))


def members(catalog: Catalog, wildcard: Ref) -> list[Table]:
    """The tables that a name with `*` at its end matches, without views."""
    prefix = wildcard.name.removesuffix("*")
    tables = catalog.tables(wildcard.dataset)
    return [table for table in tables if table.ref.name.startswith(prefix) and table.kind is not TableKind.VIEW]


def _information_schema(parts: list[str]) -> Table | None:
    view = parts[-1].upper()
    columns = _INFORMATION_SCHEMA_VIEWS.get(view)
    if columns is None:
        return None
    scope = parts[-3] if len(parts) > 2 else ""
    return Table(Ref(f"{scope}.{INFORMATION_SCHEMA}", view), TableKind.VIEW, tuple(Column(name, type_) for name, type_ in columns))


def find_model(models: ModelStore, path: Path) -> ModelSignature | None:
    """The signature of the model that a path names: its champion's. None if there is no such model."""
    try:
        return models.get(ref(path)).signature
    except NotFoundError:
        return None


def find_functions(catalog: Catalog, paths: Iterable[Path]) -> tuple[SqlFunction, ...]:
    """The stored functions of the paths, and the functions that their bodies call. Paths of other things are left out."""
    found: dict[Path, SqlFunction] = {}
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path[0].upper() == "SAFE":
            path = path[1:]
        function = _find_function(catalog, path)
        if function is None:
            continue
        key = tuple(name.lower() for name in path)  # ZetaSQL looks names up in any case
        if found.setdefault(key, function) != function:
            raise SqlError(f"{'.'.join(path)} differs from another function of this statement in case only, which is not supported")
        if found[key] is function:
            waiting.extend(function.definition.functions)
    return tuple(found.values())


def _find_function(catalog: Catalog, path: Path) -> SqlFunction | None:
    wanted = _ref(path)
    try:
        return wanted and SqlFunction(path, catalog.function(wanted))
    except NotFoundError:
        return None


def to_catalog(names: Names, language_options: Any) -> Any:
    """The `SimpleCatalogProto` in which every path of `names` resolves. A table's `full_name` is its path, see `Analysis.table`."""
    root = simple_catalog_pb2.SimpleCatalogProto(name="root")
    root.builtin_function_options.language_options.CopyFrom(language_options)
    for path, table in names.tables.items():
        proto = _folder(root, path[:-1]).table.add(name=path[-1], full_name=".".join(path))
        for column in table.columns:
            # A query can name a pseudo-column, but `*` does not include it.
            proto.column.add(name=column.name, type=to_type(column.type), is_pseudo_column=column.name == TABLE_SUFFIX)
    for number, (path, model) in enumerate(names.models.items()):
        proto = _folder(root, path[:-1]).model.add(name=path[-1], id=number)
        proto.input.extend(_column(item) for item in model.inputs)
        proto.output.extend(_column(item) for item in model.outputs)
    for function in names.functions:
        _add_function(root, function)
    for sql_function in (*LIBRARY, *names.sql_functions):
        _folder(root, sql_function.path[:-1]).custom_function.append(sql_function.proto())
    for name, type_ in names.constants.items():
        root.constant.add(name_path=[name], type=to_type(type_))
    return root


def _column(item: Field) -> Any:
    return simple_table_pb2.SimpleColumnProto(name=item.name, type=to_type(item.type))


def _add_function(root: Any, function: PrivateFunction) -> None:
    proto = root.custom_tvf.add(name_path=[function.name], type=function_pb2.FunctionEnums.FIXED_OUTPUT_SCHEMA_TVF)
    for kind in function.arguments:
        # ZetaSQL aborts if an argument of a signature does not say how often it occurs.
        argument = proto.signature.argument.add(num_occurrences=1)
        if isinstance(kind, Field):
            argument.kind, argument.options.argument_name = function_pb2.ARG_TYPE_FIXED, kind.name
            argument.type.CopyFrom(to_type(kind.type))
        else:
            argument.kind = _ARGUMENTS[kind]
    result = proto.signature.return_type
    result.kind, result.num_occurrences = function_pb2.ARG_TYPE_RELATION, 1
    for column in function.output:
        result.options.relation_input_schema.column.add(name=column.name, type=to_type(column.type))


def _folder(root: Any, path: Path) -> Any:
    folder = root
    for name in path:
        # Names in SimpleCatalog are case-insensitive. Two datasets whose names differ only in case share one folder.
        known = (child for child in folder.catalog if child.name.lower() == name.lower())
        folder = next(known, None) or folder.catalog.add(name=name)
    return folder

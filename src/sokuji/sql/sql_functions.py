"""Functions whose bodies are GoogleSQL: those of CREATE TEMP FUNCTION, and those of BigQuery's that ZetaSQL does not bring along.

ZetaSQL resolves a body at each call, with the types of its arguments, and puts it in the call's place: behind the analyzer there are no
such functions any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zetasql.wasi._pb2.zetasql.proto import function_pb2 as function_proto
from zetasql.wasi._pb2.zetasql.public import function_pb2

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.protos import from_type

GROUP = "Templated_SQL_Function"
"""The name under which ZetaSQL knows this kind of function; its errors show it in front of the function's."""

_MODES = function_pb2.FunctionEnums


@dataclass(frozen=True, slots=True)
class SqlFunction:
    """One function, as `FunctionProto`, and the tables its body names (see `names.Path`)."""

    proto: Any
    tables: tuple[tuple[str, ...], ...] = ()

    @property
    def name(self) -> str:
        """Its name in lower case."""
        return ".".join(self.proto.name_path).lower()


def from_statement(node: Any, tables: tuple[tuple[str, ...], ...]) -> SqlFunction:
    """The function that a `ResolvedCreateFunctionStmtProto` defines.

    Raises:
        UnsupportedSqlError: it is not written in SQL.
    """
    name = ".".join(node.parent.name_path)
    if node.language.upper() != "SQL":
        raise UnsupportedSqlError(f"Function {name}: LANGUAGE {node.language} is not supported; write its body in SQL")
    body = f"CAST(({node.code}) AS {from_type(node.return_type)})" if node.has_explicit_return_type else node.code
    proto = _function(name, list(node.argument_name_list), body, aggregate=node.is_aggregate)
    for argument, declared in zip(proto.signature[0].argument, node.signature.argument, strict=True):
        argument.CopyFrom(declared)
        argument.num_occurrences = 1
    return SqlFunction(proto, tables)


def _function(name: str, arguments: list[str], body: str, *, aggregate: bool = False) -> Any:
    proto = function_proto.FunctionProto(name_path=name.split("."), group=GROUP)
    proto.mode = _MODES.AGGREGATE if aggregate else _MODES.SCALAR
    proto.templated_sql_function_argument_name.extend(arguments)
    proto.parse_resume_location.input = body
    proto.parse_resume_location.byte_position = 0
    proto.parse_resume_location.allow_resume = False
    signature = proto.signature.add()
    # ZetaSQL aborts on a part of a signature that does not say how often it occurs.
    signature.return_type.kind, signature.return_type.num_occurrences = function_pb2.ARG_TYPE_ARBITRARY, 1
    for _ in arguments:
        signature.argument.add(kind=function_pb2.ARG_TYPE_ARBITRARY, num_occurrences=1)
    return proto


LIBRARY = (
    SqlFunction(_function("max_by", ["value", "key"], "ANY_VALUE(value HAVING MAX key)", aggregate=True)),
    SqlFunction(_function("min_by", ["value", "key"], "ANY_VALUE(value HAVING MIN key)", aggregate=True)),
    SqlFunction(
        _function(
            "contains_substr",
            ["value", "part"],
            "IF(value IS NULL, NULL, STRPOS(NORMALIZE_AND_CASEFOLD(FORMAT('%t', value), NFKC), NORMALIZE_AND_CASEFOLD(part, NFKC)) > 0)",
        )
    ),
)
"""BigQuery's own."""

"""Functions with GoogleSQL bodies: those of CREATE [TEMP] FUNCTION, and functions of BigQuery that ZetaSQL lacks.

ZetaSQL resolves a body at each call, with the types of its arguments, and replaces the call by the result. So these functions exist only in
the analyzer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zetasql.wasi._pb2.zetasql.proto import function_pb2 as function_proto
from zetasql.wasi._pb2.zetasql.public import function_pb2

from sokuji.errors import UnsupportedSqlError
from sokuji.meta.objects import Argument, Function, Ref
from sokuji.sql.front.protos import from_type, to_type
from sokuji.types import Type

GROUP = "Templated_SQL_Function"
"""ZetaSQL's name for this kind of function. Its errors show the name in front of the function's name."""

_MODES = function_pb2.FunctionEnums


@dataclass(frozen=True, slots=True)
class SqlFunction:
    """A function, and the path (see `lookup.Path`) by which a statement calls it."""

    path: tuple[str, ...]
    definition: Function

    def proto(self) -> Any:
        """The `FunctionProto` for ZetaSQL."""
        definition = self.definition
        code = definition.body if definition.returns is None else f"CAST(({definition.body}) AS {definition.returns})"
        proto = function_proto.FunctionProto(name_path=self.path, group=GROUP)
        proto.mode = _MODES.AGGREGATE if definition.aggregate else _MODES.SCALAR
        proto.templated_sql_function_argument_name.extend(argument.name for argument in definition.arguments)
        proto.parse_resume_location.input = code
        proto.parse_resume_location.byte_position = 0
        proto.parse_resume_location.allow_resume = False
        signature = proto.signature.add()
        # ZetaSQL aborts if a part of a signature does not say how often it occurs.
        signature.return_type.kind, signature.return_type.num_occurrences = function_pb2.ARG_TYPE_ARBITRARY, 1
        for argument in definition.arguments:
            _add_argument(signature, argument)
        return proto


def _add_argument(signature: Any, argument: Argument) -> None:
    proto = signature.argument.add(kind=function_pb2.ARG_TYPE_ARBITRARY, num_occurrences=1)
    proto.options.argument_name = argument.name
    proto.options.is_not_aggregate = argument.not_aggregate
    if argument.type is not None:
        proto.kind = function_pb2.ARG_TYPE_FIXED
        proto.type.CopyFrom(to_type(argument.type))


def from_statement(node: Any, ref: Ref, tables: Sequence[tuple[str, ...]], functions: Sequence[tuple[str, ...]]) -> Function:
    """The function that a `ResolvedCreateFunctionStmtProto` defines. `tables` and `functions` are the paths in its body.

    Raises:
        UnsupportedSqlError: the function is not written in SQL.
    """
    if node.language.upper() != "SQL":
        name = ".".join(node.parent.name_path)
        raise UnsupportedSqlError(f"Function {name}: LANGUAGE {node.language} is not supported; write its body in SQL")
    return Function(
        ref,
        tuple(_argument(name, declared) for name, declared in zip(node.argument_name_list, node.signature.argument, strict=True)),
        node.code,
        from_type(node.return_type) if node.has_explicit_return_type else None,
        node.is_aggregate,
        tuple(tables),
        tuple(functions),
        created_at_us=time.time_ns() // 1000,
    )


def _argument(name: str, declared: Any) -> Argument:
    if declared.options.HasField("default_value"):
        raise UnsupportedSqlError(f"Argument {name}: a DEFAULT is not supported; give the value in each call")
    type_ = from_type(declared.type) if declared.HasField("type") else None
    return Argument(name, type_, declared.options.is_not_aggregate)


def coercion(name: str, type_: Type) -> SqlFunction:
    """A function that returns its argument, coerced to a type."""
    return SqlFunction((name,), Function(Ref("", name), (Argument("value", type_),), "value"))


def _library(name: str, arguments: Sequence[str], body: str, *, aggregate: bool = False) -> SqlFunction:
    return SqlFunction((name,), Function(Ref("", name), tuple(Argument(item, None) for item in arguments), body, aggregate=aggregate))


LIBRARY = (
    _library("max_by", ["value", "key"], "ANY_VALUE(value HAVING MAX key)", aggregate=True),
    _library("min_by", ["value", "key"], "ANY_VALUE(value HAVING MIN key)", aggregate=True),
    _library(
        "contains_substr",
        ["value", "part"],
        "IF(value IS NULL, NULL, STRPOS(NORMALIZE_AND_CASEFOLD(FORMAT('%t', value), NFKC), NORMALIZE_AND_CASEFOLD(part, NFKC)) > 0)",
    ),
)
"""Functions of BigQuery that ZetaSQL lacks."""

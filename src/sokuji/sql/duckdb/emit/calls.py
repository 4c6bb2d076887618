"""Prepare function calls of every kind for the signature table."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool
from zetasql.wasi._pb2.zetasql.public import type_pb2

# These imports make the enums known to the descriptor pool.
from zetasql.wasi._pb2.zetasql.public.functions import array_find_mode_pb2 as _array_find  # noqa: F401
from zetasql.wasi._pb2.zetasql.public.functions import array_zip_mode_pb2 as _array_zip  # noqa: F401
from zetasql.wasi._pb2.zetasql.public.functions import bitwise_agg_mode_pb2 as _bitwise_agg  # noqa: F401
from zetasql.wasi._pb2.zetasql.public.functions import datetime_pb2 as _datetime  # noqa: F401
from zetasql.wasi._pb2.zetasql.public.functions import normalize_mode_pb2 as _normalize  # noqa: F401
from zetasql.wasi._pb2.zetasql.public.functions import rounding_mode_pb2 as _rounding  # noqa: F401
from zetasql.wasi._pb2.zetasql.public.functions import unsupported_fields_pb2 as _unsupported_fields  # noqa: F401
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb import functions
from sokuji.sql.duckdb.emit import literals
from sokuji.sql.duckdb.emit.emitter import Emitter, type_of, type_proto, unwrap
from sokuji.sql.duckdb.functions.base import EnumName, Lambda, SqlCall
from sokuji.sql.front.protos import from_value
from sokuji.types import STRING, Kind, Type

# The values of these differ between rows, and between two reads of a WITH table.
_VOLATILE = {"rand", "generate_uuid"}


def emit_call(node: Any, call: SqlCall) -> str:
    """The SQL text of a call, by the signature table.

    Raises:
        UnsupportedSqlError: the function is not supported.
    """
    function = functions.lookup(base_of(node).signature.context_id, call.name)
    if function.emit is None:
        raise UnsupportedSqlError(f"Function {shown_name(call.name)} is not supported{function.reason and ': ' + function.reason}")
    return function.emit(call)


def shown_name(name: str) -> str:
    """The name of a function as users write it."""
    return name.removeprefix("$").upper()


def base_of(node: Any) -> Any:
    """The `ResolvedFunctionCallBaseProto` of a scalar, aggregate or analytic call."""
    while node.DESCRIPTOR.name != "ResolvedFunctionCallBaseProto":
        node = node.parent
    return node


def function_call(emitter: Emitter, node: Any) -> SqlCall:
    """The function and the arguments of a call of any kind."""
    base = base_of(node)
    name = base.function.name.split(":", 1)[-1].lower()
    emitter.volatile |= name in _VOLATILE
    if any(collation.collation_name for collation in base.collation_list):
        raise UnsupportedSqlError("Collation is not supported")
    arguments = [_argument(emitter, argument) for argument in base.argument_list]
    arguments += [_generic_argument(emitter, argument) for argument in base.generic_argument_list]
    return SqlCall(
        name=name,
        arguments=tuple(text for text, _, _ in arguments),
        types=tuple(type_ for _, type_, _ in arguments),
        result=type_of(node),
        constants=tuple(constant for _, _, constant in arguments),
        safe=base.error_mode == enums.ResolvedFunctionCallBaseEnums.SAFE_ERROR_MODE,
    )


def _argument(emitter: Emitter, argument: Any) -> tuple[str, Type, Any]:
    kind, node = unwrap(argument)
    if kind == "resolved_literal_node" and is_enum(node):
        name = enum_name(node)
        return literals.literal(name, STRING), STRING, name and EnumName(name)
    text, type_ = emitter.expression(argument), type_of(node)
    if not _has_python_form(type_):
        return text, type_, None
    if isinstance(text, literals.Constant):
        return text, type_, text.value
    return text, type_, from_value(node.value.value, type_) if kind == "resolved_literal_node" else None


def _has_python_form(type_: Type) -> bool:
    return type_.kind not in {Kind.INTERVAL, Kind.BIGNUMERIC, Kind.ARRAY, Kind.STRUCT}


def _generic_argument(emitter: Emitter, argument: Any) -> tuple[str, Type, Any]:
    if argument.HasField("expr"):
        return _argument(emitter, argument.expr)
    if argument.HasField("inline_lambda"):
        lambda_ = argument.inline_lambda
        parameters = tuple(emitter.column(column.column_id) for column in lambda_.argument_list)
        return "", type_of(lambda_.body), Lambda(parameters, emitter.expression(lambda_.body))
    raise UnsupportedSqlError("A relation, model or sequence as the argument of a scalar function is not supported")


def is_enum(node: Any) -> bool:
    """Whether an expression is of an enum type, such as a date part."""
    return bool(type_proto(node).type_kind == type_pb2.TYPE_ENUM)


def enum_name(node: Any) -> str | None:
    """The name of the value of an enum literal; None for NULL."""
    if not node.value.value.HasField("enum_value"):
        return None
    enum = descriptor_pool.Default().FindEnumTypeByName(node.value.type.enum_type.enum_name)
    return str(enum.values_by_number[node.value.value.enum_value].name)

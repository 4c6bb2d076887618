"""Expressions: one function per kind of node. The signature table handles calls."""

from __future__ import annotations

from typing import Any

from sokuji.duckdb_text import quote, quote_text
from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb.emit import literals, structs
from sokuji.sql.duckdb.emit.calls import emit_call, enum_name, function_call, is_enum
from sokuji.sql.duckdb.emit.emitter import Emit, Emitter, type_of
from sokuji.sql.duckdb.emit.subqueries import subquery
from sokuji.sql.duckdb.functions.template import checked
from sokuji.sql.duckdb.lets import let
from sokuji.types import STRING, Kind, Type, field_names

# GoogleSQL compares STRUCTs field by field; DuckDB compares them as a whole, and NULL fields as equal.
_COMPARISONS = {"$equal", "$not_equal", "$in", "$in_array"}


def _literal(_emitter: Emitter, node: Any) -> str:
    if is_enum(node):
        return literals.literal(enum_name(node), STRING)
    return literals.from_proto(node.value.value, type_of(node))


def _parameter(emitter: Emitter, node: Any) -> str:
    return emitter.parameters[node.name.lower() or str(node.position)]


def variable_name(name: str) -> str:
    """The name of a script's variable among the parameters. System variables keep their name with `@@`."""
    return name if name.startswith("@@") else f"variable {name}"


def _constant(emitter: Emitter, node: Any) -> str:
    return emitter.parameters[variable_name(node.constant.name.lower())]


def _system_variable(emitter: Emitter, node: Any) -> str:
    return emitter.parameters["@@" + ".".join(node.name_path).lower()]


def _expression_column(emitter: Emitter, node: Any) -> str:
    return emitter.parameters.get(node.name.lower()) or quote(node.name)


def _column_ref(emitter: Emitter, node: Any) -> str:
    id_ = node.column.column_id
    if node.is_correlated and emitter.lifted is not None and id_ not in emitter.replaced:
        emitter.lifted[id_] = f"c{id_} AS l{id_}"
        return f"l{id_}"
    return emitter.column(id_)


def _call(emitter: Emitter, node: Any) -> str:
    call = function_call(emitter, node)
    if call.name in _COMPARISONS and any(structs.has_struct(type_) for type_ in call.types):
        return structs.compare(call)
    return emit_call(node, call)


def _cast(emitter: Emitter, node: Any) -> str:
    value = structs.cast(
        emitter.expression(node.expr),
        type_of(node.expr),
        type_of(node),
        safe=node.return_null_on_error,
        format_=emitter.expression(node.format) if node.HasField("format") else None,
        time_zone=emitter.expression(node.time_zone) if node.HasField("time_zone") else None,
    )
    if node.type_modifiers.HasField("type_parameters") and node.type_modifiers.type_parameters.ByteSize():
        return _limited(value, type_of(node), node.type_modifiers.type_parameters, safe=node.return_null_on_error)
    return value


def _limited(value: str, type_: Type, parameters: Any, *, safe: bool) -> str:
    """A value cast to STRING(length), BYTES(length) or NUMERIC(precision, scale)."""
    if parameters.HasField("string_type_parameters"):
        longest = parameters.string_type_parameters.max_length
        length = "length({0})" if type_.kind is Kind.STRING else "octet_length({0})"
        message = f"'{type_}({longest}) has maximum length {longest} but got a value with length ' || {length}"
        limit, kept = f"{length} > {longest}", "{0}"
    elif parameters.HasField("numeric_type_parameters") and type_.kind is Kind.NUMERIC:
        precision, scale = parameters.numeric_type_parameters.precision, parameters.numeric_type_parameters.scale
        kept = f"CAST(round({{0}}, {scale}) AS DECIMAL(38, 9))"
        # With the maximal number of digits of NUMERIC, every value fits.
        limit = f"abs({kept}) >= 1{'0' * (precision - scale)}" if precision - scale < 29 else "false"
        message = f"'{type_}({precision}, {scale}) has precision {precision} and scale {scale} but got a value that is not in range'"
    else:
        raise UnsupportedSqlError(f"CAST to a parameterized type inside {type_} is not supported")
    return let([value], lambda one: checked({limit.format(one): message.format(one)}, kept.format(one), safe=safe))


def _make_struct(emitter: Emitter, node: Any) -> str:
    return literals.struct(type_of(node), [emitter.expression(field) for field in node.field_list])


def _get_struct_field(emitter: Emitter, node: Any) -> str:
    name = field_names(type_of(node.expr))[node.field_idx]
    return f"struct_extract({emitter.expression(node.expr)}, {quote_text(name)})"


def _get_json_field(emitter: Emitter, node: Any) -> str:
    name = node.field_name.replace("\\", "\\\\").replace('"', '\\"')
    path = quote_text(f'$."{name}"')
    return f"json_extract({emitter.expression(node.expr)}, {path})"


def _with(emitter: Emitter, node: Any) -> str:
    return _assignments(emitter, list(node.assignment_list), node.expr)


def _assignments(emitter: Emitter, assignments: list[Any], result: Any) -> str:
    if not assignments:
        return emitter.expression(result)

    def body(value: str) -> str:
        with emitter.replacing({assignments[0].column.column_id: value}):
            return _assignments(emitter, assignments[1:], result)

    return let([emitter.expression(assignments[0].expr)], body)


EXPRESSIONS: dict[str, Emit] = {
    "resolved_literal_node": _literal,
    "resolved_parameter_node": _parameter,
    "resolved_expression_column_node": _expression_column,
    "resolved_column_ref_node": _column_ref,
    "resolved_function_call_node": _call,
    "resolved_cast_node": _cast,
    "resolved_make_struct_node": _make_struct,
    "resolved_get_struct_field_node": _get_struct_field,
    "resolved_get_json_field_node": _get_json_field,
    "resolved_with_expr_node": _with,
    "resolved_subquery_expr_node": subquery,
    "resolved_constant_node": _constant,
    "resolved_system_variable_node": _system_variable,
}

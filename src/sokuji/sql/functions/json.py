"""Functions on JSON."""

from __future__ import annotations

from sokuji.sql.functions.base import Function
from sokuji.sql.functions.reference import reference

TABLE: list[Function] = [
    *reference("FN_JSON_VALUE FN_JSON_VALUE_JSON FN_JSON_QUERY FN_JSON_QUERY_JSON FN_JSON_EXTRACT FN_JSON_EXTRACT_JSON"),
    *reference("FN_JSON_EXTRACT_SCALAR FN_JSON_EXTRACT_SCALAR_JSON FN_JSON_EXTRACT_ARRAY FN_JSON_EXTRACT_ARRAY_JSON"),
    *reference("FN_JSON_EXTRACT_STRING_ARRAY FN_JSON_EXTRACT_STRING_ARRAY_JSON FN_JSON_QUERY_ARRAY FN_JSON_QUERY_ARRAY_JSON"),
    *reference("FN_JSON_VALUE_ARRAY FN_JSON_VALUE_ARRAY_JSON"),
    *reference("FN_JSON_SUBSCRIPT_INT64 FN_JSON_SUBSCRIPT_STRING", "{0}[{1}]"),
    *reference("FN_TO_JSON_STRING"),
    *reference("FN_TO_JSON", named=("stringify_wide_numbers",)),
    *reference("FN_SAFE_TO_JSON"),
    *reference("FN_PARSE_JSON", named=("wide_number_mode",)),
    *reference("FN_JSON_TO_INT64 FN_JSON_TO_BOOL FN_JSON_TO_STRING FN_JSON_TYPE FN_JSON_LAX_TO_INT64 FN_JSON_LAX_TO_BOOL"),
    *reference("FN_JSON_LAX_TO_STRING FN_JSON_LAX_TO_DOUBLE FN_JSON_TO_BOOL_ARRAY FN_JSON_LAX_TO_BOOL_ARRAY"),
    *reference("FN_JSON_TO_DOUBLE", named=("wide_number_mode",)),
    *reference("FN_JSON_TO_FLOAT64_ARRAY", named=("wide_number_mode",)),
    *reference(
        "FN_JSON_LAX_TO_FLOAT64_ARRAY FN_JSON_TO_INT64_ARRAY FN_JSON_LAX_TO_INT64_ARRAY FN_JSON_TO_STRING_ARRAY FN_JSON_LAX_TO_STRING_ARRAY"
    ),
    *reference("FN_JSON_ARRAY FN_JSON_OBJECT FN_JSON_OBJECT_ARRAYS FN_JSON_REMOVE FN_JSON_CONTAINS FN_JSON_FLATTEN"),
    *reference("FN_JSON_SET", named=("create_if_missing",)),
    *reference(
        "FN_JSON_STRIP_NULLS",
        named=(
            "include_arrays",
            "remove_empty",
        ),
    ),
    *reference("FN_JSON_ARRAY_INSERT", named=("insert_each_element",)),
    *reference("FN_JSON_ARRAY_APPEND", named=("append_each_element",)),
    *reference("FN_JSON_KEYS", named=("mode",)),
]

"""Operators and mathematical functions on numbers."""

from __future__ import annotations

from sokuji.sql.duckdb.functions.base import SignatureEntry
from sokuji.sql.duckdb.functions.reference import reference
from sokuji.sql.duckdb.functions.template import macro, native


def _overflow(operator: str) -> dict[str, str]:
    result = f"{{0}} {operator} {{1}}"
    return {f"isinf({result}) AND isfinite({{0}}) AND isfinite({{1}})": f"'double overflow: ' || {{0}} || ' {operator} ' || {{1}}"}


_BY_ZERO = {"{1} = 0": "'division by zero: ' || {0} || ' / ' || {1}"}


TABLE: list[SignatureEntry] = [
    *native("FN_ADD_INT64", "{0} + {1}", raises=True),
    *native("FN_SUBTRACT_INT64", "{0} - {1}", raises=True),
    *native("FN_MULTIPLY_INT64", "{0} * {1}", raises=True),
    *macro("FN_ADD_DOUBLE", "{0} + {1}", errors=_overflow("+")),
    *macro("FN_SUBTRACT_DOUBLE", "{0} - {1}", errors=_overflow("-")),
    *macro("FN_MULTIPLY_DOUBLE", "{0} * {1}", errors=_overflow("*")),
    *macro("FN_DIVIDE_DOUBLE", "{0} / {1}", errors={**_BY_ZERO, **_overflow("/")}),
    *native("FN_ADD_NUMERIC", "CAST({0} + {1} AS DECIMAL(38, 9))", raises=True),
    *native("FN_SUBTRACT_NUMERIC", "CAST({0} - {1} AS DECIMAL(38, 9))", raises=True),
    *reference("FN_MULTIPLY_NUMERIC", "{0} * {1}"),
    *reference("FN_DIVIDE_NUMERIC", "{0} / {1}"),
    *native("FN_UNARY_MINUS_INT64", "0 - {0}", raises=True),
    *native("FN_UNARY_MINUS_DOUBLE", "-{0}"),
    *native("FN_UNARY_MINUS_NUMERIC", "-{0}"),
    *macro("FN_DIV_INT64", "{0} // {1}", errors=_BY_ZERO, raises=True),
    *macro("FN_MOD_INT64", "{0} % {1}", errors=_BY_ZERO),
    *reference("FN_DIV_NUMERIC FN_MOD_NUMERIC"),
    *native("FN_ABS_INT64", "abs({0})", raises=True),
    *native("FN_ABS_DOUBLE FN_ABS_NUMERIC", "abs({0})"),
    *native("FN_SIGN_INT64", "CAST(sign({0}) AS BIGINT)"),
    *macro("FN_SIGN_DOUBLE", "CASE WHEN isnan({0}) THEN {0} ELSE CAST(sign({0}) AS DOUBLE) END"),
    *native("FN_SIGN_NUMERIC", "CAST(sign({0}) AS DECIMAL(38, 9))"),
    *native("FN_ROUND_DOUBLE", "round({0})"),
    *reference("FN_ROUND_NUMERIC FN_ROUND_WITH_DIGITS_NUMERIC FN_ROUND_WITH_ROUNDING_MODE_NUMERIC FN_ROUND_WITH_DIGITS_DOUBLE"),
    *native("FN_TRUNC_DOUBLE", "trunc({0})"),
    *reference("FN_TRUNC_NUMERIC FN_TRUNC_WITH_DIGITS_NUMERIC FN_TRUNC_WITH_DIGITS_DOUBLE FN_CEIL_NUMERIC FN_FLOOR_NUMERIC"),
    *native("FN_CEIL_DOUBLE", "ceil({0})"),
    *native("FN_FLOOR_DOUBLE", "floor({0})"),
    *native("FN_IS_INF", "isinf({0})"),
    *native("FN_IS_NAN", "isnan({0})"),
    *native("FN_IEEE_DIVIDE_DOUBLE", "{0} / {1}"),
    *macro(
        "FN_SAFE_DIVIDE_DOUBLE", "CASE WHEN {1} = 0 OR (isinf({0} / {1}) AND isfinite({0}) AND isfinite({1})) THEN NULL ELSE {0} / {1} END"
    ),
    *reference("FN_SAFE_DIVIDE_NUMERIC FN_SAFE_MULTIPLY_NUMERIC FN_SAFE_ADD_NUMERIC FN_SAFE_SUBTRACT_NUMERIC FN_SAFE_UNARY_MINUS_NUMERIC"),
    *macro("FN_SAFE_ADD_INT64", "TRY_CAST(CAST({0} AS HUGEINT) + {1} AS BIGINT)"),
    *macro("FN_SAFE_SUBTRACT_INT64", "TRY_CAST(CAST({0} AS HUGEINT) - {1} AS BIGINT)"),
    *macro("FN_SAFE_MULTIPLY_INT64", "TRY_CAST(CAST({0} AS HUGEINT) * {1} AS BIGINT)"),
    *macro("FN_SAFE_UNARY_MINUS_INT64", "TRY_CAST(-CAST({0} AS HUGEINT) AS BIGINT)"),
    *native("FN_SAFE_UNARY_MINUS_DOUBLE", "-{0}"),
    *[
        function
        for name, operator in (("ADD", "+"), ("SUBTRACT", "-"), ("MULTIPLY", "*"))
        for function in macro(
            f"FN_SAFE_{name}_DOUBLE",
            f"CASE WHEN isinf({{0}} {operator} {{1}}) AND isfinite({{0}}) AND isfinite({{1}}) THEN NULL ELSE {{0}} {operator} {{1}} END",
        )
    ],
    *macro("FN_SQRT_DOUBLE", "sqrt({0})", errors={"{0} < 0": "'Argument to SQRT cannot be negative: ' || {0}"}),
    *reference("FN_POW_DOUBLE FN_SQRT_NUMERIC FN_POW_NUMERIC FN_EXP_NUMERIC FN_CBRT_NUMERIC FN_CBRT_DOUBLE"),
    *macro(
        "FN_EXP_DOUBLE",
        "exp({0})",
        errors={"isinf(exp({0})) AND isfinite({0})": "'Floating point overflow in function: EXP(' || {0} || ')'"},
    ),
    *macro(
        "FN_NATURAL_LOGARITHM_DOUBLE",
        "ln({0})",
        errors={"{0} <= 0 AND isfinite({0})": "'Floating point error in function: LN(' || {0} || ')'"},
    ),
    *macro(
        "FN_DECIMAL_LOGARITHM_DOUBLE",
        "log10({0})",
        errors={"{0} <= 0 AND isfinite({0})": "'Floating point error in function: LOG10(' || {0} || ')'"},
    ),
    *reference("FN_LOGARITHM_DOUBLE FN_LOGARITHM_NUMERIC FN_NATURAL_LOGARITHM_NUMERIC FN_DECIMAL_LOGARITHM_NUMERIC"),
    *native("FN_COS_DOUBLE", "cos({0})"),
    *native("FN_SIN_DOUBLE", "sin({0})"),
    *native("FN_TAN_DOUBLE", "tan({0})"),
    *native("FN_ATAN_DOUBLE", "atan({0})"),
    *native("FN_ATAN2_DOUBLE", "atan2({0}, {1})"),
    *native("FN_TANH_DOUBLE", "tanh({0})"),
    *native("FN_ASINH_DOUBLE", "asinh({0})"),
    *reference("FN_COSH_DOUBLE FN_ACOS_DOUBLE FN_ACOSH_DOUBLE FN_SINH_DOUBLE FN_ASIN_DOUBLE FN_ATANH_DOUBLE"),
    *reference("FN_CSC_DOUBLE FN_SEC_DOUBLE FN_COT_DOUBLE FN_CSCH_DOUBLE FN_SECH_DOUBLE FN_COTH_DOUBLE"),
    *reference("FN_PARSE_NUMERIC"),
    *native("FN_BITWISE_NOT_INT64", "~{0}"),
    *native("FN_BITWISE_AND_INT64", "{0} & {1}"),
    *native("FN_BITWISE_OR_INT64", "{0} | {1}"),
    *native("FN_BITWISE_XOR_INT64", "xor({0}, {1})"),
    *reference("FN_BITWISE_LEFT_SHIFT_INT64 FN_BITWISE_LEFT_SHIFT_BYTES", "{0} << {1}"),
    *reference("FN_BITWISE_RIGHT_SHIFT_INT64 FN_BITWISE_RIGHT_SHIFT_BYTES", "{0} >> {1}"),
    *reference("FN_BITWISE_NOT_BYTES", "~{0}"),
    *reference("FN_BITWISE_AND_BYTES", "{0} & {1}"),
    *reference("FN_BITWISE_OR_BYTES", "{0} | {1}"),
    *reference("FN_BITWISE_XOR_BYTES", "{0} ^ {1}"),
    *native("FN_BIT_COUNT_INT64", "CAST(bit_count({0}) AS BIGINT)"),
    *reference("FN_BIT_COUNT_BYTES"),
    *reference("FN_RANGE_BUCKET FN_COSINE_DISTANCE_DENSE_DOUBLE"),
    *reference("FN_EUCLIDEAN_DISTANCE_DENSE_DOUBLE"),
    *native("FN_RAND", "random()"),
]

"""Known differences from the reference implementation, and cases that cannot be compared with it."""

from __future__ import annotations

DEVIATIONS: dict[str, str] = {
    "{TIMESTAMP} - {TIMESTAMP}": "Arrow carries no INTERVAL of more than 292 years of time; it raises instead",
    "AVG({FLOAT64:odd})": "DuckDB adds first and divides last; where the sum overflows it raises instead",
    "SUM({FLOAT64:odd})": "the reference adds exactly; where 1.7e308 and its negative cancel out, DuckDB has lost the small values",
    "CORR({FLOAT64:odd}, {FLOAT64:odd})": "the squares of 1.7e308 overflow FLOAT64; it gives NaN",
}
"""Forms that give something else, with the reason. A form that deviates no longer fails its test."""

ULPS: dict[str, int] = {
    # Another libm.
    **dict.fromkeys(("SIN", "COS", "TAN", "ATAN", "ATAN2", "TANH", "ASINH", "EXP", "LN", "LOG10"), 2),
    # Another order of summation.
    **dict.fromkeys(("SUM", "AVG", "ARRAY_SUM", "ARRAY_AVG"), 4),
    **dict.fromkeys(("STDDEV", "STDDEV_POP", "STDDEV_SAMP", "VARIANCE", "VAR_POP", "VAR_SAMP"), 32),
    # And terms of both signs, which may cancel out.
    "PERCENTILE_CONT": 64,  # between two values of which one is small: the other's last digits count
    **dict.fromkeys(("COVAR_POP", "COVAR_SAMP", "CORR"), 4096),
}
"""Functions whose FLOAT64 results may differ by so many units in the last place."""

_APPROXIMATE = (
    *(f"APPROX_TOP_SUM_{type_}" for type_ in ("INT64", "DOUBLE", "NUMERIC")),
    *(f"HLL_COUNT_INIT_{type_}" for type_ in ("INT64", "NUMERIC", "STRING", "BYTES")),
    *("HLL_COUNT_MERGE", "HLL_COUNT_MERGE_PARTIAL", "HLL_COUNT_EXTRACT"),
)

UNTRIED: dict[str, str] = {
    **{f"FN_{name}": "another value at every call" for name in ("RAND", "GENERATE_UUID")},
    **{f"FN_CURRENT_{name}": "another value at every call" for name in ("TIMESTAMP", "DATE", "DATETIME", "TIME")},
    **{
        f"FN_{name}": "the reference implementation lacks it"
        for name in ("TO_BASE32", "FROM_BASE32", *_APPROXIMATE, "APPROX_COUNT_DISTINCT", "APPROX_QUANTILES", "APPROX_TOP_COUNT")
    },
}
"""Supported signatures that no form calls, with the reason."""

"""Using a value more than once while computing it once."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b

_SIMPLE = re.compile(r"[A-Za-z0-9_\"']*")


def let(value: str, body: Callable[[str], str]) -> str:
    """`body` of a name for `value`. A name or a literal stands for itself; other values are computed once per row, where the
    whole is evaluated (so a branch of a CASE that is not taken computes nothing).
    """
    if _SIMPLE.fullmatch(value) or (value.startswith("'") and value.count("'") == 2):
        return body(value)
    name = name_for(value)
    result = body(name)
    if "(SELECT " in result:
        return f"(SELECT {result} FROM (SELECT {value} AS {name}) AS {name}_)"  # DuckDB has no subqueries inside lambdas
    return f"list_transform([{value}], lambda {name}: {result})[1]"


def name_for(value: str) -> str:
    """A lambda parameter's name that nothing computed from `value` shadows."""
    return "v" + blake2b(value.encode(), digest_size=6).hexdigest()

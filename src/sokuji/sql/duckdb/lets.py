"""Use values several times but compute each once. DuckDB has no LET; a lambda over a list of one element replaces it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b

_ATOM = re.compile(r"""(?x)
    \(?-?\d+(\.\d*)?([eE][-+]?\d+)?\)?(::\w+)?   # a number
    | \w+(\.\w+)* | ("[^"]*")(\."[^"]*")*        # a column
    | [$]\w+                                     # a parameter
    | '[^']*'(::\w+)?                            # a string
""")


def let(values: Sequence[str], body: Callable[..., str]) -> str:
    """Write `body` with a name for each value.

    A column, a parameter or a literal is used as it is. Other values are computed once per row, for about 20 ns, only where the text is
    evaluated: in a branch of a CASE that is not taken, nothing is computed.

    Without this, a chain of expressions that each repeat an argument would double in size with every link.
    """
    if all(_ATOM.fullmatch(value) for value in values):
        return f"({body(*values)})"
    # The name depends on the values, so an inner `let` of other values gets another name and hides nothing.
    name = name_for("\0".join(values))
    if len(values) == 1:
        value, result = values[0], body(name)
    else:
        value = f"struct_pack({', '.join(f'a{position} := {each}' for position, each in enumerate(values))})"
        result = body(*(f"{name}.a{position}" for position in range(len(values))))
    if "(SELECT " in result:
        return f"(SELECT {result} FROM (SELECT {value} AS {name}) AS {name}_)"  # DuckDB has no subqueries inside lambdas
    return f"list_transform([{value}], lambda {name}: {result})[1]"


def name_for(value: str) -> str:
    """A lambda parameter's name that no name inside `value` hides."""
    return "v" + blake2b(value.encode(), digest_size=6).hexdigest()

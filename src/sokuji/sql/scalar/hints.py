"""Suggest corrections for mistakes in a GoogleSQL expression that the analyzer finds."""

from __future__ import annotations

import re

FIXED_AS = {"visitor_id": "keys.visitor_id", "user_id": "keys.user_id", "event_time": "_date"}
"""Correct names of an event's columns, by names that newcomers use. Without this, such names would be taken as properties."""


def of_expression(text: str, message: str) -> str | None:
    """A correction of a GoogleSQL expression that the analyzer refuses with `message`; None if none is known."""
    named = re.match(r"Unrecognized name: `?(\w+)", message)
    if named is not None and named[1].lower() in FIXED_AS:
        return f"it is called {FIXED_AS[named[1].lower()]}"
    return next((fix for pattern, fix in _EXPRESSIONS if re.search(pattern, f"{text}\n{message}", re.IGNORECASE)), None)


_EXPRESSIONS: tuple[tuple[str, str], ...] = (
    (r"(?<![=!<>])==", "GoogleSQL compares by one =: revenue = 10"),
    (r"&&", "GoogleSQL writes AND, OR and NOT"),
    (r"\bNone\b", "GoogleSQL writes revenue IS NULL, or revenue IS NOT NULL"),
    (r"\bilike\b", "GoogleSQL writes LOWER(url) LIKE '%x%'"),
    (r"(?s)Function not found.*(contains|includes)", "GoogleSQL writes CONTAINS_SUBSTR(url, 'x') or url LIKE '%x%'"),
    (r"Function not found: len\b", "GoogleSQL writes LENGTH(url)"),
    (r"argument types?:.*\bJSON\b", "a property is a typed column of its own: write revenue, not properties.revenue"),
    (r";\s*\n", "an expression ends without ;"),
)
"""Pattern in the expression or the message -> correction."""

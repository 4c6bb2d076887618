"""Query strings of strangers: cut up within bounds, as that costs time before anybody has shown a key."""

from __future__ import annotations

from urllib.parse import parse_qsl

from sokuji.errors import InvalidRequestError

_PARAMETERS_MAX = 20


def pairs(query: str, pairs_max: int = _PARAMETERS_MAX) -> list[tuple[str, str]]:
    """Names and values, in their order, the empty ones too.

    Raises:
        InvalidRequestError: 400, there are more than `pairs_max`.
    """
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=pairs_max)
    except ValueError as error:
        raise InvalidRequestError(400, "too_many_parameters", f"the query has more than {pairs_max} parameters") from error


def parameter(query: str, name: str) -> str | None:
    """The first value of a parameter that is not empty. Raises as `pairs`."""
    return next((value for other, value in pairs(query) if other == name and value), None) if query else None

"""Parse query strings within limits: parsing costs time before the client has shown a key."""

from __future__ import annotations

from urllib.parse import parse_qsl

from sokuji.errors import InvalidRequestError

_PARAMETERS_MAX = 20


def pairs(query: str, pairs_max: int = _PARAMETERS_MAX) -> list[tuple[str, str]]:
    """Names and values in their order, including empty values.

    Raises:
        InvalidRequestError: 400, there are more than `pairs_max`.
    """
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=pairs_max)
    except ValueError as error:
        raise InvalidRequestError(400, "too_many_parameters", f"the query has more than {pairs_max} parameters") from error


def parameter(query: str, name: str) -> str | None:
    """The first non-empty value of a parameter; None if there is none. Raises like `pairs`."""
    return next((value for other, value in pairs(query) if other == name and value), None) if query else None

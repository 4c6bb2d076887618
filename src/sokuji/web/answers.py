"""Answers that all HTTP servers here share: JSON that any page may read, errors, and the answer to a CORS preflight."""

from __future__ import annotations

import msgspec

from sokuji.errors import InvalidRequestError

Answer = tuple[int, list[tuple[str, str]], bytes]

# Any page may send events: the write key admits a request, not its origin. Retry-After is not safelisted, so it must be exposed.
CORS = [("access-control-allow-origin", "*"), ("access-control-expose-headers", "Retry-After")]
JSON = [("content-type", "application/json"), *CORS]

_RETRY_AFTER_SECONDS = 1


def error(problem: InvalidRequestError) -> Answer:
    """An error answer to the whole request. It must have `code`: without it, older SDKs assume a network fault and retry ten times."""
    headers = JSON
    if problem.status in {429, 503}:
        headers = [*JSON, ("retry-after", str(_RETRY_AFTER_SECONDS))]
    return (problem.status, headers, msgspec.json.encode({"code": problem.code, "message": problem.message}))


def preflight(requested_headers: str) -> Answer:
    """The answer to OPTIONS (a CORS preflight): it allows all requested headers, for as long as browsers cache it.

    The requested headers are echoed, not listed: SDKs add headers (`X-Retry-Count`, `Rsa-*`) to their retries, and a header missing from a
    list would block exactly these.
    """
    headers = [
        *CORS,
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        ("access-control-allow-headers", requested_headers or "*"),
        ("access-control-max-age", "86400"),
        ("vary", "Access-Control-Request-Headers"),
    ]
    return (204, headers, b"")


def json(value: object) -> Answer:
    """A 200 with a JSON body."""
    return (200, JSON, msgspec.json.encode(value))


def text(body: str, content_type: str) -> Answer:
    """A 200 with a body of another type."""
    return (200, [("content-type", content_type), *CORS], body.encode())

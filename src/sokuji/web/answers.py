"""What every door answers alike: JSON that any page may read, refusals, and the answer to a browser that asks before it sends."""

from __future__ import annotations

import msgspec

from sokuji.errors import InvalidRequestError

Answer = tuple[int, list[tuple[str, str]], bytes]

# Any page may send events: the write key, not the origin, is what lets it. Retry-After is not safelisted, so it must be exposed.
CORS = [("access-control-allow-origin", "*"), ("access-control-expose-headers", "Retry-After")]
JSON = [("content-type", "application/json"), *CORS]

_RETRY_AFTER_SECONDS = 1


def error(problem: InvalidRequestError) -> Answer:
    """A refusal of the whole request. Older SDKs take a JSON error without `code` for a network fault, and send it ten times more."""
    headers = JSON
    if problem.status in {429, 503}:
        headers = [*JSON, ("retry-after", str(_RETRY_AFTER_SECONDS))]
    return (problem.status, headers, msgspec.json.encode({"code": problem.code, "message": problem.message}))


def preflight(requested_headers: str) -> Answer:
    """The answer to OPTIONS: whatever headers the page wants to send, for as long as browsers remember it.

    Echoed rather than listed: SDKs add headers (`X-Retry-Count`, `Rsa-*`), and one that is missing here stops exactly their retries.
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
    """200 with a JSON body."""
    return (200, JSON, msgspec.json.encode(value))


def text(body: str, content_type: str) -> Answer:
    """200 with a body of another type."""
    return (200, [("content-type", content_type), *CORS], body.encode())

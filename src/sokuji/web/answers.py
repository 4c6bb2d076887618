"""What the collector answers: headers, and bodies that do not depend on an event."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sokuji.errors import InvalidRequestError
from sokuji.track.request import Refused

Answer = tuple[int, list[tuple[str, str]], bytes]

# Any page may send events: the write key, not the origin, is what lets it. Retry-After is not safelisted, so it must be exposed.
_CORS = [("access-control-allow-origin", "*"), ("access-control-expose-headers", "Retry-After")]
JSON = [("content-type", "application/json"), *_CORS]

# Messages that `results` does not name are stored. So the answer to a batch without trouble is always the same bytes.
ACCEPTED: Answer = (200, JSON, b'{"success":true,"results":{}}')

# One transparent point.
GIF: Answer = (
    200,
    [("content-type", "image/gif"), ("cache-control", "no-store"), *_CORS],
    base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"),
)

_RETRY_AFTER_SECONDS = 1


def accepted(refused: Sequence[Refused], decisions: Sequence[Mapping[str, Any]] | None = None) -> Answer:
    """200 for a request that wants more than that said.

    `results` says which events of a batch were refused, by message id, else by `#` and the place in it; `decisions`, if the request
    waited for them, what was decided on its events.
    """
    results = {
        item.message_id or f"#{item.place}": {"result": "drop", "details": f"{item.refusal.code}: {item.refusal.reason}"}
        for item in refused
    }
    further = {} if decisions is None else {"decisions": decisions}
    return (200, JSON, msgspec.json.encode({"success": True, "results": results, **further}))


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
        *_CORS,
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        ("access-control-allow-headers", requested_headers or "*"),
        ("access-control-max-age", "86400"),
        ("vary", "Access-Control-Request-Headers"),
    ]
    return (204, headers, b"")


def segment_settings(write_key: str, scheme: str, host: str) -> Answer:
    """What `analytics.js` loads before it sends: one integration, this collector."""
    return json(
        {
            "integrations": {"Segment.io": {"apiKey": write_key, "apiHost": f"{host}/v1", "protocol": scheme}},
            "plan": {name: {"__default": {"enabled": True}} for name in ("track", "identify", "group")},
            "edgeFunction": {},
            "metrics": {"sampleRate": 0},
        }
    )


def rudder_config(source: str) -> Answer:
    """What RudderStack's browser SDK loads before it sends: a source without destinations of its own."""
    return json(
        {
            "source": {
                "id": source,
                "name": source,
                "enabled": True,
                "config": {"statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}},
                "destinations": [],
                "connections": [],
                "dataplanes": {},
            }
        }
    )


def json(value: object) -> Answer:
    """200 with a JSON body."""
    return (200, JSON, msgspec.json.encode(value))


def text(body: str, content_type: str) -> Answer:
    """200 with a body of another type."""
    return (200, [("content-type", content_type), *_CORS], body.encode())

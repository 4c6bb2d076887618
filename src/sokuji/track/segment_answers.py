"""What the collector answers, as SDKs of Segment and RudderStack expect it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sokuji.track.request import Refused
from sokuji.web.answers import CORS, JSON, Answer, json

# Messages that `results` does not name are stored. So the answer to a batch without trouble is always the same bytes.
ACCEPTED: Answer = (200, JSON, b'{"success":true,"results":{}}')

# One transparent point.
GIF: Answer = (
    200,
    [("content-type", "image/gif"), ("cache-control", "no-store"), *CORS],
    base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"),
)


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

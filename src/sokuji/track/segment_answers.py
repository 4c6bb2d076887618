"""The collector's answers, as the SDKs of Segment and RudderStack expect them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sokuji.track.request import Refused
from sokuji.web.answers import CORS, JSON, Answer, json

# `results` names only refused messages. So the answer to a batch without refusals is always the same bytes.
ACCEPTED: Answer = (200, JSON, b'{"success":true,"results":{}}')

# A GIF of one transparent pixel.
GIF: Answer = (
    200,
    [("content-type", "image/gif"), ("cache-control", "no-store"), *CORS],
    base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"),
)


def accepted(refused: Sequence[Refused], decisions: Sequence[Mapping[str, Any]] | None = None) -> Answer:
    """200 for a request whose answer has details.

    `results` names the refused events of a batch by message id, else by `#` and the place in the batch. `decisions` has the decisions on
    its events, if the request waited for them.
    """
    results = {
        item.message_id or f"#{item.place}": {"result": "drop", "details": f"{item.refusal.code}: {item.refusal.reason}"}
        for item in refused
    }
    further = {} if decisions is None else {"decisions": decisions}
    return (200, JSON, msgspec.json.encode({"success": True, "results": results, **further}))


def segment_settings(write_key: str, scheme: str, host: str) -> Answer:
    """The settings that `analytics.js` loads before it sends: one integration, this collector."""
    return json(
        {
            "integrations": {"Segment.io": {"apiKey": write_key, "apiHost": f"{host}/v1", "protocol": scheme}},
            "plan": {name: {"__default": {"enabled": True}} for name in ("track", "identify", "group")},
            "edgeFunction": {},
            "metrics": {"sampleRate": 0},
        }
    )


def rudder_config(source: str) -> Answer:
    """The settings that RudderStack's browser SDK loads before it sends: a source without destinations."""
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

"""Send purchases to a collector as Segment's libraries do: `POST /v1/batch`, the key in the body, 100 events per request."""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from sokuji.demo.cdnow import Purchase
from sokuji.errors import SokujiError

BATCH = 100


def buy_event(purchase: Purchase) -> dict[str, object]:
    """A purchase as a Segment `track` call. Its message id is the same in every run, so sending twice adds nothing."""
    return {
        "type": "track",
        "event": "buy",
        "messageId": f"cdnow-{purchase.number}",
        "anonymousId": f"cdnow-{purchase.customer}",
        "timestamp": f"{purchase.day}T00:00:00.000Z",
        "properties": {"revenue": purchase.dollars, "discs": purchase.discs},
    }


def send(host: str, port: int, write_key: str, purchases: Iterable[Purchase], on_sent: Callable[[int], None]) -> int:
    """Send all purchases and return how many were acknowledged. After each request, `on_sent` is called with its number of events.

    Raises:
        SokujiError: the collector refused a request or an event.
    """
    connection = http.client.HTTPConnection(host, port, timeout=30)
    acknowledged = 0
    remaining = iter(purchases)
    while events := [buy_event(purchase) for purchase in itertools.islice(remaining, BATCH)]:
        body = json.dumps({"writeKey": write_key, "sentAt": datetime.now(UTC).isoformat(), "batch": events})
        connection.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SokujiError(f"the collector answered {response.status}: {answer.decode(errors='replace')[:500]}")
        refused = [result for result in json.loads(answer).get("results", {}).values() if result["result"] != "ok"]
        if refused:
            raise SokujiError(f"the collector refused {len(refused)} purchases, the first one with: {refused[0]}")
        acknowledged += len(events)
        on_sent(len(events))
    connection.close()
    return acknowledged

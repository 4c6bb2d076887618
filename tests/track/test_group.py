"""Group commit: a request becomes durable whenever it comes, without waiting for a later request."""

import asyncio
from pathlib import Path

import pytest

from sokuji.errors import InvalidRequestError
from sokuji.track.check import Limits
from sokuji.track.committer import Committer
from sokuji.track.group import GroupCommit
from sokuji.track.metrics import TrackMetrics
from sokuji.track.parse import parse_event
from sokuji.track.request import Request
from sokuji.web.write_keys import EventSource
from tests.track.collector import logs


def request(name: str) -> Request:
    found = parse_event(b'{"type":"page","anonymousId":"v","messageId":"%b"}' % name.encode())
    found.source, found.received_at = EventSource("shop", "main"), 1
    return found


@pytest.mark.parametrize("rounds", range(8))
def test_a_request_that_comes_as_a_flush_ends_is_flushed(tmp_path: Path, rounds: int) -> None:
    """`rounds` turns of the event loop after the answer to the one before."""

    async def main(group: GroupCommit) -> None:
        loop = asyncio.get_running_loop()
        second: asyncio.Future[InvalidRequestError | None] = loop.create_future()

        def later(left: int) -> None:
            if left:
                loop.call_soon(later, left - 1)
            else:
                group.commit(request("second"), second.set_result)

        group.commit(request("first"), lambda _: later(rounds))
        assert await asyncio.wait_for(second, 10) is None

    with logs(tmp_path) as (events, bad_events):
        group = GroupCommit(Committer(events, bad_events, Limits(), 60), 100, TrackMetrics())
        asyncio.run(main(group))
        group.close()
        assert sum(map(events.end, range(events.partitions))) == 2

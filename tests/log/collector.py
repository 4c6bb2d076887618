"""The real collector on a log of small segments, as a process to be killed: `collector FOLDER` prints its port."""

from __future__ import annotations

import sys
from pathlib import Path

from sokuji.config import TrackSettings
from sokuji.events import BAD_EVENT_SCHEMA, BAD_EVENTS_LOG, EVENT_SCHEMA, EVENTS_LOG
from sokuji.log.local.log import LocalLog
from sokuji.track.app import Track
from sokuji.web.server import serve
from sokuji.web.write_keys import EventSource

WRITE_KEY = "key"
PARTITIONS = 3


def open_events(folder: Path) -> LocalLog:
    """The log of events that the collector writes."""
    return LocalLog(folder, EVENT_SCHEMA, name=EVENTS_LOG, partitions=PARTITIONS, segment_bytes=256 * 1024)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    bad_events = LocalLog(folder, BAD_EVENT_SCHEMA, name=BAD_EVENTS_LOG, partitions=1)
    app = Track({WRITE_KEY: EventSource("web", "main")}, open_events(folder), bad_events, TrackSettings(port=0))
    serve(app, TrackSettings(port=0), lambda port: print(port, flush=True))

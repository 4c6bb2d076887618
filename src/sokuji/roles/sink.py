"""The `sink` role: from the log to the lake."""

from __future__ import annotations

import logging
from pathlib import Path

from sokuji.backends import Backends
from sokuji.config import load
from sokuji.service import descriptors, logs
from sokuji.service.health import HealthServer
from sokuji.service.metrics import render
from sokuji.service.priority import give_way
from sokuji.service.stop import until_stopped

_LOG = logging.getLogger(__name__)


def run_sink(folder: Path) -> None:
    """The sink of the project in `folder`, until it is asked to end; it then commits what the log holds.

    It gives way to the other roles where processors are short: a query sees what the sink has not come to yet, and a visitor waits for
    the others.
    """
    logs.configure("sink")
    descriptors.allow_all()
    give_way()
    config = load(folder)
    backends = Backends(config)
    with (
        until_stopped() as stop,
        backends.make_sink() as sink,
        HealthServer("127.0.0.1", config.lake.health_port, ready=lambda: True, metrics=lambda: render(sink.metrics)) as health,
    ):
        _LOG.info("writing to the lake", extra={"folder": str(config.data / "lake"), "health_port": health.port})
        sink.run(stop)
    backends.close()

"""The `sink` role: move the log into the lake."""

from __future__ import annotations

import logging

from sokuji.backends import Backends
from sokuji.roles.base import SINK, ProjectFolder
from sokuji.service import descriptors
from sokuji.service.health import HealthServer
from sokuji.service.metrics import render
from sokuji.service.priority import give_way
from sokuji.service.stop import until_stopped

_LOG = logging.getLogger(__name__)


def run(project: ProjectFolder) -> None:
    """Write the log to the lake until this process is asked to end; then commit what the log holds.

    The sink has a lower priority than the other roles: queries also see rows that it has not committed yet, but visitors wait for the other
    roles.
    """
    descriptors.allow_all()
    give_way()
    backends = Backends(project.config)
    _, host, port = SINK.health(project.config)
    with (
        until_stopped() as stop,
        backends.make_sink() as sink,
        HealthServer(host, port, ready=lambda: True, metrics=lambda: render(sink.metrics)) as health,
    ):
        _LOG.info("writing to the lake", extra={"folder": str(project.config.data / "lake"), "health_port": health.port})
        sink.run(stop)
    backends.close()

"""The `analyze` role: compute features and decisions at each event."""

from __future__ import annotations

import logging
import threading

from sokuji.backends import Backends
from sokuji.roles.base import ANALYZE, ProjectFolder
from sokuji.service import descriptors
from sokuji.service.health import HealthServer
from sokuji.service.metrics import render
from sokuji.service.stop import until_stopped

_LOG = logging.getLogger(__name__)


def run(project: ProjectFolder) -> None:
    """Process events until this process is asked to end; then process the rest of the log and save the state."""
    descriptors.allow_all()
    backends = Backends(project.config)

    def sql(text: str) -> None:
        from sokuji.platform import Platform  # imports SQL and models; only a start with rules that were not applied needs it

        with Platform(project.config, project.folder) as platform:
            platform.sql(text)

    backends.keep_results_views(project.folder, sql)
    with until_stopped() as stop:
        while _works(backends, project, stop):
            _LOG.warning("opening the worker again, to find the event that killed it")
    backends.close()


def _works(backends: Backends, project: ProjectFolder, stop: threading.Event) -> bool:
    """Let a worker run. Returns whether it must be opened again."""
    _, host, port = ANALYZE.health(project.config)
    with (
        backends.make_worker(project.folder) as worker,
        HealthServer(host, port, ready=lambda: not worker.is_replaying, metrics=lambda: render(worker.metrics)) as health,
    ):
        _LOG.info("working on events", extra={"datasets": sorted(worker.stages), "health_port": health.port})
        return worker.run(stop)

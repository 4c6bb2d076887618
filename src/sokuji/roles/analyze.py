"""The `analyze` role: features and decisions at each event."""

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
    """Work on events until this process is asked to end; then work the log off and save the state."""
    descriptors.allow_all()
    backends = Backends(project.config)

    def sql(text: str) -> None:
        from sokuji.platform import Platform  # which imports SQL and models: only a start with rules that were not applied pays that

        with Platform(project.config, project.folder) as platform:
            platform.sql(text)

    backends.keep_results_views(project.folder, sql)
    with until_stopped() as stop:
        while _works(backends, project, stop):
            _LOG.warning("opening the worker again, to find the event that killed it")
    backends.close()


def _works(backends: Backends, project: ProjectFolder, stop: threading.Event) -> bool:
    """Let a worker run; whether it must be opened again."""
    _, host, port = ANALYZE.health(project.config)
    with (
        backends.make_worker(project.folder) as worker,
        HealthServer(host, port, ready=lambda: not worker.is_replaying, metrics=lambda: render(worker.metrics)) as health,
    ):
        _LOG.info("working on events", extra={"datasets": sorted(worker.stages), "health_port": health.port})
        return worker.run(stop)

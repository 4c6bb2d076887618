"""The `analyze` role: features and decisions at each event."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from sokuji.backends import Backends
from sokuji.config import load
from sokuji.service import descriptors, logs
from sokuji.service.health import HealthServer
from sokuji.service.metrics import render
from sokuji.service.stop import until_stopped

_LOG = logging.getLogger(__name__)


def run_analyze(folder: Path) -> None:
    """The worker of the project in `folder`, until it is asked to end; it then works the log off and saves its state."""
    logs.configure("analyze")
    descriptors.allow_all()
    config = load(folder)
    backends = Backends(config)

    def sql(text: str) -> None:
        from sokuji.platform import Platform  # which imports SQL and models: only a start with rules that were not applied pays that

        with Platform(config, folder) as platform:
            platform.sql(text)

    backends.keep_results_views(folder, sql)
    with until_stopped() as stop:
        while _works(backends, folder, stop):
            _LOG.warning("opening the worker again, to find the event that killed it")
    backends.close()


def _works(backends: Backends, folder: Path, stop: threading.Event) -> bool:
    """Let a worker run; whether it must be opened again."""
    port = backends.config.analyze.health_port
    with (
        backends.make_worker(folder) as worker,
        HealthServer("127.0.0.1", port, ready=lambda: not worker.is_replaying, metrics=lambda: render(worker.metrics)) as health,
    ):
        _LOG.info("working on events", extra={"datasets": sorted(worker.stages), "health_port": health.port})
        return worker.run(stop)

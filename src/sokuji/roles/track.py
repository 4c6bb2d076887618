"""The `track` role: the collector."""

from __future__ import annotations

import logging
from pathlib import Path

from sokuji.act.secret import Secret
from sokuji.backends import Backends
from sokuji.config import ACTIONS_FILE, load
from sokuji.errors import SokujiError
from sokuji.service import logs
from sokuji.service.health import HealthServer
from sokuji.service.proxies import Proxies
from sokuji.service.stop import end_with_supervisor
from sokuji.track.app import Decided, Track
from sokuji.web.server import serve
from sokuji.web.write_keys import sources

_LOG = logging.getLogger(__name__)


def run_track(folder: Path) -> None:
    """The collector of the project in `folder`, until it is asked to end; it then answers what is under way."""
    logs.configure("track")
    config = load(folder)
    end_with_supervisor()
    backends = Backends(config)
    if not config.sources:
        raise SokujiError(f"{folder}/sokuji.toml has no [sources.NAME]: without a write key nobody can send events")
    secret = Secret.open(config.data / "secret")
    decided = _decided(backends, secret) if (folder / ACTIONS_FILE).exists() else None
    server_keys = {secret.server_key(dataset): dataset for dataset in backends.datasets}
    app = Track(
        sources(config.sources),
        backends.events_log,
        backends.bad_events_log,
        config.track,
        server_keys=server_keys,
        decided=decided,
        proxies=Proxies(config.trusted_proxies),
    )
    with HealthServer("127.0.0.1", config.track.health_port, ready=lambda: app.is_ready, metrics=app.render_metrics):
        serve(app, config.track, lambda port: _LOG.info("listening", extra={"host": config.track.host, "port": port}))
    backends.close()


def _decided(backends: Backends, secret: Secret) -> Decided:
    """Waits for what the worker decides on messages that have just become durable."""
    from sokuji.act.pages.answer import Answering
    from sokuji.act.pages.waiter import Waiter

    config = backends.config
    waiter = Waiter(backends.decisions_log, backends.progress.read)
    return Answering(waiter, backends.events_log, secret, config.act, seconds=config.track.decisions_seconds).decided

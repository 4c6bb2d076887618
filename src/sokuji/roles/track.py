"""The `track` role: the collector."""

from __future__ import annotations

import logging

from sokuji.act.secret import Secret
from sokuji.backends import Backends
from sokuji.errors import SokujiError
from sokuji.roles.base import TRACK, ProjectFolder
from sokuji.service.health import HealthServer
from sokuji.service.proxies import Proxies
from sokuji.service.stop import end_with_supervisor
from sokuji.track.app import Decided, Track
from sokuji.web.server import serve
from sokuji.web.write_keys import sources

_LOG = logging.getLogger(__name__)


def run(project: ProjectFolder) -> None:
    """Collect events until this process is asked to end; then answer the pending requests."""
    config = project.config
    end_with_supervisor()
    backends = Backends(config)
    if not config.sources:
        raise SokujiError(f"{project.folder}/sokuji.toml has no [sources.NAME]: without a write key nobody can send events")
    secret = Secret.open(config.data / "secret")
    decided = _decided(backends, secret) if project.actions is not None else None
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
    _, host, port = TRACK.health(config)
    with HealthServer(host, port, ready=lambda: app.is_ready, metrics=app.render_metrics):
        serve(app, config.track, lambda port: _LOG.info("listening", extra={"host": config.track.host, "port": port}))
    backends.close()


def _decided(backends: Backends, secret: Secret) -> Decided:
    """Waits for the worker's decisions on messages that have just become durable."""
    from sokuji.act.pages.answer import Answering
    from sokuji.act.pages.waiter import Waiter

    config = backends.config
    waiter = Waiter(backends.decisions_log, backends.progress.read)
    return Answering(waiter, backends.events_log, secret, config.act, seconds=config.track.decisions_seconds).decided

"""The `api` role: send decisions to pages."""

from __future__ import annotations

import logging
from functools import partial

from msgspec import structs

from sokuji.act.pages.app import Act
from sokuji.act.secret import Secret
from sokuji.backends import Backends
from sokuji.roles.base import API, ProjectFolder
from sokuji.service import descriptors
from sokuji.service.health import HealthServer
from sokuji.service.proxies import Proxies
from sokuji.service.stop import end_with_supervisor
from sokuji.web.server import serve
from sokuji.web.write_keys import sources

_LOG = logging.getLogger(__name__)
_SPARE_CONNECTIONS = 1024  # in addition to open streams


def run(project: ProjectFolder) -> None:
    """Serve actions to pages until this process is asked to stop."""
    descriptors.allow_all()
    config = project.config
    end_with_supervisor()
    backends = Backends(config)
    eligibility = backends.make_eligibility(project.folder)
    secret = Secret.open(config.data / "secret")
    connections = descriptors.connections(config.act.streams + _SPARE_CONNECTIONS)
    settings = structs.replace(config.act, streams=min(config.act.streams, connections - min(_SPARE_CONNECTIONS, connections // 2)))
    app = Act(
        sources(config.sources),
        backends.events_log,
        backends.decisions_log,
        secret,
        settings,
        eligibility=eligibility,
        proxies=Proxies(config.trusted_proxies),
    )
    listening = partial(_LOG.info, "listening, port %d")
    _, host, port = API.health(config)
    with HealthServer(host, port, ready=lambda: app.is_ready, metrics=app.render_metrics):
        serve(app, settings, listening, connections=connections)
    backends.close()

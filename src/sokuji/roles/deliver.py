"""The `deliver` role: deliver decisions to webhooks and functions."""

from __future__ import annotations

from functools import partial

from sokuji.act.deliver.perform import performer
from sokuji.act.deliver.role import Deliverer
from sokuji.act.secret import Secret
from sokuji.backends import Backends
from sokuji.config import ACTIONS_FILE
from sokuji.roles.base import DELIVER, ProjectFolder
from sokuji.service.health import HealthServer
from sokuji.service.stop import until_stopped


def run(project: ProjectFolder) -> None:
    """Call webhooks and functions until this process is asked to stop."""
    config = project.config
    backends = Backends(config)
    deliverer = Deliverer(
        backends.decisions_log,
        backends.bad_events_log,
        Secret.open(config.data / "secret"),
        config.webhooks,
        folder=config.data / "deliver",
        load=partial(performer, project.folder / ACTIONS_FILE),
    )
    _, host, port = DELIVER.health(config)
    with until_stopped() as stop, HealthServer(host, port, ready=lambda: True, metrics=deliverer.render_metrics):
        deliverer.run(stop)
    backends.close()

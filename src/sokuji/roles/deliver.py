"""The `deliver` role: decisions to webhooks and functions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sokuji.act.deliver.perform import performer
from sokuji.act.deliver.role import Deliverer
from sokuji.act.secret import Secret
from sokuji.backends import Backends
from sokuji.config import ACTIONS_FILE, load
from sokuji.service import logs
from sokuji.service.health import HealthServer
from sokuji.service.stop import until_stopped


def run_deliver(folder: Path) -> None:
    """What calls the webhooks and functions of the project in `folder`, until it is asked to end."""
    logs.configure("deliver")
    config = load(folder)
    backends = Backends(config)
    deliverer = Deliverer(
        backends.decisions_log,
        backends.bad_events_log,
        Secret.open(config.data / "secret"),
        config.webhooks,
        folder=config.data / "deliver",
        load=partial(performer, folder / ACTIONS_FILE),
    )
    port = config.webhooks.health_port
    with until_stopped() as stop, HealthServer("127.0.0.1", port, ready=lambda: True, metrics=deliverer.render_metrics):
        deliverer.run(stop)
    backends.close()

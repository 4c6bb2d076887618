"""The contract of a role, and the table of all roles: the ports of each role, what it reads, and how it runs.

Importing this module imports none of the roles' packages, so that `sokuji --help` can list the roles fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sokuji.config import Config

_THIS_MACHINE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ProjectFolder:
    """A project as a role finds it at its start."""

    folder: Path
    config: Config

    @classmethod
    def load(cls, folder: Path) -> ProjectFolder:
        """Load the project in `folder`. Raises ConfigError."""
        from sokuji.config import load

        return cls(folder, load(folder))

    @property
    def features(self) -> bytes | None:
        """The content of `features.py`; None without this file."""
        from sokuji.config import FEATURES_FILE

        return _content(self.folder / FEATURES_FILE)

    @property
    def actions(self) -> bytes | None:
        """The content of `actions.py`; None without this file."""
        from sokuji.config import ACTIONS_FILE

        return _content(self.folder / ACTIONS_FILE)

    @property
    def rebuilt_file(self) -> Path:
        """A file whose content changes each time that features are rebuilt from the lake."""
        return self.config.data / "rebuilt"

    @property
    def declared(self) -> tuple[bytes | None, ...]:
        """The files that a role reads to compile features and rules."""
        return self.features, self.actions, _content(self.rebuilt_file)


class RolePort(NamedTuple):
    """A port on which a role listens."""

    setting: str  # its key in sokuji.toml
    host: str
    port: int  # 0: any free port


@dataclass(frozen=True, slots=True)
class Role:
    """A part of the platform that runs as a process. `sokuji NAME` runs one role alone; `sokuji up` runs all roles that a project needs.

    Every role answers `/health`, `/ready` and `/metrics` on its health port, for this machine only.
    """

    name: str
    summary: str
    section: str
    """The role's section of sokuji.toml. It has `health_port`, and `host` and `port` if the role serves clients."""
    serves_clients: bool
    is_needed: Callable[[ProjectFolder], bool]
    reads: Callable[[ProjectFolder], object]
    """The configuration that the role reads at its start. `sokuji apply` restarts the role when this changes."""
    run: Callable[[ProjectFolder], None]
    """Work until this process is asked to stop (`service/stop.py`; for a server: `web/event_loop.py`), then drain."""

    def start(self, folder: Path) -> None:
        """Run the role of the project in `folder` in this process, until the process is asked to stop."""
        from sokuji.service import logs

        logs.configure(self.name)
        self.run(ProjectFolder.load(folder))

    def health(self, config: Config) -> RolePort:
        """The health port."""
        return RolePort(f"{self.section}.health_port", _THIS_MACHINE, getattr(config, self.section).health_port)

    def ports(self, config: Config) -> list[RolePort]:
        """All ports. If the role serves clients, the first is the clients' port."""
        settings = getattr(config, self.section)
        served = [RolePort(f"{self.section}.port", settings.host, settings.port)] if self.serves_clients else []
        return [*served, self.health(config)]

    def ready_url(self, config: Config) -> str | None:
        """The URL that answers 200 once the role can work; None if the port is known only at run time."""
        _, host, port = self.ports(config)[0]
        return f"http://{host}:{port}/ready" if port else None


def _track(project: ProjectFolder) -> None:
    from sokuji.roles.track import run

    run(project)


def _analyze(project: ProjectFolder) -> None:
    from sokuji.roles.analyze import run

    run(project)


def _api(project: ProjectFolder) -> None:
    from sokuji.roles.api import run

    run(project)


def _deliver(project: ProjectFolder) -> None:
    from sokuji.roles.deliver import run

    run(project)


def _sink(project: ProjectFolder) -> None:
    from sokuji.roles.sink import run

    run(project)


TRACK = Role(
    "track",
    "Run the collector alone.",
    section="track",
    serves_clients=True,
    is_needed=lambda _: True,
    reads=lambda project: (
        project.config.track,
        project.config.trusted_proxies,
        project.config.sources,
        None if project.actions is None else project.config.act,
    ),
    run=_track,
)
ANALYZE = Role(
    "analyze",
    "Run the worker alone: features, rules and decisions on events as they come.",
    section="analyze",
    serves_clients=False,
    is_needed=lambda project: project.features is not None or project.actions is not None,
    reads=lambda project: (project.config.analyze, project.config.sources, project.declared),
    run=_analyze,
)
API = Role(
    "api",
    "Run the server of actions for pages alone.",
    section="act",
    serves_clients=True,
    is_needed=lambda project: project.actions is not None,
    reads=lambda project: (project.config.act, project.config.trusted_proxies, project.config.sources, project.declared),
    run=_api,
)
DELIVER = Role(
    "deliver",
    "Run the delivery of webhooks and functions alone.",
    section="webhooks",
    serves_clients=False,
    is_needed=lambda project: project.actions is not None,
    reads=lambda project: (project.config.webhooks, project.config.sources, project.declared),
    run=_deliver,
)
SINK = Role(
    "sink",
    "Run the sink alone: from the log into the lake.",
    section="lake",
    serves_clients=False,
    is_needed=lambda _: True,
    reads=lambda project: (project.config.lake, sorted({source.dataset for source in project.config.sources.values()})),
    run=_sink,
)
ROLES = (TRACK, ANALYZE, API, DELIVER, SINK)
"""All roles, in the order in which events pass through them. They are drained in this order."""


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None

"""`sokuji apply`: a running platform applies the changes in its project's folder, and nothing else."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import sokuji
from sokuji.proof import visitor_id_of
from sokuji.roles.up import running
from tests.e2e import command
from tests.e2e.killing import role_pid
from tests.e2e.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SETTINGS = """
[track]
port = {0}
health_port = {5}
decisions_seconds = 20

[act]
port = {1}
health_port = {6}

[analyze]
health_port = {2}

[webhooks]
health_port = {3}

[lake]
health_port = {4}

[sources.web]
write_key = "wk_test"
"""
FEATURES = """
from sokuji.features import events, view

view("shopper", entity="visitor", buys=events("buy").count())
"""
RULE = """
from sokuji.rules import popup, rule

rule("{name}", on="buy", when="buys = {buys}", do=popup(title="{name}"))
"""
MODEL = """
CREATE OR REPLACE MODEL main.size OPTIONS (model_type = 'kmeans', num_clusters = {clusters}) AS
SELECT revenue FROM main.events WHERE event_name = 'buy'
"""
ROLES = ("track", "analyze", "api", "deliver", "sink")


class Shop:
    """A project that runs."""

    def __init__(self, folder: Path, port: int, supervisor: int) -> None:
        self.folder, self._port, self._supervisor = folder, port, supervisor

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / (f"models/{name}.sql" if name in {"size", "other"} else f"{name}.py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def buy(self, number: int, visitor: str = "v1") -> list[str]:
        """The titles that a purchase brings at once."""
        who = {"writeKey": "wk_test", "anonymousId": visitor_id_of(visitor), "proof": visitor}
        event = {"event": "buy", "messageId": f"{visitor}-{number}", "properties": {"revenue": number}, **who}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request("POST", "/v1/track?decisions=wait", json.dumps(event), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return [decision["action"]["title"] for decision in answer["decisions"]]

    def pids(self) -> dict[str, int | None]:
        return {role: role_pid(self._supervisor, role) for role in ROLES}

    def apply(self, *options: str) -> dict[str, Any]:
        done = run_apply(self.folder, "--json", *options)
        assert done.exit_code == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


def run_apply(folder: Path, *options: str) -> Result:
    return command.sokuji("apply", "-p", folder, *options)


def write_project(folder: Path, port: int) -> None:
    (folder / "sokuji.toml").write_text(SETTINGS.format(port, *(free_port() for _ in range(6))))
    (folder / "features.py").write_text(FEATURES)
    (folder / "actions.py").write_text(RULE.format(name="first", buys=2))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder, port = tmp_path_factory.mktemp("shop"), free_port()
    write_project(folder, port)
    with running(folder) as supervisor:
        yield Shop(folder, port, supervisor.pid)


def test_what_changed_is_taken_up_and_the_rest_goes_on(shop: Shop) -> None:
    assert [shop.buy(number) for number in (1, 2)] == [[], ["first"]]
    everything = ["sokuji.toml", "features.py", "actions.py"]
    assert shop.apply() == {"changed": everything, "running": True, "restarted": [], "dry_run": False}
    assert shop.apply() == {"changed": [], "running": True, "restarted": [], "dry_run": False}

    before = shop.pids()
    shop.write(actions=RULE.format(name="second", buys=4), size=MODEL.format(clusters=2))
    expected = {"changed": ["actions.py", "models/size.sql"], "running": True, "restarted": ["analyze", "api", "deliver"]}
    assert shop.apply("--dry-run") == expected | {"dry_run": True}
    assert shop.pids() == before
    assert shop.apply() == expected | {"dry_run": False}
    after = shop.pids()
    assert [role for role in ROLES if after[role] != before[role]] == ["analyze", "api", "deliver"]
    # The new rule holds, the old one does not, and the two purchases from before are still known.
    assert [shop.buy(number) for number in (3, 4)] == [[], ["second"]]

    shop.write(other=MODEL.format(clusters=3).replace("size", "other"))
    (shop.folder / "models" / "size.sql").unlink()
    assert shop.apply() == {"changed": ["models/other.sql", "models/size.sql"], "running": True, "restarted": [], "dry_run": False}
    with sokuji.open(shop.folder) as platform:
        assert [len(platform.models.versions(model)) for model in platform.engine.catalog.reserved()] == [1, 1]


def test_a_mistake_is_told_and_changes_nothing(shop: Shop) -> None:
    shop.apply()
    brought, before = [shop.buy(number, "v2") for number in range(4)], shop.pids()
    assert any(brought)
    shop.write(features=FEATURES.replace("count()", "sum()"))
    done = run_apply(shop.folder)
    assert done.exit_code == 1
    assert "features.py:4" in done.stderr
    shop.write(features=FEATURES.replace('events("buy")', 'events("buy").where("nonsense(1)")'))
    assert "Function not found: nonsense" in run_apply(shop.folder, "--dry-run").stderr
    shop.write(features=FEATURES, size="SELECT nothing FROM main.events")
    assert "models/size.sql: Unrecognized name: nothing" in run_apply(shop.folder).stderr
    assert shop.pids() == before
    assert [shop.buy(number, "v3") for number in range(4)] == brought


def test_without_a_running_platform_it_checks_and_says_so(tmp_path: Path) -> None:
    write_project(tmp_path, 0)
    done = run_apply(tmp_path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "features.py: changed" in done.stdout
    assert "`sokuji up` starts it" in done.stdout

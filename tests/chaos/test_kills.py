"""Every role and the supervisor are killed under load: nothing is lost or doubled, and all readers agree."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from sokuji.roles.up import running
from tests.act.receiver import Receiver
from tests.chaos import oracle, shop
from tests.chaos.shop import Customer, trading
from tests.conftest import IS_LONG
from tests.e2e.killing import kill_role

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROLES = ("track", "analyze", "sink", "deliver", "api")
SEED = int(os.environ.get("SOKUJI_TEST_LONG", "2019"))
KILLS = 60 if IS_LONG else 2
SUPERVISORS = 6 if IS_LONG else 1


@contextmanager
def killed_in_the_end(folder: Path) -> Iterator[int]:
    """`sokuji up`, whose supervisor is killed with SIGKILL when the block ends; its roles must then end by themselves."""
    with running(folder) as supervisor:
        yield supervisor.pid
        roles = _children(supervisor.pid)
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.wait(10)
        deadline = time.monotonic() + 60
        while any(_is_alive(pid) for pid in roles):
            assert time.monotonic() < deadline, "a role outlives its supervisor"
            time.sleep(0.05)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_killed_at_any_moment_everything_agrees_afterwards(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with closing(Receiver()) as receiver:
        receiver.answer = lambda _: chance.choice([200, 200, 500])
        port = shop.make(tmp_path, receiver.host)
        customers = [Customer(f"c{number}", port, SEED) for number in range(3)]
        with ExitStack() as platform:
            with ExitStack() as trade:
                for number in range(SUPERVISORS):
                    with killed_in_the_end(tmp_path) as supervisor:
                        if number == 0:  # what comes before the worker's first start is history, of which nothing is decided
                            trade.enter_context(trading(customers))
                        for _ in range(KILLS // SUPERVISORS):
                            time.sleep(chance.uniform(0.2, 1.5))
                            kill_role(supervisor, chance.choice(ROLES))
                platform.enter_context(running(tmp_path))
            oracle.check_running(tmp_path, customers)
        oracle.check(tmp_path, customers, receiver)
    assert any(customer.repeated for customer in customers)

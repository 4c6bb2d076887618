"""The machine's clock steps forward and back under load: repeats stay repeats, and all readers agree."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sokuji.roles.up import running
from tests.act.receiver import Receiver
from tests.chaos import oracle, shop
from tests.chaos.shop import Customer, trading

pytestmark = [pytest.mark.e2e, pytest.mark.long]
HOUR, DAY = 3600.0, 86_400.0
STEPS = (0.0, -2 * HOUR, 3 * DAY, 0.0, HOUR, -30 * DAY, 0.0)
_SOURCE = Path(__file__).parent / "stepped_clock.c"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here for the clock that can be stepped")
def test_a_clock_that_jumps_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, library, project = tmp_path / "step", tmp_path / "stepped_clock.so", tmp_path / "shop"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, _SOURCE], check=True)
    step.write_bytes(struct.pack("d", STEPS[0]))
    with closing(Receiver()) as receiver, ExitStack() as platform:
        port = shop.make(project, receiver.host)
        customers = [Customer(f"c{number}", port, 0) for number in range(3)]
        with monkeypatch.context() as stepped:
            stepped.setenv("LD_PRELOAD", str(library))
            stepped.setenv("SOKUJI_CLOCK_STEP", str(step))
            platform.enter_context(running(project))
        with trading(customers):
            for seconds in STEPS:
                with step.open("r+b") as file:
                    file.write(struct.pack("d", seconds))
                time.sleep(4)
        oracle.check_running(project, customers, but=["last_item"])
        oracle.check(project, customers, receiver)

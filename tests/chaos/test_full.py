"""The disk and the shared memory are full for a while: only stored events are acknowledged, and all acknowledged events are there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sokuji.roles.up import running
from tests.act.receiver import Receiver
from tests.chaos import oracle, shop
from tests.chaos.shop import Customer, trading

_CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True).returncode == 0
)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.skipif(not _CAN_MOUNT, reason="a disk that is full is mounted, which needs unshare and its rights"),
]
DISK_MIB, SHARED_MIB = 192, 96
_FULL_SECONDS = 8.0


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_what_does_not_fit_is_not_acknowledged_and_all_else_is_kept(tmp_path: Path, place: str) -> None:
    """In a process with mounts of its own, which end with it."""
    mounts = f"mount -t tmpfs -o size={DISK_MIB}m none {tmp_path} && mount -t tmpfs -o size={SHARED_MIB}m none /dev/shm"
    command = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", sys.executable, "-m", __name__, place, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-20_000:]


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    """No byte is free in the folder's file system meanwhile."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            yield
        finally:
            filler.unlink()


def main(place: str, folder: Path) -> None:
    project = folder / "shop"
    with closing(Receiver()) as receiver:
        port = shop.make(project, receiver.host)
        customers = [Customer(f"c{number}", port, 0) for number in range(3)]
        with running(project):
            with trading(customers):
                for _ in range(3):
                    time.sleep(4)
                    with _full(Path("/dev/shm") if place == "memory" else folder):
                        time.sleep(_FULL_SECONDS)
            oracle.check_running(project, customers)
            oracle.check(project, customers, receiver)
        oracle.check(project, customers, receiver)
    assert place == "memory" or any(customer.repeated for customer in customers)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

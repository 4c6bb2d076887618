"""The live demo: a simulated shop sends events to a real platform, and a dashboard shows the outcomes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from sokuji.backends import Backends
from sokuji.config import ACTIONS_FILE, FEATURES_FILE, SETTINGS_FILE, load
from sokuji.demo import shop
from sokuji.demo.dashboard import Look, dashboard
from sokuji.demo.figures import Figures
from sokuji.demo.project import MARK, free_ports, make
from sokuji.demo.stream import follow, send
from sokuji.demo.visitors import Visitors
from sokuji.errors import SokujiError
from sokuji.platform import Platform
from sokuji.roles.up import running
from sokuji.verify.compare import Verification

SEED = 2019
SAMPLE = 0.1
_REFRESH_SECONDS = 0.25
_VERIFY_SECONDS = 5.0
_WAIT_SECONDS = 60.0


def run(folder: Path, *, rate: float, seconds: float | None, print_json: bool) -> None:
    """Run the demo in `folder` for `seconds`, or until Ctrl-C if None, with `rate` events per second on average.

    Raises:
        SokujiError: the folder is not the demo's own, or a part of the platform failed; the message says which.
    """
    console = Console(stderr=print_json)
    ports = free_ports()
    settings = shop.SETTINGS.format(mark=MARK, sample=SAMPLE, ports=ports)
    make(folder, {SETTINGS_FILE: settings, FEATURES_FILE: shop.FEATURES, ACTIONS_FILE: shop.ACTIONS})
    log = folder / "platform.log"
    console.print("Starting the platform; the first start on a machine compiles for about a minute ...")
    with running(folder, log=log), Platform.open(folder) as platform, Backends(load(folder)) as backends:
        console.print(f"It runs in [bold]{folder}[/], its collector on port {ports['track.port']}; what it logs is in {log}.")
        figures = Figures()
        with _traffic(backends, Visitors(rate, SEED), ports["track.port"], figures) as is_flowing:
            _show(console, platform, figures, lambda: is_flowing() and (seconds is None or figures.seconds() < seconds))
        _wait(platform.uncommitted_events, "are not in the lake")
        result = _result(platform, figures, platform.verify_features())
    console.print(_summary(result), highlight=False)
    if print_json:
        print(json.dumps(result), flush=True)  # noqa: T201 - the command's answer


@contextmanager
def _traffic(backends: Backends, visitors: Visitors, port: int, figures: Figures) -> Iterator[Callable[[], bool]]:
    """Send events and follow decisions during the block. The value tells whether both still run. Their errors are raised at the end."""
    no_more, over = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        sending = pool.submit(send, port, shop.WRITE_KEY, visitors.events(), figures, no_more)
        following = pool.submit(follow, backends.decisions_log, figures, over)
        try:
            yield lambda: not sending.done() and not following.done()
            no_more.set()
            sending.result()
            _wait(lambda: backends.events_log.lag(backends.progress.read()), "are not worked on")
        finally:
            no_more.set()
            over.set()
    following.result()


def _show(console: Console, platform: Platform, figures: Figures, goes_on: Callable[[], bool]) -> None:
    """Show the dashboard while `goes_on()` is true, or until Ctrl-C."""
    with ThreadPoolExecutor(1) as pool, suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        comparing = _Every(_VERIFY_SECONDS, partial(pool.submit, platform.verify_features))
        while goes_on():
            look = Look(platform.uncommitted_events(), comparing.look(), _shoppers(figures, platform))
            live.update(dashboard(figures, look), refresh=True)
            time.sleep(_REFRESH_SECONDS)
    console.print("\nWaiting for the worker and the lake ...")


class _Every:
    """Repeats a task in the background, `seconds` after its last end, and keeps the last result."""

    def __init__(self, seconds: float, begin: Callable[[], Future[Verification]]) -> None:
        self._seconds, self._begin = seconds, begin
        self._under_way: Future[Verification] | None = None
        self._due = time.monotonic() + seconds
        self._last: Verification | None = None

    def look(self) -> Verification | None:
        """The last result; starts the task if it is due."""
        if self._under_way is not None and self._under_way.done():
            self._last, self._under_way = self._under_way.result(), None
            self._due = time.monotonic() + self._seconds
        if self._under_way is None and time.monotonic() >= self._due:
            self._under_way = self._begin()
        return self._last


def _shoppers(figures: Figures, platform: Platform) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (
            decision.profile,
            str((decision.action or {}).get("title", "")),
            platform.online_features(None if decision.user_id else decision.visitor_id, user_id=decision.user_id, dataset=shop.DATASET),
        )
        for decision in list(figures.newest)[::-1]
    ]


def _wait(left: Callable[[], int], trouble: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while events := left():
        if time.monotonic() > deadline:
            raise SokujiError(f"{events:,} events {trouble} after {_WAIT_SECONDS:.0f} s; see platform.log in the demo's folder")
        time.sleep(0.1)


def _result(platform: Platform, figures: Figures, found: Verification) -> dict[str, Any]:
    query = f"SELECT COUNT(*), COUNTIF(is_bot), COUNT(DISTINCT keys.visitor_id) FROM {shop.DATASET}.events WHERE source = 'web'"
    [(events, bots, visitors)] = platform.sql(query).rows()
    return {
        "seconds": round(figures.seconds(), 1),
        "events_acked": figures.events,
        "events_sent_twice": figures.repeats,
        "events_in_lake": events,
        "events_of_bots": bots,
        "visitors": visitors,
        "decisions": figures.by_rule(),
        "decision_ms": figures.decision_ms(),
        "acknowledgement_ms": figures.acknowledgement_ms(),
        "verify": found.json(),
    }


def _summary(result: dict[str, Any]) -> str:
    verify, latency = result["verify"], result["decision_ms"]
    decided = sum(sum(counts.values()) for counts in result["decisions"].values())
    times = f", in {latency['p50']:.1f} ms at the median and {latency['p99']:.1f} ms for 99 %" if latency else ""
    return (
        f"\n{result['events_acked']:,} events of {result['visitors']:,} visitors acknowledged, {result['events_in_lake']:,} in the lake "
        f"({result['events_of_bots']:,} of bots).\n{decided:,} decisions{times}.\n{verify['rows']:,} served rows compared with the lake: "
        f"{verify['mismatches']} mismatches, {verify['missing']} missing, {verify['extra']} extra."
    )

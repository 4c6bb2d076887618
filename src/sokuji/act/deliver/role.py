"""The `deliver` role: carries out decisions by webhooks and functions, at least once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa

from sokuji.act.decision import CALL, WEBHOOK, MalformedDecisionError, Recorded, decisions, iso
from sokuji.act.deliver.address import RefusedAddressError, parse
from sokuji.act.deliver.functions import Functions, Perform
from sokuji.act.deliver.outcome import DeliveryOutcome
from sokuji.act.deliver.queue import Delivery, Queue
from sokuji.act.deliver.retry import Breaker, pause_seconds, pause_seconds_max
from sokuji.act.deliver.webhook import Webhooks
from sokuji.act.fate import DELIVERED, FAILED, Fate, recorded, to_events
from sokuji.act.follow import PARTITION
from sokuji.act.secret import Secret
from sokuji.clock import Clock, now_us, steady
from sokuji.config import WebhookSettings
from sokuji.errors import OffsetTrimmedError
from sokuji.events import BAD_EVENT_SCHEMA, OWN_SOURCE
from sokuji.log.base import Log
from sokuji.service import metrics

logger = logging.getLogger(__name__)

CONSUMER = "deliver"
"""The role's consumer name in the decisions log."""

_READ_ROWS = 500
# How often to look for due deliveries; pauses are longer.
_LOOK_SECONDS = 0.1
# How often a thread that waits for the log checks whether it is still needed.
_WAIT_SECONDS = 0.05
_STOP_SECONDS = 5.0
_PAYLOAD_BYTES_MAX = 64 * 1024


class Deliverer:
    """Reads the decisions log, keeps deliveries in a queue on disk, and delivers them with retries.

    Delivery is at least once. After a crash, deliveries not yet recorded as delivered are sent again, with the same id. The outcome of each
    is an event in the decisions log, exactly once. A decision that cannot be delivered is also a row of the `bad_events` log, with the
    message. For one thread at a time.
    """

    def __init__(
        self,
        decisions_log: Log,
        bad_events_log: Log,
        secret: Secret,
        settings: WebhookSettings,
        *,
        folder: Path,
        load: Callable[[], Perform] | None = None,
        clock: Clock = now_us,
    ) -> None:
        """Keep the queue in `folder`.

        `load` returns the function that carries out the project's functions; it is called in another process.
        """
        self._log, self._bad_events_log, self._settings, self._clock = decisions_log, bad_events_log, settings, clock
        self._due_clock = steady(clock)  # a pause keeps its length even if the machine's clock is changed
        taken = self._log.committed(CONSUMER).get(PARTITION, 0)
        self._queue = Queue(folder / "queue.db", is_new=not taken)
        self._webhooks = Webhooks(secret, settings.timeout_seconds, frozenset(settings.private_hosts))
        self._functions = None if load is None else Functions(load, settings.function_seconds)
        self._function_thread = ThreadPoolExecutor(1, thread_name_prefix="deliver-function")
        self._log_thread = ThreadPoolExecutor(1, thread_name_prefix="deliver-log")
        self._offset = max(self._queue.position(), taken)
        # Deliveries whose outcome the last process logged but did not remove from the queue.
        outcomes = recorded(self._log, self._queue.outcomes_position())
        self._not_put_down = 0  # rows that a start after a crash would read again
        self._ended = {decision_id for event, decision_id, _ in outcomes if event in {DELIVERED, FAILED}}
        now = self._due_clock()
        latest = now + int(pause_seconds_max(settings) * 1_000_000)
        early = [delivery._replace(due_us=now) for delivery in self._queue.due_after(latest)]  # the clock was set back since
        self._queue.settle(self._ended, early, self._log.end(PARTITION))
        self._wake = asyncio.Event()
        self._breakers: dict[str, Breaker] = {}
        self._attempts: dict[str, tuple[Delivery, asyncio.Task[DeliveryOutcome]]] = {}  # running, by id
        self._results = metrics.counter("sokuji_deliver_attempts_total", "Attempts to deliver, by result.", ["result"])
        self._seconds = metrics.histogram("sokuji_deliver_attempt_seconds", "One attempt.")
        self._waiting = metrics.gauge("sokuji_deliver_queue", "Deliveries to be made.")
        self._waiting.labels().set_function(lambda: len(self._queue))

    def render_metrics(self) -> str:
        """The role's metrics in Prometheus' text format."""
        return metrics.render([self._results, self._seconds, self._waiting])

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set; running attempts then get a few seconds. Blocks."""
        self._log.commit(CONSUMER, {PARTITION: self._offset})  # from now on, retention waits for this consumer
        try:
            asyncio.run(self._run(stop))
        finally:
            self._log_thread.shutdown()
            self._function_thread.shutdown(cancel_futures=True)
            if self._functions is not None:
                self._functions.close()
            self._queue.close()

    async def _run(self, stop: threading.Event) -> None:
        reading = asyncio.create_task(self._read(stop))
        while not stop.is_set() and not reading.done():
            self._begin_due()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_SECONDS)
            self._wake.clear()
            self._settle()
        if self._attempts:
            await asyncio.wait([task for _, task in self._attempts.values()], timeout=_STOP_SECONDS)
            self._settle()
        await reading  # raises the reader's error

    async def _read(self, stop: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            if len(self._queue) >= self._settings.queue:
                await asyncio.sleep(_LOOK_SECONDS)
            elif self._log.end(PARTITION) > self._offset:
                self._take_in()
                self._wake.set()
                await asyncio.sleep(0)
            else:
                await loop.run_in_executor(self._log_thread, self._log.wait, {PARTITION: self._offset}, _WAIT_SECONDS)

    # -- from the log into the queue

    def _take_in(self) -> None:
        try:
            read = self._log.read(PARTITION, self._offset, _READ_ROWS)
        except OffsetTrimmedError as error:
            logger.error("decisions %d to %d were removed before they were delivered", self._offset, error.start)  # noqa: TRY400
            self._offset = error.start
            return
        deliveries: list[Delivery] = []
        fates: list[Fate] = []
        self._not_put_down += read.batch.num_rows
        is_worth_it = self._not_put_down >= _READ_ROWS
        room = Counter({endpoint: self._settings.endpoint_queue - count for endpoint, count in self._queue.counts.items()})
        for each in decisions(read):
            if isinstance(each, MalformedDecisionError):
                is_worth_it = True
                row = each.row
                self._record(row["dataset"], row["id"], row["properties"] or "", DeliveryOutcome.final("malformed", str(each)))
            elif each.kind in {WEBHOOK, CALL} and each.decision.id not in self._ended:
                delivery = self._delivery(each)
                if room.setdefault(delivery.endpoint, self._settings.endpoint_queue) > 0:
                    room[delivery.endpoint] -= 1
                    deliveries.append(delivery)
                else:
                    reason = f"{self._settings.endpoint_queue} deliveries wait for {delivery.endpoint} already"
                    fates.append(self._fate(delivery, DeliveryOutcome.final("backlog", reason)))
        if deliveries or fates or is_worth_it:  # most rows are for pages, or are outcomes: to read them again costs nothing
            self._tell(fates)
            self._queue.take_in(deliveries, read.next_offset)
            self._log.commit(CONSUMER, {PARTITION: read.next_offset})
            self._not_put_down = 0
        self._offset = read.next_offset

    def _delivery(self, each: Recorded) -> Delivery:
        decision, url = each.decision, None
        action = decision.action or {}
        if each.kind == WEBHOOK:
            url, content = str(action.get("url")), action.get("body", {})
            try:
                endpoint = parse(url).endpoint
            except RefusedAddressError:
                endpoint = "invalid"  # the attempt reports the reason
        else:
            endpoint = f"call {decision.rule}"
            content = each.message() | {"dataset": decision.dataset, "visitor_id": decision.visitor_id, "user_id": decision.user_id}
        return Delivery(
            id=decision.id,
            endpoint=endpoint,
            due_us=self._due_clock(),
            attempts=0,
            expires_us=decision.expires_us,
            dataset=decision.dataset,
            visitor_id=decision.visitor_id,
            user_id=decision.user_id,
            rule=decision.rule,
            arm=decision.arm,
            address=url,
            body=msgspec.json.encode(content),
        )

    # -- from the queue to the receivers

    def _begin_due(self) -> None:
        now, due = time.monotonic(), self._due_clock()
        under_way = Counter(delivery.endpoint for delivery, _ in self._attempts.values())
        for endpoint in self._queue.counts:
            limit = self._breaker(endpoint).limit(self._settings.endpoint_concurrency, now)
            if limit <= under_way[endpoint]:
                continue
            for delivery in self._queue.due(endpoint, due, limit):
                if delivery.id not in self._attempts and len(self._attempts) < self._settings.concurrency:
                    task = asyncio.create_task(self._attempt(delivery))
                    task.add_done_callback(lambda _: self._wake.set())
                    self._attempts[delivery.id] = (delivery, task)

    def _breaker(self, endpoint: str) -> Breaker:
        breaker = self._breakers.get(endpoint)
        if breaker is None:
            breaker = self._breakers[endpoint] = Breaker(self._settings.breaker_failures, self._settings.breaker_seconds)
        return breaker

    async def _attempt(self, delivery: Delivery) -> DeliveryOutcome:
        if delivery.expires_us <= self._clock():
            return DeliveryOutcome.final(
                "expired", f"it was decided too long ago: it was to be delivered before {iso(delivery.expires_us)}"
            )
        started = time.perf_counter()
        if delivery.address is not None:
            outcome = await self._webhooks.send(delivery.id, delivery.address, delivery.body)
        elif self._functions is None:
            outcome = DeliveryOutcome.final("no_functions", "this project has no functions to call; actions.py declares them")
        else:
            decision = msgspec.json.decode(delivery.body)
            outcome = await asyncio.get_running_loop().run_in_executor(self._function_thread, self._functions.call, decision)
        self._seconds.labels().observe(time.perf_counter() - started)
        return outcome

    def _settle(self) -> None:
        """Record the outcomes of ended attempts."""
        fates: list[Fate] = []
        again: list[Delivery] = []
        for delivery, task in list(self._attempts.values()):
            if not task.done():
                continue
            del self._attempts[delivery.id]
            outcome = task.result()
            self._results.labels(outcome.code or "delivered").inc()
            self._breaker(delivery.endpoint).record(is_up=outcome.is_final, now=time.monotonic())
            tried = delivery._replace(attempts=delivery.attempts + 1)
            if outcome.is_final or tried.attempts >= self._settings.attempts:
                fates.append(self._fate(tried, outcome))
            else:
                pause = pause_seconds(tried.attempts, outcome.after_seconds, self._settings)
                again.append(tried._replace(due_us=self._due_clock() + int(pause * 1_000_000)))
        if fates or again:
            self._tell(fates)
            self._queue.settle([fate.decision_id for fate in fates], again, self._log.end(PARTITION))

    # -- outcomes

    def _fate(self, delivery: Delivery, outcome: DeliveryOutcome) -> Fate:
        """The event about an ended delivery. A failure also becomes a bad event."""
        if outcome.code:
            self._record(delivery.dataset, delivery.id, delivery.body.decode(), outcome)
        return Fate(
            FAILED if outcome.code else DELIVERED,
            delivery.id,
            delivery.dataset,
            delivery.visitor_id,
            delivery.user_id,
            delivery.rule,
            delivery.arm,
            outcome.code or None,
            {"message": outcome.reason or None, "attempts": delivery.attempts, "endpoint": delivery.endpoint},
        )

    def _tell(self, fates: Sequence[Fate]) -> None:
        """Append the events to the decisions log; durable on return."""
        if fates:
            self._log.append(PARTITION, to_events(fates, self._clock()))

    def _record(self, dataset: str, decision_id: str, payload: str, outcome: DeliveryOutcome) -> None:
        """Record a failure as a bad event; durable on return."""
        logger.warning("not delivered", extra={"decision": decision_id, "code": outcome.code, "reason": outcome.reason})
        row = {
            "dataset": dataset,
            "source": OWN_SOURCE,
            "received_at": self._clock(),
            "code": f"delivery_{outcome.code}",
            "reason": outcome.reason,
            "message_id": decision_id,
            "payload": payload.encode()[:_PAYLOAD_BYTES_MAX].decode(errors="replace"),
        }
        self._bad_events_log.append(0, pa.RecordBatch.from_pylist([row], schema=BAD_EVENT_SCHEMA))

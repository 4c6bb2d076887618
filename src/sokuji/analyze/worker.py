"""The worker: reads the events log in micro-batches, decides, publishes, and keeps the state of every profile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze.batches import CONSUMER, Batch, Batches, Logs
from sokuji.analyze.outbox import Outbox
from sokuji.analyze.pipeline import Outcome
from sokuji.analyze.progress import Progress
from sokuji.analyze.publish import bad_rows, identity_rows
from sokuji.analyze.stage import Position, Stage, oldest
from sokuji.config import AnalyzeSettings
from sokuji.metrics import CounterValue, GaugeValue, HistogramValue, Metric, counter, gauge, histogram
from sokuji.rules.decision import to_events

_WAIT_SECONDS = 0.05
_DAY_US = 86_400_000_000
_BATCH_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_LOG = logging.getLogger(__name__)
AnyMetric = Metric[CounterValue] | Metric[GaugeValue] | Metric[HistogramValue]


class Worker:
    """Works on the events of all datasets. One runs at a time; not thread-safe."""

    def __init__(self, logs: Logs, stages: Mapping[str, Stage], progress: Progress, settings: AnalyzeSettings) -> None:
        """Begin where the stages' checkpoints were taken: what lies behind them is worked on again.

        Args:
            logs: the platform's.
            stages: by dataset; events of other datasets are passed over.
            progress: told how far the worker has come.
            settings: how often to checkpoint.
        """
        self._logs, self.stages, self._progress, self._settings = logs, dict(stages), progress, settings
        for stage in stages.values():
            stage.pipeline.warm_up()
        start = oldest([stage.position for stage in stages.values()])
        rows_max = max(1, settings.batch_rows // logs.events.partitions)
        self._batches = Batches(logs.events, logs.batches, start.ends, start.number, rows_max=rows_max)
        message = ("dataset", "source", "message_id")
        self._decisions = Outbox(logs.decisions, start.published[logs.decisions.name], message)
        self._identities = Outbox(logs.identities, start.published[logs.identities.name], message)
        self._bad_events = Outbox(logs.bad_events, start.published[logs.bad_events.name], (*message, "code"))
        self._publisher = ThreadPoolExecutor(2, thread_name_prefix="publish")
        self._checkpoint_at = time.monotonic() + settings.checkpoint_seconds
        self._now_us = 0  # of the last batch
        self._events = counter("sokuji_analyze_events_total", "Events worked on, by dataset.", ["dataset"])
        self._duplicates = counter("sokuji_analyze_duplicates_total", "Repeats that were left out, by dataset.", ["dataset"])
        self._decided = counter("sokuji_analyze_decisions_total", "Decisions, by dataset.", ["dataset"])
        self._poison = counter("sokuji_analyze_poison_total", "Events that an expression failed on, by dataset.", ["dataset"])
        self._seconds = histogram("sokuji_analyze_batch_seconds", "Working on one batch.", buckets=_BATCH_SECONDS)
        lag = gauge("sokuji_analyze_lag_rows", "Rows in the log that were not worked on.")
        lag.labels().set_function(self._batches.lag_rows)
        self.metrics: list[AnyMetric] = [self._events, self._duplicates, self._decided, self._poison, self._seconds, lag]

    @property
    def is_replaying(self) -> bool:
        """Whether it still works on what was worked on before a crash."""
        return self._batches.is_replaying

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set and the log is worked off, then checkpoint."""
        while not stop.is_set():
            if self._batches.wait(_WAIT_SECONDS) or self._timer_is_due():
                self.run_once()
            if time.monotonic() >= self._checkpoint_at and not any(stage.is_saving for stage in self.stages.values()):
                self.checkpoint()
        while self._batches.is_replaying or self._batches.lag_rows():
            self.run_once()
        self.checkpoint(wait=True)

    def run_once(self) -> int:
        """Work on the next batch and return how many rows of the log it had."""
        started = time.perf_counter()
        was_replaying = self._batches.is_replaying
        batch = self._batches.next()
        self._now_us = batch.now_us
        outcomes = {dataset: outcome for dataset in self.stages if (outcome := self._work(dataset, batch)) is not None}
        self._batches.settle()
        self._publish(batch, outcomes)
        for dataset, outcome in outcomes.items():
            self.stages[dataset].commit(outcome, batch)
        self._progress.publish(batch.ends)
        if was_replaying and not self._batches.is_replaying:
            for outbox in (self._decisions, self._identities, self._bad_events):
                outbox.caught_up()
            for stage in self.stages.values():
                stage.caught_up()
            _LOG.info("replayed the log", extra={"batch": batch.number})
        self._seconds.labels().observe(time.perf_counter() - started)
        return len(batch.offsets)

    def checkpoint(self, *, wait: bool = False) -> None:
        """Save all state with the place in the log it belongs to, and let the logs forget what no replay needs."""
        oldest_us = self._now_us - int(self._settings.profile_days * _DAY_US)
        here = Position(self._batches.number, self._batches.ends, self._logs.published())
        for stage in self.stages.values():
            stage.pipeline.store.expire(oldest_us)
            stage.checkpoint(here, wait=wait)
        start = oldest([stage.durable_position() for stage in self.stages.values()])
        self._logs.events.commit(CONSUMER, start.ends)
        self._logs.batches.commit(CONSUMER, {0: start.number})
        self._logs.batches.trim(max_age_seconds=0)
        self._checkpoint_at = time.monotonic() + self._settings.checkpoint_seconds

    def _timer_is_due(self) -> bool:
        now_us = time.time_ns() // 1000
        return any(stage.has_timer_due(now_us) for stage in self.stages.values())

    def _work(self, dataset: str, batch: Batch) -> Outcome | None:
        stage = self.stages[dataset]
        if batch.number < stage.position.number:  # its checkpoint is newer than others'
            return None
        mine = pc.equal(batch.rows.column("dataset"), dataset).to_numpy(zero_copy_only=False) & ~stage.has_taken_in(batch)
        rows = batch.rows if mine.all() else batch.rows.filter(pa.array(mine))
        outcome = stage.pipeline.work(rows, batch.now_us)
        self._events.labels(dataset).inc(outcome.events.num_rows)
        self._duplicates.labels(dataset).inc(outcome.duplicates)
        self._decided.labels(dataset).inc(len(outcome.decisions))
        self._poison.labels(dataset).inc(len(outcome.poison))
        return outcome

    def _publish(self, batch: Batch, outcomes: Mapping[str, Outcome]) -> None:
        """Everything that others see, before the state that it was made from counts."""
        decisions = [decision for outcome in outcomes.values() for decision in outcome.decisions]
        links = [identity_rows(outcome.events, outcome.links) for outcome in outcomes.values() if outcome.links]
        poison = [bad_rows(outcome.events, outcome.poison) for outcome in outcomes.values() if outcome.poison]
        # Side by side with the decisions, for which someone may wait.
        others = [self._publisher.submit(self._identities.append, pa.concat_batches(links))] if links else []
        others += [self._publisher.submit(self._bad_events.append, pa.concat_batches(poison))] if poison else []
        if decisions:
            self._decisions.append(to_events(decisions, batch.now_us))
        for other in others:
            other.result()

    def close(self) -> None:
        """Release the stages; what was not checkpointed is worked on again."""
        self._batches.close()
        self._publisher.shutdown()
        for stage in self.stages.values():
            stage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

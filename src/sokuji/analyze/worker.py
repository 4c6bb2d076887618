"""The worker reads the events log in micro-batches, decides, publishes, and keeps the state of every profile."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.analyze import search
from sokuji.analyze.batches import CONSUMER, NEXT_CONSUMER, Batch, Batches, Logs
from sokuji.analyze.crashes import Crashes
from sokuji.analyze.outbox import Outbox
from sokuji.analyze.pipeline import BatchOutcome, Poison
from sokuji.analyze.progress import Progress
from sokuji.analyze.publish import bad_rows, identity_rows
from sokuji.analyze.search import DEATHS, Search
from sokuji.analyze.state.base import Position
from sokuji.analyze.state.dataset import Stage, oldest
from sokuji.closing import Closing
from sokuji.config import AnalyzeSettings
from sokuji.events import STOPPED_WORKER, by_dataset
from sokuji.rules.decision import to_events
from sokuji.service.metrics import CounterValue, GaugeValue, HistogramValue, Metric, counter, gauge, histogram

_WAIT_SECONDS = 0.05
_DAY_US = 86_400_000_000
_BATCH_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_LOG = logging.getLogger(__name__)
AnyMetric = Metric[CounterValue] | Metric[GaugeValue] | Metric[HistogramValue]


class Worker(Closing):
    """Processes the events of all datasets. Only one worker runs at a time. Not thread-safe."""

    def __init__(self, logs: Logs, stages: Mapping[str, Stage], progress: Progress, settings: AnalyzeSettings) -> None:
        """Begin at the stages' checkpoints. Later events are processed again.

        Args:
            logs: the logs of the platform.
            stages: by dataset. Events of other datasets are ignored.
            progress: receives how far the worker has come.
            settings: how often to save checkpoints.
        """
        self._logs, self.stages, self._progress, self._settings = logs, dict(stages), progress, settings
        for stage in stages.values():
            stage.pipeline.warm_up()
        start = oldest([stage.position for stage in stages.values()])
        logs.events.commit(CONSUMER, start.ends)  # from now on, retention waits for this worker, and no longer for a state to be built
        logs.events.forget(NEXT_CONSUMER)
        rows_max = max(1, settings.batch_rows // logs.events.partitions)
        self._batches = Batches(logs.events, logs.batches, start.ends, start.number, rows_max=rows_max)
        self._since = start.published
        message = ("dataset", "source", "message_id")
        self._decisions = Outbox(logs.decisions, start.published[logs.decisions.name], message)
        self._identities = Outbox(logs.identities, start.published[logs.identities.name], message)
        self._bad_events = Outbox(logs.bad_events, start.published[logs.bad_events.name], (*message, "code"))
        self._publisher = ThreadPoolExecutor(2, thread_name_prefix="publish")
        self._checkpoint_at = time.monotonic() + settings.checkpoint_seconds
        self._crashes = Crashes(progress.path.with_name("attempts"))
        self._now_us = 0  # the time of the last batch
        progress.begin({partition: logs.events.end(partition) for partition in range(logs.events.partitions)})
        if not self._batches.is_replaying:
            progress.lead()
        self._events = counter("sokuji_analyze_events_total", "Events worked on, by dataset.", ["dataset"])
        self._duplicates = counter("sokuji_analyze_duplicates_total", "Repeats that were left out, by dataset.", ["dataset"])
        self._decided = counter("sokuji_analyze_decisions_total", "Decisions, by dataset.", ["dataset"])
        self._poison = counter("sokuji_analyze_poison_total", "Events that an expression failed on, by dataset.", ["dataset"])
        unfit = "Values of another type than their property's, which count as NULL, by dataset and property."
        self._unfit = counter("sokuji_analyze_unfit_values_total", unfit, ["dataset", "property"])
        self._unfit_since: dict[str, Counter[str]] = {}  # by dataset, since the last checkpoint
        self._seconds = histogram("sokuji_analyze_batch_seconds", "Working on one batch.", buckets=_BATCH_SECONDS)
        lag = gauge("sokuji_analyze_lag_rows", "Rows in the log that were not worked on.")
        lag.labels().set_function(self._batches.lag_rows)
        strings = gauge("sokuji_analyze_strings", "Distinct strings that features know, by dataset.", ["dataset"])
        others = gauge("sokuji_analyze_other_strings", "Strings that came when there were too many to know apart, by dataset.", ["dataset"])
        for dataset, stage in stages.items():
            strings.labels(dataset).set_function(partial(len, stage.state.vocabulary))
            for each in (self._events, self._duplicates, self._decided, self._poison):
                each.labels(dataset)
            others.labels(dataset).set_function(partial(getattr, stage.state.vocabulary, "others"))
        self.metrics: list[AnyMetric] = [
            self._events, self._duplicates, self._decided, self._poison, self._unfit, self._seconds, lag, strings, others
        ]  # fmt: skip

    @property
    def is_replaying(self) -> bool:
        """Whether the worker still repeats work that was done before a crash."""
        return self._batches.is_replaying

    def run(self, stop: threading.Event) -> bool:
        """Process events until `stop` is set and the log is read to its end, then save a checkpoint.

        Returns True early if the worker must be closed and opened again: an event has killed it, and the search for the event has begun.
        """
        while not stop.is_set():
            if self._batches.wait(_WAIT_SECONDS) or self._timer_is_due():
                if self._kills():
                    self._search()
                    return True
                self.run_once()
            if time.monotonic() >= self._checkpoint_at and not any(stage.is_saving for stage in self.stages.values()):
                self.checkpoint()
        while self._batches.is_replaying or self._batches.lag_rows():
            if self._kills():
                self._search()
                return True
            self.run_once()
        self.checkpoint(wait=True)
        return False

    def run_once(self) -> int:
        """Process the next batch. Returns the number of its rows in the log."""
        started = time.perf_counter()
        was_replaying = self._batches.is_replaying
        batch = self._batches.next()
        self._now_us = batch.now_us
        self._crashes.begin(batch.number)
        if self._crashes.deaths(batch.number):
            self._batches.settle()  # so that the worker dies of the same batch again
        outcomes = self._outcomes(batch)
        self._batches.settle()
        self._publish(*_published(batch, outcomes))
        for dataset, outcome in outcomes.items():
            self.stages[dataset].commit(outcome, batch)
        self._crashes.done(batch.number)
        self._progress.publish(batch.ends)
        if was_replaying and not self._batches.is_replaying:
            for outbox in (self._decisions, self._identities, self._bad_events):
                outbox.caught_up()
            for stage in self.stages.values():
                stage.state.caught_up()
            self._progress.lead()
            _LOG.info("replayed the log", extra={"batch": batch.number})
        self._seconds.labels().observe(time.perf_counter() - started)
        return len(batch.offsets)

    def checkpoint(self, *, wait: bool = False) -> None:
        """Save all state with its position in the log, and let the logs forget data that no replay needs."""
        oldest_us = self._now_us - int(self._settings.profile_days * _DAY_US)
        # During a replay, the logs end after this position. A replay from here must know which rows are already published.
        published = self._since if self._batches.is_replaying else self._logs.published()
        here = Position(self._batches.number, self._batches.ends, published)
        for stage in self.stages.values():
            stage.state.expire(oldest_us)
            stage.checkpoint(here, wait=wait)
        self._warn_of_unfit()
        start = oldest([stage.state.position() for stage in self.stages.values()])
        self._logs.events.commit(CONSUMER, start.ends)
        self._logs.batches.commit(CONSUMER, {0: start.number})
        self._logs.batches.trim(max_age_seconds=0)
        self._checkpoint_at = time.monotonic() + self._settings.checkpoint_seconds

    def _warn_of_unfit(self) -> None:
        for dataset, counts in self._unfit_since.items():
            for name, count in counts.items():
                _LOG.warning(
                    "property %s: %d values are no %s and count as NULL; property_types() in features.py says what it is",
                    name, count, self.stages[dataset].pipeline.types[name], extra={"dataset": dataset},
                )  # fmt: skip
        self._unfit_since = {}

    def _timer_is_due(self) -> bool:
        now_us = time.time_ns() // 1000
        return any(stage.has_timer_due(now_us) for stage in self.stages.values())

    def _work(self, dataset: str, rows: pa.RecordBatch, places: npt.NDArray[np.intp], batch: Batch) -> BatchOutcome:
        """Process a dataset's rows of a batch; `places` are their positions in the batch."""
        stage = self.stages[dataset]
        own = batch.places.take(places)
        new = ~stage.has_taken_in(own)
        if not new.all():
            rows, own = rows.filter(pa.array(new)), own.take(new)
        outcome = stage.pipeline.work(rows, own, batch.now_us)
        self._events.labels(dataset).inc(outcome.events.num_rows)
        self._duplicates.labels(dataset).inc(outcome.duplicates)
        self._decided.labels(dataset).inc(len(outcome.decisions))
        self._poison.labels(dataset).inc(len(outcome.poison))
        for name, count in outcome.unfit.items():
            self._unfit.labels(dataset, name).inc(count)
            self._unfit_since.setdefault(dataset, Counter())[name] += count
        return outcome

    def _outcomes(self, batch: Batch) -> dict[str, BatchOutcome]:
        """The outcome of a batch, by dataset. A dataset without rows in the batch and without a due timer is skipped."""
        parts = {dataset: (rows, places) for dataset, rows, places in by_dataset(batch.rows)}
        nothing = batch.rows.slice(0, 0), np.zeros(0, np.intp)
        return {
            dataset: self._work(dataset, *parts.get(dataset, nothing), batch)
            for dataset, stage in self.stages.items()
            if batch.number >= stage.position.number  # otherwise its checkpoint is newer than those of others
            and (dataset in parts or stage.has_timer_due(batch.now_us))
        }

    def _publish(self, decisions: pa.RecordBatch | None, links: pa.RecordBatch | None, poison: pa.RecordBatch | None) -> None:
        """Publish everything that others see, before the state that it was computed from is committed."""
        # Concurrently with the decisions, because someone may wait for them.
        others = [self._publisher.submit(self._identities.append, links)] if links is not None else []
        others += [self._publisher.submit(self._bad_events.append, poison)] if poison is not None else []
        if decisions is not None:
            self._decisions.append(decisions)
        for other in others:
            other.result()

    def _kills(self) -> bool:
        """Whether the next batch has killed the worker too often to be chance."""
        return self._batches.is_replaying and self._crashes.deaths(self._batches.number) >= DEATHS

    def _search(self) -> None:
        """Do one step of the search for the event that kills the worker. The state is unusable afterwards."""
        path, number = self._progress.path.with_name(search.FILE), self._batches.number
        found = search.load(path, number)
        if found is None:
            self.checkpoint(wait=True)  # each trial begins from here
        batch = self._batches.next()
        found = found or Search(number, 0, len(batch.offsets))
        if found.trial is not None:
            found.settle(search.KILLED)  # the last process did not survive the trial
        elif not found.is_over:
            found.trial = found.next_trial()
            search.save(path, found)
            found.settle(self._try(batch.part(*found.trial)))
        search.save(path, found)
        if found.is_over:
            self._exclude(batch, found)
            self._crashes.done(number)
            path.unlink()

    def _try(self, batch: Batch) -> str | None:
        """Process a part of a batch up to its publication. Returns the reason of a failure, or None."""
        try:
            _published(batch, self._outcomes(batch))
        except Exception as error:  # noqa: BLE001 any error that would have ended the worker
            return f"{type(error).__name__}: {error}"
        return None

    def _exclude(self, batch: Batch, found: Search) -> None:
        if found.culprit is None:
            _LOG.error("a batch kills the worker, but no event of it alone does: %s", found.reason, extra={"batch": batch.number})
            return
        rows = bad_rows(batch.rows, [Poison(found.culprit, found.reason)], STOPPED_WORKER)
        self._bad_events.append(rows)
        [row] = rows.select(["dataset", "source", "message_id"]).to_pylist()
        _LOG.error("an event has killed the worker, so it is no longer processed: %s", found.reason, extra=row)

    def close(self) -> None:
        """Close the stages. Work since the last checkpoint is repeated later."""
        self._progress.leave()
        self._crashes.close()
        self._batches.close()
        self._publisher.shutdown()
        for stage in self.stages.values():
            stage.close()


def _published(
    batch: Batch, outcomes: Mapping[str, BatchOutcome]
) -> tuple[pa.RecordBatch | None, pa.RecordBatch | None, pa.RecordBatch | None]:
    """The rows to publish for a batch: decisions, links, bad events."""
    decisions = [decision for outcome in outcomes.values() for decision in outcome.decisions]
    links = [identity_rows(outcome.events, outcome.links) for outcome in outcomes.values() if outcome.links]
    poison = [bad_rows(outcome.events, outcome.poison) for outcome in outcomes.values() if outcome.poison]
    return (
        to_events(decisions, batch.now_us) if decisions else None,
        pa.concat_batches(links) if links else None,
        pa.concat_batches(poison) if poison else None,
    )

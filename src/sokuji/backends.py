"""Create a project's parts from its configuration: the only place that chooses backends.

Heavy packages are imported by the property that needs them: a collector works without the lake, the SQL engine and their packages.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from sokuji.closing import Closing
from sokuji.config import ACTIONS_FILE, Config
from sokuji.dedup.rule import RepeatRule
from sokuji.disk.private import make_private_folder
from sokuji.errors import FeatureError, ModelError, RuleError, SqlError
from sokuji.events import BAD_EVENT_SCHEMA, BAD_EVENTS_LOG, DECISIONS_LOG, EVENT_SCHEMA, EVENTS_LOG, IDENTITIES_LOG, IDENTITY_SCHEMA
from sokuji.log.base import Log
from sokuji.log.local.log import LocalLog

if TYPE_CHECKING:
    from sqlalchemy import URL

    from sokuji.act.pages.gate import Eligibility
    from sokuji.analyze.batches import Logs
    from sokuji.analyze.compile import Compiled, Declared
    from sokuji.analyze.following import Following
    from sokuji.analyze.progress import Progress
    from sokuji.analyze.state.open import Opener
    from sokuji.analyze.state.reader import StateReader
    from sokuji.analyze.worker import Worker
    from sokuji.features.known import Types
    from sokuji.lake.delta.tables import DeltaLake
    from sokuji.meta.applied import AppliedFiles
    from sokuji.meta.changes import Changes
    from sokuji.meta.store import SqlCatalog
    from sokuji.models.local import LocalModelStore
    from sokuji.predict.features import Lookup
    from sokuji.sink.fresh import Fresh
    from sokuji.sink.sink import Sink
    from sokuji.sql.base import Backend
    from sokuji.verify.verifier import Verifier

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_SIDE_SEGMENT_BYTES = 8 * 1024 * 1024
_SERVED_SEGMENTS = 16  # retention frees whole segments


class Backends(Closing):
    """A project's parts as its configuration defines them, opened on first use."""

    def __init__(self, config: Config) -> None:
        self.config = config
        make_private_folder(config.data)

    @property
    def database_url(self) -> URL:
        """The URL of the metadata database, for SQLAlchemy."""
        from sokuji.meta.store import sqlite_url

        return sqlite_url(self.config.data / "meta.db")

    @functools.cached_property
    def events_log(self) -> Log:
        """The log of events."""
        return LocalLog(
            self.config.data / "log",
            EVENT_SCHEMA,
            name=EVENTS_LOG,
            partitions=self.config.log.partitions,
            segment_bytes=self.config.log.segment_bytes,
        )

    @functools.cached_property
    def rule(self) -> RepeatRule:
        """The deduplication rule, for all readers of the events log."""
        return RepeatRule(self.config.log.deduplication_rows, self.config.log.partitions)

    @functools.cached_property
    def bad_events_log(self) -> Log:
        """The log of refused events; one partition, as their order has no meaning."""
        return LocalLog(self.config.data / "log", BAD_EVENT_SCHEMA, name=BAD_EVENTS_LOG, partitions=1)

    def _side_log(self, name: str, schema: pa.Schema) -> Log:
        """A log of the real-time side: one partition, and small files, so that retention frees them early."""
        return LocalLog(self.config.data / "log", schema, name=name, partitions=1, segment_bytes=_SIDE_SEGMENT_BYTES)

    @functools.cached_property
    def decisions_log(self) -> Log:
        """The log of decisions for visitors, and their outcomes."""
        return self._side_log(DECISIONS_LOG, EVENT_SCHEMA)

    @functools.cached_property
    def identities_log(self) -> Log:
        """The log of links between visitors and users."""
        return self._side_log(IDENTITIES_LOG, IDENTITY_SCHEMA)

    @functools.cached_property
    def catalog(self) -> SqlCatalog:
        """Datasets, tables, views, functions, and the names of models."""
        from sokuji.meta.store import SqlCatalog

        return SqlCatalog(self.database_url, self.catalog_changes)

    @property
    def catalog_changes(self) -> Changes:
        """The number of changes that the catalog has seen."""
        from sokuji.meta.changes import Changes

        return Changes(self.config.data / "meta.changes")

    def forget_changes(self) -> None:
        """Accept the database as it is from now on.

        Raises:
            DamagedFileError, FormatError: the database cannot be read, so another one in its place must not be taken for the newest.
        """
        from sokuji.meta.store import SqlCatalog

        SqlCatalog(self.database_url).close()
        self.catalog_changes.forget()

    @functools.cached_property
    def applied(self) -> AppliedFiles:
        """Which of the project's files were applied."""
        from sokuji.meta.applied import AppliedFiles

        return AppliedFiles(self.database_url)

    @functools.cached_property
    def tables(self) -> DeltaLake:
        """The lake's tables, as the sink commits to them."""
        from sokuji.lake.delta.tables import DeltaLake

        return DeltaLake(self.config.data / "lake", time_travel_hours=self.config.lake.time_travel_hours)

    @functools.cached_property
    def acknowledged(self) -> Fresh:
        """The newest rows of all tables; events tables include the rows that only the log has yet."""
        from sokuji.sink.fresh import Fresh

        return Fresh(
            self.tables,
            self.events_log,
            self.bad_events_log,
            self.catalog,
            folder=self._sink_folder,
            rule=self.rule,
            make_sink=self.make_sink,
            identities=self.identities_log,
            datasets=self.datasets or ["main"],  # the dataset of events that name none
        )

    def make_sink(self) -> Sink:
        """Create the sink, which moves the logs into the tables. Raises LakeError while another sink runs."""
        from sokuji.sink.sink import Sink

        return Sink(
            self.events_log,
            self.bad_events_log,
            self.tables,
            self.catalog,
            folder=self._sink_folder,
            settings=self.config.lake,
            rule=self.rule,
            retention=self.config.log,
            decisions=self.decisions_log,
            identities=self.identities_log,
            datasets=self.datasets,
        )

    def make_worker(self, folder: Path) -> Worker:
        """Create the worker: it processes events as they come, by the declarations in `folder`, for the datasets that the sources feed."""
        from sokuji.analyze.worker import Worker

        opener = self._make_opener(folder)
        with ExitStack() as undo:
            stages = self._sound(lambda dataset: undo.enter_context(closing(opener.open(dataset))))
            worker = Worker(self._worker_logs, stages, self.progress, self.config.analyze)
            undo.pop_all()
        return worker

    def _sound(self, make: Callable[[str], T]) -> dict[str, T]:
        """Call `make` for all datasets. A dataset whose events do not fit the declarations must not stop the others.

        Raises:
            FeatureError, RuleError, SqlError, ModelError: the declarations fit no dataset; this is the error of the first.
        """
        results, errors = {}, []
        for dataset in self.datasets:
            try:
                results[dataset] = make(dataset)
            except (FeatureError, RuleError, SqlError, ModelError) as error:
                errors.append(error)
                _LOG.error("%s: the declarations do not fit its events; its events are not processed: %s", dataset, error)
        if errors and not results:
            raise errors[0]
        return results

    def prepare_worker(self, folder: Path, *, rebuild: bool = False) -> list[str]:
        """Build the state of the next worker from the lake, while the current one runs. Returns the datasets that needed it.

        With `rebuild`, all datasets with a state need it.

        Raises:
            FeatureError, RuleError, SqlError, ModelError: the declarations of the project in `folder` are not valid.
        """
        opener = self._make_opener(folder)
        return [dataset for dataset in self.datasets if opener.prepare(dataset, rebuild=rebuild)]

    @functools.cached_property
    def _worker_logs(self) -> Logs:
        from sokuji.analyze.batches import BATCH_SCHEMA, BATCHES_LOG, Logs

        return Logs(
            self.events_log, self._side_log(BATCHES_LOG, BATCH_SCHEMA), self.decisions_log, self.identities_log, self.bad_events_log
        )

    def _make_opener(self, folder: Path) -> Opener:
        from sokuji.analyze.compile import Declared
        from sokuji.analyze.state.folder import FolderStates
        from sokuji.analyze.state.open import Opener
        from sokuji.online.shared.store import SharedStore

        states = FolderStates(SharedStore, self._served_log, self.config.analyze, self.rule)
        return Opener(
            Declared.load(folder), self._worker_logs, self.tables, self.models, folder=self._analyze_folder, rule=self.rule, states=states
        )

    def _served_log(self, folder: Path) -> Log:
        """The log of served features, stored next to the state in `folder` that they come from."""
        from sokuji.analyze.state.served import SERVED_LOG, SERVED_SCHEMA

        segment_bytes = self.config.analyze.served_bytes // _SERVED_SEGMENTS + 1
        return LocalLog(folder, SERVED_SCHEMA, name=SERVED_LOG, partitions=1, segment_bytes=segment_bytes)

    def make_eligibility(self, folder: Path) -> Eligibility:
        """Create the check whether decisions still hold, from the worker's state and the declarations in `folder`."""
        from sokuji.act.pages.gate import Eligibility
        from sokuji.analyze.compile import Declared
        from sokuji.clock import now_us
        from sokuji.identity.current import Merges
        from sokuji.predict.still_valid import Recheck, Rechecks

        declared, merges = Declared.load(folder), Merges(self.identities_log)
        state = self._sound(
            lambda dataset: Recheck(dataset, self._follow(declared, dataset), merges, self._analyze_folder, open_reader=self._read_state)
        )
        return Eligibility(Rechecks(state), self.events_log, self.progress.current, self.decisions_log, now_us)

    def make_lookup(self, folder: Path, dataset: str) -> Lookup:
        """Create the reader of features by key, from the state of the worker of the project in `folder`."""
        from sokuji.analyze.compile import Declared
        from sokuji.predict.features import Lookup

        following = self._follow(Declared.load(folder), dataset)
        folder, is_led = self._analyze_folder, self.progress.is_led
        return Lookup(dataset, following, self.identities_log, folder, is_led=is_led, open_reader=self._read_state)

    def _read_state(self, folder: Path) -> StateReader:
        from sokuji.analyze.state.folder import FolderReader
        from sokuji.online.shared.reader import SharedReader

        return FolderReader(folder, SharedReader)

    def _follow(self, declared: Declared, dataset: str) -> Following:
        from sokuji.analyze.compile import compile_for
        from sokuji.analyze.following import Following
        from sokuji.features.kernel.strings import Vocabulary

        def compiled(types: Types) -> Compiled:
            return compile_for(dataset, declared, self.tables, self.models, Vocabulary(), taken=types)

        return Following(self._analyze_folder / dataset, compiled)

    @property
    def datasets(self) -> list[str]:
        """The datasets that the project's sources feed, sorted."""
        return sorted({source.dataset for source in self.config.sources.values()})

    @property
    def _analyze_folder(self) -> Path:
        return self.config.data / "analyze"

    def check(self, folder: Path) -> list[str]:
        """Load and compile the declarations of the project in `folder` for all datasets, as the worker does when it starts.

        Returns a sentence for each declaration that is valid but looks like a mistake.

        Raises:
            FeatureError, RuleError, SqlError, ModelError: see `compile_for`.
        """
        from sokuji.analyze.compile import Declared, compile_for
        from sokuji.features.kernel.strings import Vocabulary

        declared, doubts = Declared.load(folder), []
        for dataset in self.datasets:
            compiled = compile_for(dataset, declared, self.tables, self.models, Vocabulary())
            compiled.close()
            doubts += [f"{dataset}: {sentence}" for sentence in compiled.unseen]
        return doubts

    def make_verifier(self, folder: Path) -> Verifier:
        """Create the verifier, which compares the features that the worker served with the lake."""
        from sokuji.analyze.compile import Declared
        from sokuji.verify.verifier import Verifier

        return Verifier(
            Declared.load(folder),
            self.identities_log,
            self.acknowledged,
            self.tables,
            self.models,
            bad_events=self.bad_events_log,
            folder=self._analyze_folder,
            served_log=self._served_log,
        )

    def keep_results_views(self, folder: Path, sql: Callable[[str], object]) -> None:
        """Update `action_results` of every dataset to `actions.py` of the project in `folder`, if it has one.

        `sql` runs a statement, and is asked only if the rules have changed. Raises RuleError.
        """
        if (folder / ACTIONS_FILE).exists():
            from sokuji.act.results import keep_results_view
            from sokuji.rules import load as actions_file

            actions = actions_file.load(folder / ACTIONS_FILE)
            for dataset in self.datasets:
                keep_results_view(dataset, actions, self.catalog, self.tables, sql)

    @functools.cached_property
    def progress(self) -> Progress:
        """The worker's progress."""
        from sokuji.analyze.progress import Progress

        return Progress(self._analyze_folder / "progress", self.config.log.partitions)

    @property
    def _sink_folder(self) -> Path:
        return self.config.data / "sink"

    def make_sql(self) -> Backend:
        """What runs the queries of an engine."""
        from sokuji.sql.duckdb.backend import DuckDb

        return DuckDb([self.config.data / "lake"], self.config.data / "tmp", self.config.sql)

    @functools.cached_property
    def models(self) -> LocalModelStore:
        """Trained models."""
        from sokuji.models.local import LocalModelStore

        return LocalModelStore(self.config.data / "models", self.catalog)

    def close(self) -> None:
        """Close everything that was opened."""
        logs = ("identities_log", "decisions_log", "bad_events_log", "events_log")
        for name in ("acknowledged", "models", "applied", "catalog", "progress", *logs):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

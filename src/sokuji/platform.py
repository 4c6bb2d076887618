"""The embedded platform: all parts, connected in one process."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from sokuji.backends import Backends
from sokuji.clock import now_us
from sokuji.closing import Closing
from sokuji.config import ACTIONS_FILE, FEATURES_FILE, SETTINGS_FILE, Config, load
from sokuji.errors import InvalidRequestError, SqlError
from sokuji.ml.sql import statement_handlers, table_functions
from sokuji.models.base import ModelStore
from sokuji.sink.backlog import positions
from sokuji.sql.definitions import adopt
from sokuji.sql.engine import Engine
from sokuji.sql.front.parameters import Parameters
from sokuji.sql.result import Result
from sokuji.track.check import Limits
from sokuji.track.committer import Committer
from sokuji.track.parse import parse_event
from sokuji.web.write_keys import EventSource

if TYPE_CHECKING:
    from sokuji.features.training.offline import OfflineFeatures
    from sokuji.predict.features import Lookup
    from sokuji.verify.compare import Verification


def _plain(value: Any) -> Any:
    """Convert NumPy's scalars and arrays to Python values. Its times are refused, as they would become numbers."""
    if not hasattr(value, "tolist") or value.dtype.kind in "mM":
        raise TypeError(f"{type(value).__name__} is no JSON value")
    return value.tolist()


_JSON = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain)


class Platform(Closing):
    """The embedded platform: SQL, models and events of one project, in this process. Thread-safe.

    Processes of `sokuji up` on the same project may run at the same time. Without them, events stay in the log and are read from there.
    """

    def __init__(self, config: Config, folder: Path = Path()) -> None:
        self._backends, self._folder = Backends(config), folder
        self._tracking = threading.Lock()
        self._lookups: dict[str, Lookup] = {}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the project in `folder`; see `sokuji.open`."""
        if (folder / SETTINGS_FILE).exists():
            return cls(load(folder), folder)
        return cls(msgspec.structs.replace(Config(), data=(folder / Config().data).resolve()), folder)

    @property
    def models(self) -> ModelStore:
        """Trained models, by version and alias."""
        return self._backends.models

    def adopt(self) -> Iterator[str]:
        """Continue with a database that was lost or is an older copy: register the tables of the lake and the models that it does not know.

        Yields a sentence about each as it is registered, and at the end one about everything that cannot be. Nobody else may have the
        project
        open.
        """
        backends = self._backends
        backends.forget_changes()
        for table, guessed in adopt(backends.catalog, backends.tables, backends.tables.stored()):
            types = f"; of {', '.join(guessed)} only the file's type is known" if guessed else ""
            yield f"registered table {table.ref} ({len(table.columns)} columns{types})"
        for version in backends.models.adopt():
            yield f"registered model {version.signature.ref} version {version.version}"
        yield "views, functions, descriptions and models' aliases are as the database has them: make again what it has lost"

    @property
    def features(self) -> OfflineFeatures:
        """The declarations of the project's `features.py`, computed from the lake. Needs the extra `realtime`."""
        from sokuji.features.training.offline import OfflineFeatures

        return OfflineFeatures(self._folder, self.sql, self._backends.tables, self._backends.config.data / "analyze")

    def online_features(self, visitor_id: str | None = None, *, user_id: str | None = None, dataset: str = "main") -> dict[str, Any]:
        """The current features of one visitor or one user by name, read from the running worker's memory in about 20 us.

        A visitor who was linked to a user has the user's features. A profile never seen has the features of no events. The declarations are
        those
        of the first call. Needs the extra `realtime`.

        Raises:
            OnlineStoreError: no worker runs, it is still repeating the work of a killed one, or it runs with other declarations.
            FeatureError, RuleError, SqlError: the project's declarations are not valid.
            ValueError: not exactly one of the two ids is given.
        """
        from sokuji.identity.base import USER, VISITOR

        if visitor_id is not None and user_id is None:
            key = VISITOR + visitor_id
        elif user_id is not None and visitor_id is None:
            key = USER + user_id
        else:
            raise ValueError("give one of visitor_id and user_id")
        lookup = self._lookups.get(dataset)
        if lookup is None:
            lookup = self._lookups[dataset] = self._backends.make_lookup(self._folder, dataset)
        return lookup.features(key, now_us())

    def verify_features(self, sample: float | None = None) -> Verification:
        """Compare the served features with those computed from the lake, for a share of the profiles of every dataset.

        `sample` is at most `analyze.served_sample`, which is its default. Needs the extra `realtime`.

        Raises:
            FeatureError: no served features are kept, or fewer than `sample`.
        """
        from sokuji.verify.compare import Verification

        verifier = self._backends.make_verifier(self._folder)
        return Verification.total(verifier.verify(dataset, sample) for dataset in self._backends.datasets)

    def check(self) -> list[str]:
        """Check the project's declarations, with the same errors as a start.

        Returns a sentence for each declaration that is valid but looks like a mistake.
        """
        return self._backends.check(self._folder) if self._declares() else []

    def prepare(self, *, rebuild: bool = False) -> None:
        """Build the state of the next worker, if the project's declarations differ from those of the running one.

        The running worker continues meanwhile. The next one then only has to process events that came since. With `rebuild`, the state is
        always
        built, from the events that the lake has now.
        """
        if self._declares():
            self._backends.prepare_worker(self._folder, rebuild=rebuild)

    def _declares(self) -> bool:
        return any((self._folder / name).exists() for name in (FEATURES_FILE, ACTIONS_FILE))

    def changes(self) -> dict[str, str | None]:
        """The project's files that have changed since they were applied: path -> digest of the content, None if the file is gone."""
        files = [self._folder / name for name in (SETTINGS_FILE, FEATURES_FILE, ACTIONS_FILE)]
        files += sorted((self._folder / "models").glob("*.sql"))
        now = {str(path.relative_to(self._folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.exists()}
        before = self._backends.applied.read()
        gone = dict.fromkeys(sorted(before.keys() - now.keys()))
        return {path: digest for path, digest in now.items() if before.get(path) != digest} | gone

    def apply(self, path: str, digest: str | None) -> None:
        """Run a changed file of `models/`, and record that this file, as `changes` returned it, is applied.

        Raises:
            SqlError: a statement of the file is not valid or fails; the message begins with the path.
        """
        if path.startswith("models/") and digest is not None:
            try:
                self.sql((self._folder / path).read_text())
            except SqlError as error:
                raise type(error)(f"{path}: {error.message}", line=error.line, column=error.column, sql=error.sql) from error
        self._backends.applied.write({path: digest})

    @functools.cached_property
    def engine(self) -> Engine:
        """The SQL engine, started on first use."""
        backends = self._backends
        return Engine(
            backends.catalog,
            backends.tables,
            backends.make_sql(),
            acknowledged=backends.acknowledged,
            models=backends.models,
            handlers=statement_handlers(backends.catalog, backends.models),
            table_functions=table_functions(backends.models),
        )

    def sql(self, text: str, params: Parameters | None = None) -> Result:
        """Run GoogleSQL: one statement, or a script, whose last result is returned.

        A query sees every event that was acknowledged before it started. `params` are values for `@name` (a mapping) or `?` (a sequence).

        Raises:
            SqlError: the statement is not valid or fails; `error.pretty()` shows the position.
        """
        return self.engine.execute(text, params)

    def track(self, event: Mapping[str, Any], *, dataset: str = "main", source: str = "python") -> None:
        """Store one event, in the form of Segment's calls. On return, it is on disk and visible to the next query.

        Decimals and NumPy's numbers become numbers, times become RFC 3339 text.

        Raises:
            InvalidRequestError: the event is refused; the message says why.
        """
        try:
            body = _JSON.encode(event)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequestError(400, "invalid_json", f"the event cannot be written as JSON: {error}") from error
        request = parse_event(body)
        request.source, request.received_at = EventSource(source, dataset, is_server=True), now_us()
        with self._tracking:
            self._committer.commit([request])
        for refused in request.refused:
            raise InvalidRequestError(400, *refused.refusal)

    @functools.cached_property
    def _committer(self) -> Committer:
        settings = self._backends.config.track
        limits = Limits(settings.max_event_bytes, settings.max_depth)
        return Committer(self._backends.events_log, self._backends.bad_events_log, limits, settings.skew_threshold_seconds)

    def keep_results_views(self) -> None:
        """Update `action_results` of every dataset to the project's `actions.py`. Raises RuleError."""
        self._backends.keep_results_views(self._folder, self.sql)

    def uncommitted_events(self) -> int:
        """How many events only the log has, as the sink has not committed them yet (see `Log.lag`). Queries see them too."""
        log = self._backends.events_log
        return log.lag(positions(log))

    def close(self) -> None:
        """Close files and connections. Closing twice is a no-op."""
        if "engine" in self.__dict__:
            self.__dict__.pop("engine").close()
        self._backends.close()

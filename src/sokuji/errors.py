"""Every error that sokuji raises on purpose.

There is one root, and one class for each kind of problem. A message names the thing, its value, what was expected and, if there is one,
the fix, so that it can be shown to users unchanged.
"""

from __future__ import annotations

from pathlib import Path


class SokujiError(Exception):
    """The root: `except SokujiError` catches all errors that sokuji raises on purpose, and nothing else."""


class ConfigError(SokujiError):
    """A key or a value of `sokuji.toml` is not allowed."""


class MissingExtraError(SokujiError, ImportError):
    """The request needs an optional package that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}; install it with: pip install 'sokuji[{extra}]'")


class FormatError(SokujiError):
    """The data on disk was written by a newer release."""


class DamagedFileError(SokujiError):
    """A file is not as it was written. The message names the file and says what to do."""

    def __init__(self, path: object, reason: str, remedy: str) -> None:
        super().__init__(f"{path} is damaged: {reason}; {remedy}")
        self.path = Path(str(path))


class NotFoundError(SokujiError):
    """The named dataset, table, model, function or alias does not exist."""


class AlreadyExistsError(SokujiError):
    """A dataset, table, model or function with this name already exists."""


class LogError(SokujiError):
    """The log cannot do what was requested."""


class OffsetTrimmedError(LogError):
    """The requested offset is older than the rows that retention kept."""

    def __init__(self, partition: int, offset: int, start: int) -> None:
        super().__init__(f"partition {partition}: offset {offset} is gone, retention kept the log from offset {start}; read on from there")
        self.partition, self.offset, self.start = partition, offset, start


class CorruptLogError(LogError):
    """A stored frame that was once complete fails its checksum."""


class OnlineStoreError(SokujiError):
    """The online store cannot do what was requested."""


class LakeError(SokujiError):
    """A lake table cannot be read or committed."""


class StaleTableError(LakeError):
    """A table lacks rows that were committed to it, as an older copy does."""


class ConflictError(LakeError):
    """Another process changed a table meanwhile. Nothing was done, and a retry may succeed."""


class InvalidRequestError(SokujiError):
    """A request to the collector is refused as a whole; `status` is the HTTP status of the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class SqlError(SokujiError):
    """A statement is refused or failed. `line` and `column` count from 1; both are None if the position is unknown."""

    def __init__(self, message: str, *, line: int | None = None, column: int | None = None, sql: str | None = None) -> None:
        super().__init__(message if line is None else f"{message} [at {line}:{column}]")
        self.message, self.line, self.column, self.sql = message, line, column, sql

    def pretty(self) -> str:
        """The message, then the line of the statement with a caret below the position."""
        if self.sql is None or self.line is None or self.column is None:
            return str(self)
        lines = self.sql.splitlines()
        text = lines[self.line - 1] if 0 < self.line <= len(lines) else ""
        # A tab before the caret must stay a tab, else the caret points elsewhere on a terminal.
        padding = "".join("\t" if character == "\t" else " " for character in text[: self.column - 1])
        return f"{self}\n{text}\n{padding}^"


class UnsupportedSqlError(SqlError):
    """Valid GoogleSQL that this engine does not run. The message names the function or the clause."""


class QueryCancelledError(SqlError):
    """The query was cancelled, or exceeded its time limit."""


class FeatureError(SokujiError):
    """The declaration of a feature is invalid, or the events do not fit it."""


class RuleError(SokujiError):
    """A rule in `actions.py` is not valid, or the file cannot be loaded."""


class ModelError(SokujiError):
    """A model cannot be trained, registered, loaded or applied."""

"""Which of a project's files were applied, by their content."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from sokuji.meta.database import create_tables, open_database

_METADATA = sa.MetaData()
_FILES = sa.Table(
    "applied_files",
    _METADATA,
    sa.Column("path", sa.String, primary_key=True),  # within the project's folder
    sa.Column("digest", sa.String, nullable=False),
)


class AppliedFiles:
    """Digests by path, in a SQL database."""

    def __init__(self, url: str | sa.URL) -> None:
        """Open the database at a SQLAlchemy URL, and create the table if it does not exist."""
        self._engine = open_database(url)
        with self._engine.begin() as connection:
            create_tables(connection, _METADATA)

    def read(self) -> dict[str, str]:
        """The digests of the files as they were last applied."""
        with self._engine.connect() as connection:
            return {row.path: row.digest for row in connection.execute(sa.select(_FILES))}

    def write(self, digests: Mapping[str, str | None]) -> None:
        """Store these digests, and delete those of files whose digest is None."""
        with self._engine.begin() as connection:
            connection.execute(_FILES.delete().where(_FILES.c.path.in_(digests)))
            rows = [{"path": path, "digest": digest} for path, digest in digests.items() if digest is not None]
            if rows:
                connection.execute(_FILES.insert(), rows)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

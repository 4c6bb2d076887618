"""Create a user's project folder: plain files, to be kept in git, that describe the platform."""

from __future__ import annotations

import secrets
from pathlib import Path

from sokuji.config import SETTINGS_FILE
from sokuji.errors import AlreadyExistsError

_SETTINGS = """\
# What this project's platform is made of. Every setting and its default: docs/settings.md.
data = ".sokuji" # where events, tables and models are kept

[track]
host = "127.0.0.1"
port = 8080

# A site or an app, its write key (public: it can only add events), and the dataset its events land in.
[sources.web]
write_key = "{write_key}"
dataset = "main"
"""

_RFM = """\
-- Customer segments from purchases. Run it with: sokuji sql -f models/rfm.sql
CREATE OR REPLACE MODEL `main.rfm`
OPTIONS (model_type = 'kmeans', num_clusters = 4) AS
SELECT
  TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), MAX(_date), DAY) AS recency,
  LN(1 + COUNT(*)) AS frequency,
  LN(1 + SUM(revenue)) AS monetary
FROM `main.events`
WHERE event_name = 'buy'
GROUP BY keys.visitor_id;
"""


def create(folder: Path) -> str:
    """Create a project in `folder` (created if missing) and return its write key. Existing files are kept.

    Raises:
        AlreadyExistsError: the folder already has a project.
    """
    settings = folder / SETTINGS_FILE
    if settings.exists():
        raise AlreadyExistsError(f"{settings} exists: {folder} is a project already; start it with `sokuji up {folder}`")
    write_key = f"wk_{secrets.token_hex(12)}"
    files = {settings: _SETTINGS.format(write_key=write_key), folder / ".gitignore": ".sokuji/\n", folder / "models" / "rfm.sql": _RFM}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(text)
    return write_key

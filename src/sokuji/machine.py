"""The folder for data that is made once per machine, such as compiled code."""

from __future__ import annotations

import os
from pathlib import Path


def kept_folder() -> Path | None:
    """The user's folder for it, which may not exist yet; None if this user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path's version raises if there is no home
    return None if cache.startswith("~") else Path(cache) / "sokuji"

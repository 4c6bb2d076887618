"""Where what is made once for a machine is kept: compiled code."""

from __future__ import annotations

import os
from pathlib import Path


def kept_folder() -> Path | None:
    """The user's folder for it, which may not be there yet; None if this user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path's raises where there is no home
    return None if cache.startswith("~") else Path(cache) / "sokuji"

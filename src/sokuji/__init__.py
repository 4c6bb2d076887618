"""sokuji: real-time machine learning on user events, from `pip install` to a cluster.

The whole platform, embedded:

    platform = sokuji.open("shop")
    platform.track({"type": "track", "event": "buy", "anonymousId": "v1", "properties": {"revenue": 30}})
    platform.sql("SELECT SUM(revenue) FROM main.events").rows()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sokuji.platform import Platform

__all__ = ["__version__", "open"]

__version__ = "0.1.0"


def open(path: str | Path = ".") -> Platform:  # noqa: A001 - sokuji.open(...) reads as what it does
    """Open the embedded platform on the project in `path`, without a server.

    The folder may have a `sokuji.toml`. Without one, every setting has its default and data is stored in `path/.sokuji`. Processes of
    `sokuji up` on the same project may run at the same time.

    Raises:
        ConfigError: the `sokuji.toml` there is wrong.
    """
    # Imported here so that `import sokuji` stays light.
    from sokuji.platform import Platform

    return Platform.open(Path(path))

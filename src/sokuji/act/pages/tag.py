"""`sokuji.js`, served with headers for the caches of browsers and proxies."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files

from sokuji.web.answers import Answer

# A page's copy is at most this old. Then the browser asks whether it has changed, which transfers no text.
_MAX_AGE_SECONDS = 300


class Tag:
    """The tag's text, also compressed, and its ETag; read once."""

    def __init__(self) -> None:
        self._text = _compact((files("sokuji.act.pages") / "static" / "sokuji.js").read_text("utf-8")).encode()
        self._gzipped = gzip.compress(self._text, mtime=0)
        self._etag = f'"{hashlib.sha256(self._text).hexdigest()[:32]}"'
        self._headers = [
            ("content-type", "text/javascript; charset=utf-8"),
            ("cache-control", f"public, max-age={_MAX_AGE_SECONDS}"),
            ("etag", f"W/{self._etag}"),  # weak: the text is the same, compressed or not
            ("vary", "Accept-Encoding"),
            ("access-control-allow-origin", "*"),
            ("cross-origin-resource-policy", "cross-origin"),
            ("x-content-type-options", "nosniff"),
        ]

    def answer(self, headers: Mapping[str, str]) -> Answer:
        """The text, or 304 if the browser has it."""
        known = {item.strip().removeprefix("W/") for item in headers.get("if-none-match", "").split(",")}
        if self._etag in known or "*" in known:
            return (304, self._headers, b"")
        if "gzip" in headers.get("accept-encoding", ""):
            return (200, [*self._headers, ("content-encoding", "gzip")], self._gzipped)
        return (200, self._headers, self._text)


def _compact(text: str) -> str:
    """The text without indentation and comment lines, which are for readers of the source: this saves a seventh of the transfer."""
    head, _, program = text.partition("*/\n")
    return f"{head.splitlines()[0]} */\n" + re.sub(r"(?m)^\s*(//.*\n)?", "", program)

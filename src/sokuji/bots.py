"""Events made by a program instead of a person: recognized by the user agent in their context."""

from __future__ import annotations

from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc

# Names of crawlers, previews, monitors and test browsers. "Cubot" is a phone, and apps use HTTP libraries.
PATTERN = (
    r'"user_?[aA]gent"\s*:\s*"[^"]*(?i:'
    r"[^u]bots?[\s;:/)\"-]|crawl|spider|slurp|scrap(er|y)|headless|phantomjs|puppeteer|playwright|selenium|lighthouse|pagespeed"
    r"|facebookexternalhit|whatsapp/|link ?preview|embedly|uptime|pingdom|curl/|wget/|python-requests|libwww"
    r")"
)


@overload
def is_bot(context: pa.Array) -> pa.BooleanArray: ...
@overload
def is_bot(context: pa.ChunkedArray) -> pa.ChunkedArray: ...
def is_bot(context: pa.Array | pa.ChunkedArray) -> Any:
    """For each context (JSON text, or NULL), whether its user agent is a known program's; never NULL. Chunks give chunks."""
    return pc.fill_null(pc.match_substring_regex(context, PATTERN), False)

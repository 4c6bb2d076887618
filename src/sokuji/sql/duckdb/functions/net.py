"""NET.*: addresses and host names."""

from __future__ import annotations

from sokuji.sql.duckdb.functions.base import SignatureEntry
from sokuji.sql.duckdb.functions.reference import reference
from sokuji.sql.duckdb.functions.template import unsupported

TABLE: list[SignatureEntry] = [
    *reference("FN_NET_HOST FN_NET_IP_FROM_STRING FN_NET_SAFE_IP_FROM_STRING FN_NET_IP_TO_STRING"),
    *reference("FN_NET_IP_NET_MASK FN_NET_IP_TRUNC FN_NET_IPV4_FROM_INT64 FN_NET_IPV4_TO_INT64"),
    *unsupported("FN_NET_REG_DOMAIN FN_NET_PUBLIC_SUFFIX", "it needs the public suffix list"),
]

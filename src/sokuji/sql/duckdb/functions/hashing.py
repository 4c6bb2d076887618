"""Hashes, fingerprints and identifiers."""

from __future__ import annotations

from sokuji.sql.duckdb.functions.base import SignatureEntry
from sokuji.sql.duckdb.functions.reference import reference
from sokuji.sql.duckdb.functions.template import macro, native

TABLE: list[SignatureEntry] = [
    *macro("FN_MD5_BYTES FN_MD5_STRING", "unhex(md5({0}))"),
    *macro("FN_SHA1_BYTES FN_SHA1_STRING", "unhex(sha1({0}))"),
    *macro("FN_SHA256_BYTES FN_SHA256_STRING", "unhex(sha256({0}))"),
    *reference("FN_SHA512_BYTES FN_SHA512_STRING FN_FARM_FINGERPRINT_BYTES FN_FARM_FINGERPRINT_STRING"),
    *reference("FN_ZSTD_COMPRESS_FROM_BYTES FN_ZSTD_COMPRESS_FROM_STRING"),
    *reference("FN_ZSTD_DECOMPRESS_TO_BYTES FN_ZSTD_DECOMPRESS_TO_STRING", named=("size_limit",)),
    *native("FN_GENERATE_UUID", "CAST(gen_random_uuid() AS VARCHAR)"),
]

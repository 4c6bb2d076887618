"""Checks of batches, shared by all backends."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sokuji.errors import OnlineStoreError
from sokuji.online.base import Keys, Rows


def check_keys(keys: Keys) -> None:
    """Check that these are keys.

    Raises:
        OnlineStoreError: `keys` is not an array of `pa.string()`, or has nulls.
    """
    if not isinstance(keys, pa.StringArray) or keys.null_count:
        actual = f"{keys.null_count} nulls" if isinstance(keys, pa.StringArray) else f"a {type(keys).__name__}"
        raise OnlineStoreError(f"keys of the online store are a pyarrow.StringArray without nulls, not {actual}")


def check_rows(rows: Rows, count: int, width: int) -> None:
    """Check that these are `count` rows of `width` bytes.

    Raises:
        OnlineStoreError: `rows` is not uint8[count, width].
    """
    if rows.dtype != np.uint8 or rows.shape != (count, width):
        raise OnlineStoreError(f"rows must be uint8[{count}, {width}], not {rows.dtype}{list(rows.shape)}")

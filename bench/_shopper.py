"""The view that benchmarks of features compute: 24 features, 13 functions, 5 windows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa

from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import Vocabulary
from sokuji.features.load import load
from sokuji.features.spec import ViewSpec
from sokuji.online.base import Rows
from sokuji.types import BOOL, FLOAT64, STRING, Type

PROJECT = Path(__file__).parent / "shop"
"""A project's declarations: `features.py`, and 20 rules in `actions.py`."""

BUY, PAGE = "event_name = 'buy'", "event_name = 'page'"
TYPES: dict[str, Type] = {BUY: BOOL, PAGE: BOOL, "revenue": FLOAT64, "url": STRING, "category": STRING}


def shopper() -> ViewSpec:
    """What a shop asks of its visitors."""
    return load(PROJECT / "features.py")[0]


class Profiles(NamedTuple):
    """What became of some events."""

    kernel: Kernel
    names: pa.StringArray
    rows: Rows  # by name
    last_us: int


def profiles(happened: pa.Table, vocabulary: Vocabulary) -> Profiles:
    """The rows of the visitors in a table as `bench.peers.events.make` makes it; each fifth event is a purchase."""
    kernel = Kernel(shopper(), TYPES, vocabulary)
    visitors = happened.column("visitor").combine_chunks().dictionary_encode()
    rows = np.zeros((len(visitors.dictionary), kernel.width), np.uint8)
    times = happened.column("at").to_numpy() * 1_000
    buys = np.arange(len(happened)) % 5 == 4
    revenue = pa.array(np.where(buys, happened.column("price").to_numpy(), np.nan), from_pandas=True)
    texts = {name: happened.column(name).combine_chunks() for name in ("url", "category")}
    evaluated = pa.record_batch({BUY: buys, PAGE: ~buys, "revenue": revenue, **texts})
    kernel.update(rows, visitors.indices.to_numpy(), times, kernel.columns(evaluated), want_values=False)
    vocabulary.flush()
    return Profiles(kernel, cast("pa.StringArray", visitors.dictionary), rows, int(times[-1]))

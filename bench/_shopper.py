"""The view that benchmarks of features compute: 24 features, 13 functions, 5 windows."""

from __future__ import annotations

from pathlib import Path

from sokuji.features.load import load
from sokuji.features.spec import ViewSpec
from sokuji.types import BOOL, FLOAT64, STRING, Type

PROJECT = Path(__file__).parent / "shop"
"""A project's declarations: `features.py`, and 20 rules in `actions.py`."""

BUY, PAGE = "event_name = 'buy'", "event_name = 'page'"
TYPES: dict[str, Type] = {BUY: BOOL, PAGE: BOOL, "revenue": FLOAT64, "url": STRING, "category": STRING}


def shopper() -> ViewSpec:
    """What a shop asks of its visitors."""
    return load(PROJECT / "features.py")[0]

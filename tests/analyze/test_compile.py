"""A project's declarations, compiled for a dataset."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sokuji.analyze.compile import compile_for
from sokuji.features.kernel.strings import Vocabulary
from sokuji.lake.events import EVENTS, FIXED_SCHEMA
from sokuji.lake.memory import MemoryLake
from sokuji.meta.objects import Ref
from tests.analyze.side import declare, side

FEATURES = """
from sokuji.features import events, view

buys = events("buy")
view("shopper", entity="visitor", buys=buys.count().over("all"), spend=buys.sum("revenu").over("1d"), coupon=buys.last("coupon"))
"""
ACTIONS = """
from sokuji.rules import rule, webhook

rule("often", on="view", when="buys_al > 3 AND url = '/'", do=webhook("https://shop.example/hook"))
"""


@pytest.mark.parametrize("is_known", [False, True])
def test_a_name_that_no_event_has_had_is_told_once_there_are_events(tmp_path: Path, is_known: bool) -> None:
    with side(tmp_path, lake=MemoryLake()) as shop:
        if is_known:
            columns = pa.schema([*FIXED_SCHEMA, ("url", pa.string()), ("revenue", pa.float64())])
            shop.lake.create(Ref("shop", EVENTS), columns, day_of="_date")
        compiled = compile_for("shop", declare(tmp_path, FEATURES, ACTIONS), shop.lake, shop.models, Vocabulary())
        compiled.close()
        assert compiled.unseen == (
            (
                "no event has had the property buys_al so far; did you mean buys?",
                "no event has had the property coupon so far",
                "no event has had the property revenu so far; did you mean revenue?",
            )
            if is_known
            else ()
        )

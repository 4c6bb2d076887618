"""What a project declares, compiled for a dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from sokuji.analyze.project import compile_for
from sokuji.features.vocabulary import Vocabulary
from sokuji.lake.events import EVENTS
from sokuji.meta.base import Column, Ref, Table, TableKind
from sokuji.types import FLOAT64, STRING
from tests.analyze.side import declare, side

FEATURES = """
from sokuji.features import events, view

view("shopper", entity="visitor", buys=events("buy").count().over("all"), spend=events("buy").sum("revenu").over("1d"))
"""
ACTIONS = """
from sokuji.rules import rule, webhook

rule("often", on="view", when="buys_al > 3 AND url = '/'", do=webhook("https://shop.example/hook"))
"""


@pytest.mark.parametrize("is_known", [False, True])
def test_a_name_that_no_event_has_had_is_told_once_there_are_events(tmp_path: Path, is_known: bool) -> None:
    with side(tmp_path) as shop:
        if is_known:
            shop.catalog.create_dataset("shop")
            columns = (Column("url", STRING), Column("revenue", FLOAT64))
            shop.catalog.put_table(Table(Ref("shop", EVENTS), TableKind.TABLE, columns))
        compiled = compile_for("shop", declare(tmp_path, FEATURES, ACTIONS), shop.catalog, shop.models, Vocabulary())
        compiled.close()
        assert compiled.unseen == (
            (
                "no event has had the property buys_al so far; did you mean buys?",
                "no event has had the property revenu so far; did you mean revenue?",
            )
            if is_known
            else ()
        )

"""The demo's data, and the events that are made from it before anything is sent."""

from __future__ import annotations

from sokuji.demo import cdnow
from sokuji.demo.segments import named
from sokuji.demo.send import buy_event


def test_the_data_is_the_published_one() -> None:
    purchases = list(cdnow.purchases())
    assert len(purchases) == cdnow.PURCHASES == 69_659
    assert len({purchase.customer for purchase in purchases}) == 23_570
    assert round(sum(purchase.dollars for purchase in purchases), 2) == 2_500_315.63
    assert (min(p.day for p in purchases), max(p.day for p in purchases)) == ("1997-01-01", cdnow.LAST_DAY)


def test_every_purchase_is_an_event_of_its_own_with_the_same_id_at_every_run() -> None:
    first = [buy_event(purchase)["messageId"] for purchase in cdnow.purchases()]
    assert len(set(first)) == len(first)
    assert first == [buy_event(purchase)["messageId"] for purchase in cdnow.purchases()]


def test_segments_are_named_against_each_other_and_no_name_comes_twice() -> None:
    rows = [
        (1, 500, 400.0, 1.0, 15.0, 7_500.0),
        (2, 100, 30.0, 12.0, 500.0, 50_000.0),
        (3, 400, 390.0, 1.05, 80.0, 32_000.0),
        (4, 100, 380.0, 5.0, 180.0, 18_000.0),
    ]
    names = {segment.centroid_id: segment.name for segment in named(rows)}
    assert names == {2: "Champions", 4: "Lapsed champions", 3: "One-time buyers", 1: "One-time buyers (2)"}

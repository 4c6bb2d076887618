"""From the bytes of a request to rows of the lake, compared with an oracle."""

from __future__ import annotations

from random import Random

import pytest

from sokuji.sink.shape import Shaper
from tests.fuzz import lake
from tests.searching import examples


@pytest.mark.parametrize("seed", range(examples(5)))
def test_what_was_sent_is_there(seed: int) -> None:
    random = Random(seed)
    with Shaper() as shaper:
        lake.compare(shaper, [lake.event(random, number) for number in range(20)])

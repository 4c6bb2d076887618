"""Calendar parts against datetime."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from sokuji.ml.columns.timestamps import PARTS


@given(st.datetimes(timezones=st.just(UTC)))
@example(datetime(1, 1, 1, tzinfo=UTC))
@example(datetime(2000, 2, 29, 23, 59, 59, 999999, tzinfo=UTC))
@example(datetime(1900, 3, 1, tzinfo=UTC))
@example(datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC))
@example(datetime(2023, 1, 1, tzinfo=UTC))
@example(datetime(9999, 12, 31, tzinfo=UTC))
def test_every_part_is_what_the_calendar_says(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)  # fractions of a second are below float64's reach in the far past and future
    seconds = np.array([(whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()])

    found = {name: int(part(seconds, np.floor)[0]) for name, part in PARTS.items()}

    assert found == {
        "DOM": moment.day,
        "DOW": moment.isoweekday() % 7 + 1,
        "MOY": moment.month,
        "HOD": moment.hour,
        "MOH": moment.minute,
        "WOY": int(moment.strftime("%U")),
        "YEAR": moment.year,
    }

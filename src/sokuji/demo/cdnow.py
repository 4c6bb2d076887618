"""The CDNOW purchases: every order of 23,570 customers of a record shop, 1997-01-01 to 1998-06-30.

The data is in the PyPI package `lifetimes` (MIT), whose file is read without importing the package. Source: Fader and Hardie, "Forecasting
Repeat Sales at CDNOW: A Case Study" (2001), https://brucehardie.com/datasets/.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sokuji.errors import NotFoundError

PURCHASES = 69_659
LAST_DAY = "1998-06-30"


class Purchase(NamedTuple):
    """One order. `number` counts the file's rows from 1, so it identifies the order permanently."""

    number: int
    customer: str
    day: str  # YYYY-MM-DD
    discs: int
    dollars: float


def purchases() -> Iterator[Purchase]:
    """All orders, in the file's order (by customer).

    Raises:
        NotFoundError: the package with the data is not installed.
    """
    for number, line in enumerate(_file().read_text().splitlines()[1:], start=1):
        customer, day, discs, dollars = line.split()
        yield Purchase(number, customer, f"{day[:4]}-{day[4:6]}-{day[6:]}", int(discs), float(dollars))


def _file() -> Path:
    try:
        distribution = importlib.metadata.distribution("lifetimes")
    except importlib.metadata.PackageNotFoundError as error:
        raise NotFoundError("the CDNOW purchases are not installed: pip install --no-deps lifetimes==0.11.3") from error
    return Path(str(distribution.locate_file("lifetimes/datasets/CDNOW_master.txt")))

"""The segments that the demo found, each with a name that a marketer would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CustomerSegment:
    """One cluster of customers. Recency, frequency and monetary are means over its customers."""

    centroid_id: int
    size: int
    recency_days: float
    frequency: float  # orders per customer
    monetary: float  # dollars per customer
    revenue: float  # dollars of the whole segment
    name: str


def named(rows: Sequence[tuple[int, int, float, float, float, float]]) -> list[CustomerSegment]:
    """Make segments from the rows of `statements.SEGMENTS`, the most valuable customers first.

    A segment is rated against the others: it is recent if its mean recency is below the mean over all customers, and so on. If two segments
    get the same name, the later one is numbered.
    """
    customers = sum(row[1] for row in rows)
    recency = sum(row[1] * row[2] for row in rows) / customers
    frequency = sum(row[1] * row[3] for row in rows) / customers
    segments: list[CustomerSegment] = []
    for row in sorted(rows, key=lambda row: -row[4]):
        name = _name(recent=row[2] < recency, orders=row[3], mean_orders=frequency)
        same = sum(segment.name.split(" (")[0] == name for segment in segments)
        segments.append(CustomerSegment(*row, name if not same else f"{name} ({same + 1})"))
    return segments


def _name(*, recent: bool, orders: float, mean_orders: float) -> str:
    if orders >= 2 * mean_orders:
        return "Champions" if recent else "Lapsed champions"
    if orders >= mean_orders:
        return "Loyal" if recent else "At risk"
    if orders > 1.2:
        return "Promising" if recent else "Slipping away"
    return "Newcomers" if recent else "One-time buyers"

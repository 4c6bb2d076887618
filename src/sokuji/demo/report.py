"""The segments as a table on the terminal, as a picture and as a page."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

from rich.table import Table

from sokuji.demo.segments import CustomerSegment
from sokuji.errors import MissingExtraError

# Okabe and Ito's colors, which color-blind readers can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")

Point = tuple[int, float, float, float]  # centroid_id, recency in days, orders, dollars


def table(segments: Sequence[CustomerSegment]) -> Table:
    """The segments as a table for people."""
    shown = Table(title="Customer segments: 23,570 buyers of CDNOW", title_justify="left")
    shown.add_column("segment", style="bold")
    for heading in ("customers", "last order", "orders", "dollars each", "revenue", "share"):
        shown.add_column(heading, justify="right")
    total = sum(segment.revenue for segment in segments)
    for segment in segments:
        shown.add_row(
            segment.name,
            f"{segment.size:,}",
            f"{segment.recency_days:.0f} days ago",
            f"{segment.frequency:.1f}",
            f"{segment.monetary:,.0f}",
            f"{segment.revenue:,.0f}",
            f"{segment.revenue / total:.0%}",
        )
    return shown


def write_picture(path: Path, segments: Sequence[CustomerSegment], points: Sequence[Point]) -> None:
    """Write a PNG. Left: customers by recency and money, sized by orders. Right: the revenue of each segment.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "drawing the segments") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5), width_ratios=(3, 2), layout="constrained")
    for segment, colour in zip(segments, COLOURS, strict=False):
        own = [point for point in points if point[0] == segment.centroid_id and point[3] > 0]
        sizes = [6 + 3 * min(orders, 30) for _, _, orders, _ in own]
        left.scatter(
            [point[1] for point in own], [point[3] for point in own], sizes, color=colour, alpha=0.55, linewidth=0, label=segment.name
        )
    left.set(
        yscale="log",
        xlabel="days since the last order",
        ylabel="dollars spent (log scale)",
        title="A customer a dot, larger with more orders",
    )
    left.invert_xaxis()
    left.legend(loc="upper left", frameon=False, markerscale=1.5)
    total_customers, total_revenue = sum(s.size for s in segments), sum(s.revenue for s in segments)
    for row, (segment, colour) in enumerate(zip(segments, COLOURS, strict=False)):
        right.barh(row - 0.2, segment.size / total_customers, 0.38, color=colour, alpha=0.4)
        right.barh(row + 0.2, segment.revenue / total_revenue, 0.38, color=colour)
    right.set_yticks(range(len(segments)), [segment.name for segment in segments])
    right.invert_yaxis()
    right.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    right.set_title("Share of customers (light) and of revenue (dark)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_page(path: Path, picture: Path, segments: Sequence[CustomerSegment], davies_bouldin_index: float, statement: str) -> None:
    """Write one HTML file with the picture, the table, and the SQL that made them."""
    rows = "\n".join(
        f'<tr><td><i style="background:{colour}"></i>{html.escape(segment.name)}<td>{segment.size:,}<td>{segment.recency_days:.0f}'
        f"<td>{segment.frequency:.1f}<td>{segment.monetary:,.0f}<td>{segment.revenue:,.0f}</tr>"
        for segment, colour in zip(segments, COLOURS, strict=False)
    )
    page = Template(resources.files("sokuji.demo").joinpath("page.html").read_text())
    path.write_text(
        page.substitute(
            customers=f"{sum(segment.size for segment in segments):,}",
            revenue=f"{sum(segment.revenue for segment in segments):,.2f}",
            index=f"{davies_bouldin_index:.3f}",
            picture=base64.b64encode(picture.read_bytes()).decode(),
            rows=rows,
            statement=html.escape(statement),
        )
    )

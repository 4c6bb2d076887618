"""The live demo's dashboard on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sokuji.demo.figures import Figures
from sokuji.verify.compare import Verification

SHOWN = ("seen_session", "carts_1h", "buys_7d", "spend_7d")
"""The features shown for single visitors."""


class Look(NamedTuple):
    """The dashboard's data other than the figures."""

    waiting: int  # events that are not in the lake's tables yet
    found: Verification | None  # the last comparison with the lake
    shoppers: Sequence[tuple[str, str, Mapping[str, Any]]]  # (visitor, last action, features)


def dashboard(figures: Figures, look: Look) -> RenderableType:
    """The whole dashboard, as of now."""
    return Group(
        Columns([_numbers(figures, look), _latencies(figures)], padding=(0, 1)),
        _decisions(figures),
        _shoppers(look),
        _verified(look.found),
    )


def _numbers(figures: Figures, look: Look) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row("running", f"{figures.seconds():,.0f} s")
    table.add_row("events acknowledged", f"[bold]{figures.events:,}[/]")
    table.add_row("a second", f"[bold]{figures.rate():,.0f}[/]")
    table.add_row("sent twice", f"{figures.repeats:,}")
    table.add_row("not in the lake's tables yet", f"{look.waiting:,}")
    return Panel(table, title="events", title_align="left", width=46)


def _latencies(figures: Figures) -> RenderableType:
    table = Table("milliseconds", "p50", "p90", "p99", box=None)
    measured = (("request to acknowledgement", figures.acknowledgement_ms()), ("event to decision", figures.decision_ms()))
    for name, percentiles in measured:
        table.add_row(name, *(f"[bold]{percentiles[each]:,.1f}[/]" if percentiles else "-" for each in ("p50", "p90", "p99")))
    return Panel(table, title="latency, end to end", title_align="left", width=62)


def _decisions(figures: Figures) -> RenderableType:
    outcomes = ("acted", "control", "held back")
    table = Table("rule", *outcomes, box=None)
    for rule, counts in figures.by_rule().items():
        table.add_row(rule, *(f"{counts.get(outcome, 0):,}" for outcome in outcomes))
    return Panel(table, title="decisions", title_align="left", width=109)


def _shoppers(look: Look) -> RenderableType:
    table = Table("visitor", "got", *SHOWN, box=None)
    for visitor, got, features in look.shoppers:
        table.add_row(visitor, got, *(_value(features[name]) for name in SHOWN))
    return Panel(table, title="features now, of those who got something last", title_align="left", width=109)


def _value(value: Any) -> str:
    return "-" if value is None else f"{value:,.0f}" if isinstance(value, float) else str(value)


def _verified(found: Verification | None) -> RenderableType:
    if found is None:
        return Text("features served against the lake: not compared yet", style="dim")
    trouble = found.mismatches + found.missing + found.extra
    counts = f"{found.mismatches} mismatches, {found.missing} missing, {found.extra} extra"
    return Text(f"features served against the lake: {found.rows:,} rows compared, {counts}", style="red" if trouble else "green")

"""How every benchmark says what it found."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version


def report(name: str, value: float, unit: str, *, as_json: bool, packages: tuple[str, ...] = (), **others: object) -> None:
    """Print the figure and what stands beside it: as lines, or as one JSON object."""
    if as_json:
        versions = {"python": platform.python_version(), "cpus": os.cpu_count(), **{each: version(each) for each in ("sokuji", *packages)}}
        print(json.dumps({"name": name, "value": round(value, 4), "unit": unit, **others, "versions": versions}), flush=True)
        return
    print(f"{name}: {value:,.6g} {unit}")
    for other, found in others.items():
        print(f"  {other} = {found}")


def quantile(values: list[float], part: float) -> float:
    """The value below which `part` of `values` lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]

"""The rule engine alone: CPU time an event for 20 rules, over batches of events of random visitors.

8 rules by level with two caps, 6 by edge, 3 timers, 3 webhooks; 20 conditions, each true of `--true` of the events. The conditions'
evaluation is not part of it. The first batches warm up and are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench._report import report
from sokuji.events import EVENT_SCHEMA
from sokuji.rules import banner, popup, rule, webhook
from sokuji.rules.engine import Rules
from sokuji.rules.spec import Actions, Project, Rule

START_US = 1_800_000_000_000_000
NAMES = np.array(["page", "search", "cart", "buy", "click"])
SHARES = (0.6, 0.15, 0.05, 0.02, 0.18)
WARM_UP = 2


def declared() -> Actions:
    """20 rules of every kind."""
    greeting, caps = popup(title="Hi {item|there}"), ["1 per 24h", "2 per 7d"]
    rules: list[Rule] = [rule(f"level{n}", on=("page", "cart", "search")[n % 3], when=f"c{n}", do=greeting, at_most=caps) for n in range(8)]
    rules += [rule(f"edge{n}", on="page" if n % 2 else None, when_becomes=f"e{n}", do=banner(title="Hi"), control=0.1) for n in range(6)]
    rules += [rule(f"timer{n}", on="cart", after="30m", unless="buy", when=f"t{n}", do=greeting, at_most="1 per 7d") for n in range(3)]
    rules += [rule(f"hook{n}", on="buy", when=f"h{n}", do=webhook("https://shop.example/hook", item="{item}")) for n in range(3)]
    return Actions(Project(gap_us=30_000_000, gap_views=2, holdout=0.05), tuple(rules))


def batch(visitors: NDArray[np.int64], number: int, dice: np.random.Generator) -> pa.RecordBatch:
    """Events of these visitors within 0.3 s."""
    count = len(visitors)
    names = NAMES[dice.choice(len(NAMES), count, p=SHARES)]
    received = pa.array(START_US + number * 300_000 + np.sort(dice.integers(0, 300_000, count)), EVENT_SCHEMA.field("received_at").type)
    columns = {
        "dataset": ["main"] * count,
        "source": ["web"] * count,
        "message_id": [f"{number}-{place}" for place in range(count)],
        "type": np.where(names == "page", "page", "track").tolist(),
        "event_name": names.tolist(),
        "visitor_id": [f"v{visitor}" for visitor in visitors],
        "event_time": received,
        "received_at": received,
        "time_rule": ["client"] * count,
        "historical": [False] * count,
        "properties": ['{"item":"shoe"}'] * count,
    }
    arrays = [pa.array(columns.get(field.name, [None] * count), field.type) for field in EVENT_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA)


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="sokuji bench rules", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--events", type=int, default=20_000, help="a batch")
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--visitors", type=int, default=200_000)
    parser.add_argument("--true", type=float, default=0.0, help="share of the events of which a condition is true")
    options = parser.parse_args(argv)
    rules, dice = Rules(declared()), np.random.default_rng(1)
    rows = np.zeros((options.visitors, rules.width), dtype=np.uint8)
    silent = np.zeros(options.events, dtype=np.bool_)
    seconds, decided = [], 0
    for number in range(WARM_UP + options.batches):
        visitors = dice.integers(0, options.visitors, options.events)
        present, profile = np.unique(visitors, return_inverse=True)
        events = batch(visitors, number, dice)
        truth = np.asfortranarray(dice.random((options.events, len(rules.conditions))) < options.true)
        keys, segment = [f"v{visitor}" for visitor in present], rows[present]
        before = time.process_time()
        decisions = rules.decide(segment, keys, profile_of_event=profile.astype(np.int32), events=events, truth=truth, silent=silent)
        seconds.append(time.process_time() - before)
        rows[present] = segment
        decided += len(decisions) if number >= WARM_UP else 0
    per_event_us = 1e6 * sum(seconds[WARM_UP:]) / (options.batches * options.events)
    report(
        "rules",
        per_event_us,
        "us CPU/event",
        as_json=options.json,
        packages=("numpy", "pyarrow"),
        decisions_per_event=round(decided / (options.batches * options.events), 4),
        bytes_per_visitor=rules.width,
        rules=len(rules.actions.rules),
        conditions=len(rules.conditions),
        events_per_batch=options.events,
    )


if __name__ == "__main__":
    main()

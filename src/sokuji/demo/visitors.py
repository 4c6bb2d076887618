"""A simulated shop with a seed: visitors come, look around, fill carts and sometimes buy. Calibrated to a measured shop.

A visit has 4 events in the median and 5 on average; 38 % of visits reach the cart, 10.9 % buy. The time between two events is 2, 8, 24 and
85 seconds at the quartiles and the ninth decile. A little more than half of the visits are by new visitors.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CART, BUY = 0.38, 0.109  # shares of the visits
NEW = 0.55
KNOWN = 0.5  # share of the buyers who give their name
SECOND_DEVICE = 0.2  # share of those who are the previous person on another device
BOTS, LATE, REPEATED = 0.02, 0.01, 0.005
VISIT_EVENTS = 5.0  # on average

_LENGTH_MEDIAN, _LENGTH_SIGMA = 4.0, math.sqrt(2 * math.log(VISIT_EVENTS / 4.0))  # of a lognormal distribution
_GAPS = ((0.0, 0.5), (0.25, 2.0), (0.5, 8.0), (0.75, 24.0), (0.9, 85.0), (1.0, 300.0))  # (share, seconds)
_LATE_SECONDS = 300.0
_SHELVES = ("shirts", "shoes", "hats", "bags", "tea")
_ITEMS = [
    (f"{shelf}-{number}", shelf, 5 + 7 * number * (place + 1) % 120) for place, shelf in enumerate(_SHELVES) for number in range(1, 9)
]
_WEIGHTS = [1 / rank for rank in range(1, len(_ITEMS) + 1)]
_BOT = "Mozilla/5.0 (compatible; Examplebot/1.0; +https://bot.example)"
_PERSON = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"


@dataclass(frozen=True, slots=True)
class Sent:
    """An event as a Segment call, and when it is due, in seconds since the shop opened."""

    due_seconds: float
    call: Mapping[str, Any]
    late_seconds: float  # how long before that the event happened
    repeats: bool  # the library sends it twice


class Visitors:
    """The events of a shop with `rate` events per second, in the order in which they are due. The same seed gives the same events."""

    def __init__(self, rate: float, seed: int) -> None:
        self._rate, self._chance = rate, random.Random(seed)  # noqa: S311 - a simulation
        self._known: list[str] = []  # visitors who were there before
        self._people: list[str] = []
        self._names: dict[str, str] = {}  # of visitors who gave theirs
        self._numbers = itertools.count()

    def events(self) -> Iterator[Sent]:
        """The events, without end. At the start, as many visits are running as later."""
        # Visitors who came within ten minutes before the start may still be there; their earlier events are not sent.
        arrival, visits = -600.0, itertools.count()
        due: list[tuple[float, int, Iterator[Sent], Sent]] = []
        while True:
            arrival += self._chance.expovariate(self._rate / VISIT_EVENTS)
            while due and due[0][0] <= arrival:
                _, number, rest, event = heapq.heappop(due)
                if event.due_seconds >= 0:
                    yield event
                self._push(due, number, rest)
            self._push(due, next(visits), self._visit(arrival))

    def _push(self, due: list[tuple[float, int, Iterator[Sent], Sent]], number: int, rest: Iterator[Sent]) -> None:
        event = next(rest, None)
        if event is not None:
            heapq.heappush(due, (event.due_seconds, number, rest, event))

    def _visit(self, start: float) -> Iterator[Sent]:
        chance = self._chance
        is_bot, seconds = chance.random() < BOTS, start
        visitor = f"bot-{next(self._numbers)}" if is_bot else self._visitor()
        agent = _BOT if is_bot else _PERSON
        for call in self._calls(visitor):
            more = {"messageId": f"shop-{next(self._numbers)}", "anonymousId": visitor, "context": {"userAgent": agent}}
            if visitor in self._names:
                more["userId"] = self._names[visitor]
            late = chance.uniform(1, _LATE_SECONDS) if chance.random() < LATE else 0.0
            yield Sent(seconds, call | more, late, chance.random() < REPEATED)
            seconds += self._gap()

    def _visitor(self) -> str:
        if self._known and self._chance.random() > NEW:
            return self._chance.choice(self._known)
        self._known.append(f"visitor-{len(self._known)}")
        return self._known[-1]

    def _calls(self, visitor: str) -> Iterator[dict[str, Any]]:
        """The calls of a visit: views, then perhaps the cart, then perhaps the purchase and a name."""
        chance = self._chance
        goal = chance.random()
        buys, fills = goal < BUY, goal < CART
        length = max(1 + fills + buys, round(chance.lognormvariate(math.log(_LENGTH_MEDIAN), _LENGTH_SIGMA)))
        item, shelf, price = "", "", 0
        for _ in range(length - fills - buys):
            [(item, shelf, price)] = chance.choices(_ITEMS, _WEIGHTS)
            yield _call("view", item=item, category=shelf, price=price)
        if fills:
            yield _call("cart", item=item, category=shelf, price=price)
        if buys:
            yield _call("buy", item=item, revenue=price)
            if chance.random() < KNOWN and not visitor.startswith("bot"):
                self._names.setdefault(visitor, self._name())
                yield {"type": "identify", "traits": {"plan": "member"}}

    def _name(self) -> str:
        if not self._people or self._chance.random() > SECOND_DEVICE:
            self._people.append(f"person-{len(self._people)}")
        return self._people[-1]

    def _gap(self) -> float:
        share = self._chance.random()
        for (low, short), (high, long) in itertools.pairwise(_GAPS):
            if share <= high:
                return short * math.pow(long / short, (share - low) / (high - low))
        return _GAPS[-1][1]


def _call(event: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "properties": properties}

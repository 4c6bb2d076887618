"""User agents identify programs among the visitors; people are not mistaken for programs."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from sokuji.bots import is_bot

BOTS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15 (Applebot/0.1)",
    "Mozilla/5.0 (compatible; YandexBot/3.0)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 Safari/537.36",
    "facebookexternalhit/1.1",
    "curl/8.5.0",
    "Baiduspider+(+http://www.baidu.com/search/spider.htm)",
]
PEOPLE = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 12; CUBOT X30) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "okhttp/4.12.0",
]


@pytest.mark.parametrize(("agents", "expected"), [(BOTS, True), (PEOPLE, False)])
def test_programs_are_told_from_people(agents: list[str], expected: bool) -> None:
    for layout in (json.dumps, lambda context: json.dumps(context, separators=(",", ":"))):
        contexts = pa.array([layout({"ip": "203.0.113.7", "userAgent": agent}) for agent in agents])
        assert is_bot(contexts).to_pylist() == [expected] * len(agents)


def test_a_bot_elsewhere_in_the_context_says_nothing() -> None:
    context = json.dumps({"userAgent": PEOPLE[0], "page": {"url": "https://robot.shop/bots/1", "referrer": "https://spider.example"}})
    assert is_bot(pa.array([context, None, "{}"])).to_pylist() == [False, False, False]

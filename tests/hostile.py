"""JSON that readers interpret differently: repeated and escaped keys, numbers of any size, halves of surrogate pairs, depth, odd keys."""

from __future__ import annotations

from random import Random

KEYS = [
    *(
        "price",
        "Price",
        "name",
        "new",
        "a b",
        "a.b",
        "type",
        "",
        'q"q',
        "nul\0",
        "ключ",
        "1st",
        "x" * 129,
        "back\\slash",
        "og:title",
        "_id",
    ),
]
NUMBERS = [
    *("0", "-0", "-0.0", "0.1", "1", "-1.5", "123456.75", "1e5", "1E+2", "1e-7", "1e23", "0.30000000000000004"),
    *("5e-324", "1e-400", "-1e-9999", "9085e20999", "1e309", "-1e309", "1e999", "1e00308", "1e0309"),
    *("1.7976931348623157e308", "1.7976931348623159e308", "9007199254740993", "123456789012345678901234567890"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616"),
]
DIGITS = [15, 16, 17, 100, 199, 200, 308, 309, 310, 400, 4301]
TEXTS = [
    *("", "x", "1e999", '":', "1", "true", "null", "a\\b", 'say "hi"', "日本 🙂", "\0", "\n\t", "{[", "e999,", "a:b"),
    *("x" * 3000, "9" * 400),
]
VALID = ['"\\ud83d\\ude00"', '"\\/\\b\\u00e9"', '"\\\\ud800"', '"\\\\\\ud83d\\uDE00"']
HALVES = ['"\\ud800"', '"\\udc00x"', '"\\\\\\ud800"', '"\\ud800\\ud83d\\ude00"']


def value(random: Random, depth: int = 0, *, is_valid: bool = False) -> str:
    """A JSON value's text; if not `is_valid`, it may hold what only some encoders write."""
    kind = random.randrange(10)
    if kind < 3:
        return number(random)
    if kind < 6:
        return string(random, random.choice(TEXTS))
    if kind == 6:
        return random.choice(["true", "false", "null", *([] if is_valid else ["NaN", "-Infinity"])])
    if kind == 7:
        return random.choice(VALID if is_valid else VALID + HALVES)
    if depth > 3:
        return "[" * 40 + number(random) + "]" * 40
    if kind == 8:
        return "[" + ",".join(value(random, depth + 1, is_valid=is_valid) for _ in range(random.randrange(4))) + "]"
    return object_(random, depth + 1, is_valid=is_valid)


def number(random: Random) -> str:
    """A number's text."""
    if random.randrange(4):
        return random.choice(NUMBERS)
    digits = "123456789"[random.randrange(9)] + "".join(random.choices("0123456789", k=random.choice(DIGITS) - 1))
    tail = random.choice(["", "", ".5", "e99", "e-99", "E+108", "e-400"])
    return random.choice(["", "-"]) + digits + tail


def object_(random: Random, depth: int = 0, *, is_valid: bool = False) -> str:
    """A JSON object's text, members of which may have the same key."""
    blank = random.choice(["", "", "", " ", "\n\t"])
    members = []
    for _ in range(random.randrange(7)):
        parts = (string(random, random.choice(KEYS)), ":", value(random, depth, is_valid=is_valid))
        members.append(blank + blank.join(parts) + blank)
    return "{" + ",".join(members) + "}"


def string(random: Random, text: str) -> str:
    """A JSON string, some characters of it escaped though they need not be."""
    share = random.choice([0, 0, 0.2, 1])
    return '"' + "".join(_escaped(sign) if random.random() < share or sign in '"\\' or sign < " " else sign for sign in text) + '"'


def _escaped(sign: str) -> str:
    units = sign.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2))

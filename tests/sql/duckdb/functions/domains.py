"""Values for tests of functions: the edges of each type first, any other value after."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from sokuji import types
from sokuji.types import Field, Kind, Type

DAY_US = 86_400_000_000
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_FIRST_US, _LAST_US = _FIRST_DAY * DAY_US, (_LAST_DAY + 1) * DAY_US - 1

_INT64 = [0, 1, -1, 2, 3, 7, -7, 10, 64, 100, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 10**15]
_FLOAT64 = [
    *(
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        0.1,
        0.2,
        3.0,
        1e15,
        123456789012345680.0,
        1e16,
        1e20,
        1e-5,
        0.0001,
        1e300,
        1.7e308,
        -1.7e308,
    ),
    *(5e-324, float("nan"), float("inf"), float("-inf"), 123456.789, 2.0**53, 2.0**63, -(2.0**63), 0.49999999999999994),
]
_NUMERIC = [
    Decimal(text)
    for text in [
        "0",
        "1",
        "-1",
        "0.5",
        "1.5",
        "2.5",
        "-2.5",
        "0.000000001",
        "123.456",
        "1e20",
        "99999999999999999999999999999.999999999",
        "-99999999999999999999999999999.999999999",
    ]
]
_STRING = [
    *(
        "",
        "a",
        "abc",
        "ABC",
        "héllo",
        "😀",
        "a😀b",
        "ß",
        "İ",
        "  x ",
        "\t\n x\u3000",
        "x,y,,z",
        "a.b",
        "null",
        "e\u0301",
        "%",
        "_",
        "a%b",
        "\\",
        "abcabc",
    ),
    *("Hello World", "foo-bar baz", "[1, 2]", "'", '"', "\n", "ab\nc", "ÀÉ", "Ｆ", "ﬁ"),
]
_TEXTS = {
    "number": ["0", "12", " 12 ", "-7", "+5", "0x1F", "-0x1f", "1.5", "-1e5", ".5", "5.", "1e400", "nan", "NaN", "inf", "-Infinity", "", "abc", "1_000", "१", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "99999999999999999999999999999.999999999", "0.0000000005", "1e28", "1e29", "00012", "1 2", "3.14159265358979"],  # noqa: E501
    "bool": ["true", "false", "TRUE", "False", "t", "1", "0", "yes", "", " true"],
    "date": ["2020-02-29", "2021-02-29", "2020-1-5", "0001-01-01", "9999-12-31", "10000-01-01", "0000-01-01", "2020-13-01", "2020-01-32", "20200101", "", "abc", "2020-01-01 10:00:00", " 2020-01-01", "2020-01-01x", "1969-12-31", "2020-04-31"],  # noqa: E501
    "datetime": ["2020-02-29 12:34:56", "2020-02-29T12:34:56.789", "2020-02-29 1:2:3", "2020-01-01", "9999-12-31 23:59:59.999999", "2020-01-01 25:00:00", "2020-01-01 00:00:60", "", "abc", "2020-01-01 10:00", "2020-01-01 10:00:00+00", "0001-01-01 00:00:00", "2020-01-01 00:00:00.1234567"],  # noqa: E501
    "time": ["12:34:56", "1:2:3", "23:59:59.999999", "24:00:00", "12:34", "", "abc", "12:34:56.1234567", "00:00:00"],
    "timestamp": ["2020-02-29 12:34:56+00", "2020-02-29 12:34:56", "2020-02-29T12:34:56.789Z", "2020-02-29 12:34:56-08", "2020-02-29 12:34:56+05:30", "2020-03-08 02:30:00 America/Los_Angeles", "2020-01-01", "9999-12-31 23:59:59.999999+00", "0001-01-01 00:00:00+00", "2020-01-01 00:00:00 UTC", "", "abc", "2020-01-01 00:00:00.1234567+00", "2020-01-01 00:00:00 Nowhere/X"],  # noqa: E501
    "interval": ["1-2 3 4:5:6", "0-0 0 0:0:0", "-1-2 -3 -4:5:6.789", "", "abc", "1-2", "P1Y2M3DT4H5M6S"],
    "json": ['{"a": {"b": 1}, "c": [1, "x", null, 2.5, true]}', "[1, 2, 3]", '"text"', "12", "1.5", "true", "null", "{}", "[]", '{"a": "x"}', '{"a": [1, 2]}', '{"a": null}', "", "{bad", '{"a": 1, "a": 2}', '{"a": "é😀\\n"}', '["a", "b"]', "[true, false]", '{"a": 9223372036854775807, "b": 1e100}', '{"a":{"b":{"c":"deep"}}}'],  # noqa: E501
    "hex": ["", "00", "abcdef", "ABC", "xyz", "616263", "0"],
    "base64": ["", "YQ==", "YWJj", "!!!", "YWI", "//79"],
    "base32": ["", "ME======", "MFRGG===", "!!!"],
    "url": ["http://www.example.com/a?b", "https://foo.co.uk:80", "//user:pw@a.b.c:80/x", "mailto:x@y.com", "", "a b", "http://例え.jp", "http://[::1]/", "www.Example.Com."],  # noqa: E501
    "ip": ["1.2.3.4", "::1", "fe80::1", "1.2.3", "", "256.1.1.1", "2001:db8::ff00:42:8329"],
    "unit": ["a", "b", "ab", ",", "", "é", "xyz"],
    "pattern": ["a", "b+", "(b)", "[a-c]+", "^a", "c$", "a|b", "", "(", "x*", "(a)(b)", ".", "\\d+", "é"],
    "like": ["a%", "%b%", "_", "", "%", "a\\%b", "abc", "\\", "h_llo", "%\n%"],
    "zone": ["UTC", "America/Los_Angeles", "Asia/Tokyo", "+05:30", "-08:00", "Nowhere/X", "Europe/London"],
    "collapse": ["abc", "ABC", "ﬁ", "e\u0301", "é", "ß", "Straße", "ΑΣ"],
    "short": ["", "a", "b", "ab", "é", "😀"],
}  # fmt: skip
_BYTES = [b"", b"a", b"abc", b"\x00", b"\xff\xfe", "é".encode(), b"a,b", b"  x ", b"abcabc", b"\x01\x02\x03\x04", b"ABC", bytes(range(16))]
_DATE = [
    0,
    -1,
    1,
    18_262,
    18_321,
    18_322,
    18_291,
    18_628,
    18_630,
    17_896,
    18_260,
    18_261,
    _FIRST_DAY,
    _FIRST_DAY + 6,
    _LAST_DAY,
    _LAST_DAY - 1,
    11_016,
    -25_567,
]
_TIME = [0, 1, 999, 1_000, 999_999, 1_000_000, 45_296_789_012, DAY_US - 1, 3_600_000_000, 60_000_000]
_INSTANT = [
    *(0, -1, 1, -1_000_000, 1_500, 1_577_836_800_000_000, 1_582_979_696_789_012, 1_583_661_600_000_000, 1_583_661_599_999_999),
    *(1_604_221_200_000_000, 1_604_217_600_000_000, 1_603_584_000_000_000, _FIRST_US, _LAST_US, _FIRST_US + DAY_US, 1_572_771_600_000_000),
    *(-2_208_988_800_000_000, 951_782_400_000_000, 4_102_444_800_000_000, 1_609_459_199_999_999),
]
_INTERVAL = [
    (0, 0, 0),
    (14, 3, 14_706_000_000_000),
    (-1, 5, 0),
    (0, 35, 90_000_000_000_000),
    (1, -35, -1_000),
    (0, 0, 1_000),
    (25, 0, 0),
    (0, 1, 0),
]
_JSON = [text for text in _TEXTS["json"] if text not in {"", "{bad"}] + [
    '{"x": "12", "y": "true"}',
    '"12"',
    '"true"',
    '"1.5"',
    "0",
    "-7",
    "1e3",
    '"x"',
    "[1.5, 2]",
]
_SMALL = [0, 1, -1, 2, 3, 5, 10, -3]


def _any_of(edges: list[Any], more: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    known = st.sampled_from(edges)
    return known if more is None else known | known | more


_STRATEGIES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.INT64: _any_of(_INT64, st.integers(-20, 20) | st.integers(-(2**63), 2**63 - 1)),
    Kind.FLOAT64: _any_of(_FLOAT64, st.floats() | st.floats(-1000, 1000)),
    Kind.NUMERIC: _any_of(_NUMERIC, st.decimals(-(10**12), 10**12, places=9) | st.decimals(-100, 100, places=2)),
    Kind.BOOL: st.booleans(),
    Kind.STRING: _any_of(_STRING, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)),
    Kind.BYTES: _any_of(_BYTES, st.binary(max_size=8)),
    Kind.DATE: _any_of(_DATE, st.integers(_FIRST_DAY, _LAST_DAY)),
    Kind.DATETIME: _any_of(_INSTANT, st.integers(_FIRST_US, _LAST_US)),
    Kind.TIME: _any_of(_TIME, st.integers(0, DAY_US - 1)),
    Kind.TIMESTAMP: _any_of(_INSTANT, st.integers(_FIRST_US, _LAST_US)),
    Kind.INTERVAL: _any_of(_INTERVAL),
    Kind.JSON: _any_of(_JSON),
}

_SPECIAL: dict[tuple[Kind, str], st.SearchStrategy[Any]] = {
    **{(Kind.STRING, name): _any_of(texts) for name, texts in _TEXTS.items()},
    (Kind.INT64, "small"): _any_of(_SMALL),
    (Kind.INT64, "length"): _any_of([0, 1, 2, 3, 5, 9, -1]),
    (Kind.INT64, "point"): _any_of([0, 65, 97, 233, 128512, 0x10FFFF, 0xD800, -1, 255, 256, 0x110000]),
    (Kind.INT64, "prefix"): _any_of([0, 8, 16, 24, 32, 64, 128, 129, -1]),
    (Kind.INT64, "year"): _any_of([2020, 1, 9999, 0, 10_000, 1970]),
    (Kind.INT64, "month"): _any_of([1, 2, 12, 0, 13]),
    (Kind.INT64, "day"): _any_of([1, 28, 29, 30, 31, 0, 32]),
    (Kind.INT64, "hour"): _any_of([0, 12, 23, 24, -1]),
    (Kind.INT64, "minute"): _any_of([0, 30, 59, 60, -1]),
    (Kind.FLOAT64, "unit"): _any_of([0.0, 0.5, 1.0, -1.0, -0.5, 0.25, 1.5, float("nan")], st.floats(-1, 1)),
    (Kind.FLOAT64, "tame"): _any_of(
        [0.0, 0.5, 1.0, -1.0, 2.0, 10.0, 100.5], st.integers(-50_000, 50_000).map(lambda number: number / 1000)
    ),
    (Kind.FLOAT64, "odd"): _any_of([0.0, 1.0, 2.5, float("nan"), float("inf"), float("-inf"), 1.7e308, -1.7e308]),
    (Kind.BYTES, "ip"): _any_of([b"\x01\x02\x03\x04", bytes(16), b"", b"abc", bytes(range(16)), b"\xff\xff\xff\xff"]),
    (Kind.BYTES, "utf8"): _any_of([b"", b"abc", "é😀".encode(), b"\xff", b"a\xc3"]),
    (Kind.DATE, "near"): st.integers(18_000, 18_400),
    (Kind.TIMESTAMP, "near"): st.integers(18_000 * DAY_US, 18_003 * DAY_US),
    (Kind.NUMERIC, "tame"): _any_of([Decimal(text) for text in ["0", "1", "-1", "0.5", "2.5", "10", "100.25", "-3.7"]]),
}

POINT = types.struct([Field("a", types.INT64), Field("b", types.FLOAT64)])


def values(type_: Type, domain: str = "", *, nulls: bool = True) -> st.SearchStrategy[Any]:
    """Values of a type, NULL among them, in the form `sokuji.sql.front.values` has them in."""
    if type_.element is not None:
        strategy: st.SearchStrategy[Any] = st.lists(values(type_.element, domain), max_size=4)
    elif type_.kind is Kind.STRUCT:
        strategy = st.tuples(*(values(field.type) for field in type_.fields))
    elif domain:
        strategy = _SPECIAL[type_.kind, domain]
    else:
        strategy = _STRATEGIES[type_.kind]
    return st.one_of(*[strategy] * 9, st.none()) if nulls else strategy

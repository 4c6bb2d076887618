"""HTTP/1.1 between bytes and messages: a well-formed message is read as intended, every other message is refused."""

import string
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.errors import InvalidRequestError
from sokuji.web.http1 import Chunks, answer_text, parse_head

NAMES = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=12).filter(
    lambda name: name.lower() not in {"content-length", "transfer-encoding", "connection", "host"}
)
VALUES = st.text([chr(code) for code in range(0x21, 0x100) if code != 0x7F], max_size=20)
PATHS = st.text(string.ascii_letters + string.digits + "/%.-_~!$&'()*+,;=:@", max_size=20).map(lambda text: "/" + text)
QUERIES = st.text(string.ascii_letters + string.digits + "%=&+?/[]即", max_size=20)


def head(*fields: str, line: str = "POST /v1/t HTTP/1.1") -> bytes:
    return "\r\n".join([line, "Host: x", *fields, "", ""]).encode("latin-1")


@given(
    st.sampled_from(["GET", "POST", "OPTIONS", "BREW"]),
    PATHS,
    QUERIES,
    st.lists(st.tuples(NAMES, VALUES), max_size=6),
    st.sampled_from(["", " ", "\t "]),
)
def test_a_head_says_what_was_written(method: str, path: str, query: str, fields: list[tuple[str, str]], space: str) -> None:
    line = f"{method} {path}?{query} HTTP/1.1".encode()
    lines = [line, b"HOST: x", *(f"{name}:{space}{value}{space}".encode("latin-1") for name, value in fields), b"", b""]
    found = parse_head(b"\r\n".join(lines))
    assert (found.method, found.path, found.query, found.length, found.keep_alive) == (method, path, query, 0, True)
    expected: dict[str, list[str]] = {"host": ["x"]}
    for name, value in fields:
        expected.setdefault(name.lower(), []).append(value)
    assert found.headers == {name: ", ".join(values) for name, values in expected.items()}


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://in.example:8080/v1/t?a=b", "/v1/t", "a=b"),  # as to a proxy
        ("http://in.example", "/", ""),
        ("*", "*", ""),
        ("/a%20b", "/a%20b", ""),
        ("/?", "/", ""),
        ("/?a?b", "/", "a?b"),
    ],
)
def test_targets_of_every_form(target: str, path: str, query: str) -> None:
    found = parse_head(head(line=f"GET {target} HTTP/1.1"))
    assert (found.path, found.query) == (path, query)


@pytest.mark.parametrize(
    ("fields", "version", "length", "keep_alive"),
    [
        ([], "1.1", 0, True),
        (["Content-Length: 12"], "1.1", 12, True),
        (["Content-Length: 0012", "Connection: keep-alive"], "1.1", 12, True),
        (["Connection: Close"], "1.1", 0, False),
        (["Transfer-Encoding: Chunked"], "1.1", None, True),
        ([], "1.0", 0, False),
        (["Transfer-Encoding: chunked", "Content-Length: 3"], "1.1", None, False),  # a proxy may have read it otherwise
    ],
)
def test_where_a_body_ends_and_whether_another_request_may_follow(
    fields: list[str], version: str, length: int | None, keep_alive: bool
) -> None:
    found = parse_head(head(*fields, line=f"POST / HTTP/{version}"))
    assert (found.length, found.keep_alive) == (length, keep_alive)


@pytest.mark.parametrize(
    "text",
    [
        b"\r\n\r\n",
        b"GET / HTTP/1.1\n\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"G(T / HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        *(head(*fields) for fields in [("no colon",), ("Name : before the colon",), (": no name",), ("Na(me: x",)]),
        *(head("X: a\r\n folded"), head("X: a\nY: b"), head("X: a\rb"), head("X: \0")),
        *(head(f"Content-Length: {length}") for length in ["-1", "+1", "1 2", "0x1", "", "²", "9" * 30]),
        head("Content-Length: 1", "Content-Length: 2"),
        head("Content-Length: 1", "Content-Length: 1"),
        *(head(f"Transfer-Encoding: {coding}") for coding in ["gzip", "gzip, chunked", "chunked, chunked", "identity", "", "xchunked"]),
        head("Transfer-Encoding: chunked", line="POST / HTTP/1.0"),
        b"GET / HTTP/1.1\r\n\r\n",  # RFC 9112, 3.2: exactly one Host
        head("Host: x"),
        head("Host: y", line="GET / HTTP/1.0"),
        *(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host for host in [b"a b", b"a, b", b"a/b", b"u@a", b"a:b", b"\xff", b"[::1", b"a" * 300]),
    ],
)
def test_what_two_programs_could_read_in_two_ways_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_head(text)
    assert (refused.value.status, refused.value.code) == (400, "invalid_http")


@pytest.mark.parametrize("host", ["", "shop.example", "shop.example:8080", "192.0.2.1:80", "[2001:db8::1]:80", "[::1]", "xn--a_b.example"])
def test_hosts_of_every_form(host: str) -> None:
    assert parse_head(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).headers["host"] == host


def test_the_first_version_may_leave_the_host_out() -> None:
    assert parse_head(b"GET / HTTP/1.0\r\n\r\n").headers == {}


def test_headers_are_bounded_in_number() -> None:
    fields = [f"X-{number}: v" for number in range(101)]
    assert len(parse_head(head(*fields[:99])).headers) == 100
    with pytest.raises(InvalidRequestError, match="more than 100 headers"):
        parse_head(head(*fields[:100]))


def fed(text: bytes, cuts: list[int]) -> tuple[bytes, bytes, bool]:
    """What `Chunks` makes of `text` that arrives cut into parts: the body, what is left, and whether it is done."""
    chunks, rest, body = Chunks(), b"", b""
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    for start, end in pairwise(places):
        if chunks.done:
            rest += text[start:end]
            continue
        pieces, rest = chunks.take(rest + text[start:end])
        body += b"".join(pieces)
    return body, rest, chunks.done


PIECES = st.lists(st.binary(min_size=1, max_size=300), max_size=5)
EXTENSIONS = st.sampled_from([b"", b";a=b", b" ;a", b';a="\xff"'])
TRAILERS = st.sampled_from([b"", b"Expires: never\r\n", b"A: b\r\nC: d\r\n"])


@given(PIECES, EXTENSIONS, TRAILERS, st.binary(max_size=20), st.lists(st.integers(0, 2000), max_size=8))
def test_chunks_are_put_together_however_they_arrive(
    pieces: list[bytes], extension: bytes, trailers: bytes, following: bytes, cuts: list[int]
) -> None:
    text = b"".join(b"%X%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    text += b"0%b\r\n%b\r\n" % (extension, trailers)
    assert fed(text + following, cuts) == (b"".join(pieces), following, True)
    assert fed(text[:-1], cuts)[2] is False


@pytest.mark.parametrize(
    "text",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1\n\r\n",
        b"1\r\nab\r\n",
        b"1\r\nabc",
        b"123456789\r\n",
        b"1" * 9000,
        b"1;" + b"x" * 9000,
    ],
)
def test_what_is_not_in_chunks_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="chunks"):
        fed(text + b"\r\n" * 2, [])


def test_an_answer_has_its_length_and_date_and_says_whether_it_is_the_last() -> None:
    text = answer_text(429, [("retry-after", "1")], b"busy", keep_alive=True)
    lines, _, body = text.partition(b"\r\n\r\n")
    first, retry, date, length = lines.split(b"\r\n")
    assert (first, retry, length, body) == (b"HTTP/1.1 429 Too Many Requests", b"retry-after: 1", b"content-length: 4", b"busy")
    assert date.startswith(b"date: ")
    assert date.endswith(b" GMT")
    assert b"\r\nconnection: close\r\n" in answer_text(200, [], b"", keep_alive=False)
    assert b"content-length" not in answer_text(204, [], b"", keep_alive=True)  # RFC 9110, 8.6

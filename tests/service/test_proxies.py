"""Which proxies are trusted for a client's address and scheme."""

import tracemalloc

import pytest

from sokuji.service.proxies import Proxies, unit

TRUSTED = Proxies(["127.0.0.0/8", "::1/128", "10.0.0.0/8", "2001:db8:1::/48"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "192.0.2.1", "203.0.113.9"),  # anyone may write the header
        ("127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "192.0.2.66, 192.0.2.1", "192.0.2.1"),  # the first was sent by the client
        ("127.0.0.1", "192.0.2.1, 10.1.2.3", "192.0.2.1"),  # through two proxies
        ("127.0.0.1", "192.0.2.1,10.1.2.3 , 10.9.9.9", "192.0.2.1"),
        ("127.0.0.1", "10.1.2.3", "10.1.2.3"),  # a client in the proxies' network
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.1, nonsense, 10.1.2.3", "10.1.2.3"),  # no further than what can be read
        ("127.0.0.1", "192.0.2.1:4711", "192.0.2.1"),
        ("127.0.0.1", "[2001:db8:9::1]:4711", "2001:db8:9::1"),
        ("127.0.0.1", "2001:db8:9::1", "2001:db8:9::1"),
        ("2001:db8:1::7", "192.0.2.1", "192.0.2.1"),
        ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxy_is_the_client(peer: str, forwarded: str | None, client: str) -> None:
    assert TRUSTED.client(peer, {} if forwarded is None else {"x-forwarded-for": forwarded}) == client


@pytest.mark.parametrize(
    ("peer", "forwarded", "schemes", "scheme"),
    [
        ("127.0.0.1", "192.0.2.1", "https", "https"),
        ("127.0.0.1", "192.0.2.1", "HTTPS", "https"),
        ("203.0.113.9", "192.0.2.1", "https", "http"),
        ("127.0.0.1", "192.0.2.1", "https, http", "http"),  # one proxy: the first was sent by the client
        ("127.0.0.1", "192.0.2.1, 10.0.0.1", "https, http", "https"),
        ("127.0.0.1", "192.0.2.1", "javascript:", "http"),
    ],
)
def test_the_scheme_is_what_the_first_trusted_proxy_says(peer: str, forwarded: str, schemes: str, scheme: str) -> None:
    assert TRUSTED.scheme(peer, {"x-forwarded-for": forwarded, "x-forwarded-proto": schemes}) == scheme


def test_what_a_client_writes_before_the_proxies_is_not_kept() -> None:
    """65,536 different headers of 60 KB were kept, 4 GB."""
    proxies = Proxies(["127.0.0.0/8"])
    tracemalloc.start()
    for number in range(100):
        headers = {"x-forwarded-for": f"{number}" + "127.0.0.1, " * 5_000 + "192.0.2.1, 127.0.0.2", "x-forwarded-proto": "https"}
        assert proxies.client("127.0.0.1", headers) == "192.0.2.1"
        assert proxies.scheme("127.0.0.1", headers) == "https"
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1_000_000


def test_addresses_of_one_ipv6_customer_share_limits() -> None:
    assert unit("2001:db8::1") == unit("2001:db8::ffff:1") != unit("2001:db8:0:1::1")
    assert unit("192.0.2.1") != unit("192.0.2.2")

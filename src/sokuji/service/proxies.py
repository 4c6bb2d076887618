"""Find who sent a request that came through proxies. Only trusted proxies are believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache

from sokuji.config import Config

Headers = Mapping[str, str]
"""By name in lower case; values of a repeated header are joined by commas."""

_IPV6_PREFIX = 64  # the network of one customer, who may use any address in it
_FORWARDED_LENGTH = 1_000  # of the header's end, which the proxies wrote; anything before that came from the client and is ignored


class Proxies:
    """The addresses of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""

    def __init__(self, networks: Sequence[str] = Config().trusted_proxies) -> None:
        """Trust the addresses in `networks` (CIDR).

        Raises:
            ValueError: one of them is not a network.
        """
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self.trusts = lru_cache(4096)(self._trusts)
        self._client = lru_cache(65536)(self._last_untrusted)

    def client(self, peer: str, headers: Headers) -> str:
        """The address of the client behind `peer`: the last address in the header that is not a trusted proxy, else `peer` itself."""
        forwarded = headers.get("x-forwarded-for")
        return self._client(peer, forwarded[-_FORWARDED_LENGTH:])[0] if forwarded is not None and self.trusts(peer) else peer

    def scheme(self, peer: str, headers: Headers) -> str:
        """How the client reached the first trusted proxy: `http` or `https`."""
        schemes = headers.get("x-forwarded-proto")
        if schemes is None or not self.trusts(peer):
            return "http"
        _, proxies = self._client(peer, headers.get("x-forwarded-for", "")[-_FORWARDED_LENGTH:])
        protocol = schemes.split(",")[-proxies:][0].strip().lower()
        return "https" if protocol == "https" else "http"

    def _trusts(self, address: str) -> bool:
        """Whether this address is a trusted proxy."""
        ip = _parsed(address)
        return ip is not None and any(ip in network for network in self._networks)

    def _last_untrusted(self, peer: str, forwarded: str) -> tuple[str, int]:
        """The client's address, and how many trusted proxies the request came through."""
        client, proxies = peer, 1
        for entry in reversed(forwarded.split(",")):
            ip = _parsed(_without_port(entry.strip()))
            if ip is None:
                break
            client = str(ip)
            if not self.trusts(client):
                break
            proxies += 1
        return client, proxies


@lru_cache(4096)
def unit(address: str) -> str:
    """The unit that shares limits with an address: the address itself, or for IPv6 the network that one customer has."""
    ip = _parsed(address)
    return str(ipaddress.IPv6Network((ip, _IPV6_PREFIX), strict=False)) if isinstance(ip, ipaddress.IPv6Address) else address


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


def _without_port(entry: str) -> str:
    """The address without its port: some proxies write `192.0.2.1:4711` or `[2001:db8::1]:4711`."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry

"""Allowed addresses of webhooks: none in the platform's own network.

Rules are the project's own code. But a receiver's name is resolved by its owner's DNS server, which may return 127.0.0.1 or the address
of a cloud's metadata service. So the address is checked after the name is resolved, and the connection goes to exactly that address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import urlsplit

from sokuji.errors import SokujiError

_DEFAULT_PORTS = {"https": 443, "http": 80}
_IPV6_GLOBAL = ipaddress.IPv6Network("2000::/3")


class RefusedAddressError(SokujiError):
    """A webhook's URL is not allowed."""


class WebhookAddress(NamedTuple):
    """The parts of a URL. `host` is in the form of certificates and headers (IDNA)."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def endpoint(self) -> str:
        """scheme://host:port, the unit that shares a secret, a circuit breaker and a limit in the queue."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """host:port, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(url: object) -> WebhookAddress:
    """The address that `url` names.

    Raises:
        RefusedAddressError: it is not an absolute http or https URL, or has a password.
    """
    try:
        parts = urlsplit(str(url))
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        host = (parts.hostname or "").encode("idna").decode() if ":" not in (parts.hostname or "") else str(parts.hostname)
    except (ValueError, UnicodeError) as error:
        raise RefusedAddressError(f"webhook URL {url!r}: {error}") from error
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not host or not port or parts.username is not None or not path.isascii() or not path.isprintable() or " " in path:
        raise RefusedAddressError(f"webhook URL {url!r}: expected https://host/path, percent-encoded, without a user or password")
    return WebhookAddress(parts.scheme, host, port, path)


async def resolve(target: WebhookAddress, private_hosts: Collection[str]) -> list[str]:
    """The IP addresses that may be connected to, in the resolver's order; at least one.

    Raises:
        RefusedAddressError: the address is in a private network, or not https, and `private_hosts` does not have this host:port.
        OSError: the name cannot be resolved.
    """
    resolved = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in resolved]
    if target.authority in private_hosts:
        return addresses
    if target.scheme != "https":
        raise RefusedAddressError(f"{target.endpoint}: expected https; for a receiver of your own, {_fix(target)}")
    public = [address for address in addresses if is_public(address)]
    if not public:
        raise RefusedAddressError(
            f"{target.endpoint} is {addresses[0]}, an address in a private network; if it is your own, {_fix(target)}"
        )
    return public


def _fix(target: WebhookAddress) -> str:
    return f'add "{target.authority}" to webhooks.private_hosts in sokuji.toml'


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet and does not embed another address that is not."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip not in _IPV6_GLOBAL or ip.sixtofour is not None or ip.teredo is not None:
            return False  # includes NAT64, which leads to any IPv4 address
    return ip.is_global and not ip.is_multicast

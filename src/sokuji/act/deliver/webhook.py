"""One attempt to deliver one decision to a webhook.

Requests are signed as https://www.standardwebhooks.com describes: HMAC-SHA-256 over `id.timestamp.body`. Receivers find libraries for it
in every language. The id is the decision's, the same in every attempt, so that a receiver can deduplicate.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import hashlib
import hmac
import ssl
import time
from collections.abc import Collection
from typing import NamedTuple

from sokuji.act.deliver.address import RefusedAddressError, WebhookAddress, parse, resolve
from sokuji.act.deliver.outcome import DeliveryOutcome
from sokuji.act.secret import Secret

_HEAD_BYTES_MAX = 16 * 1024
# The receiver says that this message is wrong, so a retry would fail too. Errors that may pass (a wrong password, a page being deployed)
# are
# retried.
_FINAL = frozenset({400, 410, 413, 414, 415, 422})


class _Answer(NamedTuple):
    status: int
    retry_after: str | None


class Webhooks:
    """Sends requests, each over its own connection."""

    def __init__(self, secret: Secret, timeout_seconds: float, private_hosts: Collection[str]) -> None:
        self._secret, self._timeout_seconds, self._private_hosts = secret, timeout_seconds, private_hosts
        self._tls = ssl.create_default_context()

    async def send(self, delivery_id: str, url: str, body: bytes) -> DeliveryOutcome:
        """POST `body` to `url`. Never raises because of the network or the receiver."""
        try:
            target = parse(url)
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self._post(target, self._head(target, delivery_id, body) + body)
        except RefusedAddressError as error:
            return DeliveryOutcome.final("refused_address", str(error))
        except TimeoutError:
            return DeliveryOutcome.retry("timeout", f"{target.endpoint} did not answer within {self._timeout_seconds:g} s")
        except (OSError, ValueError, EOFError) as error:  # ValueError, EOFError: the answer is not HTTP, or too long
            return DeliveryOutcome.retry("no_answer", f"{target.endpoint}: {type(error).__name__}: {error}")
        return _outcome(target, answer)

    def _head(self, target: WebhookAddress, delivery_id: str, body: bytes) -> bytes:
        timestamp = str(int(time.time()))
        key = self._secret.key(f"webhook {target.endpoint}")
        lines = [
            f"POST {target.path} HTTP/1.1",
            f"Host: {target.authority}",
            "User-Agent: sokuji",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
            f"Webhook-Id: {delivery_id}",
            f"Idempotency-Key: {delivery_id}",
            f"Webhook-Timestamp: {timestamp}",
            f"Webhook-Signature: {signature(key, delivery_id, timestamp, body)}",
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    async def _post(self, target: WebhookAddress, request: bytes) -> _Answer:
        reader, writer = await self._connect(target)
        try:
            writer.write(request)
            await writer.drain()
            while True:
                answer = _parse(await reader.readuntil(b"\r\n\r\n"))
                if answer.status >= 200:  # 1xx: the final answer is still to come
                    return answer
        except asyncio.LimitOverrunError as error:
            raise ValueError(f"the answer's head has more than {_HEAD_BYTES_MAX} bytes") from error
        finally:
            writer.transport.abort()  # the body of the answer is not needed

    async def _connect(self, target: WebhookAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = self._tls if target.scheme == "https" else None
        problem = OSError("no address")
        for address in await resolve(target, self._private_hosts):
            try:
                return await asyncio.open_connection(
                    address, target.port, limit=_HEAD_BYTES_MAX, ssl=tls, server_hostname=target.host if tls else None
                )
            except OSError as error:
                problem = error
        raise problem


def signature(key: bytes, delivery_id: str, timestamp: str, body: bytes) -> str:
    """The value of `Webhook-Signature`."""
    digest = hmac.new(key, f"{delivery_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _parse(head: bytes) -> _Answer:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit() and len(status) == 3):
        raise ValueError(f"the answer begins with {first[:80]!r}; expected HTTP/1.1 and a status")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return _Answer(int(status), headers.get("retry-after"))


def _outcome(target: WebhookAddress, answer: _Answer) -> DeliveryOutcome:
    reason = f"{target.endpoint} answered {answer.status}"
    if answer.status < 300:
        return DeliveryOutcome.done()
    if answer.status < 400:
        return DeliveryOutcome.final("redirect", f"{reason}; redirects are not followed: put the final URL into the rule")
    if answer.status in _FINAL:
        return DeliveryOutcome.final("rejected", reason)
    return DeliveryOutcome.retry("error_status", reason, _seconds(answer.retry_after))


def _seconds(retry_after: str | None) -> float:
    """The seconds that Retry-After asks for, in either of its two forms; 0 if it is not readable."""
    if retry_after is None:
        return 0.0
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0

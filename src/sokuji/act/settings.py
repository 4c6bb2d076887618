"""`[act]` and `[webhooks]`: settings of the roles that deliver actions."""

from __future__ import annotations

from sokuji.config import Count, Port, Seconds, Settings


class ActSettings(Settings, frozen=True):
    """`[act]`: the `api` role, where pages get their actions."""

    host: str = "127.0.0.1"
    port: Port = 8081
    token_seconds: Seconds = 900.0  # a stream ends with its token, and comes back with a new one
    heartbeat_seconds: Seconds = 15.0  # proxies cut connections that are silent for 30 to 60 s
    streams: Count = 10_000  # open at once; beyond it pages are told to pull
    visitor_streams: Count = 6  # of one visitor: tabs
    queue_decisions: Count = 32  # waiting for one slow client; beyond it the stream ends, and a new one resumes
    memory_mib: Count = 64  # of decisions that can still be delivered; the oldest go first


class WebhookSettings(Settings, frozen=True):
    """`[webhooks]`: the `deliver` role, which calls webhooks and functions."""

    timeout_seconds: Seconds = 10.0  # one attempt: name, connection, request and answer
    attempts: Count = 15  # 1, 2, 4, ... seconds apart: about three hours
    first_retry_seconds: Seconds = 1.0
    last_retry_seconds: Seconds = 3600.0
    endpoint_concurrency: Count = 8
    concurrency: Count = 64
    breaker_failures: Count = 5  # in a row; then the endpoint rests
    breaker_seconds: Seconds = 30.0
    queue: Count = 100_000  # deliveries that wait; beyond it the log is not read on
    endpoint_queue: Count = 20_000  # of one endpoint; beyond it they are given up
    private_hosts: tuple[str, ...] = ()  # "host:port" of receivers in private networks, which are refused otherwise
    function_seconds: Seconds = 5.0  # one call of a function; then its process is killed
    health_port: Port = 8083

"""`sokuji.toml` as small immutable structs, one per component. A component gets its own struct, never the whole configuration."""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from sokuji.errors import ConfigError
from sokuji.events import OWN_SOURCE

SETTINGS_FILE, FEATURES_FILE, ACTIONS_FILE = "sokuji.toml", "features.py", "actions.py"
"""The names of a project's files."""

Port = Annotated[int, Meta(ge=0, le=65535)]  # 0: any free port
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Section = TypeVar("Section", bound="Settings")
Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


_REPEATS = "log.deduplication_rows says for the lake and the worker alike how far apart a message and its repeat may be (docs/settings.md)"
_MOVED = dict.fromkeys(("lake.deduplication_hours", "lake.deduplication_ids", "analyze.deduplication_ids"), _REPEATS)


class Network(str):
    """The addresses of a network in CIDR notation. A single address is a network too."""

    __slots__ = ()


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of every section."""


class Source(Settings, frozen=True):
    """`[sources.NAME]`: a site or an app that sends events with its own write key, into one dataset."""

    write_key: Annotated[str, Meta(min_length=1)]
    dataset: Name = "main"


class TrackSettings(Settings, frozen=True):
    """`[track]`: the collector."""

    host: str = "127.0.0.1"
    port: Port = 8080
    max_request_bytes: Count = 5 * 1024 * 1024  # decompressed; Rudder's Python SDK sends up to 4 MB
    max_event_bytes: Count = 32 * 1024  # Segment's limit for one event
    max_depth: Count = 64  # nesting depth of one event's JSON
    queue_events: Count = 200_000  # accepted and not yet durable; above it, requests get 429
    decisions_seconds: Seconds = 0.5  # how long a request with `decisions=wait` waits for them
    skew_threshold_seconds: Seconds = 60.0  # smaller clock offsets are ignored
    health_port: Port = 8085


class LogSettings(Settings, frozen=True):
    """`[log]`: the durable log."""

    partitions: Count = 1  # fixed when the log is created; more of them allow more parallel collectors, and cost one sync each per flush
    segment_bytes: Count = 128 * 1024 * 1024
    retention_hours: Seconds = 72.0
    retention_bytes: Count = 50 * 1024**3
    deduplication_rows: Count = 20_000_000  # between a message and its repeat, at least half of it; 27 bytes of memory each


class LakeSettings(Settings, frozen=True):
    """`[lake]`: the sink and its tables."""

    commit_seconds: Seconds = 1.0  # longest time between commits while events arrive
    commit_rows: Count = 500_000
    time_travel_hours: Seconds = 168.0  # FOR SYSTEM_TIME AS OF reaches back this far, as in BigQuery
    health_port: Port = 8082


class AnalyzeSettings(Settings, frozen=True):
    """`[analyze]`: features, rules and decisions. The role runs if the project has a features.py or an actions.py."""

    checkpoint_seconds: Seconds = 10.0  # about this much of the log, at most, is processed again after a crash
    batch_rows: Count = 20_000  # in one micro-batch, all partitions together; larger batches add latency and save nothing per event
    profiles_max: Count = 2_000_000  # kept in memory; the least recently seen go to disk
    profile_days: Seconds = 400.0  # a profile not seen for this long is forgotten
    served_sample: Share = 0.01  # share of profiles whose served features are kept for `sokuji features verify`; 0: none
    served_bytes: Count = 256 * 1024 * 1024  # bytes of served features kept per dataset; the oldest go first
    health_port: Port = 8083


class ActSettings(Settings, frozen=True):
    """`[act]`: the `api` role, where pages get their actions."""

    host: str = "127.0.0.1"
    port: Port = 8081
    token_seconds: Seconds = 900.0  # a stream ends with its token; the client reconnects with a new one
    heartbeat_seconds: Seconds = 15.0  # proxies cut connections that are silent for 30 to 60 s
    streams: Count = 10_000  # open at once; above it, pages must pull
    visitor_streams: Count = 6  # per visitor, for tabs
    queue_decisions: Count = 32  # waiting for one slow client; above it, the stream ends, and a new one resumes
    memory_mib: Count = 64  # memory for decisions that can still be delivered; the oldest go first
    health_port: Port = 8086
    unsigned_users: bool = False  # messages about a user's profile also go to visitors that merely claim to be the user


class WebhookSettings(Settings, frozen=True):
    """`[webhooks]`: the `deliver` role, which calls webhooks and functions."""

    timeout_seconds: Seconds = 10.0  # per attempt: name, connection, request and answer
    attempts: Count = 15  # 1, 2, 4, ... seconds apart: about three hours
    first_retry_seconds: Seconds = 1.0
    last_retry_seconds: Seconds = 3600.0
    endpoint_concurrency: Count = 8
    concurrency: Count = 64
    breaker_failures: Count = 5  # in a row; then the endpoint rests
    breaker_seconds: Seconds = 30.0
    queue: Count = 100_000  # waiting deliveries; above it, reading the log stops
    endpoint_queue: Count = 20_000  # per endpoint; above it, deliveries fail
    private_hosts: tuple[str, ...] = ()  # "host:port" of receivers in private networks, which are refused otherwise
    function_seconds: Seconds = 5.0  # per function call; then its process is killed
    health_port: Port = 8084


class SqlSettings(Settings, frozen=True):
    """`[sql]`: limits of one query."""

    memory_limit_mib: Count = 4096
    threads: Count = 2
    timeout_seconds: Seconds = 600.0


class Config(Settings, frozen=True):
    """A project's settings. All data that the platform stores is in `data`."""

    data: Path = Path(".sokuji")
    trusted_proxies: tuple[Network, ...] = (Network("127.0.0.0/8"), Network("::1/128"))  # believed in X-Forwarded-For and -Proto
    sources: dict[Name, Source] = field(default_factory=dict)
    track: TrackSettings = field(default_factory=TrackSettings)
    log: LogSettings = field(default_factory=LogSettings)
    lake: LakeSettings = field(default_factory=LakeSettings)
    analyze: AnalyzeSettings = field(default_factory=AnalyzeSettings)
    act: ActSettings = field(default_factory=ActSettings)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    sql: SqlSettings = field(default_factory=SqlSettings)


def load(folder: Path) -> Config:
    """The settings of the project in `folder`, with an absolute `data` path.

    Raises:
        ConfigError: there is no `sokuji.toml`, it is not TOML, or it has an unknown key or an invalid value.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; `sokuji init {folder}` makes a project there")
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    config = convert(values, str(path))
    return msgspec.structs.replace(config, data=(folder / config.data).resolve())


def convert(values: dict[str, Any], origin: str = SETTINGS_FILE) -> Config:
    """Check `values` as read from TOML. Errors name the key, the value and what is allowed, and begin with `origin`."""
    sources = values.get("sources", {})
    if not isinstance(sources, dict):
        raise ConfigError(f"{origin}: sources = {sources!r}: expected tables, [sources.NAME]")
    values = values | {"sources": {name: _section(source, Source, f"sources.{name}", origin) for name, source in sources.items()}}
    config = _section(values, Config, "", origin)
    names: dict[str, str] = {}
    for name, source in config.sources.items():
        if name == OWN_SOURCE:
            raise ConfigError(f"{origin}: sources.{name}: the platform's own events have this source; give yours another name")
        other = names.setdefault(source.write_key, name)
        if other != name:
            raise ConfigError(f"{origin}: sources.{name}.write_key is the same as that of sources.{other}; every source needs its own")
    return config


def _section(values: Any, struct: type[Section], path: str, origin: str) -> Section:
    """Convert one section. Nested sections come first, so that the location of an error is always known here."""
    if not isinstance(values, dict):
        raise ConfigError(f"{origin}: {path} = {values!r}: expected a table, [{path}]")
    prefix = f"{path}." if path else ""
    fields = {item.name: item.type for item in msgspec.structs.fields(struct)}
    converted = {}
    for key, value in values.items():
        if f"{prefix}{key}" in _MOVED:
            raise ConfigError(f"{origin}: {prefix}{key} is no setting any more: {_MOVED[f'{prefix}{key}']}")
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else "."
            raise ConfigError(f"{origin}: {prefix}{key} is not a setting{hint} Allowed here: {', '.join(fields)}")
        kind = fields[key]
        if isinstance(kind, type) and issubclass(kind, Settings):
            converted[key] = _section(value, kind, f"{prefix}{key}", origin)
            continue
        try:
            converted[key] = msgspec.convert(value, kind, dec_hook=_decode)
        except msgspec.ValidationError as error:
            expectation = str(error).partition(" - at ")[0].replace("Expected", "expected").replace("`", "")
            raise ConfigError(f"{origin}: {prefix}{key} = {value!r}: {expectation}") from error
    missing = [item.name for item in msgspec.structs.fields(struct) if item.required and item.name not in converted]
    if missing:
        raise ConfigError(f"{origin}: {prefix}{missing[0]} is missing")
    return struct(**converted)


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is Network and isinstance(value, str):
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise msgspec.ValidationError(f"{error}; expected networks such as 10.0.0.0/8") from error
        return Network(value)
    raise msgspec.ValidationError(f"Expected a {kind.__name__.lower()}")

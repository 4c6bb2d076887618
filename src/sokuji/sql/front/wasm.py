"""Run ZetaSQL, compiled to WebAssembly, inside this process.

The `zetasql` wheel has Google's analyzer and its reference implementation as one WASM module with a protobuf interface. The wheel's own
client compiles the module at every start (18 s, 1.1 GB) and copies memory byte by byte. This client stores the compiled module in a cache
file and copies with memmove. A call ends when its query is cancelled, and cannot use more memory than the query's limit.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import logging
import platform
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import wasmtime
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError, Message

from sokuji.errors import SqlError
from sokuji.machine import kept_folder
from sokuji.sql.stop import NEVER, Stop

# A resolved expression takes four levels of messages. By default upb reads 100 levels, too few for 25 operators in a row.
if api_implementation.Type() == "upb":
    api_implementation._c_module.SetAllowOversizeProtos(True)  # noqa: SLF001 as it says itself, the only way

_LOG = logging.getLogger(__name__)

TOO_DEEP = "The statement is nested too deeply, or is too long a chain of operators; give parts of it names by WITH"

Reply = TypeVar("Reply", bound=Message)

# An instance takes 120 MB. Another one starts only if all have been busy for this long, up to the maximum.
_PATIENCE_SECONDS = 0.05
_INSTANCES_MAX = 8
_IDLE_MAX = 2
# WASM memory never shrinks. An instance with more memory than this is discarded after its call.
_KEPT_BYTES = 512 * 1024**2
# The limits of an instance's memory, whatever limit the query has. The minimum is what an instance itself needs.
_MEMORY_MIN_MIB, _MEMORY_MAX_MIB = 256, 4095


class AnalyzerCrashError(SqlError):
    """A check inside ZetaSQL failed, so its instance was restarted."""


class ResourcesError(SqlError):
    """An expression needs more memory than its query's limit, so its instance was restarted."""


class Calls(Protocol):
    """Calls of one instance."""

    @property
    def kept(self) -> WeakKeyDictionary[Any, Any]:
        """The objects that callers have created inside the instance, by a key object of the caller."""

    def call(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        """Call `ZetaSqlLocalService_<method>`.

        Raises:
            SqlError: ZetaSQL refused the request; the message is ZetaSQL's.
            QueryCancelledError: the query was cancelled.
            ResourcesError: the call needs too much memory.
            AnalyzerCrashError: the instance crashed.
        """


class Instance:
    """One instance of the module. A lock serialises the calls, because an instance has one thread.

    State inside the instance (registered catalogs, prepared expressions) is lost when a call is interrupted or crashes. `kept` is then
    empty, and `generation` increases.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.generation = 0
        self._is_started = False
        self._start()

    def _start(self) -> None:
        self._engine = engine = _engine()  # an engine for each instance, because its epoch interrupts all calls of the engine
        store = wasmtime.Store(engine)
        store.set_epoch_deadline(1)
        wasi = wasmtime.WasiConfig()
        wasi.inherit_stderr()
        wasi.preopen_dir(str(files("tzdata") / "zoneinfo"), "/usr/share/zoneinfo")
        store.set_wasi(wasi)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        instance = linker.instantiate(store, _module(engine))
        self._store, self._exports, self._limit_mib = store, instance.exports(store), 0
        self._memory = self._exports["memory"]
        self._exports["_initialize"](store)
        self.kept: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._is_started = True

    def call(self, method: str, request: Message, reply: type[Reply], stop: Stop = NEVER) -> Reply:
        """See `Calls`."""
        limit_mib = min(max(stop.memory_mib, _MEMORY_MIN_MIB), _MEMORY_MAX_MIB)
        with self._lock:
            if not self._is_started:
                self._restart()
            try:
                if limit_mib != self._limit_mib:
                    self._store.set_limits(memory_size=limit_mib * 1024**2)
                    self._limit_mib = limit_mib
                self._store.set_epoch_deadline(1)  # before `stop` can interrupt
                with stop.interrupting(self._engine.increment_epoch):
                    data = self._call(f"ZetaSqlLocalService_{method}", request.SerializeToString())
            except (wasmtime.Trap, wasmtime.WasmtimeError, MemoryError) as error:
                # A failed allocation can crash the instance anywhere, so the size of its memory shows the cause.
                is_full = isinstance(error, MemoryError) or 4 * self.memory_bytes > limit_mib * 1024**2
                self._restart()
                stop.check()
                if getattr(error, "trap_code", None) is wasmtime.TrapCode.STACK_OVERFLOW:
                    raise SqlError(TOO_DEEP) from error
                if is_full:
                    raise ResourcesError(
                        f"Resources exceeded: an expression needs more memory than its limit of {limit_mib} MiB ([sql] memory_limit_mib)"
                    ) from error
                raise AnalyzerCrashError(
                    f"ZetaSQL failed an internal check in {method}; this is a defect, please report the statement"
                ) from error
        message: Reply = reply()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise SqlError(TOO_DEEP) from error
        return message

    def _restart(self) -> None:
        self.generation += 1
        self._is_started = False  # until the start succeeds; without memory for it, the next call tries again
        self._store.close()
        try:
            self._start()
        except (wasmtime.Trap, wasmtime.WasmtimeError, MemoryError) as error:
            raise ResourcesError(
                "Resources exceeded: the process has no memory left for the SQL analyzer; run fewer queries at once"
            ) from error

    @property
    def memory_bytes(self) -> int:
        """The size of the module's memory."""
        return int(self._memory.data_len(self._store))

    def _call(self, method: str, request: bytes) -> bytes:
        exports, store = self._exports, self._store
        request_at = exports["wasm_malloc"](store, len(request))
        size_at = exports["wasm_malloc"](store, 4)
        if not request_at or not size_at:
            raise MemoryError
        # Every call that allocates may move the memory, so each copy asks for its address.
        ctypes.memmove(self._address() + request_at, request, len(request))
        reply_at = exports[method](store, request_at, len(request), size_at)
        if reply_at == 0:
            error_size = exports["wasm_get_last_error_size"](store)
            message = ctypes.string_at(self._address() + exports["wasm_get_last_error"](store), error_size).decode()
        else:
            size = int.from_bytes(ctypes.string_at(self._address() + size_at, 4), "little")
            data = ctypes.string_at(self._address() + reply_at, size)
            exports["wasm_free"](store, reply_at)
        exports["wasm_free"](store, request_at)
        exports["wasm_free"](store, size_at)
        if reply_at == 0:
            raise _refusal(message)
        return data

    def _address(self) -> int:
        return ctypes.addressof(self._memory.data_ptr(self._store).contents)


class _Pool:
    """Instances for concurrent callers. The one used last is taken first, so callers that take turns need only one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[Instance] = []
        self._taken: dict[Instance, float] = {}  # instance -> the time it was taken
        self._starting = 0

    def take(self, stop: Stop) -> Instance:
        with self._changed:
            while not self._idle:
                stop.check()
                if self._may_start():
                    self._starting += 1
                    break
                self._changed.wait(_PATIENCE_SECONDS)
            else:
                return self._take(self._idle.pop())
        try:
            instance = Instance()
        finally:
            with self._changed:
                self._starting -= 1
        with self._changed:
            return self._take(instance)

    def _take(self, instance: Instance) -> Instance:
        self._taken[instance] = time.monotonic()
        return instance

    def _may_start(self) -> bool:
        if self._starting or len(self._taken) >= _INSTANCES_MAX:
            return False
        late = time.monotonic() - _PATIENCE_SECONDS
        return all(since < late for since in self._taken.values())

    def give_back(self, instance: Instance) -> None:
        with self._changed:
            del self._taken[instance]
            if len(self._idle) < _IDLE_MAX and instance.memory_bytes <= _KEPT_BYTES:
                self._idle.append(instance)
            self._changed.notify()


class _Bound:
    """Calls of an instance for one query."""

    def __init__(self, instance: Instance, stop: Stop) -> None:
        self._instance, self._stop = instance, stop

    @property
    def kept(self) -> WeakKeyDictionary[Any, Any]:
        return self._instance.kept

    def call(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        return self._instance.call(method, request, reply, self._stop)


class ZetaSql:
    """ZetaSQL for concurrent callers: a long call does not block other callers. Thread-safe."""

    def __init__(self, pool: _Pool | None = None, stop: Stop = NEVER) -> None:
        self._pool, self._stop = pool or _Pool(), stop

    def until(self, stop: Stop) -> ZetaSql:
        """A copy for one query. `stop` ends its calls, and its waiting for an instance."""
        return ZetaSql(self._pool, stop)

    @contextmanager
    def instance(self) -> Iterator[Calls]:
        """An instance for several calls. No other caller uses it inside the block."""
        instance = self._pool.take(self._stop)
        try:
            yield _Bound(instance, self._stop)
        finally:
            self._pool.give_back(instance)

    def call(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        """Make one call that does not depend on earlier calls; see `Calls`."""
        with self.instance() as calls:
            return calls.call(method, request, reply)


@functools.cache
def zetasql() -> ZetaSql:
    """The ZetaSql of this process."""
    return ZetaSql()


@functools.cache
def shared() -> Instance:
    """One instance for callers that make all their calls from one thread."""
    return Instance()


_REFUSAL = re.compile(r"^(?:Code: \d+, Message: )?(.*?)(?: \[at (\d+):(\d+)\])?$", re.DOTALL)


def _refusal(text: str) -> SqlError:
    match = _REFUSAL.match(text)
    assert match is not None  # noqa: S101 the pattern matches every string
    message, line, column = match.groups()
    if line is None:
        return SqlError(message)
    return SqlError(message, line=int(line), column=int(column))


def _engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.shared_memory = True  # allows instructions for threads
    config.epoch_interruption = True
    return wasmtime.Engine(config)


def _binary() -> bytes:
    """The module with its memory marked as not shared. It has one thread, and shared memory has no limits and is slower."""
    binary = bytearray((files("zetasql") / "wasi" / "zetasql.wasm").read_bytes())
    place = binary.find(_SHARED_MEMORY)
    assert binary.count(_SHARED_MEMORY) == 1  # noqa: S101 the version of the package is pinned
    binary[place + 3] = 0x01
    return bytes(binary)


# The memory section of zetasql 0.1.5: one memory, shared and with a maximum, of 193 up to 65,536 pages.
_SHARED_MEMORY = bytes.fromhex("050701 03 c101 808004")
_SETTINGS = "epochs, memory not shared"  # the compiled module depends on these settings, besides versions


def _module(engine: wasmtime.Engine) -> wasmtime.Module:
    cached = cache_file()
    if cached is None:
        return wasmtime.Module.deserialize(engine, _compile(engine))
    try:
        return wasmtime.Module.deserialize_file(engine, str(cached))
    except (OSError, wasmtime.WasmtimeError):
        # The file is missing, or a full disk truncated it.
        compiled = _compile(engine)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        # The file is written under another name and then renamed, so that two processes starting at once never load half a file.
        with tempfile.NamedTemporaryFile(dir=cached.parent, delete=False) as file:
            file.write(compiled)
        Path(file.name).replace(cached)
    except OSError as error:
        _LOG.warning("the compiled SQL analyzer cannot be kept: %s; set XDG_CACHE_HOME to a folder to write to", error)
        return wasmtime.Module.deserialize(engine, compiled)
    return wasmtime.Module.deserialize_file(engine, str(cached))


def _compile(engine: wasmtime.Engine) -> bytes:
    print("sokuji: compiling the SQL analyzer, once per machine (about 20 s) ...", file=sys.stderr, flush=True)  # noqa: T201
    return bytes(wasmtime.Module(engine, _binary()).serialize())


def cache_file() -> Path | None:
    """The path of the compiled module: one file for each combination of versions and machine. None as for `kept_folder`."""
    root = kept_folder()
    versions = [importlib.metadata.version(name) for name in ("zetasql", "wasmtime")]
    key = hashlib.sha256("\n".join([_SETTINGS, *versions, platform.machine(), platform.platform()]).encode()).hexdigest()[:16]
    return None if root is None else root / f"zetasql-{versions[0]}-{key}.cwasm"

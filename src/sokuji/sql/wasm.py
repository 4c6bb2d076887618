"""Runs ZetaSQL, compiled to WebAssembly, inside this process.

The `zetasql` wheel carries Google's analyzer and its reference implementation as one WASM module with a protobuf interface. Its own
client compiles the module at every start (18 s, 1.1 GB) and copies memory a byte at a time; this one keeps the compiled module in
a cache file and copies with memmove.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import sys
import tempfile
import threading
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import wasmtime
from google.protobuf.message import Message

from sokuji.errors import SqlError

Reply = TypeVar("Reply", bound=Message)


class AnalyzerCrashError(SqlError):
    """A check inside ZetaSQL failed and its instance is gone; the next call gets a new one."""


class ZetaSql:
    """One instance of the module. Calls are serialised by a lock: an instance has one thread.

    State that lives inside (registered catalogs, prepared expressions) is lost when a call crashes the instance; `generation`
    grows then, so that owners of such state know to make it again.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.generation = 0
        self._start()

    def _start(self) -> None:
        engine = _engine()
        store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.inherit_stderr()
        wasi.preopen_dir(str(files("tzdata") / "zoneinfo"), "/usr/share/zoneinfo")
        store.set_wasi(wasi)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        instance = linker.instantiate(store, _module(engine))
        self._store, self._exports = store, instance.exports(store)
        self._memory = self._exports["memory"]
        self._exports["_initialize"](store)

    def call(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        """Call `ZetaSqlLocalService_<method>`.

        Raises:
            SqlError: ZetaSQL refused the request; the message is its own.
            AnalyzerCrashError: the instance died.
        """
        with self._lock:
            try:
                data = self._call(f"ZetaSqlLocalService_{method}", request.SerializeToString())
            except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
                self.generation += 1
                self._start()
                raise AnalyzerCrashError(
                    f"ZetaSQL failed an internal check in {method}; this is a defect, please report the statement"
                ) from error
        message: Reply = reply()
        message.ParseFromString(data)
        return message

    def _call(self, method: str, request: bytes) -> bytes:
        exports, store = self._exports, self._store
        request_at = exports["wasm_malloc"](store, len(request))
        size_at = exports["wasm_malloc"](store, 4)
        # The address of the memory may move with every call that allocates, so it is asked for at each copy.
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
        return ctypes.addressof(self._memory.data_ptr().contents)


@functools.cache
def shared() -> ZetaSql:
    """The one instance of this process, started on first use: each takes 120 MB."""
    return ZetaSql()


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
    config.shared_memory = True
    return wasmtime.Engine(config)


def _module(engine: wasmtime.Engine) -> wasmtime.Module:
    cached = cache_file()
    try:
        return wasmtime.Module.deserialize_file(engine, str(cached))
    except (OSError, wasmtime.WasmtimeError):
        # Not there yet, or cut off by a full disk.
        compiled = _compile(engine)
    cached.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that two processes starting at once never load half a file.
    with tempfile.NamedTemporaryFile(dir=cached.parent, delete=False) as file:
        file.write(compiled)
    Path(file.name).replace(cached)
    return wasmtime.Module.deserialize_file(engine, str(cached))


def _compile(engine: wasmtime.Engine) -> bytes:
    print("sokuji: compiling the SQL analyzer, once per machine (about 20 s) ...", file=sys.stderr, flush=True)  # noqa: T201
    return bytes(wasmtime.Module.from_file(engine, str(files("zetasql") / "wasi" / "zetasql.wasm")).serialize())


def cache_file() -> Path:
    """Where the compiled module is kept: one file for each combination of versions and machine it is valid for."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = [importlib.metadata.version(name) for name in ("zetasql", "wasmtime")]
    key = hashlib.sha256("\n".join([*versions, platform.machine(), platform.platform()]).encode()).hexdigest()[:16]
    return root / "sokuji" / f"zetasql-{versions[0]}-{key}.cwasm"

"""ZetaSQL in process: the compiled module is created once, whichever process starts first, and a damaged module is replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto import options_pb2

from sokuji.errors import SqlError
from sokuji.sql.front import wasm
from sokuji.sql.front.wasm import Instance, cache_file, shared


def test_the_instance_is_shared() -> None:
    assert shared() is shared()


def test_a_refusal_is_an_error_with_its_place() -> None:
    request = service.ExtractTableNamesFromStatementRequest(sql_statement="SELECT\n FROM")
    with pytest.raises(SqlError) as caught:
        shared().call("ExtractTableNamesFromStatement", request, service.ExtractTableNamesFromStatementResponse)
    assert caught.value.message == "Syntax error: SELECT list must not be empty"
    assert (caught.value.line, caught.value.column) == (2, 2)


def test_large_messages_pass_whole() -> None:
    text = "x" * 5_000_000
    request = service.ParseRequest(sql_statement=f"SELECT '{text}'")
    reply = shared().call("Parse", request, service.ParseResponse)
    assert text in str(reply)


def test_a_damaged_cache_file_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damaged, compiled = tmp_path / "module.cwasm", _kept()
    damaged.write_bytes(compiled[:100_000])
    monkeypatch.setattr(wasm, "cache_file", lambda: damaged)
    monkeypatch.setattr(wasm, "_compile", lambda engine: compiled)
    request = service.AnalyzerOptionsRequest()
    assert Instance().call("GetAnalyzerOptions", request, options_pb2.AnalyzerOptionsProto).default_timezone
    assert damaged.stat().st_size == len(compiled)


def test_without_a_place_for_the_cache_file_it_works_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled = _kept()
    monkeypatch.setattr(wasm, "_compile", lambda engine: compiled)
    (tmp_path / "file").touch()
    for place in (None, tmp_path / "file" / "module.cwasm"):
        monkeypatch.setattr(wasm, "cache_file", lambda place=place: place)
        wasm._module(wasm._engine())


def _kept() -> bytes:
    shared()
    file = cache_file()
    assert file is not None
    return file.read_bytes()


START = """
from pathlib import Path
from sokuji.sql.front import wasm
compiled = wasm.cache_file().read_bytes()
wasm.cache_file = lambda: Path("{file}")
wasm._compile = lambda engine: compiled
zetasql = wasm.Instance()
from sokuji.sql.front.analyzer import language_options
print(len(language_options(zetasql).enabled_language_features) > 100)
"""


@pytest.mark.e2e
def test_processes_that_start_at_once_all_start(tmp_path: Path) -> None:
    program = START.format(file=tmp_path / "module.cwasm")
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) for _ in range(4)
    ]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, b"True\n", b""), errors.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["module.cwasm"]

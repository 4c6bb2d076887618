"""What an import loads, and what it must not load."""

from __future__ import annotations

import subprocess
import sys

OPTIONAL = {"numba", "sklearn", "xgboost", "matplotlib", "mlflow", "pandas", "scipy", "tensorflow", "torch"}
HEAVY = {"duckdb", "deltalake", "onnxruntime", "pyarrow", "sqlalchemy", "wasmtime", "zetasql"}


def _imported(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split())


def test_importing_sokuji_imports_nothing_but_the_standard_library() -> None:
    assert not _imported("import sokuji") & (OPTIONAL | HEAVY)


def test_no_module_of_the_core_imports_an_optional_package() -> None:
    assert not _imported("import sokuji.roles.up, sokuji.cli, sokuji.sql.shell, sokuji.demo.run") & OPTIONAL


def test_the_processes_of_a_collector_do_without_the_lake_and_sql() -> None:
    assert not _imported("import sokuji.roles.up") & (OPTIONAL | {"duckdb", "deltalake", "wasmtime", "zetasql"})


def test_a_worker_does_without_the_runtime_of_models() -> None:
    modules = ("roles.analyze", "analyze.worker", "analyze.state.open", "act.results", "models.local")
    assert not _imported(f"import {', '.join(f'sokuji.{name}' for name in modules)}") & {"onnx", "onnxruntime"}

"""Cached machine code is used as long as all of its source files are unchanged."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import sokuji
from sokuji.compiled import files

PACKAGE = Path(sokuji.__file__).parent
HELPER = """
from sokuji.compiled import compiled

@compiled
def helper(x: int) -> int:
    return x + {}
"""
CALLER = """
from sokuji.compiled import compiled, is_compiled
from sokuji.helper import helper

@compiled
def call(x: int) -> int:
    return 10 * helper(x)

print(is_compiled(), call(1))
"""


AT_ONCE = """
import sys, time
from pathlib import Path
from numba.core.caching import IndexDataCacheFile
from sokuji.compiled import compiled

@compiled
def triple(x):
    return 3 * x

folder, me, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
write = IndexDataCacheFile._save_index

def beside_the_other(self, overloads):
    (folder / me).touch()
    deadline = time.monotonic() + 2
    while not (folder / other).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if me == "float":
        time.sleep(0.5)
    write(self, overloads)
    if me == "int":
        time.sleep(1.5)  # the last to write machine code, and not the last to say where

if other:
    IndexDataCacheFile._save_index = beside_the_other
print(triple(2 if me == "int" else 2.5), sum(triple.stats.cache_hits.values()))
"""


WAITING = """
import sys, time
from pathlib import Path
from numba.core.caching import IndexDataCacheFile
from sokuji.compiled import compiled

@compiled
def double(x):
    return 2 * x

@compiled
def times(x, n):
    return double(x) if n == 1 else double(x) + times(x, n - 1)

folder, me, other = (Path(each) for each in sys.argv[1:])
write = IndexDataCacheFile._save_index

def once_the_other_asks(self, overloads):
    (folder / me).touch()
    deadline = time.monotonic() + 20
    while not (folder / other).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    write(self, overloads)

IndexDataCacheFile._save_index = once_the_other_asks
(folder / me).touch()
print(times(2, 3), sum(double.stats.cache_misses.values()) + sum(times.stats.cache_misses.values()))
"""


def test_a_helper_that_changed_in_another_file_is_not_served_as_it_was(tmp_path: Path) -> None:
    package = tmp_path / "sokuji"
    package.mkdir()
    for name in ("__init__", "compiled", "errors", "machine"):
        (package / f"{name}.py").write_bytes((PACKAGE / f"{name}.py").read_bytes())
    (package / "caller.py").write_text(CALLER)

    def run(more: int, cache: Path = tmp_path / "cache") -> str:
        (package / "helper.py").write_text(HELPER.format(more))
        # Python keys its own .pyc by size and second: a helper written twice within one would be the old one.
        environment = {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(cache), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, "-m", "sokuji.caller"], env=environment, capture_output=True, text=True, check=True).stdout

    assert run(1) == "False 20\n"
    assert run(2) == "False 30\n"
    assert run(2) == "True 30\n"
    kept = len(list(tmp_path.rglob("*.nbi")))
    (tmp_path / "file").touch()
    assert run(2, tmp_path / "file" / "none can be here") == "False 30\n"
    assert len(list(tmp_path.rglob("*.nbi"))) == kept, "numba's own places, beside the source and in HOME, look at one file only"
    assert not list(package.rglob("*.nbi"))


def test_two_processes_at_once_on_an_empty_folder_keep_the_code_of_both(tmp_path: Path) -> None:
    script = tmp_path / "at_once.py"
    script.write_text(AT_ONCE)

    both = [_start(script, "int", "float"), _start(script, "float", "int")]
    assert [_said(process) for process in both] == ["6 0\n", "7.5 0\n"]
    assert [_said(_start(script, "int", "")), _said(_start(script, "float", ""))] == ["6 1\n", "7.5 1\n"]


def test_of_two_processes_at_once_one_compiles_and_the_other_loads_what_it_kept(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    said = [_said(process).split() for process in (_start(script, "one", "two"), _start(script, "two", "one"))]
    assert [result for result, _ in said] == ["12", "12"]
    assert sum(int(compiled) for _, compiled in said) == 2, "each of two functions once"


def _start(script: Path, *arguments: str) -> subprocess.Popen[str]:
    """A process with machine code kept beside the script."""
    environment = os.environ | {"XDG_CACHE_HOME": str(script.parent / "cache"), "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.Popen([sys.executable, script, script.parent, *arguments], env=environment, stdout=subprocess.PIPE, text=True)


def _said(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=120)[0]


def test_the_key_has_every_file_that_machine_code_takes_something_from() -> None:
    """Whatever of the package a compiled function names is in one of these files."""
    known = {str(file.relative_to(PACKAGE)) for file in files()}
    for path in PACKAGE.rglob("*.py"):
        name, tree = str(path.relative_to(PACKAGE)), ast.parse(path.read_text())
        origins = {
            alias.asname or alias.name: _file(node.module, alias.name)
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sokuji.")
            for alias in node.names
        }
        constants = {
            target.id: _names(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef) and _is_compiled(node)):
            assert name in known
            named = set[str]().union(*(_names(statement) for statement in function.body))
            while made_of := set[str]().union(*(constants[each] for each in named & constants.keys())) - named:
                named |= made_of
            for each in named & origins.keys():
                assert origins[each] in known, f"{function.name} in {name} takes {each} from {origins[each]}: add it to READ"


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _file(module: str, name: str) -> str:
    """Where a name is from that is imported from a module, or is one itself."""
    path = module.removeprefix("sokuji.").replace(".", "/")
    return f"{path}/{name}.py" if (PACKAGE / path / f"{name}.py").exists() else f"{path}.py"


def _is_compiled(function: ast.FunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id in {"compiled", "inlined"} for each in function.decorator_list)

"""`stubs/` says to mypy what pyarrow has: whatever it names exists."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

STUBS = Path(__file__).parents[1] / "stubs"
FILES = sorted(STUBS.rglob("*.pyi"))


def named(stub: str) -> Iterator[tuple[str, ...]]:
    """The paths of the functions, classes and members of a stub, without those that are the stub's own: `_name`."""
    for node in ast.parse(stub).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield (node.name,)
            members = node.body if isinstance(node, ast.ClassDef) else []
            yield from ((node.name, member.name) for member in members if isinstance(member, ast.FunctionDef))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_names_of_a_stub_exist(file: Path) -> None:
    module = importlib.import_module(".".join(file.relative_to(STUBS).with_suffix("").parts).removesuffix(".__init__"))
    missing = []
    for path in named(file.read_text()):
        owner = module if len(path) == 1 else getattr(module, path[0], None)
        if path[-1] != "__buffer__" and not hasattr(owner, path[-1]):  # before Python 3.12 no class shows this one
            missing.append(".".join(path))
    assert not missing


def test_a_name_that_does_not_exist_is_found() -> None:
    assert list(named("class Table:\n    def gone(self) -> None: ...\nclass _Own: ...\ndef table() -> Table: ...")) == [
        ("Table",),
        ("Table", "gone"),
        ("table",),
    ]

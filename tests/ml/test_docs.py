"""docs/models.md agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sokuji.ml.options import CLASSIFIERS, GLM, KMEANS, MODEL_TYPES, OPTIONS, SUPERVISED, TREES
from sokuji.ml.sql import FUNCTIONS

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
GROUPS = {
    MODEL_TYPES: "all",
    SUPERVISED: "supervised",
    GLM: "linear",
    TREES: "trees",
    CLASSIFIERS: "classifiers",
    frozenset({KMEANS}): "k-means",
}
GROUPS[GLM | {KMEANS}] = "k-means, linear"


def written(value: Any) -> str:
    """A default as SQL writes it."""
    if isinstance(value, bool):
        return f"`{value}`".upper()
    return "" if value is None else f"`{list(value) if isinstance(value, tuple) else value}`"


def test_every_option_is_documented_with_its_models_default_and_values() -> None:
    documented = re.findall(r"^\| `(\w+)` \| ([a-z, -]+) \| (.*?) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    expected = []
    for option in OPTIONS:
        rule = re.sub(r"'([\w.]+\+*)'", r"`\1`", option.rule.expected)
        only = f"; so far only {' or '.join(written(value) for value in option.only)}" if option.only else ""
        expected.append((option.name, GROUPS[option.types], written(option.default), rule + only))
    assert documented == expected


def test_every_function_is_documented_with_its_settings() -> None:
    documented = dict(re.findall(r"^\| `(ML\.\w+)` \| (.*?) \|", PAGE.read_text(), re.MULTILINE))
    assert documented == {function.name: ", ".join(f"`{name}`" for name in function.settings) for function in FUNCTIONS}

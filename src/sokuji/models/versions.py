"""What a model store keeps: versions of models, with their signatures and aliases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sokuji.errors import ModelError
from sokuji.meta.objects import Ref
from sokuji.types import Field

MODEL = "model"  # the kind of thing that the catalog reserves a name for
CHAMPION = "champion"  # the version that SQL and serving use when none is named
CHALLENGER = "challenger"
PREVIOUS = "previous"  # the champion before the current one

_NAME = re.compile(r"\w[\w\- ]*")


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """The description of a model that SQL needs to analyze a statement that names the model."""

    ref: Ref
    model_type: str  # as BigQuery writes it: "KMEANS", "LOGISTIC_REG", ...
    inputs: tuple[Field, ...]  # the columns that ML.PREDICT needs
    labels: tuple[Field, ...]  # the label columns, empty for unsupervised models
    outputs: tuple[Field, ...]  # the columns that ML.PREDICT adds before its input's columns


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One trained model. Its folder never changes after registration."""

    signature: ModelSignature
    version: int  # 1, 2, ... per model
    folder: Path  # where the store keeps it; `ModelStore.fetch` says where it can be read
    created_at_us: int
    sql: str  # the statement that created it
    options: Mapping[str, Any]  # every option with its effective value
    serving: str  # "onnx", or "native" with the reason in `serving_reason`
    serving_reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)  # the row of ML.EVALUATE at training time


@dataclass(frozen=True, slots=True)
class Orphan:
    """A complete version folder that the database does not know, for example because the database was lost."""

    folder: Path
    version: ModelVersion | None  # as it was registered; None if the folder does not tell


def check_model_name(ref: Ref) -> None:
    """Refuse names that cannot be a folder.

    Raises:
        ModelError: the name is not allowed.
    """
    if any(_NAME.fullmatch(part) is None for part in ref):
        raise ModelError(f"model name {str(ref)!r} is not allowed; use letters, digits, underscores, dashes and spaces")

"""The model store contract: immutable versions, and aliases that point at them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sokuji.errors import ModelError
from sokuji.meta.objects import ModelSignature, Ref

CHAMPION = "champion"  # what SQL and serving use when no version is named
CHALLENGER = "challenger"
PREVIOUS = "previous"  # the champion before this one

_NAME = re.compile(r"\w[\w\- ]*")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One trained model. Its folder never changes once registered."""

    signature: ModelSignature
    version: int  # 1, 2, ... per model
    folder: Path
    created_at_us: int
    sql: str  # the statement that made it
    options: Mapping[str, Any]  # every option with its effective value
    serving: str  # "onnx", or "native" with the reason in `serving_reason`
    serving_reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)  # ML.EVALUATE's row at training time


@dataclass(frozen=True, slots=True)
class Orphan:
    """A whole version in the store's folders that the database does not know, as when the database was lost."""

    folder: Path
    version: ModelVersion | None  # as it was registered; None if the folder does not say


def check_model_name(ref: Ref) -> None:
    """Refuse what no model's folder can be called.

    Raises:
        ModelError: it is.
    """
    if any(_NAME.fullmatch(part) is None for part in ref):
        raise ModelError(f"model name {str(ref)!r} is not allowed; use letters, digits, underscores, dashes and spaces")


class ModelStore(ABC):
    """Versions by model. Registration is atomic: a crash leaves the version whole or absent.

    SQL sees the champion: the catalog has its signature, and every change of that is one transaction for both.
    """

    @abstractmethod
    def stage(self, ref: Ref) -> Path:
        """A fresh folder to write artefacts into; what is never registered is removed later. Raises ModelError for a name of no folder."""

    @abstractmethod
    def register(self, version: ModelVersion, *, is_new: bool = False) -> ModelVersion:
        """Store `version` and point `champion` at it, `previous` at the champion before.

        The number is assigned and the folder moved into place here: the version that is returned has both.

        Raises:
            ModelError: `version.folder` is not from `stage`, or is registered already.
            AlreadyExistsError: a table has the name; with `is_new`, or the model is there.
            NotFoundError: there is no such dataset.
        """

    @abstractmethod
    def get(self, ref: Ref, version: int | str = CHAMPION) -> ModelVersion:
        """By number or alias. Raises NotFoundError."""

    @abstractmethod
    def versions(self, ref: Ref) -> list[ModelVersion]:
        """Oldest first; empty for an unknown model."""

    def has(self, version: ModelVersion) -> bool:
        """Whether a version is still there: not if its model was dropped, even if there is a new one of its name and number."""
        return any(known.folder == version.folder for known in self.versions(version.signature.ref))

    @abstractmethod
    def set_alias(self, ref: Ref, alias: str, version: int) -> None:
        """Point `alias` at a version. When `champion` moves, `previous` follows to where it was.

        Raises NotFoundError when there is no such version.
        """

    @abstractmethod
    def aliases(self, ref: Ref) -> dict[str, int]:
        """Alias -> version."""

    @abstractmethod
    def delete(self, ref: Ref) -> None:
        """Remove every version and alias. Raises NotFoundError."""

    @abstractmethod
    def orphans(self) -> list[Orphan]:
        """What the database does not know, by folder. It is never deleted here: perhaps the database was lost, or is an old copy."""

    @abstractmethod
    def adopt(self) -> list[ModelVersion]:
        """Register the orphans that say what they are, each by its number, or the next free one; the newest becomes `champion` where
        there is none. Their datasets are made."""

    @abstractmethod
    def close(self) -> None:
        """Give up what was staged and not registered. Closing twice is a no-op."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

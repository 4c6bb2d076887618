"""The model store contract: immutable versions, and aliases that point to them."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from sokuji.closing import Closing
from sokuji.meta.objects import Ref
from sokuji.models.versions import CHAMPION, ModelVersion, Orphan


class ModelStore(Closing):
    """Versions by model. Registration is atomic: after a crash, the version exists completely or not at all.

    SQL sees the champion, and asks this store for its signature. The catalog keeps a model's name from tables.
    """

    @abstractmethod
    def stage(self, ref: Ref) -> Path:
        """A new folder to write artifacts into; removed later if never registered. Raises ModelError for a name that cannot be a folder."""

    @abstractmethod
    def register(self, version: ModelVersion, *, is_new: bool = False) -> ModelVersion:
        """Store `version`. Point `champion` to it, and `previous` to the champion before.

        This assigns the number and moves the folder into place; the returned version has both.

        Raises:
            ModelError: `version.folder` is not from `stage`, or is registered already.
            AlreadyExistsError: a table has the name; or, with `is_new`, the model exists.
            NotFoundError: there is no such dataset.
        """

    @abstractmethod
    def get(self, ref: Ref, version: int | str = CHAMPION) -> ModelVersion:
        """The version with this number or alias. Raises NotFoundError."""

    @abstractmethod
    def versions(self, ref: Ref) -> list[ModelVersion]:
        """All versions, oldest first; empty for an unknown model."""

    @abstractmethod
    def fetch(self, version: ModelVersion) -> Path:
        """A folder on this machine with the version's files, which are read from there and nowhere else. Raises ModelError."""

    def has(self, version: ModelVersion) -> bool:
        """Whether a version still exists. It does not if its model was dropped, even if a new model has its name and number."""
        return any(known.folder == version.folder for known in self.versions(version.signature.ref))

    @abstractmethod
    def set_alias(self, ref: Ref, alias: str, version: int) -> None:
        """Point `alias` to a version. When `champion` moves, `previous` is set to the old champion.

        Raises NotFoundError if there is no such version.
        """

    @abstractmethod
    def aliases(self, ref: Ref) -> dict[str, int]:
        """Alias -> version."""

    @abstractmethod
    def delete(self, ref: Ref) -> None:
        """Remove every version and alias. Raises NotFoundError."""

    @abstractmethod
    def orphans(self) -> list[Orphan]:
        """The versions that the database does not know, by folder.

        They are not deleted: perhaps the database was lost, or is an old copy.
        """

    @abstractmethod
    def adopt(self) -> list[ModelVersion]:
        """Register the orphans that tell their version, under their own number or, if taken, the next free one. Returns them.

        The newest one becomes `champion` if its model has none. Missing datasets are created.
        """

    @abstractmethod
    def close(self) -> None:
        """Drop staged folders that were not registered. Closing twice is a no-op."""

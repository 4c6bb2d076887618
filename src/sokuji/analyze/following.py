"""A dataset's declarations as in the worker's state, for processes that read that state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sokuji.analyze.compile import Compiled
from sokuji.analyze.state.carry_over import taken
from sokuji.features.known import Types


class Following:
    """The declarations, compiled with the types that properties have in the state.

    These types may differ from the lake's: ALTER TABLE changes the lake immediately, but the state only when it is rebuilt.
    """

    def __init__(self, folder: Path, make: Callable[[Types], Compiled]) -> None:
        """Compile by `make`. `folder` is the dataset's folder in the worker's."""
        self._folder, self._make = folder, make
        self._types = taken(folder)
        self.compiled = make(self._types)

    def renew(self) -> Compiled | None:
        """Compile again if the types in the state have changed; None if not. The caller must close the previous compilation."""
        types = taken(self._folder)
        if types == self._types:
            return None
        self.compiled = self._make(types)
        self._types = types
        return self.compiled

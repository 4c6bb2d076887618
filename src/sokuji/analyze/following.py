"""A dataset's declarations as the worker's state has them, for processes that read that state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sokuji.analyze.compile import Compiled
from sokuji.analyze.state.carry_over import taken
from sokuji.features.known import Types


class Following:
    """The declarations compiled with the types that the state's properties have.

    Those are not always the lake's: ALTER TABLE changes the lake's at once, and the state's when that is made anew.
    """

    def __init__(self, folder: Path, make: Callable[[Types], Compiled]) -> None:
        """`folder` is the dataset's, in the worker's; `make` compiles."""
        self._folder, self._make = folder, make
        self._types = taken(folder)
        self.compiled = make(self._types)

    def renew(self) -> Compiled | None:
        """Compile again if the state has other types by now; None if not. What was compiled before is the caller's to close."""
        types = taken(self._folder)
        if types == self._types:
            return None
        self.compiled = self._make(types)
        self._types = types
        return self.compiled

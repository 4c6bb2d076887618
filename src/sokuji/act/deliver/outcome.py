"""The outcome of an attempt to deliver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """The outcome of an attempt. `code` and `reason` say what failed; both are empty for a success."""

    code: str = ""
    reason: str = ""
    is_final: bool = True  # a retry would not help
    after_seconds: float = 0.0  # the earliest time for a retry, as the receiver asks

    @classmethod
    def done(cls) -> Self:
        """The decision was delivered."""
        return cls()

    @classmethod
    def final(cls, code: str, reason: str) -> Self:
        """The decision cannot be delivered."""
        return cls(code, reason)

    @classmethod
    def retry(cls, code: str, reason: str, after_seconds: float = 0.0) -> Self:
        """The decision may be delivered later."""
        return cls(code, reason, is_final=False, after_seconds=after_seconds)

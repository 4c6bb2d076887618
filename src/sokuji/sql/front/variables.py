"""Variables of a script, as statements see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zetasql.wasi._pb2.zetasql.public import value_pb2

from sokuji.sql.front.protos import from_value
from sokuji.types import Type

SYSTEM = "@@"
"""What the names of system variables begin with."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A type, and a value of it."""

    type: Type
    proto: Any = field(default_factory=value_pb2.ValueProto)  # the value as `ValueProto`, which is exact for every type

    @property
    def value(self) -> Any:
        """The value as `protos.from_value` gives it."""
        return from_value(self.proto, self.type)

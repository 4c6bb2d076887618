"""Variables of a script, as statements use them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zetasql.wasi._pb2.zetasql.public import value_pb2

from sokuji.sql.front.protos import from_value
from sokuji.types import Type

SYSTEM = "@@"
"""The prefix of the names of system variables."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A type, and a value of this type."""

    type: Type
    proto: Any = field(default_factory=value_pb2.ValueProto)  # the value as `ValueProto`, which is exact for every type

    @property
    def value(self) -> Any:
        """The value as `protos.from_value` returns it."""
        return from_value(self.proto, self.type)

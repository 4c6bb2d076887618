"""The layout of a profile's row: one segment of bytes for each view, then one for the rules."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sokuji.features.kernel.kernel import Kernel
from sokuji.rules.engine import Rules
from sokuji.types import Type

Rows = npt.NDArray[np.uint8]
_WORD = 8


@dataclass(frozen=True, slots=True)
class RowLayout:
    """The positions of the segments. `fingerprint` changes whenever stored rows can no longer be read."""

    views: tuple[slice, ...]
    rules: slice
    width: int
    fingerprint: str

    @classmethod
    def of(cls, kernels: Sequence[Kernel], rules: Rules, properties: Mapping[str, Type]) -> RowLayout:
        """The layout for these views and rules, with properties of these types."""
        at, views = 0, []
        for kernel in kernels:
            views.append(slice(at, at + kernel.width))
            at += kernel.width
        width = -(-(at + rules.width) // _WORD) * _WORD or _WORD
        views_of = (f"{kernel.view.name} {kernel.view.entity} {kernel.fingerprint}" for kernel in kernels)
        taken = (f"{name} {type_}" for name, type_ in sorted(properties.items()))
        text = "\n".join([*views_of, rules.layout, *taken])
        return cls(tuple(views), slice(at, at + rules.width), width, hashlib.sha256(text.encode()).hexdigest()[:16])

"""Atomic loads and stores with memory ordering, for compiled functions (`sokuji.compiled`).

Plain loads and stores are not enough if another process or thread reads without a lock: the compiler may merge or reorder them, and so
may some processors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sokuji.errors import MissingExtraError

try:
    from numba.core import cgutils, types
    from numba.extending import intrinsic
except ImportError as error:
    raise MissingExtraError("numba", "realtime", "writing to the online store") from error


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, index_type: Any) -> Any:  # noqa: PLR0917  -- as numba calls it
    view = context.make_array(array_type)(context, builder, array)
    position = context.cast(builder, index, index_type, types.intp)
    return cast("Any", cgutils).get_item_pointer(context, builder, array_type, view, [position])


def _type_store(_context: Any, array: Any, _index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, index_type, value_type = signature.args
        pointer = _pointer(context, builder, array_type, arguments[0], arguments[1], index_type)
        word = context.cast(builder, arguments[2], value_type, array_type.dtype)
        builder.store_atomic(word, pointer, ordering="release", align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _type_load(_context: Any, array: Any, _index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, index_type = signature.args
        pointer = _pointer(context, builder, array_type, arguments[0], arguments[1], index_type)
        return builder.load_atomic(pointer, ordering="acquire", align=8)

    return array.dtype(array, types.intp), generate


def _type_fence(ordering: str) -> Any:
    def typed(_context: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
            builder.fence(ordering)
            return context.get_dummy_value()

        return types.void(), generate

    return typed


store_release: Callable[[Any, Any, Any], None] = cast("Any", intrinsic(_type_store))
"""Store `array[index] = value` for u64[n], atomically; visible only after all earlier stores."""
load_acquire: Callable[[Any, Any], Any] = cast("Any", intrinsic(_type_load))
"""Load `array[index]` of u64[n], atomically, before all later loads."""
release_fence: Callable[[], None] = cast("Any", intrinsic(_type_fence("release")))
"""Order stores: all earlier stores are visible before all later ones."""
acquire_fence: Callable[[], None] = cast("Any", intrinsic(_type_fence("acquire")))
"""Order loads: all earlier loads happen before all later ones."""

"""Compiling to machine code, with numba from the extra `realtime`. Only what the writer of a store imports comes here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from sokuji.errors import MissingExtraError

try:
    import numba
    from numba.core import cgutils, types
    from numba.extending import intrinsic
except ImportError as error:
    raise MissingExtraError("numba", "realtime", "writing to the online store") from error

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile at the first call (the code is kept on disk for the next process); runs without the interpreter's lock."""
    return cast("_Function", numba.njit(cache=True, nogil=True)(function))


def inlined(function: _Function) -> _Function:
    """As `kernel`, as a part of the kernels that call it."""
    return cast("_Function", numba.njit(inline="always")(function))


# Plain stores are not enough where another process reads without a lock: the compiler may merge or reorder them, and so may some
# processors. These two give the order that readers rely on.


def _type_store(_context: Any, array: Any, _index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, index_type, value_type = signature.args
        view = context.make_array(array_type)(context, builder, arguments[0])
        index = context.cast(builder, arguments[1], index_type, types.intp)
        pointer = cast("Any", cgutils).get_item_pointer(context, builder, array_type, view, [index])
        word = context.cast(builder, arguments[2], value_type, array_type.dtype)
        builder.store_atomic(word, pointer, ordering="release", align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _type_fence(_context: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.fence("release")
        return context.get_dummy_value()

    return types.void(), generate


store_release: Callable[[Any, Any, Any], None] = cast("Any", intrinsic(_type_store))
"""`array[index] = value` for u64[n], in one piece, seen after everything that was stored before it."""
release_fence: Callable[[], None] = cast("Any", intrinsic(_type_fence))
"""What is stored after this is seen after what was stored before it."""

"""Kernels run as one compiled unit on JAX; elsewhere they are plain functions."""

from collections.abc import Callable
from functools import cache
from typing import Any

from .namespace import Array, Namespace, is_eager_jax


def compiled(kernel: Callable[..., Any], xp: Namespace, *arrays: Array | None, **options: Any) -> Any:
    """Return ``kernel(xp, *arrays, **options)``; through ``jax.jit`` for concrete JAX arrays.

    JAX called eagerly compiles each operation for each shape; the whole kernel is one compilation, and fuses.
    Options must be hashable: each combination is compiled on its own.
    """
    if any(x is not None and is_eager_jax(x) for x in arrays):
        return _jitted(kernel, xp, tuple(sorted(options.items())))(*arrays)
    return kernel(xp, *arrays, **options)


@cache
def _jitted(kernel: Callable[..., Any], xp: Namespace, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    import jax

    def call(*arrays: Array | None) -> Any:
        return kernel(xp, *arrays, **dict(options))

    call.__name__ = kernel.__name__  # so that profiles and errors name the kernel
    return jax.jit(call)

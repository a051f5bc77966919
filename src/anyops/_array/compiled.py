"""How kernels are called: as one compiled unit on JAX, and silently where NumPy would warn of values we define."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .namespace import Array, Namespace, is_traced, library


def compiled(kernel: Callable[..., Any], xp: Namespace, /, *arguments: Any, **options: Any) -> Any:
    """Return ``kernel(xp, *arguments, **options)``.

    Through ``jax.jit`` where `xp` is JAX and the values are known, on the host included: called eagerly, JAX compiles
    each operation for each shape; the whole kernel is one compilation, and fuses. Options must be hashable: each
    combination is compiled on its own.

    Matrix products are of full precision: on a GPU, JAX would round float32 factors to eleven bits, which moves samples
    to other centres and spoils a gradient, https://github.com/jax-ml/jax/issues/4873; torch and CuPy do not unless told
    to.

    torch's autocast is off: it would round the factors of every product to eight or eleven bits. JAX's check of ranks,
    which users ask for in code of their own, is too.

    Where NumPy computes, inf − inf, overflow and underflow are no news: a kernel replaces what is undefined.
    """
    name = library(xp)
    if name == "jax":
        known = not any(hasattr(x, "dtype") and is_traced(x) for x in arguments)
        return jitted(kernel, xp, known, options)(*arguments)
    if name == "torch":
        return as_written(kernel, xp, *arguments, **options)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return kernel(xp, *arguments, **options)


def as_written(kernel: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
    """Return ``kernel(*arguments, **options)`` of torch, in the dtypes of the arguments also under autocast."""
    import torch

    place = next((x.device.type for x in arguments if isinstance(x, torch.Tensor)), "cpu")
    if place == "meta" or not torch.is_autocast_enabled(place):
        return kernel(*arguments, **options)
    with torch.autocast(place, enabled=False):
        return kernel(*arguments, **options)


def jitted(kernel: Callable[..., Any], how: Any, known: bool, options: dict[str, Any]) -> Callable[..., Any]:
    """Return ``kernel(how, ..., **options)`` of JAX, compiled as one where values are known."""
    settings = tuple(sorted(options.items()))
    return _jitted(kernel, how, settings) if known else _precise(kernel, how, settings)


@cache
def _jitted(kernel: Callable[..., Any], how: Any, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    import jax

    return jax.jit(_precise(kernel, how, options))


@cache
def _precise(kernel: Callable[..., Any], how: Any, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    import jax

    def call(*arguments: Array | float | None) -> Any:
        with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
            return kernel(how, *arguments, **dict(options))

    call.__name__ = kernel.__name__  # so that profiles and errors name the kernel
    return call

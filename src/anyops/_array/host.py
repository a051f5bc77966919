"""Conversion to NumPy arrays in host memory and back."""

from typing import Any

import array_api_compat.numpy as numpy_namespace
import numpy as np

from .backends import to_host
from .mode import Mode, mode_of, placed_beside
from .namespace import Array, DType, Namespace, device, is_at_hand, is_eager_jax, library
from .rows import is_sharded, on_cpu

WORTH_A_PROGRAM = 1 << 22  # numbers in an array of JAX whose passes its compiler makes faster
Host = np.ndarray[Any, Any]


def on_host(x: Array) -> Array:
    """Return the values of an array of any library as float64 on the host; a lazy one is computed."""
    return np.asarray(x, np.float64) if isinstance(x, float | np.generic) else to_host(x).astype(np.float64)


@np.errstate(over="ignore")
def from_host(xp: Namespace, values: Array, dtype: DType, like: Array) -> Array:
    """Ship host values to the namespace and device of an array; those beside a lazy array stay on the host.

    Values beyond the range of the dtype become infinite.
    """
    if library(xp) == "dask":
        return np.asarray(values, dtype=dtype)
    if library(xp) == "jax":
        return placed_beside(np.asarray(values, dtype=dtype), like)
    if isinstance(values, np.ndarray) and not values.flags.writeable:  # memory that torch would share, and warns of
        values = values.copy()
    return xp.asarray(values, dtype=dtype, device=device(like))


def without_rows(xp: Namespace, x: Array) -> Array:
    """Return an array of the dtype and width of a matrix, on its devices, that has no rows and shares no memory."""
    return from_host(xp, np.empty((0, x.shape[1])), x.dtype, x)


def beside(mode: Mode, values: Array, like: Array, dtype: DType | None = None) -> Array:
    """Ship host values, one per row of an array, to its device."""
    return mode.xp.asarray(values, dtype=dtype, device=device(like))


def writable(xp: Namespace, x: Array, *others: Array | None) -> tuple[Any, ...]:
    """Return a namespace that can write into its arrays at positions, and the arrays in it.

    Those of JAX, which cannot be written, and of torch that lie in the host's memory share it with NumPy: there each
    core can work on its part of the samples, where torch and JAX start threads, or compile, for every operation.
    """
    shared = on_cpu(x) and not is_sharded(x) if is_eager_jax(x) else library(xp) == "torch" and is_at_hand(x)
    if not shared:
        return xp, x, *others
    return numpy_namespace, to_host(x), *(None if y is None else to_host(y) for y in others)


def mode_of_passes(xp: Namespace, x: Array, *others: Array | None, views: bool = False) -> tuple[Any, ...]:
    """Return the mode that reads the rows of a matrix best, and the arrays in it: :func:`writable`, or JAX itself.

    One pass over a large matrix is one program of JAX, which fuses it and runs on all cores: on 1 000 000 × 20 it takes
    four fifths of NumPy's time. On a small one the call alone takes longer than NumPy's pass. Only `views` of NumPy do
    where most of a pass is products of matrices, which its BLAS makes faster, or where JAX may have no float64.
    """
    if views or not (is_eager_jax(x) and x.size > WORTH_A_PROGRAM):
        _, x, *rest = writable(xp, x, *others)
        if isinstance(x, np.ndarray) and x.dtype.isbuiltin == 2:  # bfloat16 of JAX, which NumPy's products do not take
            x = x.astype(np.float32)
        return mode_of(x=x), x, *rest
    return mode_of(x=x), x, *others

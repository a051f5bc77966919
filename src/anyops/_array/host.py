"""Conversion to NumPy arrays in host memory and back."""

from typing import Any

import array_api_compat.numpy as numpy_namespace
import numpy as np

from .backends import to_host
from .mode import Mode, mode_of, placed_beside
from .namespace import Array, DType, Namespace, device, is_at_hand, is_eager_jax, library
from .rows import is_sharded, on_cpu

WORTH_COMPILING = 1 << 22  # elements above which a pass over a JAX array is faster compiled than on NumPy
Host = np.ndarray[Any, Any]


def on_host(x: Array) -> Array:
    """Return the values of an array of any library as float64 on the host; a lazy array is computed."""
    return np.asarray(x, np.float64) if isinstance(x, float | np.generic) else to_host(x).astype(np.float64)


@np.errstate(over="ignore")
def from_host(xp: Namespace, values: Array, dtype: DType, like: Array) -> Array:
    """Convert host values to the library and device of `like`; if it is a lazy array, to a NumPy array.

    Values beyond the range of the dtype become infinite.
    """
    if library(xp) == "dask":
        return np.asarray(values, dtype=dtype)
    if library(xp) == "jax":
        return placed_beside(np.asarray(values, dtype=dtype), like)
    if isinstance(values, np.ndarray) and not values.flags.writeable:  # torch warns when it shares read-only memory
        values = values.copy()
    return xp.asarray(values, dtype=dtype, device=device(like))


def without_rows(xp: Namespace, x: Array) -> Array:
    """Return an array of 0 rows with the dtype, width and devices of a matrix, sharing no memory with it."""
    return from_host(xp, np.empty((0, x.shape[1])), x.dtype, x)


def beside(mode: Mode, values: Array, like: Array, dtype: DType | None = None) -> Array:
    """Copy host values to the device of `like`."""
    return mode.xp.asarray(values, dtype=dtype, device=device(like))


def writable(xp: Namespace, x: Array, *others: Array | None) -> tuple[Any, ...]:
    """Return a namespace whose arrays can be written at given positions, and the arrays in it.

    Arrays of JAX and torch in host memory become NumPy views. JAX arrays cannot be written. On NumPy each core works on
    a share of the samples, while torch starts threads and JAX compiles for every operation.
    """
    shared = on_cpu(x) and not is_sharded(x) if is_eager_jax(x) else library(xp) == "torch" and is_at_hand(x)
    if not shared:
        return xp, x, *others
    return numpy_namespace, to_host(x), *(None if y is None else to_host(y) for y in others)


def mode_of_passes(xp: Namespace, x: Array, *others: Array | None, views: bool = False) -> tuple[Any, ...]:
    """Return the fastest mode for a pass over a matrix's rows, and the arrays in it: NumPy by :func:`writable`, or JAX.

    JAX fuses one pass over a large matrix and runs it on all cores: 1 000 000 × 20 takes four fifths of NumPy's time.
    On a small matrix the call alone takes longer than NumPy's pass. `views` always selects NumPy: for passes dominated
    by matrix products, where its BLAS is faster, and for passes that need float64, which may be disabled in JAX.
    """
    if views or not (is_eager_jax(x) and x.size > WORTH_COMPILING):
        _, x, *rest = writable(xp, x, *others)
        if isinstance(x, np.ndarray) and x.dtype.isbuiltin == 2:  # JAX's bfloat16, unsupported by NumPy's products
            x = x.astype(np.float32)
        return mode_of(x=x), x, *rest
    return mode_of(x=x), x, *others

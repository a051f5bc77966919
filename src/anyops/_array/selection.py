"""The one place where values decide a shape: a mask becomes indices."""

import numpy as np

from .namespace import Array, Namespace, default_int, device, library
from .padding import ship


def indices_of(xp: Namespace, mask: Array) -> Array:
    """Return the positions at which a 1-D mask is true, ascending, in the namespace's index dtype."""
    return xp.nonzero(mask)[0]


def items(xp: Namespace, x: Array, index: Array) -> Array:
    """Return the items of `x` along its first axis at positions from 0 on.

    As `take`, which in array_api_compat looks for negative positions on torch: as much work again.
    """
    return x.index_select(0, index) if library(xp) == "torch" else xp.take(x, index, axis=0)


def padded_indices(xp: Namespace, mask: Array, size: int) -> Array:
    """Return the positions at which a 1-D mask is true, padded to `size` with positions past its end."""
    if library(xp) == "jax":
        return xp.nonzero(mask, size=size, fill_value=mask.shape[0])[0]
    # Where the number of true values up to a position first reaches k is the k-th of them.
    reached = xp.cumulative_sum(xp.astype(mask, default_int(xp, mask)))
    number = xp.arange(1, size + 1, dtype=reached.dtype, device=device(reached))
    return xp.searchsorted(reached, number, side="left")


def compress(xp: Namespace, x: Array, mask: Array) -> Array:
    """Return the items of 1-D `x` at which `mask` is true."""
    if library(xp) == "jax":
        # Eager JAX compiles a selection for every number of items selected; the host does not.
        return ship(np.asarray(x)[np.asarray(mask)], x)
    return xp.take(x, indices_of(xp, mask), axis=0)

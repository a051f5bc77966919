"""The one place where values decide a shape: a mask becomes indices."""

import numpy as np

from .namespace import Array, Namespace, library


def indices_of(xp: Namespace, mask: Array) -> Array:
    """Return the positions at which a 1-D mask is true, ascending, in the namespace's index dtype."""
    return xp.nonzero(mask)[0]


def compress(xp: Namespace, x: Array, mask: Array) -> Array:
    """Return the items of 1-D `x` at which `mask` is true."""
    if library(xp) == "jax":
        # Eager JAX compiles a selection for every number of items selected; the host does not.
        return xp.asarray(np.asarray(x)[np.asarray(mask)], device=x.sharding)
    return xp.take(x, indices_of(xp, mask), axis=0)

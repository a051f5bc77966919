"""The one place where values decide a shape: a mask becomes indices."""

from .namespace import Array, Namespace, library


def indices_of(xp: Namespace, mask: Array) -> Array:
    """Return the positions at which a 1-D mask is true, ascending, in the namespace's index dtype."""
    return xp.nonzero(mask)[0]


def items(xp: Namespace, x: Array, index: Array) -> Array:
    """Return the items of `x` along its first axis at positions from 0 on.

    As `take`, which in array_api_compat looks for negative positions on torch: as much work again.
    """
    return x.index_select(0, index) if library(xp) == "torch" else xp.take(x, index, axis=0)

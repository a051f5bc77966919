"""The only place where a shape depends on values: a mask becomes indices."""

from .namespace import Array, Namespace, library


def indices_of(xp: Namespace, mask: Array) -> Array:
    """Return the positions at which a 1-D mask is true, ascending, in the namespace's index dtype."""
    return xp.nonzero(mask)[0]


def items(xp: Namespace, x: Array, index: Array) -> Array:
    """Return the items of `x` along its first axis at positions from 0 on.

    As `take`, which in array_api_compat looks for negative positions on torch: as much work again.
    """
    return x.index_select(0, index) if library(xp) == "torch" else xp.take(x, index, axis=0)


def take_along(xp: Namespace, x: Array, index: Array, *, axis: int) -> Array:
    """Return what ``xp.take_along_axis`` does, of an index that is as long as `x` along the other axes.

    torch's own makes constants of dynamic sizes.
    """
    return x.gather(axis, index) if library(xp) == "torch" else xp.take_along_axis(x, index, axis=axis)

"""Indices of a mask, the only place where a shape depends on values; gathers and sorted insertion."""

from .namespace import Array, Namespace, is_dynamic, library

POSITION_BITS = 31  # bits of a position in an array


def indices_of(xp: Namespace, mask: Array) -> Array:
    """Return the positions at which a 1-D mask is true, ascending, in the namespace's index dtype."""
    return xp.nonzero(mask)[0]


def items(xp: Namespace, x: Array, index: Array) -> Array:
    """Return the items of `x` along its first axis at positions from 0 on.

    As `take`, which in array_api_compat looks for negative positions on torch: as much work again.
    """
    return x.index_select(0, index) if library(xp) == "torch" else xp.take(x, index, axis=0)


def take_along(xp: Namespace, x: Array, index: Array, *, axis: int) -> Array:
    """Return ``xp.take_along_axis(x, index)``, for an index that has the shape of `x` along the other axes.

    torch.take_along_dim turns dynamic sizes into constants.
    """
    return x.gather(axis, index) if library(xp) == "torch" else xp.take_along_axis(x, index, axis=axis)


def insertion(xp: Namespace, ordered: Array, values: Array) -> Array:
    """Return, for each value, how many of the ascending numbers (n,) are below it."""
    n = ordered.shape[0]
    if not (library(xp) == "jax" and is_dynamic(xp, n)):
        return xp.searchsorted(ordered, values, side="left")
    # JAX's searchsorted needs a static size; this is a bisection by powers of two.
    found = xp.zeros_like(values)
    for bit in range(POSITION_BITS - 1, -1, -1):
        beyond = found + (1 << bit)
        more = (beyond <= n) & (xp.take(ordered, xp.minimum(beyond, n) - 1) < values)
        found = xp.where(more, beyond, found)
    return found

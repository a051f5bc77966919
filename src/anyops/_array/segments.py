"""Reductions over segments: items that carry the number of the group they belong to.

The standard has no scatter. The pure twins sort the items and reduce over the runs of equal numbers; a native scatter
stands behind the same function where a library has one, which is both faster and free of the sort.
"""

from collections.abc import Callable

import array_api_compat as compat
import array_api_extra as xpx
import numpy as np

from .namespace import Array, Namespace, default_int, device


def mark(xp: Namespace, index: Array, size: int) -> Array:
    """Return bool (size,), true at the positions in `index`; repeated positions are fine."""
    flags = xp.zeros((size,), dtype=xp.bool, device=device(index))
    if compat.is_numpy_namespace(xp) or compat.is_cupy_namespace(xp):
        flags[index] = True
        return flags
    if compat.is_torch_namespace(xp):
        return flags.index_fill_(0, index, True)
    if compat.is_jax_namespace(xp):
        return flags.at[index].set(True, mode="drop")
    return xpx.at(flags)[index].set(True, xp=xp)


def inverse_permutation(xp: Namespace, order: Array) -> Array:
    """Return the ranks for which ``ranks[order] = arange(n)``."""
    ranks = xp.empty_like(order)
    positions = xp.arange(order.shape[0], dtype=order.dtype, device=device(order))
    if compat.is_numpy_namespace(xp) or compat.is_cupy_namespace(xp) or compat.is_torch_namespace(xp):
        ranks[order] = positions
        return ranks
    if compat.is_jax_namespace(xp):
        return ranks.at[order].set(positions, unique_indices=True)
    return xp.argsort(order)


def segment_sum(xp: Namespace, values: Array, segments: Array, size: int) -> Array:
    """Return (size,): the sum of the values of each segment, 0 for one without items."""
    if compat.is_numpy_namespace(xp):
        # bincount sums in float64, in one pass
        return xp.asarray(np.bincount(segments, weights=values, minlength=size), dtype=values.dtype)
    if compat.is_torch_namespace(xp):
        return xp.zeros(size, dtype=values.dtype, device=values.device).index_add(0, segments, values)
    if compat.is_jax_namespace(xp):
        return xp.zeros(size, dtype=values.dtype).at[segments].add(values)
    return _reduce_runs(xp, values, segments, size, xp.add, 0)


def segment_max(xp: Namespace, values: Array, segments: Array, size: int, *, initial: float) -> Array:
    """Return (size,): the largest value of each segment and `initial`."""
    if compat.is_numpy_namespace(xp):
        out = np.full(size, initial, dtype=values.dtype)
        np.maximum.at(out, segments, values)
        return out
    if compat.is_torch_namespace(xp):
        out = xp.full((size,), initial, dtype=values.dtype, device=values.device)
        return out.scatter_reduce(0, segments, values, "amax")
    if compat.is_jax_namespace(xp):
        return xp.full(size, initial, dtype=values.dtype).at[segments].max(values)
    return xp.maximum(_reduce_runs(xp, values, segments, size, xp.maximum, initial), xp.asarray(initial))


def segment_min(xp: Namespace, values: Array, segments: Array, size: int, *, initial: float) -> Array:
    """Return (size,): the smallest value of each segment and `initial`."""
    return -segment_max(xp, -values, segments, size, initial=-initial)


def _reduce_runs(
    xp: Namespace, values: Array, segments: Array, size: int, op: Callable[[Array, Array], Array], initial: float
) -> Array:
    """Reduce each segment by `op`, in a number of steps that is the logarithm of the longest run.

    A cumulative sum and its differences would do it in one step, but lose the small sums beside large ones.
    """
    n = segments.shape[0]
    out = xp.full((size,), initial, dtype=values.dtype, device=device(values))
    if n == 0 or size == 0:
        return out
    order = xp.argsort(segments, stable=True)
    segments, values = xp.take(segments, order), xp.take(values, order)
    position = xp.arange(n, dtype=default_int(xp), device=device(values))
    number = xp.arange(size, dtype=segments.dtype, device=device(values))
    start = xp.searchsorted(segments, number, side="left")
    stop = xp.searchsorted(segments, number, side="right")
    first = xp.take(start, segments)  # of the run that each item is in
    step = 1
    while step < n:  # after each round an item holds the reduction of the 2·step items that end at it, within its run
        before = position - step
        reaches = before >= first
        earlier = xp.take(values, xp.where(reaches, before, xp.zeros_like(before)))
        values = xp.where(reaches, op(values, earlier), values)
        step *= 2
    last = xp.where(stop > start, stop - 1, xp.zeros_like(stop))
    return xp.where(stop > start, xp.take(values, last), out)

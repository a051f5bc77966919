"""Reductions over segments; each item has the index of its segment.

The standard has no scatter. The portable version sorts the items and reduces over the runs of equal numbers. If a
library has a native scatter, the same function uses it: it is faster and needs no sort.
"""

import math
from collections.abc import Callable

import numpy as np

from .namespace import Array, Namespace, default_int, device, is_dynamic, library
from .selection import take_along


def mark(xp: Namespace, index: Array, size: int) -> Array:
    """Return bool (size,), true at the positions in `index`; repeated positions are fine."""
    if library(xp) in ("numpy", "cupy"):
        flags = xp.zeros(size, dtype=xp.bool)
        flags[index] = True
        return flags
    if library(xp) == "torch":
        return xp.zeros(size, dtype=xp.bool, device=index.device).index_fill(0, index, True)
    if library(xp) == "jax":
        return xp.zeros(size, dtype=xp.bool).at[index].set(True, mode="drop")
    index, position = xp.sort(index), xp.arange(size, dtype=index.dtype, device=device(index))
    return xp.searchsorted(index, position, side="right") > xp.searchsorted(index, position, side="left")


def put_along_last(xp: Namespace, x: Array, index: Array) -> Array:
    """Return y with ``y[..., index] = x`` along the last axis, `index` being a permutation in each row."""
    if library(xp) == "jax" and not any(is_dynamic(xp, size) for size in x.shape):
        return xp.put_along_axis(xp.zeros_like(x), index, x, axis=-1, inplace=False)
    return take_along(xp, x, xp.argsort(index, axis=-1), axis=-1)


def segment_sum(xp: Namespace, values: Array, segments: Array, size: int) -> Array:
    """Return (size,): the sum of the values of each segment, 0 for one without items."""
    if library(xp) == "numpy":
        # bincount sums in float64, in one pass.
        return xp.asarray(np.bincount(segments, weights=values, minlength=size), dtype=values.dtype)
    if library(xp) == "torch":
        return xp.zeros(size, dtype=values.dtype, device=values.device).index_add(0, segments, values)
    if library(xp) == "jax":
        return xp.zeros(size, dtype=values.dtype).at[segments].add(values)
    return _reduce_runs(xp, values, segments, size, xp.add, 0)


def segment_max(xp: Namespace, values: Array, segments: Array, initial: Array) -> Array:
    """Return (size,): the largest value of each segment, at least its initial value."""
    if library(xp) == "numpy":
        out = initial.copy()
        np.maximum.at(out, segments, values)
        return out
    if library(xp) == "torch":
        return initial.scatter_reduce(0, segments, values, "amax")
    if library(xp) == "jax":
        return initial.at[segments].max(values)
    lowest = -math.inf if xp.isdtype(values.dtype, "real floating") else xp.iinfo(values.dtype).min
    return xp.maximum(_reduce_runs(xp, values, segments, initial.shape[0], xp.maximum, lowest), initial)


def segment_min(xp: Namespace, values: Array, segments: Array, initial: Array) -> Array:
    """Return (size,): the smallest value of each segment, at most its initial value."""
    return -segment_max(xp, -values, segments, -initial)


def _reduce_runs(
    xp: Namespace, values: Array, segments: Array, size: int, op: Callable[[Array, Array], Array], initial: float
) -> Array:
    """Reduce each segment by `op`; the number of steps is the logarithm of the longest run.

    Differences of a cumulative sum would take one step, but round away small sums beside large ones.
    """
    n = segments.shape[0]
    out = xp.full((size,), initial, dtype=values.dtype, device=device(values))
    if n == 0 or size == 0:
        return out
    order = xp.argsort(segments, stable=True)
    segments, values = xp.take(segments, order), xp.take(values, order)
    position = xp.arange(n, dtype=default_int(xp, values), device=device(values))
    number = xp.arange(size, dtype=segments.dtype, device=device(values))
    start = xp.searchsorted(segments, number, side="left")
    stop = xp.searchsorted(segments, number, side="right")
    first = xp.take(start, segments)  # the start of each item's run
    step = 1
    while step < n:  # after each step an item holds the reduction of the last 2·step items of its run, up to itself
        before = position - step
        reaches = before >= first
        earlier = xp.take(values, xp.where(reaches, before, xp.zeros_like(before)))
        values = xp.where(reaches, op(values, earlier), values)
        step *= 2
    last = xp.where(stop > start, stop - 1, xp.zeros_like(stop))
    return xp.where(stop > start, xp.take(values, last), out)

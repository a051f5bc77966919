"""The least of many scores, and rows by their numbers."""

import math

import numpy as np

from .namespace import Array, DType, Namespace, cast, default_int, device, library
from .selection import items


def lowest(xp: Namespace, scores: Array, axis: int) -> Array:
    """Return where along an axis the least score is, the first of equal ones."""
    if library(xp) == "jax":
        # XLA's argmin on a CPU takes ten times as long as its minimum, which fuses with what computes the scores.
        least = xp.min(scores, axis=axis, keepdims=True)
        last = scores.shape[axis] - 1
        number = counting(xp, scores, axis)
        return xp.min(xp.where(scores == least, number, last), axis=axis)
    return xp.astype(xp.argmin(scores, axis=axis), default_int(xp, scores), copy=False)


def counting(xp: Namespace, scores: Array, axis: int) -> Array:
    """Return 0, 1, … along an axis (−1 or −2) of an array, in a shape that broadcasts with it."""
    number = xp.arange(scores.shape[axis], dtype=default_int(xp, scores), device=device(scores))
    return number if axis == -1 else number[:, None]


def rows_at(xp: Namespace, x: Array, index: Array) -> Array:
    """Return of (..., k, d) the row that each item of (..., n) numbers."""
    lead, (k, d) = x.shape[:-2], x.shape[-2:]
    if lead:
        lanes = math.prod(lead)
        start = xp.arange(0, lanes * k, k, dtype=index.dtype, device=device(index))
        index = index + xp.reshape(start, (*lead, 1))
        x = xp.reshape(x, (lanes * k, d))
    flat = xp.reshape(index, (-1,))
    found = x.at[flat].get(mode="promise_in_bounds") if library(xp) == "jax" else items(xp, x, flat)
    return xp.reshape(found, (*index.shape, d))


def less(xp: Namespace, x: Array, offset: Array, dtype: DType) -> Array:
    """Return x − offset of integers of one dtype as floating numbers: subtracted before they are rounded.

    Where the difference would not fit the integers, the rounded numbers are subtracted.
    """
    far = cast(xp, x, dtype) - cast(xp, offset, dtype)
    info = xp.iinfo(x.dtype)
    if info.min < 0:
        exact = cast(xp, x - offset, dtype)
    elif library(xp) == "torch" and info.bits > 8:
        # torch has no arithmetic of its wider unsigned integers; modulo 2⁶⁴ the difference is the same.
        exact = cast(xp, xp.astype(x, xp.int64) - xp.astype(offset, xp.int64), dtype)
    else:
        exact = xp.where(x >= offset, cast(xp, x - offset, dtype), -cast(xp, offset - x, dtype))
    return xp.where(xp.abs(far) < float(2 ** (info.bits - 2)), exact, far)


def row_dot(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the dot product of each row of (m, d) with that of another array."""
    if library(xp) == "numpy":
        return np.einsum("ij,ij->i", a, b)
    return xp.sum(a * b, axis=1)

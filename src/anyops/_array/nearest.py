"""The index of the lowest score, and rows by index."""

import math

import numpy as np

from .mode import Mode
from .namespace import Array, DType, Namespace, cast, default_int, device, library
from .selection import items


def lowest(xp: Namespace, scores: Array, axis: int) -> Array:
    """Return the index of the lowest score along an axis, the first one on ties."""
    if library(xp) == "jax":
        # On a CPU, XLA's argmin takes ten times as long as its minimum, which fuses with the computation of the scores.
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
    """Return the rows of `x`, (..., k, d), at each index (..., n), as (..., n, d)."""
    lead, (k, d) = x.shape[:-2], x.shape[-2:]
    if lead:
        lanes = math.prod(lead)
        start = xp.arange(0, lanes * k, k, dtype=index.dtype, device=device(index))
        index = index + xp.reshape(start, (*lead, 1))
        x = xp.reshape(x, (lanes * k, d))
    flat = xp.reshape(index, (-1,))
    found = x.at[flat].get(mode="promise_in_bounds") if library(xp) == "jax" else items(xp, x, flat)
    return xp.reshape(found, (*index.shape, d))


def taken(mode: Mode, x: Array, index: Array, *, axis: int = 0) -> Array:
    """Return the items of `x` at `index` along an axis; both may be sharded."""
    return mode.run(_taken, x, index, axis=axis)


def _taken(mode: Mode, x: Array, index: Array, *, axis: int) -> Array:
    return mode.xp.take(x, index, axis=axis)


def less(xp: Namespace, x: Array, offset: Array, dtype: DType) -> Array:
    """Return x − offset in a floating dtype, for integers of one dtype, which are subtracted before they are rounded.

    If the difference might overflow the integer dtype, the rounded numbers are subtracted.
    """
    x, offset = with_arithmetic(xp, x), with_arithmetic(xp, offset)
    far = cast(xp, x, dtype) - cast(xp, offset, dtype)
    info = xp.iinfo(x.dtype)
    if info.min < 0:
        exact = cast(xp, x - offset, dtype)
    else:
        exact = xp.where(x >= offset, cast(xp, x - offset, dtype), -cast(xp, offset - x, dtype))
    return xp.where(xp.abs(far) < float(2 ** (info.bits - 2)), exact, far)


def with_arithmetic(xp: Namespace, x: Array) -> Array:
    """Return integers in a dtype with comparisons and subtraction: int64 for torch's uint16, uint32 and uint64.

    uint64 is lowered by 2⁶³, which changes neither order nor differences.
    """
    if library(xp) != "torch" or x.dtype not in (xp.uint16, xp.uint32, xp.uint64):
        return x
    return x.view(xp.int64) ^ xp.iinfo(xp.int64).min if x.dtype == xp.uint64 else xp.astype(x, xp.int64)


def lowered_by(xp: Namespace, given: DType, dtype: DType) -> int:
    """Return the number that :func:`with_arithmetic` subtracts from integers of a given dtype."""
    return 2**63 if given == xp.uint64 != dtype else 0


def as_compared(xp: Namespace, x: Array) -> Array:
    """Return integers, with their values kept, in a dtype that the library can compare.

    torch's uint16 and uint32 become int64, its uint64 float64.
    """
    if library(xp) != "torch" or x.dtype not in (xp.uint16, xp.uint32, xp.uint64):
        return x
    return xp.astype(x, xp.float64 if x.dtype == xp.uint64 else xp.int64)


def row_dot(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the dot products (m,) of corresponding rows of two arrays (m, d)."""
    if library(xp) == "numpy":
        return np.einsum("ij,ij->i", a, b)
    return xp.sum(a * b, axis=1)

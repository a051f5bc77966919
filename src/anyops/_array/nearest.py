"""The least of many products: which column of a row is the smallest, and how far ahead of the next."""

import math
from typing import Any

import numpy as np

from .namespace import Array, DType, Namespace, cast, default_int, device, library
from .selection import items


def across(xp: Namespace) -> bool:
    """Tell whether scores of samples (rows) by centres (columns) are better laid out the other way round.

    On JAX they are: a minimum over the first axis is one of vectors. NumPy's and torch's `argmin` want the last.
    """
    return library(xp) == "jax"


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
        # torch has no arithmetic of its wider unsigned integers.
        if info.bits == 64:
            return far
        exact = cast(xp, xp.astype(x, xp.int64) - xp.astype(offset, xp.int64), dtype)
    else:
        exact = xp.where(x >= offset, cast(xp, x - offset, dtype), -cast(xp, offset - x, dtype))
    return xp.where(xp.abs(far) < float(2 ** (info.bits - 2)), exact, far)


class Scratch:
    """Memory for one large product after another, where a library can write into it: mapping it anew costs more."""

    def __init__(self, xp: Namespace, like: Array, size: int):
        self._room = np.empty(size, like.dtype) if library(xp) == "numpy" else None
        self._xp = xp

    def product(self, a: Array, b: Array) -> Array:
        """Return a @ b, which is valid until the next product."""
        if self._room is None:
            return self._xp.matmul(a, b)
        rows, columns = a.shape[0], b.shape[1]
        return self._xp.matmul(a, b, out=self._room[: rows * columns].reshape(rows, columns))


def lowest_down(xp: Namespace, scores: Array) -> tuple[Array, Array]:
    """Return of each column of (k, m), k < 255, where its least score is, the first of equal ones, and that score.

    NumPy's `argmin` along rows takes 50 ns for each of them, however short; minima over rows are minima of vectors.
    """
    if library(xp) != "numpy":
        return xp.argmin(scores, axis=0), xp.min(scores, axis=0)
    least = np.minimum.reduce(scores, axis=0)
    number = np.greater(scores, least).view(np.uint8)
    np.negative(number, out=number)  # 255 where the score is not the least, and its own number elsewhere
    np.bitwise_or(number, np.arange(scores.shape[0], dtype=np.uint8)[:, None], out=number)
    return np.minimum.reduce(number, axis=0).astype(np.int64), least


def two_lowest_down(xp: Namespace, scores: Array) -> tuple[Array, Array, Array]:
    """Return of each column of (k, m) where its least score is, the first of equal ones, that score, and the next one.

    The scores are lost.
    """
    labels, least = lowest_down(xp, scores)
    if library(xp) == "numpy":
        scores.reshape(-1)[labels * scores.shape[1] + np.arange(scores.shape[1])] = math.inf
    else:
        mine = counting(xp, scores, -2) == labels
        scores = xp.where(mine, xp.full_like(scores, math.inf), scores)
    return labels, least, xp.min(scores, axis=0)


def two_lowest(xp: Namespace, scores: Array) -> tuple[Array, Array, Array]:
    """Return of each row of (m, k) where its least score is, the first of equal ones, that score, and the next one.

    The scores are lost.
    """
    labels = xp.argmin(scores, axis=1)
    if library(xp) == "numpy":
        flat, start = scores.reshape(-1), np.arange(labels.shape[0]) * scores.shape[1]
        at = start + labels
        least = flat.take(at)
        flat[at] = math.inf
        return labels, least, flat.take(np.add(start, np.argmin(scores, axis=1), out=start))
    mine = xp.arange(scores.shape[1], dtype=labels.dtype, device=device(scores)) == labels[:, None]
    rest = xp.min(xp.where(mine, xp.full_like(scores, math.inf), scores), axis=1)
    return labels, xp.min(scores, axis=1), rest


def row_dot(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the dot product of each row of (m, d) with that of another array."""
    if library(xp) == "numpy":
        return np.einsum("ij,ij->i", a, b)
    return xp.sum(a * b, axis=1)


def put(xp: Namespace, x: Array, index: Array, values: Array | float) -> None:
    """Set the items of our own 1-D `x` at distinct positions."""
    if library(xp) == "numpy":
        x[index] = values
        return
    # The standard assigns to slices and masks only.
    order = xp.argsort(index)
    at = xp.arange(x.shape[0], dtype=index.dtype, device=device(x))
    place = xp.searchsorted(xp.take(index, order), at, side="left")
    last = xp.full_like(place, index.shape[0] - 1)
    source = xp.take(order, xp.minimum(place, last))
    hit = xp.take(index, source) == at
    new: Any = values if isinstance(values, float) else xp.take(values, source)
    x[...] = xp.where(hit, new, x)

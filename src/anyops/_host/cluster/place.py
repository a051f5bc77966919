"""Shift and scale samples before a fit, so that they are near 0 and their squares neither overflow nor underflow."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..._array.host import Host, beside, from_host, on_host
from ..._array.integers import ends, farthest, largest_exact, may_be_rounded, middle, unresolved
from ..._array.mode import Mode, enter, mode_of
from ..._array.namespace import Array, Namespace, cast, compute_dtype, result_dtype, stop_gradient, working
from ..._array.nearest import less
from ..._array.rows import rows_in_cache
from ..._array.threads import in_parts, workers
from ...cluster.distances import Metric, unit
from ...norm import batch_stats
from .weights import unit_of

WORTH_THREADS = 1 << 20  # numbers in an array above which it is split over threads

T = TypeVar("T")


class Place(NamedTuple):
    """Samples are transformed to (x − offset) · scale − shift, which is exact or nearly so."""

    offset: Host | None  # (d,) whole numbers, subtracted from integers before these are rounded to floats
    scale: Host  # (d,) powers of two, the same for all columns, except for metric "iou"
    shift: Host  # (d,)

    def enter(self, xp: Namespace, x: Array) -> Array:
        """Transform the samples of any chunk or batch."""
        dtype = compute_dtype(xp, result_dtype(xp, x=x))
        z = cast(xp, x, dtype) if self.offset is None else less(xp, x, from_host(xp, self.offset, x.dtype, x), dtype)
        if np.any(self.scale != 1):
            z = z * from_host(xp, self.scale, dtype, x)
        return z - from_host(xp, self.shift, dtype, x) if np.any(self.shift != 0) else z

    def centers_in(self, centers: Host) -> Host:
        """Transform centres in the units of x."""
        return (centers if self.offset is None else centers - self.offset) * self.scale - self.shift

    def centers_out(self, centers: Host) -> Host:
        """Return transformed centres in the units of x."""
        centers = (centers + self.shift) / self.scale
        return centers if self.offset is None else centers + self.offset


def unmoved(d: int) -> Place:
    """Return the identity transform."""
    return Place(None, np.ones(d), np.zeros(d))


def entered(xp: Namespace, x: Array) -> tuple[Mode, Array]:
    """Return samples without gradient, as NumPy views if they are in host memory, and the mode of these.

    Integers of more than 16 bits are not converted yet, because NumPy can convert them to float64. Other dtypes are
    converted first, because NumPy has no bfloat16.
    """
    x = stop_gradient(x)
    if not (xp.isdtype(x.dtype, "integral") and xp.iinfo(x.dtype).bits > 16):
        x = working(xp, x)
    mode, (x,) = enter(xp, x, differentiable=False)
    return mode, x


class Prepared(NamedTuple):
    """Transformed samples, the transform, and the mean over features of the variance of z."""

    z: Array  # (n, d) near 0, of unit length, or widths and heights; zeros where the weight is 0
    place: Place
    variance: float
    metric: Metric  # for z: may be "euclidean" for "cosine", as the squared distance of unit vectors is twice 1 − cos
    rows: Host | None  # (n, d + 1) z with a column of ones; z is a view of it
    rounded: float  # squared rounding error of a sample of integers in z, in the unit of x


def prepared(
    mode: Mode, x: Array, weight: Host, metric: Metric, *, shifts_directions: bool = False, with_one: bool = False
) -> Prepared:
    """Shift the samples of positive weight near 0 for "euclidean"; scale them to unit length for "cosine".

    `shifts_directions` also shifts unit vectors near 0, unless some sample is 0. `with_one` adds a column of ones to
    shifted samples that are NumPy arrays.
    """
    xp, d, kept, rows = mode.xp, x.shape[1], None, None
    if not np.all(weight > 0):
        kept = beside(mode, weight > 0, x)
        x = xp.where(kept[:, None], x, xp.zeros_like(x))
    offset, rounded = _offset(mode, x, kept) if metric == "euclidean" else (None, 0.0)
    place = unmoved(d)._replace(offset=offset)
    z = place.enter(xp, x)
    if metric == "cosine":
        z = unit(xp, z)
    else:
        place = place._replace(scale=_scale(mode, z, metric))
        z = place._replace(offset=None).enter(xp, z)
    z = _zeroed(xp, z, kept)
    stats = batch_stats(z, axis=1, sample_weight=kept)
    mean, m2 = on_host(stats.mean), on_host(stats.m2)
    variance = m2 / np.count_nonzero(weight)
    if metric == "cosine" and shifts_directions:
        blank = xp.max(xp.abs(z), axis=1) == 0
        if not bool(xp.any(blank if kept is None else blank & kept)):
            metric = "euclidean"
    if metric == "euclidean":
        shift = from_host(xp, shift_of(mean, m2, variance, place.scale), z.dtype, z)
        place = place._replace(shift=on_host(shift))
        if with_one and mode.host:
            rows = _rows_with_one(z, shift)
            z = rows[:, :d]
            if kept is not None:
                rows[:, :d] = _zeroed(xp, z, kept)
        else:
            z = _zeroed(xp, z - shift, kept)
    return Prepared(z, place, float(np.mean(variance)), metric, rows, rounded)


def shift_of(mean: Host, m2: Host, variance: Host, scale: Host) -> Host:
    """Return a point near the mean with so few digits that subtracting it keeps integers integer, and ties exact.

    Raise ValueError if the squares of samples, in the unit of x, overflow when summed.
    """
    # Squared distances between samples are at most four times Σ m2.
    with np.errstate(over="ignore"):
        total = np.sum(m2 / scale / scale)
    if not total < np.finfo(np.float64).max / 16:
        raise ValueError("x must hold numbers whose squares can be summed in float64, got larger ones")
    some = variance > 0
    grid = np.exp2(np.floor(np.log2(np.where(some, variance, 1.0)) / 2))
    return np.where(some, np.round(mean / grid) * grid, mean)


def _rows_with_one(z: Host, shift: Host) -> Host:
    """(n, d + 1): z − shift, with a column of ones."""
    n, d = z.shape
    rows = np.empty((n, d + 1), z.dtype)
    step = rows_in_cache(np, z, d)

    def fill(start: int, stop: int) -> None:
        for at in range(start, stop, step):
            tile = slice(at, min(at + step, stop))
            np.subtract(z[tile, :], shift, out=rows[tile, :d])
            rows[tile, d] = 1.0

    in_shares(mode_of(z=z), z, fill)
    return rows


def in_shares(mode: Mode, x: Array, work: Callable[[int, int], T]) -> list[T]:
    """Return ``work(start, stop)`` for each thread's rows; for all rows if they are few or not in host memory."""
    n = x.shape[0]
    parts = workers(x) if mode.at_hand and n * x.shape[1] >= WORTH_THREADS else 1
    return in_parts(x, lambda part: work(n * part // parts, n * (part + 1) // parts), parts)


def _zeroed(xp: Namespace, z: Array, kept: Array | None) -> Array:
    """Samples, with zeros where the weight is 0."""
    return z if kept is None else xp.where(kept[:, None], z, xp.zeros_like(z))


def _offset(mode: Mode, x: Array, kept: Array | None) -> tuple[Host | None, float]:
    """Whole numbers to subtract from integers that the floating dtype would round; None if it does not.

    Also the squared rounding error of a sample that is left.
    """
    xp, dtype = mode.xp, compute_dtype(mode.xp, result_dtype(mode.xp, x=x))
    if not may_be_rounded(xp, x, dtype):
        return None, 0.0
    low, high = ends(x, kept)
    if np.max(farthest(low, high)) <= largest_exact(xp, dtype):
        return None, 0.0
    return middle(low, high), float(unresolved(low, high, float(xp.finfo(dtype).eps)))


def _scale(mode: Mode, z: Array, metric: Metric) -> Host:
    """Powers of two (d,) to multiply samples by, so that their squares neither overflow nor underflow."""
    xp, axis = mode.xp, 0 if metric == "iou" else None  # IoU does not depend on the unit of either side

    def ends(start: int, stop: int) -> Host:
        share = z[start:stop, ...]
        return on_host(xp.stack([xp.max(share, axis=axis), -xp.min(share, axis=axis)]))

    largest = np.max(np.concat(in_shares(mode, z, ends)), axis=0)
    return scale_of(np.reshape(largest, (-1,)) * np.ones(z.shape[1]), xp.finfo(z.dtype))


def scale_of(largest: Host, floating: Any) -> Host:
    """Return powers of two (d,) that scale columns into the range of a dtype, from their largest numbers."""
    limit = 120 if floating.bits < 64 else 1000
    units = [unit_of(float(end)) for end in largest]
    return np.asarray([2.0 ** -min(max(math.log2(one), -limit), limit) for one in units])

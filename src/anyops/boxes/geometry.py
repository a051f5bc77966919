"""Regions as rows, and the overlaps that need no more than the sizes of two regions and of their intersection."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from .._array.division import divide
from .._array.namespace import Array, Namespace
from .._array.operators import Operators

# Kinds of overlap that need a size and an intersection alone.
ShareKind = Literal["iou", "iof", "ios"]
SHARES: tuple[ShareKind, ...] = get_args(ShareKind)


class Regions(NamedTuple):
    """Regions made ready for an overlap, as rows in any shapes that broadcast.

    One that overlaps nothing has a point for its envelope, and size 1.
    """

    columns: Array  # (5, ...): x1, y1, x2, y2 of the envelope along the axes, and the size: length, area or volume
    shape: Array = None  # (rows, ...) from which the overlap is computed; None for boxes of which this is all

    def map(self, function: Callable[[Array], Array]) -> "Regions":
        """Return these regions with a function of the trailing axes applied."""
        return Regions(function(self.columns), None if self.shape is None else function(self.shape))


class Geometry(NamedTuple):
    """Shapes of one sort: how rows are made of (..., numbers) in a format, overlaps of these, and their kinds."""

    kinds: tuple[str, ...]
    # Of regions, their format and the kind of overlap; the last is whether values may be looked at.
    ready: Callable[[Namespace, Array, str, str, bool], Regions]
    overlap: Callable[[Namespace, Regions, Regions, str, Operators], Array]
    # ρ² / c², squared distance of the centres over the squared diagonal of the enclosing box, of those ready for "diou"
    distance: Callable[[Namespace, Regions, Regions], Array] | None = None
    along_axes: bool = False  # regions fill their envelopes
    # How many pairs of boxes take as much memory as a pair of these.
    weight: Callable[[Regions, Regions], int] = lambda _a, _b: 1


def rows_first(xp: Namespace, regions: Array) -> Array:
    """Return regions (..., numbers) as rows (numbers, ...)."""
    return xp.permute_dims(regions, (regions.ndim - 1, *range(regions.ndim - 1)))


def finite(xp: Namespace, rows: Array) -> Array:
    """Numbers with the rows of regions that have an infinite one or a NaN set to 0."""
    return xp.where(xp.all(xp.isfinite(rows), axis=0), rows, 0.0)


def enveloped(xp: Namespace, low: Array, high: Array, size: Array, shape: Array) -> Regions:
    """Regions with envelopes (2, ...), those without a finite size as points."""
    proper = (size > 0) & (size < math.inf)
    low, high, shape = (xp.where(proper, x, 0.0) for x in (low, high, shape))
    size = xp.where(proper, size, xp.ones_like(size))
    return Regions(xp.concat((low, high, size[None, ...])), shape)


def meet(xp: Namespace, a: Regions, b: Regions) -> Array:
    """Whether envelopes have inner points in common."""
    lower = xp.maximum(a.columns[:2, ...], b.columns[:2, ...])
    return xp.all(lower < xp.minimum(a.columns[2:4, ...], b.columns[2:4, ...]), axis=0)


def bounded(xp: Namespace, a: Regions, b: Regions, shared: Array) -> Array:
    """Intersections within [0, the smaller size], 0 where envelopes are apart: against rounding."""
    smaller = xp.minimum(a.columns[4, ...], b.columns[4, ...])
    return xp.where(meet(xp, a, b), xp.minimum(xp.maximum(shared, xp.zeros_like(shared)), smaller), 0.0)


def share(xp: Namespace, a: Regions, b: Regions, shared: Array, kind: str) -> Array:
    """Intersections over the union, over the first size (iof) or over the smaller one (ios)."""
    a_size, b_size = a.columns[4, ...], b.columns[4, ...]
    if kind == "iou":
        return divide(xp, shared, a_size + (b_size - shared))
    return divide(xp, shared, (xp.minimum(a_size, b_size) if kind == "ios" else a_size) + xp.zeros_like(shared))

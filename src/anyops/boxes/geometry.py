"""Regions as rows, and the overlaps that need only the sizes of two regions and of their intersection."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from .._array.division import divide
from .._array.namespace import Array, Namespace
from .._array.operators import Operators

# Kinds of overlap that need only the sizes and the intersection.
ShareKind = Literal["iou", "iof", "ios"]
SHARES: tuple[ShareKind, ...] = get_args(ShareKind)


class Regions(NamedTuple):
    """Regions prepared for overlaps, as rows in any shapes that broadcast.

    A region that overlaps nothing has a point as its envelope, and size 1.
    """

    columns: Array  # (5, ...): x1, y1, x2, y2 of the axis-aligned envelope, and the size: length, area or volume
    shape: Array = None  # (rows, ...), input of the overlap; None if `columns` suffice

    def map(self, function: Callable[[Array], Array]) -> "Regions":
        """Return these regions with a function of the trailing axes applied."""
        return Regions(function(self.columns), None if self.shape is None else function(self.shape))


class Geometry(NamedTuple):
    """A class of shapes: its kinds of overlap, the preparation of regions as rows, and the overlap of rows."""

    kinds: tuple[str, ...]
    # Takes regions (..., numbers), the kind of overlap, the format, and whether values may be read.
    ready: Callable[[Namespace, Array, str, str, bool], Regions]
    overlap: Callable[[Namespace, Regions, Regions, str, Operators], Array]
    # ρ² / c², squared centre distance over squared diagonal of the enclosing box, of regions prepared for "diou".
    distance: Callable[[Namespace, Regions, Regions], Array] | None = None
    along_axes: bool = False  # regions fill their envelopes
    # Memory for a pair of regions, in pairs of axis-aligned boxes.
    weight: Callable[[Regions, Regions], int] = lambda _a, _b: 1


def rows_first(xp: Namespace, regions: Array) -> Array:
    """Return regions (..., numbers) as rows (numbers, ...)."""
    return xp.permute_dims(regions, (regions.ndim - 1, *range(regions.ndim - 1)))


def finite(xp: Namespace, rows: Array) -> Array:
    """Rows, with all numbers of a region set to 0 if one is infinite or NaN."""
    return xp.where(xp.all(xp.isfinite(rows), axis=0), rows, 0.0)


def enveloped(xp: Namespace, low: Array, high: Array, size: Array, shape: Array) -> Regions:
    """Regions with envelopes from `low` to `high`, (2, ...); a region without positive finite size becomes a point."""
    proper = (size > 0) & (size < math.inf)
    low, high, shape = (xp.where(proper, x, 0.0) for x in (low, high, shape))
    size = xp.where(proper, size, xp.ones_like(size))
    return Regions(xp.concat((low, high, size[None, ...])), shape)


def meet(xp: Namespace, a: Regions, b: Regions) -> Array:
    """Tell whether the interiors of envelopes intersect."""
    lower = xp.maximum(a.columns[:2, ...], b.columns[:2, ...])
    return xp.all(lower < xp.minimum(a.columns[2:4, ...], b.columns[2:4, ...]), axis=0)


def bounded(xp: Namespace, a: Regions, b: Regions, shared: Array) -> Array:
    """Intersections clamped to [0, the smaller size], 0 if envelopes are disjoint; this removes rounding errors."""
    smaller = xp.minimum(a.columns[4, ...], b.columns[4, ...])
    return xp.where(meet(xp, a, b), xp.minimum(xp.maximum(shared, xp.zeros_like(shared)), smaller), 0.0)


def share(xp: Namespace, a: Regions, b: Regions, shared: Array, kind: str) -> Array:
    """Intersection over the union, over the first size (iof) or over the smaller size (ios)."""
    a_size, b_size = a.columns[4, ...], b.columns[4, ...]
    if kind == "iou":
        return divide(xp, shared, a_size + (b_size - shared))
    return divide(xp, shared, (xp.minimum(a_size, b_size) if kind == "ios" else a_size) + xp.zeros_like(shared))

"""Segments and axis-aligned 3D boxes ("blocks"): the size of an intersection is a product of sides.

Notation: I the intersection, U = |a| + |b| − I, C the enclosing segment or block. Rows of `shape`: lower and upper ends
(2d, ...), the same as given, the size, and 1 if it is finite, else 0.
"""

import math
from typing import NamedTuple

from .._array.division import divide
from .._array.namespace import Array, Namespace, stop_gradient
from .._array.operators import PLAIN, Operators
from .geometry import SHARES, Geometry, Regions, bounded, enveloped, rows_first, share


def ready(xp: Namespace, regions: Array, _kind: str, _fmt: str, _look: bool = False) -> Regions:
    """Return segments (..., 2) or blocks (..., 6) as rows."""
    rows = rows_first(xp, regions)
    real = xp.all(xp.isfinite(rows), axis=0)
    rows = xp.where(real, rows, 0.0)
    # Gradients must not pass through a product that overflows.
    low, high = ends(stop_gradient(rows))
    real = real & (_volume(xp, high - low) < math.inf)
    low, high = ends(xp.where(real, rows, 0.0))
    rows, size = xp.concat((low, high)), _volume(xp, high - low)
    plane = min(low.shape[0], 2)
    envelope_low, envelope_high = low[:plane, ...], high[:plane, ...]
    if plane == 1:  # all segments get the same extent along y
        envelope_low = xp.concat((envelope_low, xp.zeros_like(envelope_low)))
        envelope_high = xp.concat((envelope_high, xp.ones_like(envelope_high)))
    found = enveloped(xp, envelope_low, envelope_high, size, rows)
    # Also the ends as given, for the kinds with an enclosing block.
    return found._replace(shape=xp.concat((found.shape, rows, xp.stack((size, xp.astype(real, size.dtype))))))


def _volume(xp: Namespace, sides: Array) -> Array:
    """Product of sides, 0 if one is not positive."""
    return xp.prod(xp.where(xp.all(sides > 0, axis=0), sides, 0.0), axis=0)


def ends(rows: Array) -> tuple[Array, Array]:
    """Return lower and upper ends, as given."""
    d = rows.shape[0] // 2
    return rows[:d, ...], rows[d:, ...]


def overlap(xp: Namespace, a: Regions, b: Regions, kind: str, _own: Operators = PLAIN) -> Array:
    """Overlap of segments or blocks from `ready`, broadcast against each other."""
    (a_low, a_high), (b_low, b_high) = (ends(x.shape[: x.shape.shape[0] // 2 - 1, ...]) for x in (a, b))
    sides = xp.minimum(a_high, b_high) - xp.maximum(a_low, b_low)
    shared = bounded(xp, a, b, xp.prod(xp.maximum(sides, xp.zeros_like(sides)), axis=0))
    if kind in SHARES:
        return share(xp, a, b, shared, kind)
    iou = share(xp, a, b, shared, "iou")
    return iou - (_empty(xp, a, b, shared) if kind == "giou" else distance(xp, a, b))


class Ends(NamedTuple):
    """Ends as given, (d, ...); the size, and 1 if it is finite, else 0."""

    low: Array
    high: Array
    size: Array
    bounded: Array


def _ends_of(regions: Regions) -> Ends:
    rows = regions.shape
    return Ends(*ends(rows[rows.shape[0] // 2 - 1 : -2, ...]), rows[-2, ...], rows[-1, ...])


def _enclosing(xp: Namespace, a: Ends, b: Ends) -> Array:
    """Sides (d, ...) of C."""
    sides = xp.maximum(a.high, b.high) - xp.minimum(a.low, b.low)
    return xp.maximum(sides, xp.zeros_like(sides))


def _empty(xp: Namespace, a: Regions, b: Regions, shared: Array) -> Array:
    """(|C| − U) / |C|; 0 if an end is infinite or C is a point, 1 if |C| overflows and U does not."""
    one, other = _ends_of(a), _ends_of(b)
    sides, union = _enclosing(xp, one, other), one.size + (other.size - shared)
    # Gradients must not pass through a product that overflows.
    whole, bounded = xp.prod(stop_gradient(sides), axis=0), (one.bounded * other.bounded > 0) & (union < math.inf)
    some = bounded & (whole > 0) & (whole < math.inf)
    enclosing = xp.prod(xp.where(some, sides, 1.0), axis=0)
    empty = divide(xp, xp.where(some, enclosing - union, 0.0), enclosing)
    return xp.where(bounded & (whole == math.inf), 1.0, empty)


def distance(xp: Namespace, a: Regions, b: Regions) -> Array:
    """ρ² / c²; 0 if an end is infinite or C is a point."""
    one, other = _ends_of(a), _ends_of(b)
    sides = _enclosing(xp, one, other)
    apart = (one.low / 2 - other.low / 2) + (one.high / 2 - other.high / 2)
    unit = stop_gradient(xp.maximum(xp.max(sides, axis=0), xp.max(xp.abs(apart), axis=0)))
    some = (one.bounded * other.bounded > 0) & (unit > 0) & (unit < math.inf)
    sides, apart = (divide(xp, xp.where(some, x, 0.0), xp.where(some, unit, 1.0)) for x in (sides, apart))
    diagonal = xp.sum(sides**2, axis=0)
    some = diagonal >= float(xp.finfo(diagonal.dtype).smallest_normal)
    return divide(xp, xp.where(some, xp.sum(apart**2, axis=0), 0.0), xp.where(some, diagonal, 1.0))


BLOCKS = Geometry((*SHARES, "giou", "diou"), ready, overlap, distance, along_axes=True)

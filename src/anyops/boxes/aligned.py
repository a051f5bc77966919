"""Axis-aligned boxes in the plane: their formats, and their overlap.

Notation: a, b boxes; I their intersection, U = |a| + |b| − I, C the box that encloses both.
"""

import math
from typing import Literal, NamedTuple, get_args

from .._array.division import divide
from .._array.namespace import Array, Namespace, rows_of, stop_gradient
from .._array.operators import PLAIN, Operators
from .geometry import SHARES, Geometry, Regions

BoxKind = Literal["iou", "iof", "ios", "giou", "diou", "ciou"]
KINDS: tuple[BoxKind, ...] = get_args(BoxKind)


def columns_of(boxes: Array) -> tuple[Array, Array, Array, Array]:
    """Return the four coordinates as arrays of their own."""
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def corners_of(columns: tuple[Array, ...], fmt: str) -> tuple[Array, ...]:
    """Return the columns of a format as x1, y1, x2, y2."""
    a, b, c, d = columns
    if fmt == "xywh":
        return a, b, a + c, b + d
    if fmt == "cxcywh":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return (b, a, d, c) if fmt == "yxyx" else columns


def to_corners(xp: Namespace, boxes: Array, fmt: str) -> Array:
    """Return boxes along the axes as xyxy."""
    return boxes if fmt == "xyxy" else xp.stack(corners_of(columns_of(boxes), fmt), axis=-1)


def from_corners(corners: tuple[Array, ...], fmt: str, sides: tuple[Array, ...] | None) -> tuple[Array, ...]:
    """Return x1, y1, x2, y2 as columns of a format; `sides` are x2 − x1 and y2 − y1 where these are known better."""
    x1, y1, x2, y2 = corners
    width, height = sides or (x2 - x1, y2 - y1)
    if fmt == "xywh":
        return x1, y1, width, height
    if fmt == "cxcywh":
        return (x1 + x2) / 2, (y1 + y2) / 2, width, height
    return (y1, x1, y2, x2) if fmt == "yxyx" else corners


def ready(xp: Namespace, boxes: Array, kind: str, fmt: str = "xyxy", look: bool = False) -> Regions:
    """Split boxes into columns on which `overlap` needs no case distinction; `look` spares it where none is special.

    A box that overlaps nothing, for want of area, for an infinite one or for a NaN, becomes the point (0, 0) with area
    1: it intersects nothing, and every union is positive and finite. So all that is special is decided once per box
    instead of once per pair, and no gradient passes through an undefined expression.
    """
    given = xp.stack(corners_of(columns_of(boxes), fmt))
    x1, y1, x2, y2 = rows_of(given)
    raw_area = (x2 - x1) * (y2 - y1)
    proper = overlaps_others(x1, y1, x2, y2, raw_area, kind)
    if look and kind in SHARES and bool(xp.all(proper)):
        return Regions(xp.concat((given, raw_area[None, ...])))
    corners = xp.where(proper, given, 0.0)
    bounded = proper & (raw_area < math.inf)
    x1, y1, x2, y2 = rows_of(xp.where(bounded, given, 0.0))
    area = (x2 - x1) * (y2 - y1)
    usable = xp.where(bounded, area, xp.where(proper, math.inf, xp.ones_like(area)))
    columns = xp.concat((corners, usable[None, ...]))
    if kind in SHARES:
        return Regions(columns)
    finite = xp.all(xp.isfinite(given), axis=0)
    given = xp.where(finite, given, 0.0)
    return Regions(columns, xp.concat((given, xp.stack((area, xp.astype(finite, area.dtype))))))


def overlaps_others(x1: Array, y1: Array, x2: Array, y2: Array, area: Array, kind: str) -> Array:
    """Whether each box, corners and area as given, can overlap another at all."""
    proper = (x2 > x1) & (y2 > y1) & (area > 0)
    # iof and ios have finite denominators beside an infinite box
    return proper if kind in ("iof", "ios") else proper & (area < math.inf)


def overlap(xp: Namespace, a: Regions, b: Regions, kind: str, own: Operators = PLAIN) -> Array:
    """Overlap of boxes made ready, broadcast against each other."""
    a_columns, b_columns = a.columns, b.columns
    lower = xp.maximum(a_columns[:2, ...], b_columns[:2, ...])  # x and y at once: half as many calls
    upper = xp.minimum(a_columns[2:4, ...], b_columns[2:4, ...])
    sides = own.positive(xp, own.subtract(upper, lower))
    width, height, a_area, b_area = sides[0, ...], sides[1, ...], a_columns[4, ...], b_columns[4, ...]
    if kind in ("iof", "ios"):
        return _covered(xp, a_area, b_area, kind, width, height)
    inter = own.multiply(width, height)
    union = own.subtract(a_area + b_area, inter)
    iou = divide(xp, inter, union)
    return iou if kind == "iou" else iou - _penalty(xp, a, b, kind, iou, inter)


def _covered(xp: Namespace, a_area: Array, b_area: Array, kind: str, width: Array, height: Array) -> Array:
    """I over |a| or over the smaller of the areas; 0 where that is infinite."""
    whole = (xp.minimum(a_area, b_area) if kind == "ios" else a_area) + xp.zeros_like(width)  # in the shape of the pair
    # inf · 0 where boxes without bounds are disjoint
    some = (width > 0) & (height > 0) & (whole < math.inf)
    inter = xp.where(some, width, 0.0) * xp.where(some, height, 0.0)
    return divide(xp, inter, xp.where(some, whole, 1.0))


def _penalty(xp: Namespace, a: Regions, b: Regions, kind: str, iou: Array, inter: Array) -> Array:
    """What giou, diou and ciou subtract from iou; 0 where a corner is infinite or the enclosing box is a point."""
    # Rows are taken once: JAX differentiates each time that one is taken by a whole array of zeros around it.
    a_rows, b_rows = _given(a), _given(b)
    width, height, finite = _enclosing(xp, a_rows, b_rows)
    if kind == "giou":
        enclosing, union = width * height, a_rows.area + b_rows.area - inter
        bounded = finite & (enclosing > 0) & (enclosing < math.inf) & (union < math.inf)
        enclosing = xp.where(bounded, width, 1.0) * xp.where(bounded, height, 1.0)
        empty = divide(xp, enclosing - xp.where(bounded, union, 1.0), enclosing)
        # An enclosing area beyond the largest number, around boxes within it: U / |C| is 0.
        unbounded = finite & (width * height == math.inf) & (union < math.inf)
        return xp.where(unbounded, 1.0, empty)

    distance = _distance(xp, a_rows, b_rows, width, height, finite)
    if kind == "diou":
        return distance

    (a_width, a_height), (b_width, b_height) = _aspect(xp, a_rows), _aspect(xp, b_rows)
    # atan(w₂ / h₂) − atan(w₁ / h₁) as the angle between two directions: one arctangent, and no digits cancel.
    turn = xp.atan2(b_width * a_height - a_width * b_height, a_height * b_height + a_width * b_width)
    # Not math.pi: torch.compile(dynamic=True) makes symbols of a module's numbers, and its loops refuse those.
    v = (4 / math.acos(-1) ** 2) * turn**2
    weight = (1 - iou) + v
    alpha = stop_gradient(divide(xp, xp.where(weight > 0, v, 0.0), xp.where(weight > 0, weight, 1.0)))
    return distance + xp.where(finite, alpha * v, 0.0)


class Given(NamedTuple):
    """Corners as given, their area, and 1 where all are finite."""

    x1: Array
    y1: Array
    x2: Array
    y2: Array
    area: Array
    finite: Array


def _given(boxes: Regions) -> Given:
    return Given(*rows_of(boxes.shape))


def _enclosing(xp: Namespace, a: Given, b: Given) -> tuple[Array, Array, Array]:
    """Width and height of C, and whether the corners of both boxes are finite."""
    width, height = xp.maximum(a.x2, b.x2) - xp.minimum(a.x1, b.x1), xp.maximum(a.y2, b.y2) - xp.minimum(a.y1, b.y1)
    zero = xp.zeros_like(width)
    return xp.maximum(width, zero), xp.maximum(height, zero), a.finite * b.finite > 0


def centre_distance(xp: Namespace, a: Regions, b: Regions) -> Array:
    """ρ² / c²; 0 where a corner is infinite or the enclosing box is a point beside ρ. Boxes ready for "diou"."""
    a_rows, b_rows = _given(a), _given(b)
    return _distance(xp, a_rows, b_rows, *_enclosing(xp, a_rows, b_rows))


def _distance(xp: Namespace, a: Given, b: Given, width: Array, height: Array, finite: Array) -> Array:
    # Differences before sums, which would round far from the origin.
    dx, dy = (a.x1 / 2 - b.x1 / 2) + (a.x2 / 2 - b.x2 / 2), (a.y1 / 2 - b.y1 / 2) + (a.y2 / 2 - b.y2 / 2)
    # ρ²/c² is the same in any unit; in that of the longest side no square over- or underflows.
    unit = stop_gradient(xp.maximum(xp.maximum(width, height), xp.maximum(xp.abs(dx), xp.abs(dy))))
    bounded = finite & (unit > 0) & (unit < math.inf)
    unit = xp.where(bounded, unit, 1.0)
    dx, dy = divide(xp, xp.where(bounded, dx, 0.0), unit), divide(xp, xp.where(bounded, dy, 0.0), unit)
    wide, high = divide(xp, xp.where(bounded, width, 0.0), unit), divide(xp, xp.where(bounded, height, 0.0), unit)
    diagonal = wide**2 + high**2
    # Not of points, nor of inverted boxes far larger than what encloses them; XLA takes subnormal numbers for 0.
    some = diagonal >= float(xp.finfo(diagonal.dtype).smallest_normal)
    return divide(xp, xp.where(some, dx**2 + dy**2, 0.0), xp.where(some, diagonal, 1.0))


def _aspect(xp: Namespace, boxes: Given) -> tuple[Array, Array]:
    """Width and height in the unit of the longer one; (0, 1) for a point."""
    width = xp.where(boxes.x2 > boxes.x1, boxes.x2 - boxes.x1, 0.0)
    height = xp.where(boxes.y2 > boxes.y1, boxes.y2 - boxes.y1, 0.0)
    # In this unit no product overflows, and w² + h², by which the gradient of the angle divides, is above 1.
    unit = stop_gradient(xp.maximum(width, height))
    some = (unit > 0) & (unit < math.inf)
    unit = xp.where(some, unit, 1.0)
    return divide(xp, xp.where(some, width, 0.0), unit), divide(xp, xp.where(some, height, 1.0), unit)


ALONG_AXES = Geometry(KINDS, ready, overlap, centre_distance, along_axes=True)

"""Formats and overlaps of axis-aligned 2D boxes.

Notation: a, b boxes; I their intersection, U = |a| + |b| − I, C their enclosing box.
"""

import math
from typing import Literal, NamedTuple, get_args

from .._array.division import divide
from .._array.mode import Mode
from .._array.namespace import Array, Namespace, rows_of, stop_gradient
from .._array.operators import PLAIN, Operators
from .geometry import SHARES, Geometry, Regions

BoxKind = Literal["iou", "iof", "ios", "giou", "diou", "ciou"]
KINDS: tuple[BoxKind, ...] = get_args(BoxKind)


def columns_of(boxes: Array) -> tuple[Array, Array, Array, Array]:
    """Return the four coordinates as separate arrays."""
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def corners_of(columns: tuple[Array, ...], fmt: str) -> tuple[Array, ...]:
    """Return the columns of a format as x1, y1, x2, y2."""
    a, b, c, d = columns
    if fmt == "xywh":
        return a, b, a + c, b + d
    if fmt == "cxcywh":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return (b, a, d, c) if fmt == "yxyx" else columns


def to_corners(mode: Mode, boxes: Array, *, fmt: str) -> Array:
    """Return axis-aligned boxes as xyxy."""
    return boxes if fmt == "xyxy" else mode.xp.stack(corners_of(columns_of(boxes), fmt), axis=-1)


def from_corners(corners: tuple[Array, ...], fmt: str, sides: tuple[Array, ...] | None) -> tuple[Array, ...]:
    """Return x1, y1, x2, y2 as columns of a format; `sides` are x2 − x1 and y2 − y1 if known more exactly."""
    x1, y1, x2, y2 = corners
    width, height = sides or (x2 - x1, y2 - y1)
    if fmt == "xywh":
        return x1, y1, width, height
    if fmt == "cxcywh":
        return (x1 + x2) / 2, (y1 + y2) / 2, width, height
    return (y1, x1, y2, x2) if fmt == "yxyx" else corners


def ready(xp: Namespace, boxes: Array, kind: str, fmt: str = "xyxy", look: bool = False) -> Regions:
    """Split boxes into columns on which `overlap` needs no case distinction.

    A box that overlaps nothing, because it has no area, an infinite area or a NaN, becomes the point (0, 0) with area
    1: it intersects nothing, and every union is positive and finite. So special cases are handled once per box instead
    of once per pair, and no gradient passes through an undefined expression. `look` allows reading values, to skip this
    if no box is special.
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
    """Tell which boxes, given by corners and area, can overlap another box."""
    proper = (x2 > x1) & (y2 > y1) & (area > 0)
    # With an infinite box, iof and ios may still have a finite denominator.
    return proper if kind in ("iof", "ios") else proper & (area < math.inf)


def overlap(xp: Namespace, a: Regions, b: Regions, kind: str, own: Operators = PLAIN) -> Array:
    """Overlap of boxes from `ready`, broadcast against each other."""
    a_columns, b_columns = a.columns, b.columns
    lower = xp.maximum(a_columns[:2, ...], b_columns[:2, ...])  # x and y together: half as many calls
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
    """I / |a|, or I over the smaller area; 0 if the denominator is infinite."""
    whole = (xp.minimum(a_area, b_area) if kind == "ios" else a_area) + xp.zeros_like(width)  # broadcast to the pairs
    # Disjoint infinite boxes would give inf · 0.
    some = (width > 0) & (height > 0) & (whole < math.inf)
    inter = xp.where(some, width, 0.0) * xp.where(some, height, 0.0)
    return divide(xp, inter, xp.where(some, whole, 1.0))


def _penalty(xp: Namespace, a: Regions, b: Regions, kind: str, iou: Array, inter: Array) -> Array:
    """The penalty of giou, diou and ciou, subtracted from iou; 0 if a corner is infinite or C is a point."""
    # Rows are indexed once: JAX's gradient of each indexing allocates an array of zeros as large as the whole.
    a_rows, b_rows = _given(a), _given(b)
    width, height, finite = _enclosing(xp, a_rows, b_rows)
    if kind == "giou":
        enclosing, union = width * height, a_rows.area + b_rows.area - inter
        bounded = finite & (enclosing > 0) & (enclosing < math.inf) & (union < math.inf)
        enclosing = xp.where(bounded, width, 1.0) * xp.where(bounded, height, 1.0)
        empty = divide(xp, enclosing - xp.where(bounded, union, 1.0), enclosing)
        # |C| overflows although U does not: U / |C| is 0.
        unbounded = finite & (width * height == math.inf) & (union < math.inf)
        return xp.where(unbounded, 1.0, empty)

    distance = _distance(xp, a_rows, b_rows, width, height, finite)
    if kind == "diou":
        return distance

    (a_width, a_height), (b_width, b_height) = _aspect(xp, a_rows), _aspect(xp, b_rows)
    # atan(w₂ / h₂) − atan(w₁ / h₁) as the angle between two directions: one arctangent, no cancellation.
    turn = xp.atan2(b_width * a_height - a_width * b_height, a_height * b_height + a_width * b_width)
    # Not math.pi: torch.compile(dynamic=True) makes symbols of a module's numbers, and its loops refuse those.
    v = (4 / math.acos(-1) ** 2) * turn**2
    weight = (1 - iou) + v
    alpha = stop_gradient(divide(xp, xp.where(weight > 0, v, 0.0), xp.where(weight > 0, weight, 1.0)))
    return distance + xp.where(finite, alpha * v, 0.0)


class Given(NamedTuple):
    """Corners as given, their area, and 1 if all are finite, else 0."""

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
    """ρ² / c² of boxes from `ready` for "diou"; 0 if a corner is infinite, or if c is 0 or negligible beside ρ."""
    a_rows, b_rows = _given(a), _given(b)
    return _distance(xp, a_rows, b_rows, *_enclosing(xp, a_rows, b_rows))


def _distance(xp: Namespace, a: Given, b: Given, width: Array, height: Array, finite: Array) -> Array:
    # Differences before sums: sums would be rounded far from the origin.
    dx, dy = (a.x1 / 2 - b.x1 / 2) + (a.x2 / 2 - b.x2 / 2), (a.y1 / 2 - b.y1 / 2) + (a.y2 / 2 - b.y2 / 2)
    # ρ²/c² does not depend on the unit; with the longest side as the unit, no square overflows or underflows.
    unit = stop_gradient(xp.maximum(xp.maximum(width, height), xp.maximum(xp.abs(dx), xp.abs(dy))))
    bounded = finite & (unit > 0) & (unit < math.inf)
    unit = xp.where(bounded, unit, 1.0)
    dx, dy = divide(xp, xp.where(bounded, dx, 0.0), unit), divide(xp, xp.where(bounded, dy, 0.0), unit)
    wide, high = divide(xp, xp.where(bounded, width, 0.0), unit), divide(xp, xp.where(bounded, height, 0.0), unit)
    diagonal = wide**2 + high**2
    # Not for points, nor for inverted boxes that are far larger than C. XLA treats subnormal numbers as 0.
    some = diagonal >= float(xp.finfo(diagonal.dtype).smallest_normal)
    return divide(xp, xp.where(some, dx**2 + dy**2, 0.0), xp.where(some, diagonal, 1.0))


def _aspect(xp: Namespace, boxes: Given) -> tuple[Array, Array]:
    """Width and height in the unit of the longer one; (0, 1) for a point."""
    width = xp.where(boxes.x2 > boxes.x1, boxes.x2 - boxes.x1, 0.0)
    height = xp.where(boxes.y2 > boxes.y1, boxes.y2 - boxes.y1, 0.0)
    # In this unit no product overflows, and w² + h², the divisor in the gradient of the angle, is at least 1.
    unit = stop_gradient(xp.maximum(width, height))
    some = (unit > 0) & (unit < math.inf)
    unit = xp.where(some, unit, 1.0)
    return divide(xp, xp.where(some, width, 0.0), unit), divide(xp, xp.where(some, height, 1.0), unit)


ALONG_AXES = Geometry(KINDS, ready, overlap, centre_distance, along_axes=True)

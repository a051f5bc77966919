"""Regions of any format: which numbers describe one, and how much two of them share.

A format names the numbers, a geometry the shapes that they describe. Regions are made ready as rows: an envelope along
the axes and the size, by which pairs that may overlap are found, and the rows that an intersection is computed from.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from .._array.division import divide
from .._array.integers import largest_exact, may_be_rounded
from .._array.mode import Mode
from .._array.namespace import Array, DType, Namespace, cast, rows_of, stop_gradient
from . import polygons, rotated

# Kinds of overlap that need a size and an intersection alone.
SHARES = ("iou", "iof", "ios")


class Geometry(NamedTuple):
    """Shapes of one sort: how they are made ready, what two share, and the kinds of overlap there are."""

    ready: Callable[[Namespace, Array, str], "Regions"]
    intersection: Callable[[Namespace, Array, Array], Array]
    kinds: tuple[str, ...]


class Format(NamedTuple):
    """What the trailing axes of an array hold; None for any number."""

    geometry: str
    shape: tuple[int | None, ...]


FORMATS = {
    **dict.fromkeys(("xyxy", "xywh", "cxcywh", "yxyx"), Format("box", (4,))),
    **dict.fromkeys(("cxcywhr", "xywhr"), Format("rotated", (5,))),
    "xyxyxyxy": Format("polygon", (8,)),
    "polygon": Format("polygon", (None, 2)),
    "segment": Format("block", (2,)),
    "xyzxyz": Format("block", (6,)),
    "cxcyczwhdr": Format("turned block", (7,)),
}


def check_fmt(name: str, fmt: str) -> None:
    """Raise ValueError unless `fmt` is the name of a format."""
    if not isinstance(fmt, str) or fmt not in FORMATS:
        raise ValueError(f"{name} must be one of {', '.join(FORMATS)}, got {fmt!r}")


def shape_of(fmt: str) -> str:
    """Return the trailing axes of a format in words."""
    return ", ".join("V" if n is None else str(n) for n in FORMATS[fmt].shape)


def check_regions(name: str, regions: Array, fmt: str) -> None:
    """Raise ValueError unless the trailing axes of an array hold what a format says."""
    shape, got = FORMATS[fmt].shape, tuple(regions.shape)
    tail = got[-len(shape) :]
    if len(tail) < len(shape) or any(want not in (None, n) for want, n in zip(shape, tail, strict=True)):
        others = [repr(other) for other, of in FORMATS.items() if of.shape == got[-1:] != shape]
        hint = f"; {got[-1]} numbers are fmt={' or '.join(others)}" if others else ""
        beside = "" if fmt == "xyxy" else f" for fmt={fmt!r}"
        raise ValueError(f"{name} must have shape (..., {shape_of(fmt)}){beside}, got {got}{hint}")
    if fmt == "polygon" and tail[0] < 3:
        raise ValueError(f"{name} must have 3 vertices or more, shape (..., V, 2) for fmt='polygon', got {got}")


def check_held(mode: Mode, name: str, regions: Array, fmt: str, dtype: DType) -> None:
    """Raise ValueError if a floating dtype does not hold integers, which other formats than xyxy are made; if known."""
    xp = mode.xp
    if not (mode.known and (mode.at_hand or mode.fused)) or not may_be_rounded(xp, regions, dtype):
        return
    limit = largest_exact(xp, dtype)
    largest = float(xp.max(xp.abs(cast(xp, regions, dtype)))) if 0 not in regions.shape else 0.0
    if largest > limit:
        raise ValueError(
            f"{name} must hold integers up to {limit:.0f} for fmt={fmt!r}, which is computed in {dtype}, got "
            f"{largest:.6g}; subtract an offset, or pass floats to have them rounded"
        )


def flat(xp: Namespace, regions: Array, fmt: str) -> Array:
    """Return regions with all their numbers along the last axis."""
    return xp.reshape(regions, (*regions.shape[:-2], 2 * regions.shape[-2])) if fmt == "polygon" else regions


class Regions(NamedTuple):
    """Regions as rows, in any shapes that broadcast. One that overlaps nothing is a point at 0 of size 1."""

    columns: Array  # (5, ...): x1, y1, x2, y2 of the envelope, and the size: length, area or volume
    shape: Array  # what the intersection is computed from

    def map(self, function: Callable[[Array], Array]) -> "Regions":
        """Return these regions with a function of the trailing axes applied."""
        return Regions(function(self.columns), function(self.shape))


def canonical(xp: Namespace, regions: Array, fmt: str) -> Regions:
    """Return regions as rows; those without size, with an infinite one or a NaN overlap nothing."""
    return GEOMETRIES[FORMATS[fmt].geometry].ready(xp, regions, fmt)


def overlap(xp: Namespace, a: Regions, b: Regions, kind: str, geometry: str) -> Array:
    """Overlap of canonical regions, broadcast against each other."""
    if kind == "probiou":
        points = [x.columns[2, ...] <= x.columns[0, ...] for x in (a, b)]
        # Any sides do for those without: no gradient may pass through an undefined expression.
        boxes = (xp.where(point, 1.0, x.shape) for point, x in zip(points, (a, b), strict=True))
        return xp.where(points[0] | points[1], 0.0, rotated.gaussian_similarity(xp, *boxes))
    a_size, b_size = a.columns[4, ...], b.columns[4, ...]
    smaller = xp.minimum(a_size, b_size)
    shared = GEOMETRIES[geometry].intersection(xp, a.shape, b.shape)
    shared = xp.minimum(xp.maximum(shared, xp.zeros_like(shared)), smaller)  # against rounding
    if kind in ("iof", "ios"):
        return divide(xp, shared, (smaller if kind == "ios" else a_size) + xp.zeros_like(shared))
    union = a_size + (b_size - shared)
    iou = divide(xp, shared, union)
    return iou if kind == "iou" else iou - _penalty(xp, a.shape, b.shape, kind, shared)


def rows_first(xp: Namespace, regions: Array) -> Array:
    """Return regions (..., numbers) as rows (numbers, ...)."""
    return xp.permute_dims(regions, (regions.ndim - 1, *range(regions.ndim - 1)))


def _finite(xp: Namespace, rows: Array) -> Array:
    """Numbers with the rows of regions that have an infinite one or a NaN set to 0."""
    return xp.where(xp.all(xp.isfinite(rows), axis=0), rows, 0.0)


def _regions(xp: Namespace, low: Array, high: Array, size: Array, shape: Array) -> Regions:
    """Regions with envelopes (2, ...), those without a finite size as points."""
    proper = (size > 0) & (size < math.inf)
    low, high, shape = (xp.where(proper, x, 0.0) for x in (low, high, shape))
    size = xp.where(proper, size, xp.ones_like(size))
    return Regions(xp.concat((low, high, size[None, ...])), shape)


# Rotated boxes, and blocks turned about the vertical axis.


def _ready_rotated(xp: Namespace, regions: Array, fmt: str) -> Regions:
    rows = _finite(xp, rows_first(xp, regions))
    if fmt == "xywhr":
        rows = xp.concat((rotated.centre_from_corner(xp, rows), rows[2:, ...]))
    upright: tuple[Array, ...] = ()
    if fmt == "cxcyczwhdr":
        x, y, z, width, height, depth, angle = rows_of(rows)
        rows, upright = xp.stack((x, y, width, height, angle)), (z, depth)
    sides = (rows[2, ...], rows[3, ...], *upright[1:])
    size = sides[0] * sides[1] * (sides[2] if upright else 1)
    for side in sides:
        size = xp.where(side > 0, size, 0.0)
    reach = rotated.reach(xp, rows)
    shape = xp.concat((rows, xp.stack(upright))) if upright else rows
    return _regions(xp, rows[:2, ...] - reach, rows[:2, ...] + reach, size, shape)


def _shared_turned(xp: Namespace, a: Array, b: Array) -> Array:
    """Area of the bases that two turned blocks share, times the height."""
    base = rotated.intersection(xp, a[:5, ...], b[:5, ...])
    apart, p, q = a[5, ...] - b[5, ...], a[6, ...] / 2, b[6, ...] / 2
    height = xp.minimum(apart + p, q) - xp.maximum(apart - p, -q)
    return base * xp.maximum(height, xp.zeros_like(height))


# Polygons.


def _ready_polygons(xp: Namespace, regions: Array, _fmt: str) -> Regions:
    points = _finite(xp, rows_first(xp, regions))
    points = xp.reshape(points, (points.shape[0] // 2, 2, *points.shape[1:]))
    first = points[0, ...]
    x, y = points[:, 0, ...] - first[0, ...], points[:, 1, ...] - first[1, ...]
    area = polygons.signed_area(xp, x, y)
    shape = xp.concat((x, y, first, xp.where(area < 0, -1.0, xp.ones_like(area))[None, ...]))
    return _regions(xp, xp.min(points, axis=0), xp.max(points, axis=0), xp.abs(area), shape)


# Segments and blocks along the axes: lower and upper ends (2d, ...), the same as given, size, and 1 where it is finite.


def _ready_blocks(xp: Namespace, regions: Array, _fmt: str) -> Regions:
    rows = rows_first(xp, regions)
    finite = xp.all(xp.isfinite(rows), axis=0)
    rows = xp.where(finite, rows, 0.0)
    low, high = _ends(rows)
    size = _volume(xp, high - low)
    plane = min(low.shape[0], 2)
    envelope_low, envelope_high = low[:plane, ...], high[:plane, ...]
    if plane == 1:  # segments all lie in one strip
        envelope_low = xp.concat((envelope_low, xp.zeros_like(envelope_low)))
        envelope_high = xp.concat((envelope_high, xp.ones_like(envelope_high)))
    found = _regions(xp, envelope_low, envelope_high, size, rows)
    # Beside them as they were given, for the kinds with an enclosing block.
    bounded = xp.astype(finite & (size < math.inf), size.dtype)
    return found._replace(shape=xp.concat((found.shape, rows, xp.stack((size, bounded)))))


def _volume(xp: Namespace, sides: Array) -> Array:
    """Product of sides, 0 if one is not positive."""
    return xp.prod(xp.where(xp.all(sides > 0, axis=0), sides, 0.0), axis=0)


def _ends(rows: Array) -> tuple[Array, Array]:
    d = rows.shape[0] // 2
    return rows[:d, ...], rows[d:, ...]


def _shared_blocks(xp: Namespace, a: Array, b: Array) -> Array:
    (a_low, a_high), (b_low, b_high) = (_ends(x[: x.shape[0] // 2 - 1, ...]) for x in (a, b))
    sides = xp.minimum(a_high, b_high) - xp.maximum(a_low, b_low)
    return xp.prod(xp.maximum(sides, xp.zeros_like(sides)), axis=0)


def _penalty(xp: Namespace, a: Array, b: Array, kind: str, shared: Array) -> Array:
    """What giou and diou subtract from iou, of blocks; 0 where an end is infinite or the enclosing block is a point."""
    (a_low, a_high), (b_low, b_high) = (_ends(x[x.shape[0] // 2 - 1 : -2, ...]) for x in (a, b))
    sides = xp.maximum(a_high, b_high) - xp.minimum(a_low, b_low)
    sides, bounded = xp.maximum(sides, xp.zeros_like(sides)), (a[-1, ...] * b[-1, ...]) > 0
    if kind == "giou":
        enclosing, union = xp.prod(sides, axis=0), a[-2, ...] + (b[-2, ...] - shared)
        some = bounded & (enclosing > 0) & (enclosing < math.inf)
        enclosing = xp.where(some, enclosing, 1.0)
        return divide(xp, xp.where(some, enclosing - union, 0.0), enclosing)
    apart = (a_low / 2 - b_low / 2) + (a_high / 2 - b_high / 2)
    unit = stop_gradient(xp.maximum(xp.max(sides, axis=0), xp.max(xp.abs(apart), axis=0)))
    some = bounded & (unit > 0) & (unit < math.inf)
    sides, apart = (divide(xp, xp.where(some, x, 0.0), xp.where(some, unit, 1.0)) for x in (sides, apart))
    diagonal = xp.sum(sides**2, axis=0)
    some = diagonal >= float(xp.finfo(diagonal.dtype).smallest_normal)
    return divide(xp, xp.where(some, xp.sum(apart**2, axis=0), 0.0), xp.where(some, diagonal, 1.0))


GEOMETRIES = {
    "rotated": Geometry(_ready_rotated, rotated.intersection, (*SHARES, "probiou")),
    "polygon": Geometry(_ready_polygons, polygons.intersection, SHARES),
    "block": Geometry(_ready_blocks, _shared_blocks, (*SHARES, "giou", "diou")),
    "turned block": Geometry(_ready_rotated, _shared_turned, SHARES),
}


def size(xp: Namespace, regions: Array, fmt: str) -> Array:
    """Length, area or volume of regions as given: 0 if a side is negative, NaN if a number is."""
    rows = rows_first(xp, regions)
    nan = xp.any(xp.isnan(rows), axis=0)
    geometry = FORMATS[fmt].geometry
    if geometry == "polygon":
        x, y = rows[::2, ...], rows[1::2, ...]
        found = xp.abs(polygons.signed_area(xp, x - x[0, ...], y - y[0, ...]))
    else:
        if geometry == "block":
            low, high = _ends(rows)
            sides = xp.where(high > low, high - low, 0.0)
        elif geometry == "box":  # with a centre or a corner
            sides = rows[2:, ...]
        else:
            sides = xp.maximum(
                rows[2:-1, ...] if geometry == "rotated" else rows[3:-1, ...], xp.zeros_like(rows[:1, ...])
            )
        # A side of 0 beside an infinite one makes no area.
        found = xp.prod(xp.where(xp.all(sides > 0, axis=0), sides, 0.0), axis=0)
    return xp.where(nan, math.nan, found)


# --- one format as another -------------------------------------------------------------------------------------------

PLANE = ("xyxy", "xywh", "cxcywh", "yxyx")
ROTATED = ("cxcywhr", "xywhr")
AROUND = ("xyxyxyxy", "polygon")


def can_convert(in_fmt: str, out_fmt: str) -> bool:
    """Whether regions of one format have a counterpart in the other."""
    groups = ((*PLANE, *ROTATED, *AROUND), ("segment",), ("xyzxyz", "cxcyczwhdr"))
    return any(in_fmt in group and out_fmt in group for group in groups)


def convert(xp: Namespace, regions: Array, in_fmt: str, out_fmt: str) -> Array:
    """Regions as rows (..., numbers) of another format, of xyxy for those along the axes."""
    rows = rows_first(xp, regions)
    if out_fmt in PLANE:
        found = _envelope(xp, rows, in_fmt)
    elif out_fmt == "xyzxyz":
        x, y, z, width, height, depth, angle = rows_of(rows)
        low, high = _ends(_envelope(xp, xp.stack((x, y, width, height, angle)), "cxcywhr"))
        found = xp.concat((low, (z - depth / 2)[None, ...], high, (z + depth / 2)[None, ...]))
    elif out_fmt == "cxcyczwhdr":
        low, high = _ends(rows)
        found = xp.concat((low / 2 + high / 2, high - low, xp.zeros_like(rows[:1, ...])))
    elif out_fmt in ROTATED:
        found = _rotated(xp, rows, in_fmt)
        if out_fmt == "xywhr":
            found = xp.concat((rotated.corner_from_centre(xp, found), found[2:, ...]))
    else:
        found = rows
        if in_fmt not in AROUND:
            corners = rotated.corners(xp, _rotated(xp, rows, in_fmt))
            found = xp.reshape(corners, (8, *corners.shape[2:]))
    return xp.permute_dims(found, (*range(1, found.ndim), 0))


def _envelope(xp: Namespace, rows: Array, fmt: str) -> Array:
    """The smallest boxes along the axes (4, ...) that hold regions."""
    if fmt == "xyxy":
        return rows
    if fmt in ROTATED:
        corners = rotated.corners(xp, _rotated(xp, rows, fmt))
    else:
        corners = xp.reshape(rows, (rows.shape[0] // 2, 2, *rows.shape[1:]))
    return xp.concat((xp.min(corners, axis=0), xp.max(corners, axis=0)))


def _rotated(xp: Namespace, rows: Array, fmt: str) -> Array:
    """Regions as rows of "cxcywhr", those with corners around by their first three corners."""
    if fmt == "cxcywhr":
        return rows
    if fmt == "xywhr":
        return xp.concat((rotated.centre_from_corner(xp, rows), rows[2:, ...]))
    if fmt == "xyxy":
        low, high = _ends(rows)
        return xp.concat((low / 2 + high / 2, high - low, xp.zeros_like(rows[:1, ...])))
    x1, y1, x2, y2, x3, y3 = rows_of(rows[:6, ...])
    width, height = xp.hypot(x2 - x1, y2 - y1), xp.hypot(x3 - x2, y3 - y2)
    angle = xp.atan2(y1 - y2, x2 - x1) * (180 / math.pi)
    return xp.stack((x1 / 2 + x3 / 2, y1 / 2 + y3 / 2, width, height, angle))

"""Regions of any format: the numbers that describe a region, and the intersection of two regions.

A format defines the numbers, a geometry the shapes that they describe. Regions are prepared as rows: the axis-aligned
envelope and the size, to find pairs that may overlap, and rows for computing an overlap.
"""

import math
from typing import Literal, NamedTuple, get_args

from .._array.integers import check_held
from .._array.mode import Mode
from .._array.namespace import Array, DType, Namespace, rows_of
from .._array.operators import PLAIN, Operators
from . import aligned, blocks, polygons, rotated
from .geometry import Geometry, Regions, rows_first


class Format(NamedTuple):
    """The geometry of a format, and the lengths of the trailing axes, None for any length."""

    geometry: Geometry
    shape: tuple[int | None, ...]


RegionFormat = Literal[
    "xyxy", "xywh", "cxcywh", "yxyx", "cxcywhr", "xywhr", "xyxyxyxy", "polygon", "segment", "xyzxyz", "cxcyczwhdr"
]
OverlapKind = Literal["iou", "iof", "ios", "giou", "diou", "ciou", "probiou"]
FORMATS = {
    **dict.fromkeys(("xyxy", "xywh", "cxcywh", "yxyx"), Format(aligned.ALONG_AXES, (4,))),
    **dict.fromkeys(("cxcywhr", "xywhr"), Format(rotated.TURNED_BOXES, (5,))),
    "xyxyxyxy": Format(polygons.POLYGONS, (8,)),
    "polygon": Format(polygons.POLYGONS, (None, 2)),
    "segment": Format(blocks.BLOCKS, (2,)),
    "xyzxyz": Format(blocks.BLOCKS, (6,)),
    "cxcyczwhdr": Format(rotated.TURNED_BLOCKS, (7,)),
}


def check_fmt(name: str, fmt: str) -> None:
    """Raise ValueError unless `fmt` is the name of a format."""
    if not isinstance(fmt, str) or fmt not in FORMATS:
        raise ValueError(f"{name} must be one of {', '.join(FORMATS)}, got {fmt!r}")


def check_kind(kind: str, known: tuple[str, ...], fmt: str | None = None) -> None:
    """Raise ValueError unless `kind` is one of `known`, the kinds of overlap that an op or a format has."""
    if not isinstance(kind, str) or kind not in known:
        beside = "" if fmt is None else f" for fmt={fmt!r}"
        raise ValueError(f"kind must be one of {', '.join(known)}{beside}, got {kind!r}")


def shape_of(fmt: str) -> str:
    """Return the trailing axes of a format in words."""
    return ", ".join("V" if n is None else str(n) for n in FORMATS[fmt].shape)


def check_regions(name: str, regions: Array, fmt: str) -> None:
    """Raise ValueError unless the trailing axes of an array fit a format."""
    shape, got = FORMATS[fmt].shape, tuple(regions.shape)
    tail = got[-len(shape) :]
    fits = tail == shape or (
        len(tail) == len(shape) and all(want is None or want == n for want, n in zip(shape, tail, strict=True))
    )
    if not fits:
        others = [repr(other) for other, of in FORMATS.items() if of.shape == got[-1:] != shape]
        hint = f"; {got[-1]} numbers are fmt={' or '.join(others)}" if others else ""
        if len(got) > 2 and got[-1] == 2:
            hint = "; vertices (V, 2) are fmt='polygon'"
        beside = "" if fmt == "xyxy" else f" for fmt={fmt!r}"
        raise ValueError(f"{name} must have shape (..., {shape_of(fmt)}){beside}, got {got}{hint}")
    if fmt == "polygon" and tail[0] < 3:
        raise ValueError(f"{name} must have 3 vertices or more, shape (..., V, 2) for fmt='polygon', got {got}")


# Formats with sides: the corners are exact in a float if the numbers are exact and smaller by this factor.
SMALLER = {"xywh": 2, "cxcywh": 4}


def check_corners_held(mode: Mode, name: str, regions: Array, dtype: DType, fmt: str) -> None:
    """Raise ValueError if a floating dtype does not represent integers and their corners; needs known values."""
    check_held(mode, name, regions, dtype, f" for fmt={fmt!r}", SMALLER.get(fmt, 1))


def flat(xp: Namespace, regions: Array, fmt: str) -> Array:
    """Return regions with all their numbers along the last axis."""
    return xp.reshape(regions, (*regions.shape[:-2], 2 * regions.shape[-2])) if fmt == "polygon" else regions


class Measure(NamedTuple):
    """A kind of overlap of the regions of a format."""

    kind: str = "iou"
    fmt: str = "xyxy"

    @property
    def geometry(self) -> Geometry:
        """The class of shapes that the format describes."""
        return FORMATS[self.fmt].geometry

    def check(self) -> None:
        """Raise ValueError unless the format is known and has this kind of overlap."""
        check_fmt("fmt", self.fmt)
        check_kind(self.kind, FORMATS[self.fmt].geometry.kinds, self.fmt)


def ready(xp: Namespace, regions: Array, measure: Measure, *, look: bool = False) -> Regions:
    """Return regions as rows; regions with an infinite or NaN number, or without size, overlap nothing."""
    return measure.geometry.ready(xp, regions, measure.kind, measure.fmt, look)


def overlap(xp: Namespace, a: Regions, b: Regions, measure: Measure, own: Operators = PLAIN) -> Array:
    """Overlap of regions from `ready`, broadcast against each other."""
    return measure.geometry.overlap(xp, a, b, measure.kind, own)


def distance(xp: Namespace, a: Regions, b: Regions, measure: Measure) -> Array:
    """ρ² / c², squared centre distance over squared diagonal of C, of regions prepared for "diou"."""
    assert measure.geometry.distance is not None
    return measure.geometry.distance(xp, a, b)


def with_envelopes(xp: Namespace, regions: Regions, measure: Measure, threshold: Array | float) -> Regions:
    """Return regions with envelopes that intersect for every pair whose overlap is above a threshold."""
    return rotated.gaussian_envelopes(xp, regions, threshold) if measure.kind == "probiou" else regions


def size(xp: Namespace, regions: Array, fmt: str) -> Array:
    """Length, area or volume of regions as given: 0 if a side is negative, NaN if a number is."""
    rows = rows_first(xp, regions)
    nan = xp.any(xp.isnan(rows), axis=0)
    geometry = FORMATS[fmt].geometry
    if geometry is polygons.POLYGONS:
        found = polygons.area(xp, rows)
    else:
        if geometry is blocks.BLOCKS:
            low, high = blocks.ends(rows)
            sides = xp.where(high > low, high - low, 0.0)
        elif geometry is aligned.ALONG_AXES:  # with a centre or a corner
            sides = rows[2:, ...]
        else:
            sides = xp.maximum(
                rows[2:-1, ...] if geometry is rotated.TURNED_BOXES else rows[3:-1, ...], xp.zeros_like(rows[:1, ...])
            )
        # A side of 0 and an infinite side give size 0.
        found = xp.prod(xp.where(xp.all(sides > 0, axis=0), sides, 0.0), axis=0)
    return xp.where(nan, math.nan, found)


# --- one format as another -------------------------------------------------------------------------------------------

PlaneFormat = Literal["xyxy", "xywh", "cxcywh", "yxyx"]
PLANE: tuple[PlaneFormat, ...] = get_args(PlaneFormat)
ROTATED = ("cxcywhr", "xywhr")
AROUND = ("xyxyxyxy", "polygon")


def can_convert(in_fmt: str, out_fmt: str) -> bool:
    """Whether regions of one format have a counterpart in the other."""
    groups = ((*PLANE, *ROTATED, *AROUND), ("segment",), ("xyzxyz", "cxcyczwhdr"))
    return any(in_fmt in group and out_fmt in group for group in groups)


def convert(xp: Namespace, regions: Array, in_fmt: str, out_fmt: str) -> Array:
    """Regions (..., numbers) in another format; "xyxy" stands for every axis-aligned 2D format."""
    rows = rows_first(xp, regions)
    if out_fmt in PLANE:
        found = _envelope(xp, rows, in_fmt)
    elif out_fmt == "xyzxyz":
        x, y, z, width, height, depth, angle = rows_of(rows)
        low, high = blocks.ends(_envelope(xp, xp.stack((x, y, width, height, angle)), "cxcywhr"))
        found = xp.concat((low, (z - depth / 2)[None, ...], high, (z + depth / 2)[None, ...]))
    elif out_fmt == "cxcyczwhdr":
        low, high = blocks.ends(rows)
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
    """The smallest axis-aligned boxes (4, ...) that contain regions."""
    if fmt == "xyxy":
        return rows
    if fmt in ROTATED:
        corners = rotated.corners(xp, _rotated(xp, rows, fmt))
    else:
        corners = xp.reshape(rows, (rows.shape[0] // 2, 2, *rows.shape[1:]))
    return xp.concat((xp.min(corners, axis=0), xp.max(corners, axis=0)))


def _rotated(xp: Namespace, rows: Array, fmt: str) -> Array:
    """Regions as rows of "cxcywhr"; corners and polygons by their first three corners."""
    if fmt == "cxcywhr":
        return rows
    if fmt == "xywhr":
        return xp.concat((rotated.centre_from_corner(xp, rows), rows[2:, ...]))
    if fmt == "xyxy":
        low, high = blocks.ends(rows)
        return xp.concat((low / 2 + high / 2, high - low, xp.zeros_like(rows[:1, ...])))
    x1, y1, x2, y2, x3, y3 = rows_of(rows[:6, ...])
    width, height = xp.hypot(x2 - x1, y2 - y1), xp.hypot(x3 - x2, y3 - y2)
    angle = xp.atan2(y1 - y2, x2 - x1) * (180 / math.pi)
    return xp.stack((x1 / 2 + x3 / 2, y1 / 2 + y3 / 2, width, height, angle))

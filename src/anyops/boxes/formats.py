"""Box formats and areas, and the boxes of masks."""

import math

from .._array.arguments import check_number
from .._array.integers import check_held
from .._array.mode import Mode, mode_of, sized_mode_of
from .._array.namespace import (
    A,
    Array,
    DType,
    Namespace,
    cast,
    check_dtype,
    compute_dtype,
    default_float,
    default_int,
    device,
    result_dtype,
)
from .._array.nearest import less
from .._array.rows import scan_rows
from .._array.support import Kind, op
from .aligned import columns_of, corners_of, from_corners, to_corners
from .regions import (
    AROUND,
    FORMATS,
    PLANE,
    ROTATED,
    RegionFormat,
    can_convert,
    check_fmt,
    check_regions,
    convert,
    flat,
    size,
)

# Pixels of masks that are converted to bools, or to numbers for a matrix product, at a time.
PIXELS = 1 << 22


def check_boxes(name: str, boxes: Array) -> None:
    """Raise ValueError unless `boxes` has four coordinates along its last axis."""
    if boxes.ndim == 0 or boxes.shape[-1] != 4:
        raise ValueError(f"{name} must have shape (..., 4), got {tuple(boxes.shape)}")


@op(Kind.VALUES)
def box_area(boxes: A, *, fmt: RegionFormat = "xyxy") -> A:
    """Area (x2 − x1)·(y2 − y1) of xyxy boxes, with sides clamped at 0; area, length or volume of other regions.

    Parameters
    ----------
    boxes : array (..., 4)
        Floating or integer; integers are subtracted as integers, and give the namespace's default float; 16-bit floats
        are computed in float32. With another `fmt`, its numbers instead of 4.
    fmt : str
        See :func:`box_convert`.

    Returns
    -------
    array (...)
        NaN where a coordinate is NaN; 0 for inverted boxes. If edges of a polygon cross, each part counts as often as
        the polygon winds around it, with opposite signs for opposite directions.

    Raises
    ------
    ValueError
        If `fmt` is unknown, or the last axis does not have its length.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> anyops.box_area(np.asarray([[0, 0, 10, 5], [3, 3, 1, 9]]))
    array([50.,  0.])
    >>> float(anyops.box_area(np.asarray([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]), fmt="polygon"))
    6.0
    """
    mode = mode_of(boxes=boxes)
    xp = mode.xp
    check_fmt("fmt", fmt)
    check_regions("boxes", boxes, fmt)
    dtype = result_dtype(xp, boxes=boxes)
    boxes, fmt = as_xyxy(mode, flat(xp, boxes, fmt), fmt)
    if fmt != "xyxy":
        check_held(mode, "boxes", boxes, compute_dtype(xp, dtype), f" for fmt={fmt!r}")
    return mode.run(_area, boxes, fmt=fmt, dtype=dtype)


def _area(mode: Mode, boxes: Array, *, fmt: str, dtype: DType) -> Array:
    xp, wide = mode.xp, compute_dtype(mode.xp, dtype)
    if fmt != "xyxy":
        return cast(xp, size(xp, cast(xp, boxes, wide), fmt), dtype)
    if xp.isdtype(boxes.dtype, "integral"):
        x1, y1, x2, y2 = columns_of(boxes)
        width, height = (less(xp, stop, start, wide) for stop, start in ((x2, x1), (y2, y1)))
        return cast(xp, xp.where((width > 0) & (height > 0), width * height, 0.0), dtype)
    x1, y1, x2, y2 = columns_of(cast(xp, boxes, wide))
    proper = (x2 > x1) & (y2 > y1)  # also keeps inf − inf and inf · 0 out of the product
    width = xp.where(proper, x2, 0.0) - xp.where(proper, x1, 0.0)
    height = xp.where(proper, y2, 0.0) - xp.where(proper, y1, 0.0)
    nan = xp.isnan(x1) | xp.isnan(y1) | xp.isnan(x2) | xp.isnan(y2)
    return cast(xp, xp.where(nan, math.nan, width * height), dtype)


@op(Kind.VALUES)
def box_convert(boxes: A, in_fmt: RegionFormat, out_fmt: RegionFormat) -> A:
    """Convert boxes, or other regions, to another format.

    ==========  ==================================================================================
    xyxy        corners; "yxyx" with y first
    xywh        corner and size
    cxcywh      centre and size
    cxcywhr     centre, size, and degrees, counter-clockwise as seen in an image: the axes of the box are (cos, −sin)
                and (sin, cos)
    xywhr       the corner that is top left at 0 degrees, size, degrees: as in torchvision [1]_
    xyxyxyxy    four corners, clockwise or counter-clockwise
    polygon     (..., V, 2): V vertices, clockwise or counter-clockwise; to pad a polygon to V, repeat a vertex
    segment     start, end
    xyzxyz      corners in space
    cxcyczwhdr  centre and size in space, and degrees about the vertical axis, z
    ==========  ==================================================================================

    Parameters
    ----------
    boxes : array (..., 4)
        Floating or integer; integers are subtracted as integers, and give the namespace's default float. With another
        `in_fmt`, its numbers instead of 4.
    in_fmt, out_fmt : str
        Both 2D, both 3D, or both "segment". An axis-aligned format gets the smallest box that contains the region.
        "xyxyxyxy" and "polygon" become rotated boxes by their first three corners, taken as corners of a rectangle. A
        box with a negative side has no area, and keeps this side if `out_fmt` has sides. If it would get an area (from
        its corners, or as the envelope of a rotated box), it becomes a point, its centre.

    Returns
    -------
    array (..., 4), or the shape of `out_fmt`
        A new array, or `boxes` itself if the formats are equal.

    Raises
    ------
    ValueError
        If a format is unknown, the last axis does not have its length, or one format cannot be converted to the other.

    References
    ----------
    .. [1] torchvision 0.29, ``ops.box_convert``: "xywhr" has the corner c − w/2·(cos, −sin) − h/2·(sin, cos).

    Examples
    --------
    >>> import numpy as np, anyops
    >>> anyops.box_convert(np.asarray([10.0, 20.0, 30.0, 60.0]), "xyxy", "cxcywh")
    array([20., 40., 20., 40.])
    >>> anyops.box_convert(np.asarray([0.0, 0.0, 4.0, 2.0, 90.0]), "cxcywhr", "xyxy").round(6) + 0.0
    array([-1., -2.,  1.,  2.])
    """
    mode = sized_mode_of(boxes=boxes)
    xp = mode.xp
    for name, fmt in (("in_fmt", in_fmt), ("out_fmt", out_fmt)):
        check_fmt(name, fmt)
    check_regions("boxes", boxes, in_fmt)
    if not can_convert(in_fmt, out_fmt):
        known = ", ".join(fmt for fmt in FORMATS if can_convert(in_fmt, fmt))
        raise ValueError(f"out_fmt must be one of {known} for in_fmt={in_fmt!r}, got {out_fmt!r}")
    dtype = result_dtype(xp, boxes=boxes)
    if in_fmt == out_fmt:
        return cast(xp, boxes, dtype)
    if out_fmt == "xyxyxyxy" and in_fmt == "polygon" and boxes.shape[-2] != 4:
        raise ValueError(f"boxes must have 4 vertices for out_fmt='xyxyxyxy', got {tuple(boxes.shape)}")
    kernel = _convert if {in_fmt, out_fmt} <= set(PLANE) else _convert_regions
    made = mode.run(kernel, flat(xp, boxes, in_fmt), in_fmt=in_fmt, out_fmt=out_fmt, dtype=dtype)
    return xp.reshape(made, (*made.shape[:-1], made.shape[-1] // 2, 2)) if out_fmt == "polygon" else made


def _convert_regions(mode: Mode, boxes: Array, *, in_fmt: str, out_fmt: str, dtype: DType) -> Array:
    xp, wide = mode.xp, compute_dtype(mode.xp, dtype)
    if in_fmt in PLANE and out_fmt in ROTATED:  # with angle 0 and unchanged sides
        plane = out_fmt.removesuffix("r")
        made = boxes if in_fmt == plane else _convert(mode, boxes, in_fmt=in_fmt, out_fmt=plane, dtype=wide)
        made = cast(xp, made, dtype)
        return xp.concat((made, xp.zeros_like(made[..., :1])), axis=-1)
    axes, origin, sides = 3 if in_fmt == "xyzxyz" else 2, None, None
    if in_fmt in (*AROUND, "xyzxyz") and xp.isdtype(boxes.dtype, "integral"):  # relative to each first corner
        origin = boxes[..., :axes]
        boxes = less(xp, boxes, xp.tile(origin, (*(1,) * (boxes.ndim - 1), boxes.shape[-1] // axes)), wide)
    boxes = cast(xp, boxes, wide)
    if in_fmt in PLANE:
        boxes, in_fmt = to_corners(mode, boxes, fmt=in_fmt), "xyxy"
    made = convert(xp, boxes, in_fmt, out_fmt)
    if origin is not None:
        places = axes if out_fmt in (*ROTATED, "cxcyczwhdr") else made.shape[-1]
        there = xp.tile(cast(xp, origin, wide), (*(1,) * (boxes.ndim - 1), places // axes))
        if out_fmt in PLANE:
            x1, y1, x2, y2 = columns_of(made)
            sides = x2 - x1, y2 - y1
        made = xp.concat((made[..., :places] + there, made[..., places:]), axis=-1)
    if out_fmt in PLANE:
        made = xp.stack(from_corners(columns_of(made), out_fmt, sides), axis=-1)
    return cast(xp, made, dtype)


def _convert(mode: Mode, boxes: Array, *, in_fmt: str, out_fmt: str, dtype: DType) -> Array:
    xp, wide = mode.xp, compute_dtype(mode.xp, dtype)
    columns = columns_of(cast(xp, boxes, wide))
    if {in_fmt, out_fmt} == {"xywh", "cxcywh"}:  # sides are unchanged
        x, y, width, height = columns
        half = 0.5 if out_fmt == "cxcywh" else -0.5
        return cast(xp, xp.stack((x + half * width, y + half * height, width, height), axis=-1), dtype)
    corners, sides = corners_of(columns, in_fmt), None
    if xp.isdtype(boxes.dtype, "integral") and in_fmt in ("xyxy", "yxyx"):
        a, b, c, d = columns_of(boxes)
        sides = tuple(less(xp, stop, start, wide) for stop, start in ((c, a), (d, b)))
        sides = sides[::-1] if in_fmt == "yxyx" else sides
    return cast(xp, xp.stack(from_corners(corners, out_fmt, sides), axis=-1), dtype)


def as_xyxy(mode: Mode, boxes: Array, fmt: RegionFormat) -> tuple[Array, RegionFormat]:
    """Return "yxyx" boxes as "xyxy", other regions as they are, and the format."""
    if fmt != "yxyx":
        return boxes, fmt
    return mode.prepare(to_corners, boxes, fmt=fmt), "xyxy"


@op(Kind.VALUES)
def clip_boxes(boxes: A, size: tuple[float, float]) -> A:
    """Move the corners of (..., 4) xyxy boxes to the nearest point of the image [0, width] × [0, height].

    Parameters
    ----------
    boxes : array (..., 4)
        Floating or integer; integers become the namespace's default float.
    size : (height, width)
        Of the image, in the unit of the boxes; numbers, not negative, and known when a program is compiled. One size
        for all boxes.

    Returns
    -------
    array (..., 4)

    Raises
    ------
    TypeError, ValueError
        If the last axis is not 4, or `size` is not two numbers ≥ 0.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> anyops.clip_boxes(np.asarray([-5.0, 2.0, 700.0, 470.0]), (480, 640))
    array([  0.,   2., 640., 470.])
    """
    mode = mode_of(boxes=boxes)
    xp = mode.xp
    check_boxes("boxes", boxes)
    try:
        height, width = size
    except (TypeError, ValueError) as error:
        raise ValueError(f"size must be (height, width), two numbers, got {size!r}") from error
    height, width = (check_number(f"size[{k}]", side, least=0, finite=False) for k, side in enumerate((height, width)))
    return mode.run(_clip, boxes, height, width, dtype=result_dtype(xp, boxes=boxes))


def _clip(mode: Mode, boxes: Array, height: float, width: float, *, dtype: DType) -> Array:
    xp = mode.xp
    boxes = cast(xp, boxes, dtype)
    # Made of numbers, not of a list: that would synchronise with a device.
    height, width = (xp.full((), side, dtype=dtype, device=device(boxes)) for side in (height, width))
    limit = xp.where(xp.arange(4, device=device(boxes)) % 2 == 1, height, width)
    # `where`, not clip or minimum: the gradient is 1 in every library inside the image and on its border.
    boxes = xp.where(boxes < 0, 0.0, boxes)
    return xp.where(boxes > limit, limit, boxes)


@op(Kind.MASK)
def masks_to_boxes(masks: Array) -> Array:
    """Bound each mask by its first and last true pixel, both inclusive; an empty mask gives (0, 0, 0, 0).

    Parameters
    ----------
    masks : array (N, H, W)
        Bool, or numbers where nonzero means inside.

    Returns
    -------
    array (N, 4)
        xyxy, in the namespace's default float, or the dtype of floating masks, float32 at least. As
        ``torchvision.ops.masks_to_boxes``.

    Raises
    ------
    ValueError
        If `masks` is not of rank 3.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> mask = np.zeros((1, 5, 8), dtype=bool)
    >>> mask[0, 1:4, 2:7] = True
    >>> anyops.masks_to_boxes(mask)
    array([[2., 1., 6., 3.]])
    """
    mode = sized_mode_of(masks=masks)
    xp = mode.xp
    if masks.ndim != 3:
        raise ValueError(f"masks must have shape (N, H, W), got {tuple(masks.shape)}")
    check_mask(xp, "masks", masks)
    floating = xp.isdtype(masks.dtype, "real floating")
    dtype = compute_dtype(xp, masks.dtype) if floating else default_float(xp, masks)
    if masks.shape[0] == 0:  # nothing to reduce, which dask refuses
        return xp.zeros((0, 4), dtype=dtype, device=device(masks))
    return mode.run(_bounds, masks, dtype=dtype)


def _bounds(mode: Mode, masks: Array, *, dtype: DType) -> Array:
    xp = mode.xp

    def bounds(some: Array) -> tuple[tuple[Array], tuple[()]]:
        inside = as_bool(xp, some)
        x1, x2 = _first_and_last(xp, xp.any(inside, axis=1))
        y1, y2 = _first_and_last(xp, xp.any(inside, axis=2))
        return (xp.astype(xp.stack((x1, y1, x2, y2), axis=-1), dtype),), ()

    # A few masks at a time, because masks that are not bool are compared with 0, which makes copies.
    at_once = max(1, PIXELS // max(1, masks.shape[1] * masks.shape[2])) if mode.grain or mode.fused else 0
    (found,), _ = scan_rows(mode, bounds, lambda a, _: a, at_once, 0, masks)
    return found


def check_mask(xp: Namespace, name: str, masks: Array) -> None:
    """Raise TypeError unless masks are bools or numbers."""
    check_dtype(xp, name, masks, "bool", "integral", "real floating")


def as_bool(xp: Namespace, masks: Array) -> Array:
    """Return masks as bool arrays; nonzero means inside."""
    return masks if xp.isdtype(masks.dtype, "bool") else masks != 0


def _first_and_last(xp: Namespace, occupied: Array) -> tuple[Array, Array]:
    """Positions of the first and last true values of each row; zeros for a row without one."""
    length = occupied.shape[-1]
    position = xp.arange(length, dtype=default_int(xp, occupied), device=device(occupied))
    if length == 0:
        empty = xp.sum(xp.astype(occupied, default_int(xp, occupied)), axis=-1)
        return empty, empty
    last = xp.max(xp.where(occupied, position, 0), axis=-1)
    from_end = xp.max(xp.where(occupied, length - 1 - position, 0), axis=-1)
    first = xp.where(xp.any(occupied, axis=-1), length - 1 - from_end, 0)
    return first, last

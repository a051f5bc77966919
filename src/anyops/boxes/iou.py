"""The IoU family: overlaps of boxes and masks, signed kinds included.

Notation: a, b boxes; I their intersection, U = |a| + |b| − I, C their enclosing box.
"""

import math

from .._array.mode import Mode, sized_mode_of
from .._array.namespace import (
    A,
    Array,
    DType,
    Namespace,
    cast,
    compute_dtype,
    default_float,
    default_int,
    device,
    is_dynamic,
    namespace,
    number_in,
    promoted,
    result_dtype,
    widest_dtype,
)
from .._array.nearest import less, lowered_by, with_arithmetic
from .._array.pieces import map_tiles, tiles
from .._array.rows import fold_rows
from .._array.segments import segment_sum
from .._array.selection import indices_of, take_along
from .._array.support import Kind, op
from . import aligned
from .formats import PIXELS, as_bool, as_xyxy, check_mask
from .geometry import SHARES, Regions, ShareKind, meet
from .regions import (
    FORMATS,
    Measure,
    OverlapKind,
    RegionFormat,
    check_corners_held,
    check_kind,
    check_regions,
    flat,
    overlap,
    ready,
    shape_of,
)

# Largest fraction of pairs with intersecting envelopes for which only those pairs are compared.
MEETING = 0.25


@op(Kind.VALUES)
def box_iou(
    boxes1: A, boxes2: Array, *, kind: OverlapKind = "iou", pairwise: bool = True, fmt: RegionFormat = "xyxy"
) -> A:
    """IoU, I / U, of boxes or other regions, or another kind of overlap.

    ======= ==============================================================
    iou     I / U
    iof     I / |a|, the covered fraction of the first box
    ios     I / min(|a|, |b|)
    giou    iou − (|C| − U) / |C|                          [1]_
    diou    iou − ρ² / c², squared centre distance over squared diagonal of C   [2]_
    ciou    diou − αv, v = 4/π² (atan(w₂/h₂) − atan(w₁/h₁))², α = v / (1 − iou + v) without gradient   [2]_
    probiou 1 − √(1 − exp(−B)), B the Bhattacharyya distance of Gaussians with mean and covariance of the boxes   [3]_
    ======= ==============================================================

    Parameters
    ----------
    boxes1, boxes2 : array
        All-to-all (``pairwise=True``): (..., N, 4) and (..., M, 4), leading dimensions broadcast. One-to-one and
        one-to-all (``pairwise=False``): (..., 4) and (..., 4), broadcast against each other. Floating or integer;
        integers of one dtype are compared as integers, and give the namespace's default float; 16-bit floats are
        computed in float32 and returned in their own dtype. With another `fmt`, its numbers instead of 4.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        "iou", "iof" and "ios" for every `fmt`; also "giou", "diou" and "ciou" for axis-aligned 2D boxes, "giou" and
        "diou" for "segment" and "xyzxyz", "probiou" for "cxcywhr" and "xywhr".
    pairwise : bool
        Whether to compare every box of `boxes1` with every box of `boxes2`.
    fmt : str
        Meaning of the numbers along the last axis: "xyxy", "xywh", "cxcywh" or "yxyx"; rotated boxes "cxcywhr" or
        "xywhr", in degrees, counter-clockwise as seen in an image; four corners "xyxyxyxy"; "polygon", (..., V, 2);
        "segment", start and end; "xyzxyz"; "cxcyczwhdr", a 3D box rotated about the vertical axis. :func:`box_convert`
        describes all of them.

    Returns
    -------
    array (..., N, M), or the broadcast shape without its last axis
        0 for a box without area (inverted boxes have none) and for a pair with an infinite union; NaN for exactly the
        pairs with a NaN coordinate. Gradients are finite in all these cases, and at identical and touching boxes.

    Raises
    ------
    TypeError, ValueError
        If an argument does not match `fmt`, `kind` or `fmt` is unknown, `fmt` does not have this `kind`, or shapes do
        not broadcast.

    References
    ----------
    .. [1] Rezatofighi et al., Generalized Intersection over Union, arXiv:1902.09630, algorithm 1.
    .. [2] Zheng et al., Distance-IoU Loss, arXiv:1911.08287, equations 6 to 11.
    .. [3] Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union, arXiv:2106.06072.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> a = np.asarray([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]])
    >>> anyops.box_iou(a, a)  # all-to-all
    array([[1.        , 0.14285714],
           [0.14285714, 1.        ]])
    >>> anyops.box_iou(a[0], a, pairwise=False)  # one-to-all
    array([1.        , 0.14285714])
    >>> upright, turned = np.asarray([0.0, 0.0, 100.0, 50.0, 0.0]), np.asarray([0.0, 0.0, 50.0, 100.0, 90.0])
    >>> anyops.box_iou(upright, turned, pairwise=False, fmt="cxcywhr").round(6)
    np.float64(1.0)
    """
    mode = sized_mode_of(boxes1=boxes1, boxes2=boxes2)
    xp = mode.xp
    Measure(kind, fmt).check()
    tail = len(FORMATS[fmt].shape)
    for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        check_regions(name, boxes, fmt)
        if pairwise and boxes.ndim <= tail:
            raise ValueError(
                f"{name} must have shape (..., N, {shape_of(fmt)}) for pairwise=True, got {tuple(boxes.shape)}; "
                "pairwise=False compares single boxes"
            )
    dtype = result_dtype(xp, boxes1=boxes1, boxes2=boxes2)
    lead = -tail - 1 if pairwise else -tail
    check_broadcast("boxes1", boxes1.shape[:lead], "boxes2", boxes2.shape[:lead])
    (boxes1, _), (boxes2, fmt) = (as_xyxy(mode, flat(xp, boxes, fmt), fmt) for boxes in (boxes1, boxes2))
    if fmt != "xyxy":
        for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
            check_corners_held(mode, name, boxes, compute_dtype(xp, dtype), fmt)
    if fmt == "xyxy" and xp.isdtype(boxes1.dtype, "integral") and xp.isdtype(boxes2.dtype, "integral"):
        boxes1, boxes2 = _of_one_dtype(xp, boxes1, boxes2)
        if mode.known and (mode.at_hand or mode.fused):
            moved = mode.run(_beside_each_other, boxes1, boxes2, dtype=dtype, pairwise=pairwise)
            check_exact(mode, "boxes1 and boxes2", boxes1, *moved)
    kernel = _pairwise if pairwise else _matched
    return mode.run(kernel, boxes1, boxes2, measure=Measure(kind, fmt), dtype=dtype)


def _beside_each_other(mode: Mode, boxes1: Array, boxes2: Array, *, dtype: DType, pairwise: bool) -> tuple[Array, ...]:
    return _same_rank(mode, boxes1, boxes2, dtype, pairwise=pairwise)


def _of_one_dtype(xp: Namespace, boxes1: Array, boxes2: Array) -> tuple[Array, Array]:
    """Return integer boxes in a common dtype with arithmetic; raise TypeError if no dtype represents both."""
    if boxes1.dtype == boxes2.dtype:
        return with_arithmetic(xp, boxes1), with_arithmetic(xp, boxes2)
    infos = [xp.iinfo(x.dtype) for x in (boxes1, boxes2)]
    signed = any(info.min < 0 for info in infos)
    bits = max(info.bits * (2 if signed and info.min == 0 else 1) for info in infos)
    names = xp.__array_namespace_info__().dtypes(kind="integral", device=device(boxes1))
    name = f"{'int' if signed else 'uint'}{bits}"
    if name in names or not signed:
        dtype = getattr(xp, name)
        return with_arithmetic(xp, xp.astype(boxes1, dtype)), with_arithmetic(xp, xp.astype(boxes2, dtype))
    raise TypeError(
        f"boxes1 and boxes2 must have integer dtypes with a common integer dtype, got {boxes1.dtype} and "
        f"{boxes2.dtype}; convert one of them"
    )


def check_broadcast(name1: str, shape1: tuple[int, ...], name2: str, shape2: tuple[int, ...]) -> None:
    """Raise ValueError unless two shapes broadcast."""
    for m, n in zip(reversed(shape1), reversed(shape2), strict=False):
        if m not in (n, 1) and n != 1:
            raise ValueError(
                f"leading dimensions of {name1} and {name2} must broadcast, got {tuple(shape1)} and {tuple(shape2)}"
            )


def _same_rank(
    mode: Mode, boxes1: Array, boxes2: Array, dtype: DType, *, pairwise: bool, fmt: str = "xyxy"
) -> tuple[Array, Array]:
    """Return both arrays in the compute dtype and with equal rank, so that they broadcast as rows do."""
    xp, rank, wide = mode.xp, max(boxes1.ndim, boxes2.ndim), compute_dtype(mode.xp, dtype)
    first, second = (xp.reshape(x, (1,) * (rank - x.ndim) + tuple(x.shape)) for x in (boxes1, boxes2))
    whole = fmt == "xyxy" and first.dtype == second.dtype and xp.isdtype(first.dtype, "integral")
    if whole and 0 not in first.shape:
        # Overlaps do not depend on the origin. Relative to one of the boxes, integers beyond a float's precision stay
        # exact.
        corner = first[..., :1, :2] if pairwise else first[..., :2]
        corner, wide = xp.concat((corner, corner), axis=-1), exact_dtype(xp, first)
        return less(xp, first, corner, wide), less(xp, second, corner, wide)
    return cast(xp, first, wide), cast(xp, second, wide)


def exact_dtype(xp: Namespace, integers: Array) -> DType:
    """Return the floating dtype in which to compare integers: float64, if available, for more than 16 bits."""
    dtype = default_float(xp, integers)
    return widest_dtype(xp, dtype, integers) if xp.iinfo(integers.dtype).bits > 16 else dtype


def beside_first(
    mode: Mode, boxes: Array, scores: Array, least: Array | float | None, valid: Array | None
) -> tuple[Array, Array]:
    """Return integer boxes (..., N, 4) as floats relative to a corner of the first real box, and the corner.

    The corner has shape (..., 1, 4). Overlaps do not depend on the origin, and in this way integers beyond a float's
    precision stay exact. Boxes that are not real, see :func:`taking_part`, become 0.
    """
    signed = with_arithmetic(mode.xp, boxes)
    moved, origin = mode.run(_beside_first, signed, scores, least, valid)
    check_exact(mode, "boxes", signed, moved)
    lowered = lowered_by(mode.xp, boxes.dtype, signed.dtype)
    return moved, origin + float(lowered) if lowered else origin


def taking_part(scores: Array, least: Array | float | None, valid: Array | None) -> Array | None:
    """Return which boxes are valid and have a score above a limit; None if all do."""
    if least is None:
        return valid
    above = scores > number_in(namespace(scores=scores), least, scores.dtype)
    return above if valid is None else above & valid


def _beside_first(
    mode: Mode, boxes: Array, scores: Array, least: Array | float | None, valid: Array | None
) -> tuple[Array, Array]:
    xp, dtype = mode.xp, exact_dtype(mode.xp, boxes)
    real = taking_part(scores, least, valid)
    if not boxes.shape[-2]:
        return cast(xp, boxes, dtype), xp.zeros((*boxes.shape[:-2], 1, 4), dtype=dtype, device=device(boxes))
    corner = boxes[..., :1, :2]
    if real is not None:
        first = xp.argmax(xp.astype(real, xp.int8), axis=-1, keepdims=True)[..., None]
        corner = take_along(xp, boxes[..., :2], xp.broadcast_to(first, (*first.shape[:-1], 2)), axis=-2)
    if xp.finfo(dtype).bits == 64:
        # Rounded down to a value that the float represents, so that adding it to an average rounds only once. In
        # float32 the rounded corner would be too far from the boxes.
        corner = corner - corner % max(1, 2 ** (xp.iinfo(boxes.dtype).bits - 54))
    corner = xp.concat((corner, corner), axis=-1)
    moved = less(xp, boxes, corner, dtype)
    moved = moved if real is None else xp.where(real[..., None], moved, xp.zeros_like(moved))
    return moved, cast(xp, corner, dtype)


def check_exact(mode: Mode, name: str, integers: Array, *moved: Array) -> None:
    """Raise ValueError if integers are too far apart for the floats they were `moved` to; needs known values."""
    xp = mode.xp
    if not (mode.known and (mode.at_hand or mode.fused)) or xp.iinfo(integers.dtype).bits <= 16:
        return
    limit = 2.0 / float(xp.finfo(moved[0].dtype).eps)
    largest = max((float(xp.max(xp.abs(x))) for x in moved if 0 not in x.shape), default=0.0)
    if largest >= limit:
        raise ValueError(
            f"{name} must hold integers within {limit:.0f} of the first box, to be compared in {moved[0].dtype}, "
            f"got a distance of {largest:.6g}; pass floating boxes to compare them rounded"
        )


def _matched(mode: Mode, boxes1: Array, boxes2: Array, *, measure: Measure, dtype: DType) -> Array:
    pair = _same_rank(mode, boxes1, boxes2, dtype, pairwise=False, fmt=measure.fmt)
    a, b = (ready(mode.xp, x, measure, look=mode.at_hand) for x in pair)
    out = overlap(mode.xp, a, b, measure, mode.own)
    return cast(mode.xp, _marked(out, *(_nan_mark(mode, x) for x in pair)), dtype)


def _pairwise(mode: Mode, boxes1: Array, boxes2: Array, *, measure: Measure, dtype: DType) -> Array:
    xp, pair = mode.xp, _same_rank(mode, boxes1, boxes2, dtype, pairwise=True, fmt=measure.fmt)
    a, b = (ready(xp, x, measure, look=mode.at_hand) for x in pair)
    mark1, mark2 = (_nan_mark(mode, x) for x in pair)

    def block(i: slice, j: slice) -> Array:
        out = compare(a.map(lambda x: x[..., i]), b.map(lambda x: x[..., j]))
        marks = (None if mark1 is None else mark1[..., i, None], None if mark2 is None else mark2[..., None, j])
        return cast(xp, _marked(out, *marks), dtype)

    def compare(a: Regions, b: Regions) -> Array:
        """Overlaps of all pairs; if few envelopes intersect, computed only for those pairs, else 0."""
        if by_envelope and (found := _of_meeting(mode, a, b, measure)) is not None:
            return found
        return overlap(xp, a.map(lambda x: x[..., None]), b.map(lambda x: x[..., None, :]), measure, mode.own)

    apart_is_zero = measure.geometry is not aligned.ALONG_AXES and measure.kind in SHARES
    by_envelope = apart_is_zero and mode.selects and not mode.grad and len(pair[0].shape) == 2
    shape = boxes1.shape[-2], boxes2.shape[-2]
    # If few envelopes intersect, a tile of more pairs fits in memory.
    grain = mode.grain // (1 if by_envelope else 4 * measure.geometry.weight(a, b))
    return map_tiles(xp, block, shape, tiles(shape, grain, (0, 1)), last=True)


def _of_meeting(mode: Mode, a: Regions, b: Regions, measure: Measure) -> Array | None:
    """Overlaps (N, M) of regions, computed for the pairs whose envelopes intersect; None if these are many."""
    xp, (n, m) = mode.xp, (a.columns.shape[-1], b.columns.shape[-1])
    both = meet(xp, a.map(lambda x: x[..., None]), b.map(lambda x: x[..., None, :]))
    at = indices_of(xp, xp.reshape(both, (-1,)))
    if at.shape[0] > MEETING * n * m:
        return None
    some = a.map(lambda x: xp.take(x, at // m, axis=-1)), b.map(lambda x: xp.take(x, at % m, axis=-1))
    return xp.reshape(segment_sum(xp, overlap(xp, *some, measure), at, n * m), (n, m))


def _nan_mark(mode: Mode, boxes: Array) -> Array | None:
    """Return NaN for each box with a NaN and 0 for others, to be added to its overlaps; None if no box has a NaN.

    It is added at the end, because a NaN in the quotient would also reach the gradient of the other box.
    """
    xp, nan = mode.xp, mode.xp.isnan(boxes)
    if mode.at_hand and not bool(xp.any(nan)):
        return None
    nan = xp.any(nan, axis=-1)
    return xp.where(nan, math.nan, xp.zeros_like(nan, dtype=boxes.dtype))


def _marked(out: Array, *marks: Array | None) -> Array:
    """Return overlaps plus the marks of their boxes."""
    for mark in marks:
        out = out if mark is None else out + mark
    return out


@op(Kind.MASK)
def mask_iou(masks1: Array, masks2: Array, *, kind: ShareKind = "iou") -> Array:
    """I / U of masks, all-to-all, or the covered fraction of the first mask (iof) or of the smaller mask (ios).

    Parameters
    ----------
    masks1 : array (..., N, H, W)
        Bool, or numbers where nonzero means inside.
    masks2 : array (..., M, H, W)
        The same; leading dimensions broadcast.
    kind : {"iou", "iof", "ios"}
        The area that the intersection is divided by: of the union, of the first mask, of the smaller mask.

    Returns
    -------
    array (..., N, M)
        In the namespace's default float, or the dtype of floating masks; 0 for an empty mask.

    Raises
    ------
    TypeError, ValueError
        If the arguments are not masks of one size, or `kind` is unknown.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> masks = np.zeros((2, 4, 4), dtype=bool)
    >>> masks[0, :2], masks[1, :, :2] = True, True
    >>> anyops.mask_iou(masks[:1], masks)
    array([[1.        , 0.33333333]])
    """
    mode = sized_mode_of(masks1=masks1, masks2=masks2)
    xp = mode.xp
    check_kind(kind, SHARES)
    for name, masks in (("masks1", masks1), ("masks2", masks2)):
        if masks.ndim < 3:
            raise ValueError(f"{name} must have shape (..., N, H, W), got {tuple(masks.shape)}")
    if masks1.shape[-2:] != masks2.shape[-2:]:
        raise ValueError(
            f"masks1 and masks2 must have equal height and width, got {tuple(masks1.shape)} and {tuple(masks2.shape)}"
        )
    check_broadcast("masks1", masks1.shape[:-3], "masks2", masks2.shape[:-3])
    # Masks compared with themselves need the conversion and the areas only once.
    given = {"masks1": masks1} if masks1 is masks2 else {"masks1": masks1, "masks2": masks2}
    for name, x in given.items():
        check_mask(xp, name, x)
    floating = [x for x in (masks1, masks2) if xp.isdtype(x.dtype, "real floating")]
    dtype = promoted(xp, *(x.dtype for x in floating)) if floating else default_float(xp, masks1)
    return mode.run(_masks_overlap, *given.values(), kind=kind, dtype=dtype)


def _masks_overlap(mode: Mode, a: Array, b: Array | None = None, *, kind: str, dtype: object) -> Array:
    """Overlap of masks (..., N, H, W) with (..., M, H, W), or with themselves."""
    xp, given = mode.xp, (a,) if b is None else (a, b)
    pixels, rank = a.shape[-2] * a.shape[-1], max(x.ndim for x in given)
    masks = [xp.reshape(x, (*(1,) * (rank - x.ndim), *x.shape[:-2], pixels)) for x in given]
    # Pixel counts are exact in float32 up to 2²⁴; larger ones are added as integers.
    many = pixels > 1 << 24

    def counts(*some: Array) -> tuple[Array, ...]:
        """Intersections, and the areas of two sets of masks, on a slice of the pixels."""
        parts = [xp.astype(as_bool(xp, x), xp.float32) for x in some]
        found = parts[0] @ xp.matrix_transpose(parts[-1]), *(xp.sum(part, axis=-1) for part in parts if b is not None)
        return tuple(xp.astype(x, default_int(xp, x)) for x in found) if many else found

    # The matrix product needs floats; a slice of pixels at a time, so that not all pixels are floats at once.
    rows = sum(math.prod(x.shape[:-1]) for x in masks)
    size = 0 if is_dynamic(xp, rows) else max(1, PIXELS // max(1, rows))
    at_once = size if many or mode.grain or mode.fused else 0
    inter, *areas = fold_rows(xp, counts, lambda x, y: tuple(map(mode.own.add, x, y)), at_once, *masks, axis=rank - 2)
    if b is None:
        n = a.shape[-3]
        diagonal = xp.arange(0, n * n, n + 1, device=device(a))
        areas = [xp.take(xp.reshape(inter, (*a.shape[:-3], n * n)), diagonal, axis=-1)]
    area1, area2 = areas[0][..., :, None], areas[-1][..., None, :]
    if kind == "iou":
        whole = area1 + (area2 - inter)  # at most the number of pixels, so exact
    else:
        whole = xp.minimum(area1, area2) if kind == "ios" else area1 + xp.zeros_like(inter)
    whole = xp.where(whole > 0, whole, xp.ones_like(whole))
    wide = compute_dtype(xp, dtype)
    return cast(xp, xp.astype(inter, wide) / xp.astype(whole, wide), dtype)

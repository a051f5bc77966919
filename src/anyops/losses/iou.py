"""Loss for box regression: 1 − overlap."""

from .._array.mode import Mode, sized_mode_of
from .._array.namespace import A, Array, DType, cast, compute_dtype, result_dtype
from .._array.support import Kind, op
from .._math import present
from ..boxes.iou import box_iou
from ..boxes.regions import FORMATS, OverlapKind, RegionFormat, check_fmt, check_regions
from .reduction import Reduction, check_reduction, check_weights, reduce, shares


@op(Kind.VALUES)
def box_iou_loss(
    pred: A,
    target: Array,
    reduction: Reduction = "none",
    *,
    kind: OverlapKind = "giou",
    fmt: RegionFormat = "xyxy",
    sample_weight: Array | None = None,
) -> A:
    """1 − overlap of matched boxes or other regions; the overlap is giou [1]_, iou, diou, ciou [2]_ or another kind.

    Parameters
    ----------
    pred, target : array (..., 4)
        Matched boxes, of the same shape. Floating or integer; integers become the namespace's default float, 16-bit
        floats are computed in float32. With another `fmt`, its numbers instead of 4.
    reduction : {"none", "mean", "sum"}
        The mean is Σ w loss / Σ w with weights; the mean of no boxes is 0.
    kind : {"giou", "iou", "diou", "ciou", "iof", "ios", "probiou"}
        As in :func:`anyops.box_iou`. Not every `fmt` has "giou": rotated boxes have "iou", "iof", "ios" and "probiou".
    fmt : str
        See :func:`anyops.box_convert`.
    sample_weight : array, optional
        Bool or numbers ≥ 0, broadcast to the shape of the losses. A pair of weight 0 is ignored in the loss and all
        gradients, even if it holds NaN.

    Returns
    -------
    array (...), or 0-d
        Differentiable on libraries with automatic differentiation, with finite gradients at degenerate, identical,
        touching and disjoint boxes. The gradient of iou is 0 for disjoint boxes; the gradients of giou and diou are
        not.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array of boxes, shapes differ, or `kind`, `reduction` or `fmt` is unknown. Negative
        weights raise where checking is free (NumPy), and give NaN elsewhere.

    References
    ----------
    .. [1] Rezatofighi et al., Generalized Intersection over Union, arXiv:1902.09630, algorithm 2.
    .. [2] Zheng et al., Distance-IoU Loss, arXiv:1911.08287, equations 5 to 11.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> anyops.box_iou_loss(np.asarray([0.0, 0.0, 2.0, 2.0]), np.asarray([1.0, 1.0, 3.0, 3.0])).round(6)
    np.float64(1.079365)
    """
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    mode = sized_mode_of(pred=pred, target=target, **weights)
    xp = mode.xp
    check_reduction(reduction)
    check_fmt("fmt", fmt)
    check_regions("pred", pred, fmt)
    if tuple(pred.shape) != tuple(target.shape):
        raise ValueError(f"target must have the shape of pred, {tuple(pred.shape)}, got {tuple(target.shape)}")
    dtype = result_dtype(xp, pred=pred, target=target)
    wide = compute_dtype(xp, dtype)
    axes = len(FORMATS[fmt].shape)  # of one region
    items = tuple(pred.shape[: pred.ndim - axes])
    check_weights(mode, "sample_weight", sample_weight, items)
    factor = mode.run(shares, sample_weight, shape=items, dtype=wide, reduction=reduction)
    # Overlaps of 16-bit floats are computed in float32; integers are compared as integers.
    pred, target = (x if xp.isdtype(x.dtype, "integral") else cast(xp, x, wide) for x in (pred, target))
    if factor is not None:
        each = factor[(..., *(None,) * axes)]
        pred, target = (x if xp.isdtype(x.dtype, "integral") else mode.run(_present, x, each) for x in (pred, target))
    overlap = box_iou(pred, target, kind=kind, pairwise=False, fmt=fmt)
    return mode.run(_reduced, overlap, factor, reduction=reduction, dtype=dtype)


def _present(mode: Mode, x: Array, weight: Array) -> Array:
    return present(mode.xp, x, weight)


def _reduced(mode: Mode, overlap: Array, factor: Array | None, *, reduction: str, dtype: DType) -> Array:
    return cast(mode.xp, reduce(mode.xp, 1.0 - overlap, reduction, factor=factor), dtype)

"""Box regression by overlap."""

from .._array.mode import sized_mode_of
from .._array.namespace import Array, cast, compute_dtype, result_dtype
from .._array.support import Kind, op
from ..boxes.iou import box_iou
from ..boxes.regions import check_fmt, check_regions
from .reduction import check_reduction, reduce


@op(Kind.VALUES)
def box_iou_loss(
    pred: Array, target: Array, *, kind: str = "giou", reduction: str = "none", fmt: str = "xyxy"
) -> Array:
    """1 − overlap of matched boxes or other regions; the overlap is giou [1]_, iou, diou, ciou [2]_ or another kind.

    Parameters
    ----------
    pred, target : array (..., 4)
        Box by box, of one shape. Floating or integer; integers become the namespace's default float, 16-bit floats are
        computed in float32. In place of 4 numbers those of `fmt`.
    kind : {"giou", "iou", "diou", "ciou", "iof", "ios", "probiou"}
        As in :func:`anyops.box_iou`. Not every `fmt` has "giou": rotated boxes have "iou", "iof", "ios" and "probiou".
    reduction : {"none", "mean", "sum"}
        The mean of no boxes is 0.
    fmt : str
        See :func:`anyops.box_convert`.

    Returns
    -------
    array (...), or 0-d
        Differentiable on libraries that differentiate, with finite gradients at degenerate, identical, touching and
        disjoint boxes. The gradient of iou is 0 for boxes that do not overlap; that of giou and diou is not.

    Raises
    ------
    TypeError, ValueError
        If an argument is no array of boxes, shapes differ, or `kind`, `reduction` or `fmt` is unknown.

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
    xp = sized_mode_of(pred=pred, target=target).xp
    check_reduction(reduction)
    check_fmt("fmt", fmt)
    check_regions("pred", pred, fmt)
    if tuple(pred.shape) != tuple(target.shape):
        raise ValueError(f"target must have the shape of pred, {tuple(pred.shape)}, got {tuple(target.shape)}")
    dtype = result_dtype(xp, pred=pred, target=target)
    wide = compute_dtype(xp, dtype)
    # 16-bit floats get their overlap in float32; integers are compared as such.
    boxes = (x if xp.isdtype(x.dtype, "integral") else cast(xp, x, wide) for x in (pred, target))
    loss = 1.0 - box_iou(*boxes, kind=kind, pairwise=False, fmt=fmt)
    return cast(xp, reduce(xp, loss, reduction), dtype)

"""Matrix NMS: a box decays by its worst overlap with a better box, less if that box overlaps a better one itself.

With X_ij = overlap(i, j) where i ranks above j and has the same label, 0 elsewhere, and comp_i = max_k X_ki,

    s_j ← s_j · min(1, min_i f(X_ij) / f(comp_i)),   f(o) = exp(−σ o²)  or  1 − o.
"""

from typing import Literal, get_args

from .._array.arguments import check_parameter
from .._array.mode import Mode
from .._array.namespace import A, Array
from .._array.support import ORDERS, SHAPES_BY_VALUE, Kind, op
from ..boxes.regions import Measure, OverlapKind, RegionFormat
from .arguments import check_choice, check_positive, index_call, static_call
from .detections import Detections
from .rescoring import Pair, Parameters, Rescored, RescoredBoxes, Rivals, best_first, decayed, in_place

Kernel = Literal["gaussian", "linear"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)


@op(Kind.SELECTION, SHAPES_BY_VALUE, static="matrix_nms_scores")
def matrix_nms(
    boxes: Array | None,
    scores: Array,
    *,
    kernel: Kernel = "gaussian",
    sigma: float | Array = 2.0,
    labels: Array | None = None,
    scenes: Array | None = None,
    kind: OverlapKind = "iou",
    fmt: RegionFormat = "xyxy",
    score_threshold: float | Array | None = 0.05,
    max_output: int | None = None,
    overlaps: Array | None = None,
) -> RescoredBoxes:
    """Indices and scores s_j · min(1, min_i f(X_ij) / f(max_k X_ki)) of Matrix NMS, by descending new score.

    X_ij is the overlap of a box i that ranks above j and has the same label. All boxes are rescored at once.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy, or as `fmt` says; floating or integer. May be None if `overlaps` is given.
    scores : array (N,)
        NaN ranks below every number.
    kernel : {"gaussian", "linear"}
        f(o) = exp(−`sigma` o²), or 1 − o.
    sigma : float, or array ()
        Positive; it multiplies, as in the code of the authors (the paper prints a division).
    labels : array (N,), optional
        Boxes of different labels do not decay each other.
    scenes : integer array (N,), optional
        Scene of each box. Boxes of different scenes do not decay each other, whatever their labels.
        `max_output` holds for each scene.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        Kind of overlap, see :func:`box_iou`; negative overlaps count as 0.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    score_threshold : float ≥ 0, optional
        Only new scores strictly greater are returned; None returns all boxes.
    max_output : int, optional
        Return the best `max_output`.
    overlaps : array (N, N), optional
        Used instead of the overlaps of `boxes`: ``mask_iou(masks, masks)`` for segmentation, for which Matrix NMS was
        designed.

    Returns
    -------
    indices : array (K,)
        By descending new score, ties to the lowest index.
    scores : array (K,)
        New scores, in the floating dtype of `scores`.

    Raises
    ------
    TypeError, ValueError
        As :func:`nms`; if `kernel` is unknown or `sigma` not positive. For batches and under a transform there is
        :func:`matrix_nms_scores`.

    Notes
    -----
    The linear kernel gives 0 to an exact duplicate of a better box. The duplicate then lowers no other box: 0/0 counts
    as no constraint.

    References
    ----------
    .. [1] Wang et al., SOLOv2: Dynamic and Fast Instance Segmentation, arXiv:2003.10152, section 3.3.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 0.0, 30.0, 10.0]])
    >>> indices, scores = anyops.matrix_nms(boxes, np.asarray([0.9, 0.8, 0.7]))
    >>> indices.tolist(), scores.round(4).tolist()
    ([0, 2, 1], [0.9, 0.7, 0.4852])
    """
    check_choice("kernel", kernel, KERNELS)
    given = {"sigma": check_positive("sigma", sigma)}
    call = index_call(
        "matrix_nms",
        Detections(boxes, scores, labels, overlaps),
        Measure(kind, fmt),
        score_threshold,
        max_output,
        scenes=scenes,
    )
    rescored = best_first(call, given, rescore=_rescore, floor=0.0, kernel=kernel)
    return RescoredBoxes(*call.back(*rescored[:2])[:2])


@op(Kind.VALUES, ORDERS)
def matrix_nms_scores(
    boxes: Array | None,
    scores: A,
    *,
    kernel: Kernel = "gaussian",
    sigma: float | Array = 2.0,
    labels: Array | None = None,
    kind: OverlapKind = "iou",
    fmt: RegionFormat = "xyxy",
    valid: Array | None = None,
    overlaps: Array | None = None,
) -> A:
    """Scores s_j · min(1, min_i f(X_ij) / f(max_k X_ki)) of Matrix NMS: the static form of :func:`matrix_nms`.

    Differentiable in scores, boxes, overlaps and `sigma`.

    Parameters
    ----------
    boxes : array (..., N, 4)
    scores : array (..., N)
    kernel : {"gaussian", "linear"}
        As in :func:`matrix_nms`.
    sigma : float, or array ()
        As in :func:`matrix_nms`.
    labels : array (..., N), optional
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        As in :func:`matrix_nms`.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    valid : bool array (..., N), optional
        False for padding, which decays nothing and gets 0.
    overlaps : array (..., N, N), optional
        Used instead of the overlaps of `boxes`, which may then be None.

    Returns
    -------
    array (..., N)

    Raises
    ------
    TypeError, ValueError
        As :func:`matrix_nms`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]]])
    >>> anyops.matrix_nms_scores(boxes, np.asarray([[0.9, 0.8]]), kernel="linear").tolist()
    [[0.9, 0.4]]
    """
    check_choice("kernel", kernel, KERNELS)
    given = Detections(boxes, scores, labels, overlaps, valid)
    numbers = {"sigma": check_positive("sigma", sigma, check=check_parameter)}
    call, numbers = static_call("matrix_nms_scores", given, Measure(kind, fmt), numbers)
    return call.back(None, in_place(call, numbers, rescore=_rescore, floor=0.0, kernel=kernel)[0])[1]


def _rescore(
    mode: Mode, rivals: Rivals, _boxes: Array | None, scores: Array, given: Parameters, *, kernel: str
) -> Rescored:
    xp = mode.xp
    none = xp.zeros_like(scores, dtype=rivals.dtype)
    most = rivals.max(lambda pair: pair.overlap, none)

    def decay(pair: Pair) -> Array:
        over, comp = pair.overlap, pair.better(most)
        one = xp.ones_like(over)
        if kernel == "gaussian":
            exponent = given["sigma"] * (comp**2 - over**2)
            return xp.exp(xp.minimum(exponent, xp.zeros_like(over)))
        # For comp ≥ over, the quotient is at least 1, or 0 / 0, which is no constraint.
        acts = (over > comp) & (comp < 1)
        return xp.where(acts, (1 - over) / xp.where(acts, 1 - comp, one), one)

    factor = rivals.min(decay, none + 1)
    return decayed(xp, scores, factor), xp.ones_like(scores, dtype=xp.bool), None

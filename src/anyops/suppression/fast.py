"""Fast NMS: a box stays unless any better one overlaps it too much, suppressed ones included.

b_j = [max_i X_ij ≤ t],   X_ij = overlap(i, j) where i ranks above j and has the same label.
"""

from .._array.mode import Mode
from .._array.namespace import Array
from .._array.support import ORDERS, SHAPES_BY_VALUE, Kind, op
from .arguments import check_threshold, index_call, static_call
from .detections import Detections
from .rescoring import Parameters, Rescored, Rivals, best_first, in_place


@op(Kind.INDICES, SHAPES_BY_VALUE, static="fast_nms_mask")
def fast_nms(
    boxes: Array | None,
    scores: Array,
    iou_threshold: float = 0.5,
    *,
    labels: Array | None = None,
    kind: str = "iou",
    score_threshold: float | None = None,
    max_output: int | None = None,
    overlaps: Array | None = None,
) -> Array:
    """Indices of the boxes that no better-ranked box overlaps by more than `iou_threshold`, by descending score.

    Unlike in :func:`nms`, a suppressed box can still suppress others, so all boxes are decided at once. The boxes kept
    are a subset of those that :func:`nms` keeps.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy; floating or integer. May be None where `overlaps` is given.
    scores : array (N,)
        NaN ranks below every number.
    iou_threshold : float in [0, 1]
        Strict: a pair that overlaps by exactly this much stays.
    labels : array (N,), optional
        Boxes of different labels do not suppress each other.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou"}
        Of the overlap, see :func:`box_iou`.
    score_threshold : float, optional
        Only boxes with a score strictly greater take part.
    max_output : int, optional
        Return the best `max_output` of the boxes kept.
    overlaps : array (N, N), optional
        Used in place of the overlaps of `boxes`: of masks, volumes, rotated boxes.

    Returns
    -------
    array (K,)
        In the namespace's index dtype.

    Raises
    ------
    TypeError, ValueError
        As :func:`nms`. For batches and under a transform there is :func:`fast_nms_mask`.

    References
    ----------
    .. [1] Bolya et al., YOLACT: Real-time Instance Segmentation, arXiv:1904.02689, section 3.2.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 9.0, 9.0], [4.0, 0.0, 13.0, 9.0], [8.0, 0.0, 17.0, 9.0]])
    >>> scores = np.asarray([0.9, 0.8, 0.7])
    >>> anyops.nms(boxes, scores, 0.3).tolist(), anyops.fast_nms(boxes, scores, 0.3).tolist()
    ([0, 2], [0])
    """
    threshold = check_threshold("iou_threshold", iou_threshold, largest=1.0)
    call = index_call(
        "fast_nms", Detections(boxes, scores, labels, overlaps), kind, score_threshold, max_output, differentiable=False
    )
    given = {"threshold": threshold}
    kept = best_first(call, given, rescore=_rescore, floor=threshold, late=False, unchanged=True)[0]
    return call.mode.back(kept)


@op(Kind.MASK, ORDERS)
def fast_nms_mask(
    boxes: Array | None,
    scores: Array,
    iou_threshold: float = 0.5,
    *,
    labels: Array | None = None,
    kind: str = "iou",
    valid: Array | None = None,
    overlaps: Array | None = None,
) -> Array:
    """Whether Fast NMS keeps each box, in a fixed shape: the static form of :func:`fast_nms`.

    Parameters
    ----------
    boxes : array (..., N, 4)
    scores : array (..., N)
    iou_threshold : float in [0, 1]
    labels : array (..., N), optional
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou"}
    valid : bool array (..., N), optional
        False for boxes that are padding: they neither suppress nor are kept.
    overlaps : array (..., N, N), optional
        Used in place of the overlaps of `boxes`, which may then be None.

    Returns
    -------
    bool array (..., N)

    Raises
    ------
    TypeError, ValueError
        As :func:`nms`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[[0.0, 0.0, 9.0, 9.0], [4.0, 0.0, 13.0, 9.0], [8.0, 0.0, 17.0, 9.0]]])
    >>> anyops.fast_nms_mask(boxes, np.asarray([[0.9, 0.8, 0.7]]), 0.3).tolist()
    [[True, False, False]]
    """
    threshold = check_threshold("iou_threshold", iou_threshold, largest=1.0)
    call = static_call("fast_nms_mask", Detections(boxes, scores, labels, overlaps, valid), kind, differentiable=False)
    return call.mode.back(in_place(call, {"threshold": threshold}, rescore=_rescore, floor=threshold)[1])


def _rescore(_mode: Mode, rivals: Rivals, _boxes: Array | None, scores: Array, given: Parameters) -> Rescored:
    return scores, ~rivals.any(lambda pair: pair.overlap > given["threshold"]), None

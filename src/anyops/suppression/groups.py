"""The groups that greedy NMS makes: for each box the kept box that stands for it, as input to a merge."""

from .._array.mode import Mode
from .._array.namespace import Array, device
from .._array.order import descending
from .._array.support import SHAPES_BY_VALUE, Kind, op
from .arguments import check_threshold, index_call
from .detections import Detections
from .rescoring import Pair, rivals_of


@op(Kind.INDICES, SHAPES_BY_VALUE, static="nms_mask")
def nms_groups(
    boxes: Array | None,
    scores: Array,
    iou_threshold: float = 0.5,
    *,
    labels: Array | None = None,
    kind: str = "iou",
    score_threshold: float | None = None,
    overlaps: Array | None = None,
) -> Array:
    """Index of the kept box that stands for each box: the best-ranked one that suppresses it, itself if it is kept.

    For a non-maximum merge: boxes with the same index form a group.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy; floating or integer. May be None where `overlaps` is given.
    scores : array (N,)
        NaN ranks below every number.
    iou_threshold : float in [0, 1]
        Strict: a pair that overlaps by exactly this much is not in one group.
    labels : array (N,), optional
        Boxes of different labels are of different groups.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou"}
        Of the overlap, see :func:`box_iou`, seen from the better box.
    score_threshold : float, optional
        Only boxes with a score strictly greater take part.
    overlaps : array (N, N), optional
        Used in place of the overlaps of `boxes`.

    Returns
    -------
    array (N,)
        In the namespace's index dtype; −1 for boxes that do not take part.

    Raises
    ------
    TypeError, ValueError
        As :func:`nms`.

    Notes
    -----
    One pass over the boxes as they are. To compare merged boxes too, call again with them.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    >>> anyops.nms_groups(boxes, np.asarray([0.8, 0.9, 0.3])).tolist()
    [1, 1, 2]
    """
    threshold = check_threshold("iou_threshold", iou_threshold, largest=1.0)
    call = index_call(
        "nms_groups", Detections(boxes, scores, labels, overlaps), kind, score_threshold, differentiable=False
    )
    mode = call.mode
    found = mode.run(_groups, call.detections, threshold, call.least, kind=kind, dense=mode.padded)
    return mode.back(found)


def _groups(
    mode: Mode, detections: Detections, threshold: float, least: float | None, *, kind: str, dense: bool
) -> Array:
    xp, scores = mode.xp, detections.scores
    rivals = rivals_of(mode, detections, least, kind=kind, floor=threshold, dense=dense)
    n = rivals.order.shape[0]
    kept, ranks = rivals.kept(threshold), xp.arange(n, dtype=rivals.order.dtype, device=device(rivals.order))
    last = xp.full_like(ranks, max(n - 1, 0))

    def suppressor(pair: Pair) -> Array:
        return xp.where(pair.better(kept) & (pair.overlap > threshold), pair.better(ranks), pair.worse(last))

    groups = xp.take(rivals.order, xp.where(kept, ranks, rivals.min(suppressor, last)))
    # Boxes with scores up to the threshold rank last, and have no group.
    others = xp.full((scores.shape[0] - n,), -1, dtype=groups.dtype, device=device(scores))
    groups = xp.take(xp.concat((groups, others)), xp.argsort(descending(xp, scores)))
    return groups if least is None else xp.where(scores > least, groups, xp.full_like(groups, -1))

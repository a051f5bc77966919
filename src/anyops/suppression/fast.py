"""Fast NMS: a box is kept unless any better one overlaps it too much, even a suppressed one.

b_j = [max_i X_ij ≤ t],   X_ij = overlap(i, j) where i ranks above j and has the same label.
"""

from .._array.arguments import check_parameter
from .._array.mode import Mode
from .._array.namespace import Array, I_co, Sortable
from .._array.segments import mark
from .._array.selection import indices_of
from .._array.support import ORDERS, SHAPES_BY_VALUE, Kind, op
from ..boxes.regions import Measure, OverlapKind, RegionFormat
from .arguments import check_threshold, index_call, static_call
from .detections import Detections
from .greedy import kept_of_scene
from .rescoring import Parameters, Rescored, Rivals, best_first, in_place
from .select import ranked_above
from .tiles import Tiles
from .winners import pairs_with_kept, small_graph

# Number of boxes from which on nearly all of them may overlap, so that all pairs would take too much time and memory.
CROWDED = 1500


@op(Kind.INDICES, SHAPES_BY_VALUE, static="fast_nms_mask")
def fast_nms(
    boxes: Array | None,
    scores: Sortable[I_co],
    iou_threshold: float | Array = 0.5,
    *,
    labels: Array | None = None,
    scenes: Array | None = None,
    kind: OverlapKind = "iou",
    fmt: RegionFormat = "xyxy",
    score_threshold: float | Array | None = None,
    max_output: int | None = None,
    overlaps: Array | None = None,
) -> I_co:
    """Indices of the boxes that no better-ranked box overlaps by more than `iou_threshold`, by descending score.

    Unlike in :func:`nms`, a suppressed box can still suppress others, so all boxes are decided at once. The boxes kept
    are a subset of those that :func:`nms` keeps.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy, or as `fmt` says; floating or integer. May be None if `overlaps` is given.
    scores : array (N,)
        NaN ranks below every number.
    iou_threshold : float in [0, 1], or array ()
        Strict: a pair that overlaps by exactly this much stays.
    labels : array (N,), optional
        Boxes of different labels do not suppress each other.
    scenes : integer array (N,), optional
        Scene of each box. Boxes of different scenes do not suppress each other, whatever their labels.
        `max_output` holds for each scene.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        Kind of overlap, see :func:`box_iou`.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    score_threshold : float ≥ 0, optional
        Boxes with a score that is not strictly greater are ignored.
    max_output : int, optional
        Return the best `max_output` of the boxes kept.
    overlaps : array (N, N), optional
        Used instead of the overlaps of `boxes`, for masks or keypoints.

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
        "fast_nms",
        Detections(boxes, scores, labels, overlaps),
        Measure(kind, fmt),
        score_threshold,
        max_output,
        scenes=scenes,
        differentiable=False,
    )
    mode, detections, measure, least = call.mode, call.detections, call.measure, call.least
    if mode.padded or overlaps is not None or detections.scores.shape[0] < CROWDED:
        given = {"threshold": threshold}
        return mode.back(best_first(call, given, rescore=_rescore, floor=threshold, late=False, unchanged=True)[0])
    kept = mode.run(_of_graph, detections, threshold, least, measure=measure)
    if kept is None:
        greedy = kept_of_scene(call._replace(limit=None), threshold)
        kept = mode.run(_among_kept, detections, greedy, threshold, least, measure=measure)
    return mode.back(call.first(kept)[0])


def _of_graph(
    mode: Mode, detections: Detections, threshold: float, least: float | None, *, measure: Measure
) -> Array | None:
    """Indices kept, from the graph of all overlapping pairs; None if there are too many."""
    xp, (order, graph) = mode.xp, small_graph(mode, detections, threshold, least, measure)
    if graph is None:
        return None
    return xp.take(order, indices_of(xp, ~graph.any(lambda pair: pair.overlap > threshold)))


def _among_kept(
    mode: Mode, detections: Detections, greedy: Array, threshold: float, least: float | None, *, measure: Measure
) -> Array:
    """Indices kept, a subset of the boxes that greedy suppression keeps."""
    xp, found = mode.xp, pairs_with_kept(mode, detections, greedy, threshold, least, measure)
    if found is None:
        order = ranked_above(xp, detections.scores, least)
        gone = Tiles.of(xp, order, detections, measure).any(lambda pair: pair.overlap > threshold)
        return xp.take(order, indices_of(xp, ~gone))
    order, kept, pairs = found
    for edges in pairs():
        kept = kept & ~mark(xp, edges.worse, order.shape[0])
    return xp.take(order, indices_of(xp, kept))


@op(Kind.MASK, ORDERS)
def fast_nms_mask(
    boxes: Array | None,
    scores: Array,
    iou_threshold: float | Array = 0.5,
    *,
    labels: Array | None = None,
    kind: OverlapKind = "iou",
    fmt: RegionFormat = "xyxy",
    valid: Array | None = None,
    overlaps: Array | None = None,
) -> Array:
    """Whether Fast NMS keeps each box, in a fixed shape: the static form of :func:`fast_nms`.

    Parameters
    ----------
    boxes : array (..., N, 4)
    scores : array (..., N)
    iou_threshold : float in [0, 1], or array ()
        As in :func:`fast_nms`.
    labels : array (..., N), optional
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        As in :func:`fast_nms`.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    valid : bool array (..., N), optional
        False for padding, which neither suppresses nor is kept.
    overlaps : array (..., N, N), optional
        Used instead of the overlaps of `boxes`, which may then be None.

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
    given = Detections(boxes, scores, labels, overlaps, valid)
    numbers = {"threshold": check_threshold("iou_threshold", iou_threshold, largest=1.0, check=check_parameter)}
    call, numbers = static_call("fast_nms_mask", given, Measure(kind, fmt), numbers, differentiable=False)
    return call.mode.back(in_place(call, numbers, rescore=_rescore, floor=numbers["threshold"])[1])


def _rescore(_mode: Mode, rivals: Rivals, _boxes: Array | None, scores: Array, given: Parameters) -> Rescored:
    return scores, ~rivals.any(lambda pair: pair.overlap > given["threshold"]), None

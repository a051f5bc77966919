"""The groups of greedy NMS: for each box, the kept box that represents it; as input to a merge."""

from .._array.backends import to_host
from .._array.mode import Mode
from .._array.namespace import Array, Namespace, device
from .._array.order import descending
from .._array.padding import bucket, marked
from .._array.segments import mark, segment_max
from .._array.selection import indices_of
from .._array.support import SHAPES_BY_VALUE, Kind, op
from .._host import greedy as host
from ..boxes.regions import Measure, OverlapKind, RegionFormat
from .arguments import check_threshold, index_call
from .detections import Detections
from .greedy import decided_in_parts, kept_of_scene, undivided
from .rescoring import padded
from .tiles import Pairs, Tiles
from .winners import small_graph


@op(Kind.INDICES, SHAPES_BY_VALUE, static="nms_mask")
def nms_groups(
    boxes: Array | None,
    scores: Array,
    iou_threshold: float | Array = 0.5,
    *,
    labels: Array | None = None,
    scenes: Array | None = None,
    kind: OverlapKind = "iou",
    fmt: RegionFormat = "xyxy",
    score_threshold: float | Array | None = None,
    overlaps: Array | None = None,
) -> Array:
    """Index of the kept box that stands for each box: the best-ranked one that suppresses it, itself if it is kept.

    For a non-maximum merge: boxes with the same index form a group.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy, or as `fmt` says; floating or integer. May be None if `overlaps` is given.
    scores : array (N,)
        NaN ranks below every number.
    iou_threshold : float in [0, 1], or array ()
        Strict: a pair that overlaps by exactly this much is not in one group.
    labels : array (N,), optional
        Boxes of different labels are of different groups.
    scenes : integer array (N,), optional
        Scene of each box. Boxes of different scenes do not form groups, whatever their labels.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        Kind of overlap, see :func:`box_iou`; for "iof", the first box is the higher-ranked one.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    score_threshold : float ≥ 0, optional
        Boxes with a score that is not strictly greater are ignored.
    overlaps : array (N, N), optional
        Used instead of the overlaps of `boxes`.

    Returns
    -------
    array (N,)
        In the namespace's index dtype; −1 for ignored boxes.

    Raises
    ------
    TypeError, ValueError
        As :func:`nms`.

    Notes
    -----
    One pass over the given boxes. To compare merged boxes too, call again with them.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    >>> anyops.nms_groups(boxes, np.asarray([0.8, 0.9, 0.3])).tolist()
    [1, 1, 2]
    """
    threshold = check_threshold("iou_threshold", iou_threshold, largest=1.0)
    call = index_call(
        "nms_groups",
        Detections(boxes, scores, labels, overlaps),
        Measure(kind, fmt),
        score_threshold,
        scenes=scenes,
        differentiable=False,
    )
    mode, detections, measure, least = call.mode, call.detections, call.measure, call.least
    if mode.host and host.suits(detections, measure):
        found = host.groups(mode, detections, threshold, least, kind=measure.kind)
        if found is not None:
            return mode.back(found)
    if detections.overlaps is None and not mode.padded:
        few = detections.scores.shape[0] < undivided(measure)
        found = mode.run(_of_graph if few else _of_parts, detections, threshold, least, measure=measure)
        if found is not None:
            return mode.back(found)
    # There are many pairs, but only pairs with a kept box matter.
    kept, n = kept_of_scene(call, threshold), detections.scores.shape[0]
    if mode.padded:
        size, rows = bucket(n), bucket(kept.shape[0])
        detections = padded(mode, detections, size)
        return mode.back(
            to_host(mode.run(_of_tiles, detections, marked(kept, size), threshold, least, measure=measure, rows=rows))[
                :n
            ]
        )
    kept, rows = mark(mode.xp, kept, n), kept.shape[0]
    found = mode.run(_of_tiles, detections, kept, threshold, least, measure=measure, rows=rows)
    return mode.back(found)


def _of_graph(
    mode: Mode, detections: Detections, threshold: float, least: float | None, *, measure: Measure
) -> Array | None:
    """The groups, from the graph of all overlapping pairs; None if there are too many."""
    xp, scores = mode.xp, detections.scores
    order, graph = small_graph(mode, detections, threshold, least, measure)
    if graph is None:
        return None
    ranks = xp.arange(order.shape[0], dtype=order.dtype, device=device(order))
    over = graph.at(indices_of(xp, graph.overlap > threshold))
    kept = over.kept(threshold)
    winning = over.at(indices_of(xp, over.better(kept)))
    last = xp.full_like(ranks, max(order.shape[0] - 1, 0))
    return _by_rank(xp, xp.where(kept, ranks, winning.min(lambda pair: pair.better(ranks), last)), order, scores)


def _of_parts(
    mode: Mode, detections: Detections, threshold: float, least: float | None, *, measure: Measure
) -> Array | None:
    """The groups of a large scene, found along with the boxes kept; None if it cannot be cut into strips."""
    found = decided_in_parts(mode, detections, threshold, least, measure=measure, led=True)
    return None if found is None else _by_rank(mode.xp, found[2], found[0], detections.scores)


def _of_tiles(
    mode: Mode,
    detections: Detections,
    kept: Array,
    threshold: float,
    least: float | None,
    *,
    measure: Measure,
    rows: int,
) -> Array:
    """The groups, by comparing the boxes kept, at most `rows`, with all boxes."""
    xp, scores = mode.xp, detections.scores
    order = descending(xp, scores)
    rank, n = xp.argsort(order), order.shape[0]
    if n == 0:
        return order
    # Boxes kept come first; both parts are ordered by rank.
    position = xp.argsort(xp.where(kept, rank, rank + n))
    tiles, rank = Tiles.of(xp, position, detections, measure), xp.take(rank, position)
    last = xp.full_like(rank, n - 1)

    def suppressor(pair: Pairs) -> Array:
        better = (pair.better(rank) < pair.worse(rank)) & pair.better(xp.take(kept, position))
        return xp.where(better & (pair.overlap > threshold), pair.better(rank), pair.worse(last))

    found = xp.where(xp.take(kept, position), rank, tiles.min(suppressor, last, rows=min(rows, n)))
    groups = xp.take(xp.take(order, found), xp.argsort(position))
    return groups if least is None else xp.where(scores > least, groups, xp.full_like(groups, -1))


def _by_rank(xp: Namespace, found: Array, order: Array, scores: Array) -> Array:
    """The groups in the order of the arguments, given the rank of each rank's representative; −1 for ignored boxes."""
    none = xp.full(scores.shape, -1, dtype=order.dtype, device=device(order))
    return segment_max(xp, xp.take(order, found), order, none)

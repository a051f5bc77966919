"""Greedy non-maximum suppression: by descending score, a box is kept unless a kept box overlaps it too much.

With boxes numbered by rank and X_ij = overlap(i, j) if i < j and the labels are equal, else 0, the boxes kept are the
only solution of

    b_j = not any_i (b_i and X_ij > t),

because X is strictly triangular. Iterating the equation from all true converges to it. The static form does so on
tiles of the matrix; the index form on tiles of the boxes still live, or on the sparse graph of the pairs.
"""

from functools import partial

from .._array.arguments import check_parameter
from .._array.loop import branch, branches, map_lanes
from .._array.mode import Mode
from .._array.namespace import Array, I_co, Sortable, default_int, device, is_dynamic, namespace
from .._array.segments import mark, put_along_last, segment_min
from .._array.selection import indices_of
from .._array.support import LOOPS, ORDERS, SHAPES_BY_VALUE, Kind, op
from .._host import greedy as host
from ..boxes.regions import Measure, OverlapKind, RegionFormat
from .arguments import Call, check_detections, check_threshold, index_call, static_call
from .bucketed import kept_in_buckets
from .detections import Detections, each_scene
from .edges import kept_of_edges
from .overlaps import (
    Edges,
    Scene,
    Strips,
    Sweep,
    candidates,
    overlapping,
    overlapping_between,
    scene_by_rank,
    searches_within,
)
from .rescoring import Parameters, Rescored, Rivals, best_first
from .select import ranked_above
from .tiles import ranked_mask

# Numbers of boxes for which the scenes of a batch are decided one by one: smaller scenes are not worth a loop step, and
# larger ones keep all cores busy.
APART = range(256, 4097)
# Number of boxes from which on a kernel in fixed shape has variants for several numbers of valid boxes.
PARTED = 1024
# Number of boxes up to which one graph of all boxes takes fewer calls than letting the best boxes suppress first.
UNDIVIDED = 1500
# The same for regions that do not fill their envelopes: a pair of them costs as much as dozens of pairs of boxes.
UNDIVIDED_REGIONS = 128
# Largest number of candidates for one graph; if there are more, the graph is built for fewer of the best boxes.
CANDIDATES = 1 << 22
# Number of pairs per box up to which one graph of all boxes is faster than letting the best boxes suppress first.
SPARSE = 4


@op(Kind.INDICES, SHAPES_BY_VALUE, static="nms_mask")
def nms(
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
    """Indices of the boxes that greedy non-maximum suppression keeps, by descending score.

    A box is dropped iff a kept box ranks above it, has the same label, and overlaps it by more than `iou_threshold`.
    Boxes rank by score, ties by the lower index.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy, or as `fmt` says; floating or integer. May be None if `overlaps` is given.
    scores : array (N,)
        NaN ranks below every number.
    iou_threshold : float in [0, 1], or array ()
        Strict: a pair that overlaps by exactly this much stays.
    labels : array (N,), optional
        Boxes of different labels do not suppress each other. Integers of any size and sign, or floats.
    scenes : integer array (N,), optional
        Scene of each box. Boxes of different scenes do not suppress each other, whatever their labels.
        `max_output` holds for each scene.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        Kind of overlap, see :func:`box_iou`; "diou" is DIoU-NMS [2]_. For "iof", the first box is the higher-ranked
        one.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    score_threshold : float ≥ 0, optional
        Boxes with a score that is not strictly greater are ignored.
    max_output : int, optional
        Return the best `max_output` of the boxes kept.
    overlaps : array (N, N), optional
        Used instead of the overlaps of `boxes`, for masks, keypoints or other similarities.

    Returns
    -------
    array (K,)
        In the namespace's index dtype. A box without area, or with a NaN coordinate, is always kept.

    Raises
    ------
    TypeError, ValueError
        If arguments are not arrays of one library and device, or shapes, dtypes, thresholds or `kind` are out of range;
        for batches and under a transform (``jax.jit``, ...): use :func:`nms_mask`.

    Notes
    -----
    Memory grows with the number of overlapping pairs, never with N².

    References
    ----------
    .. [1] Girshick et al., Rich feature hierarchies for accurate object detection, arXiv:1311.2524, section 2.
    .. [2] Zheng et al., Distance-IoU Loss, arXiv:1911.08287, section 3.4.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    >>> anyops.nms(boxes, np.asarray([0.8, 0.9, 0.3]), 0.5).tolist()
    [1, 2]
    """
    threshold = check_threshold("iou_threshold", iou_threshold, largest=1.0)
    call = index_call(
        "nms",
        Detections(boxes, scores, labels, overlaps),
        Measure(kind, fmt),
        score_threshold,
        max_output,
        scenes=scenes,
        differentiable=False,
    )
    kept = kept_of_scene(call, threshold)
    if call.limit is not None:
        (kept,) = call.first(kept)
    return call.mode.back(kept)


@op(Kind.INDICES, SHAPES_BY_VALUE, static="nms_mask")
def batched_nms(
    boxes: Array, scores: Sortable[I_co], idxs: Array, iou_threshold: float, *, fmt: RegionFormat = "xyxy"
) -> I_co:
    """Indices kept by greedy NMS within each class, by descending score: ``nms(..., labels=idxs)``.

    Parameters
    ----------
    boxes : array (N, 4)
    scores : array (N,)
    idxs : array (N,)
        Class of each box.
    iou_threshold : float in [0, 1], or array ()
        As in :func:`nms`.
    fmt : str
        Format of `boxes`, see :func:`box_convert`.

    Returns
    -------
    array (K,)

    Raises
    ------
    TypeError, ValueError
        As :func:`nms`.

    Notes
    -----
    Name and order of arguments as in ``torchvision.ops.batched_nms``. torchvision shifts the boxes of each class apart,
    which changes results for negative coordinates and, in float32, for large class numbers. Here classes are compared.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
    >>> anyops.batched_nms(boxes, np.asarray([0.8, 0.9]), np.asarray([0, 1]), 0.5).tolist()
    [1, 0]
    """
    namespace(idxs=idxs)
    check_detections(Detections(boxes, scores, idxs), Measure(fmt=fmt), "idxs")
    return nms(boxes, scores, iou_threshold, labels=idxs, fmt=fmt)


@op(Kind.MASK, ORDERS, LOOPS)
def nms_mask(
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
    """Whether greedy non-maximum suppression keeps each box, in a fixed shape.

    The static form of :func:`nms`, for batches, ``jax.jit``, ``jax.vmap``, ``torch.compile`` and ``torch.func.vmap``.

    Parameters
    ----------
    boxes : array (..., N, 4)
    scores : array (..., N)
    iou_threshold : float in [0, 1], or array ()
        As in :func:`nms`.
    labels : array (..., N), optional
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        As in :func:`nms`.
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

    Notes
    -----
    Instead of a `score_threshold` pass ``valid=scores > t``; instead of `max_output` use :func:`top_scores`; and
    instead of `scenes` leading dimensions.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]]])
    >>> anyops.nms_mask(boxes, np.asarray([[0.8, 0.9, 0.3]]), 0.5).tolist()
    [[False, True, True]]
    """
    given = Detections(boxes, scores, labels, overlaps, valid)
    numbers = {"threshold": check_threshold("iou_threshold", iou_threshold, largest=1.0, check=check_parameter)}
    call, numbers = static_call("nms_mask", given, Measure(kind, fmt), numbers, differentiable=False)
    mode, detections, threshold = call.mode, call.detections, numbers["threshold"]
    if not mode.host:
        return mode.run(_mask, detections, threshold, measure=call.measure)
    mask = mode.xp.zeros(detections.scores.shape, dtype=mode.xp.bool)

    def decide(scene: Detections, lane: tuple[int, ...], at: Array | None) -> None:
        kept = kept_of_scene(call._replace(detections=scene), threshold)
        mask[lane][kept if at is None else mode.xp.take(at, kept)] = True

    each_scene(mode, detections, decide)
    return mode.back(mask)


def _mask(mode: Mode, detections: Detections, threshold: Array | float, *, measure: Measure) -> Array:
    """Whether each box is kept, in the order of the arguments."""
    *lanes, n = detections.scores.shape
    one = partial(_mask_of_lane, mode, threshold=threshold, measure=measure)
    apart = not is_dynamic(mode.xp, n) and n in APART
    return map_lanes(one, detections, tuple(lanes)) if apart else one(detections)


def _mask_of_lane(mode: Mode, detections: Detections, *, threshold: Array | float, measure: Measure) -> Array:
    xp, scores, valid = mode.xp, detections.scores, detections.valid
    n = scores.shape[-1]
    sizes = branches(scores, (n // 16, n // 4, n))

    def decide(some: Detections) -> Array:
        order, live = ranked_mask(mode, some, threshold, measure=measure)
        return put_along_last(xp, live, order)

    if valid is None or len(sizes) == 1 or is_dynamic(xp, n) or n < PARTED or 0 in scores.shape:
        return decide(detections)
    # Valid boxes come first, so that the work depends on their number.
    count = xp.cumulative_sum(xp.astype(valid, default_int(xp, scores)), axis=-1)
    number = xp.broadcast_to(xp.arange(n, dtype=count.dtype), count.shape)
    first = put_along_last(xp, number, xp.where(valid, count - 1, count[..., -1:] + number - count))

    def decide_first(size: int) -> Array:
        live = decide(detections.take(xp, first[..., :size]))
        return xp.concat((live, xp.zeros((*live.shape[:-1], n - size), dtype=xp.bool)), axis=-1)

    return put_along_last(xp, branch(xp.max(count), sizes, decide_first), first)


def kept_of_scene(call: Call, threshold: float) -> Array:
    """Indices of the boxes kept of one scene, by descending score."""
    mode, detections, measure, least, *_ = call
    if detections.boxes is not None and detections.overlaps is None:
        kept = None
        if mode.host:
            if host.suits(detections, measure):
                kept = host.kept(mode, detections, threshold, least, kind=measure.kind)
        elif mode.padded:
            return kept_in_buckets(mode, detections, threshold, least, measure=measure)
        if kept is None and detections.scores.shape[0] >= undivided(measure):
            found = mode.run(decided_in_parts, detections, threshold, least, measure=measure)
            kept = None if found is None else mode.xp.take(*found[:2])
        if kept is not None:
            return kept
    return best_first(call, {"threshold": threshold}, rescore=_rescore, floor=threshold, late=False, unchanged=True)[0]


def undivided(measure: Measure) -> int:
    """Return the number of regions up to which one graph of all is faster."""
    return UNDIVIDED if measure.geometry.along_axes else UNDIVIDED_REGIONS


def _rescore(_mode: Mode, rivals: Rivals, _boxes: Array | None, scores: Array, given: Parameters) -> Rescored:
    return scores, rivals.kept(given["threshold"]), None


# Large scenes in eager calls: a graph of the best boxes, which suppress others before the others are compared.


def decided_in_parts(
    mode: Mode, detections: Detections, threshold: float, least: float | None, *, measure: Measure, led: bool = False
) -> tuple[Array, Array, Array | None] | None:
    """Positions by rank, the ranks kept, and, if `led`, the rank of each box's group leader.

    The leader is the box itself if it is kept, else the best-ranked kept box that suppresses it. None for a scene that
    cannot be cut into strips.
    """
    xp, (boxes, scores, labels, *_) = mode.xp, detections
    order = ranked_above(xp, scores, least)
    n, ranks = order.shape[0], xp.arange(order.shape[0], dtype=order.dtype, device=device(order))
    scene, proper = scene_by_rank(xp, boxes, labels, order, measure, threshold)
    # A box that cannot overlap others is kept. In the scene it would only extend the range that is cut into strips.
    scene = scene if proper is None else scene.take(xp, indices_of(xp, proper))
    if scene.size == 0:
        return order, ranks, ranks
    strips = Strips.of(xp, scene)
    if not bool(strips.fits(xp)):
        return None
    kept, leads = _by_graph(mode, scene, strips, xp.full_like(ranks, n) if led else None)
    if leads is not None:
        leads = xp.where(leads < n, leads, ranks)
    if proper is not None:
        kept = indices_of(xp, mark(xp, kept, n) | ~proper)
    return order, kept, leads


def _by_graph(mode: Mode, scene: Scene, strips: Strips, leads: Array | None) -> tuple[Array, Array | None]:
    """Ranks kept, from the graph of overlapping pairs; and `leads`, if given, with each suppressed rank's leader.

    If most boxes are suppressed, most pairs need not be compared: the best boxes are resolved first, and suppress
    others before these are compared with each other.
    """
    xp, kept, most, few = mode.xp, [], scene.size, undivided(scene.measure)
    size = min(most, max(few, most // 12))
    total = int(scene.ranks[-1]) + 1
    while scene.size > 0:
        head = scene.part(None, size)
        sweep = Sweep.of(xp, strips, head)
        searches = searches_within(xp, sweep)
        if size > few and candidates(xp, searches) > CANDIDATES:
            most = size = size // 2
            continue
        edges = Edges.join(xp, head, overlapping(mode, sweep.scene, sweep.scene, searches))
        whole = min(scene.size, most)
        if size < whole and edges.better.shape[0] * (whole / size) ** 2 < SPARSE * whole:
            size = whole
            continue
        # The pairs hold ranks in the whole scene; convert them to positions in the head.
        number = xp.cumulative_sum(xp.astype(mark(xp, head.ranks, total), head.ranks.dtype)) - 1
        head_kept = kept_of_edges(xp, xp.take(number, edges.better), xp.take(number, edges.worse), size)
        head = head.take(xp, indices_of(xp, head_kept))
        kept.append(head.ranks)
        if leads is not None:
            some = indices_of(xp, xp.take(mark(xp, head.ranks, total), edges.better))
            leads = segment_min(xp, xp.take(edges.better, some), xp.take(edges.worse, some), leads)
        scene = scene.part(size, None)
        if scene.size > 0:
            gone, leads = _suppressed(mode, strips, head, scene, total, leads)
            scene = scene.take(xp, indices_of(xp, ~xp.take(gone, scene.ranks)))
            size = min(4 * size, most, scene.size)
    return xp.concat(kept), leads


def _suppressed(
    mode: Mode, strips: Strips, winners: Scene, rest: Scene, total: int, leads: Array | None
) -> tuple[Array, Array | None]:
    """Whether the box of each rank is in the rest and overlaps a winner; and the updated `leads`."""
    xp = mode.xp
    a, b = Sweep.of(xp, strips, winners), Sweep.of(xp, strips, rest)
    gone = xp.zeros((total,), dtype=xp.bool, device=device(rest.ranks))
    for edges in overlapping_between(mode, a, b):
        gone = gone | mark(xp, edges.worse, total)
        if leads is not None:
            leads = segment_min(xp, edges.better, edges.worse, leads)
    return gone, leads

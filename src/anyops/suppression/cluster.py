"""Cluster-NMS: greedy NMS as a fixed point, whose overlap matrix also penalises scores and averages boxes.

With boxes by rank, X_ij = overlap(i, j) for i < j of the same label, and b the boxes that greedy NMS keeps,

    C_ij = b_i X_ij
    score             s_j ← s_j · Π_i exp(−C_ij² / σ)
    score + distance  s_j ← s_j · Π_i min(exp(−C_ij² / σ) + D_ij^0.6 [C_ij > 0], 1),   D = ρ² / c²
    weighted          box_i ← Σ_j w_ij box_j / Σ_j w_ij,   w_ij = (C_ij [C_ij > 0.8] + δ_ij) s_j.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

from .._array.arguments import check_number, check_parameter
from .._array.mode import Mode
from .._array.namespace import A, Array, Namespace, cast, namespace, result_dtype, rows_of, working
from .._array.support import LOOPS, ORDERS, SHAPES_BY_VALUE, Kind, op
from ..boxes.aligned import BoxKind, columns_of
from ..boxes.regions import FORMATS, PLANE, Measure, OverlapKind, RegionFormat, check_fmt, distance, ready
from .arguments import check_averaged, check_choice, check_positive, check_threshold, index_call, static_call
from .detections import Detections
from .greedy import decided_in_parts, kept_of_scene, undivided
from .rescoring import Pair, Parameters, Rescore, Rescored, RescoredBoxes, Rivals, best_first, decayed, in_place
from .select import as_floating
from .winners import Winners, pairs_with_kept

Penalty = Literal[None, "score", "score+distance"]
PENALTIES: tuple[Penalty, ...] = get_args(Penalty)
# A box contributes to the average of a better one if they overlap by more than this.
AVERAGED = 0.8


class WeightedBoxes(NamedTuple):
    """Averaged boxes by descending new score, their scores, and the positions of the original boxes."""

    boxes: Array
    scores: Array
    indices: Array


class RescoredInPlace(NamedTuple):
    """Averaged boxes and new scores, in the order of the arguments."""

    boxes: Array
    scores: Array


@op(Kind.SELECTION, SHAPES_BY_VALUE, static="cluster_nms_scores")
def cluster_nms(
    boxes: Array | None,
    scores: Array,
    iou_threshold: float | Array = 0.5,
    *,
    penalty: Penalty = None,
    kind: OverlapKind = "iou",
    fmt: RegionFormat = "xyxy",
    labels: Array | None = None,
    scenes: Array | None = None,
    sigma: float | Array = 0.2,
    score_threshold: float | Array | None = 0.01,
    max_output: int | None = None,
    overlaps: Array | None = None,
) -> RescoredBoxes:
    """Indices and scores of Cluster-NMS: greedy NMS, or penalised scores s_j · Π_i exp(−C_ij² / σ).

    C_ij is the overlap of a box i that greedy NMS keeps with a box j that ranks below it and has the same label, 0
    elsewhere. With ``penalty=None`` the boxes that greedy NMS keeps are returned. With ``"score"`` each score is
    multiplied by Π_i exp(−C_ij² / σ); with ``"score+distance"`` by Π_i min(exp(−C_ij² / σ) + D_ij^0.6, 1) over the i
    with C_ij > 0, where D is the squared distance of the centres over the squared diagonal of the enclosing box. A
    penalty drops boxes only for their new score, not for their overlap.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy, or as `fmt` says; floating or integer. May be None if `overlaps` is given, except for distances.
    scores : array (N,)
        NaN ranks below every number.
    iou_threshold : float in [0, 1], or array ()
        Threshold of the greedy suppression that decides which boxes penalise.
    penalty : {None, "score", "score+distance"}
        See above.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        Kind of overlap, see :func:`box_iou`; negative overlaps count as 0. ``"diou"`` alone is DIoU-NMS.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    labels : array (N,), optional
        Boxes of different labels do not affect each other.
    scenes : integer array (N,), optional
        Scene of each box. Boxes of different scenes do not affect each other, whatever their labels. `max_output` holds
        for each scene.
    sigma : float, or array ()
        σ of the penalties; positive.
    score_threshold : float ≥ 0, optional
        Only new scores strictly greater are returned, whatever the penalty; None means no limit.
    max_output : int, optional
        Return the best `max_output`.
    overlaps : array (N, N), optional
        Used instead of the overlaps of `boxes`.

    Returns
    -------
    indices : array (K,)
        By descending new score, ties to the lowest index.
    scores : array (K,)
        New scores, in the floating dtype of `scores`.

    Raises
    ------
    TypeError, ValueError
        As :func:`nms`; if `penalty` is unknown, or `sigma` not positive. For batches and under a transform there is
        :func:`cluster_nms_scores`.

    References
    ----------
    .. [1] Zheng et al., Enhancing Geometric Factors in Model Learning and Inference for Object Detection and Instance
       Segmentation, arXiv:2005.03572, section 4.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 6.0], [20.0, 0.0, 30.0, 10.0]])
    >>> indices, scores = anyops.cluster_nms(boxes, np.asarray([0.9, 0.8, 0.7]), penalty="score")
    >>> indices.tolist(), scores.round(4).tolist()
    ([0, 2, 1], [0.9, 0.7, 0.1322])
    """
    given = _check(boxes, iou_threshold, penalty, sigma, fmt)
    call = index_call(
        "cluster_nms",
        Detections(boxes, scores, labels, overlaps),
        Measure(kind, fmt),
        score_threshold,
        max_output,
        scenes=scenes,
    )
    if penalty is not None or call.mode.grad or call.mode.padded:
        indices, new, _ = best_first(call, **_settings(given, penalty, _rescore, fmt))
    else:  # greedy NMS with unchanged scores
        (indices,), xp = call.first(kept_of_scene(call, given["threshold"])), call.mode.xp
        new = xp.take(as_floating(xp, call.detections.scores), indices)
    return RescoredBoxes(*call.back(indices, new)[:2])


@op(Kind.VALUES, ORDERS, LOOPS)
def cluster_nms_scores(
    boxes: Array | None,
    scores: A,
    iou_threshold: float | Array = 0.5,
    *,
    penalty: Penalty = None,
    kind: OverlapKind = "iou",
    fmt: RegionFormat = "xyxy",
    labels: Array | None = None,
    sigma: float | Array = 0.2,
    valid: Array | None = None,
    overlaps: Array | None = None,
) -> A:
    """New scores of Cluster-NMS, 0 for dropped boxes: the static form of :func:`cluster_nms`.

    Differentiable in scores, boxes, overlaps and `sigma`.

    Parameters
    ----------
    boxes : array (..., N, 4)
    scores : array (..., N)
    iou_threshold : float in [0, 1], or array ()
        As in :func:`cluster_nms`.
    penalty : {None, "score", "score+distance"}
        As in :func:`cluster_nms`.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        As in :func:`cluster_nms`.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    labels : array (..., N), optional
    sigma : float, or array ()
        As in :func:`cluster_nms`.
    valid : bool array (..., N), optional
        False for padding, which affects nothing and gets 0.
    overlaps : array (..., N, N), optional
        Used instead of the overlaps of `boxes`.

    Returns
    -------
    array (..., N)

    Raises
    ------
    TypeError, ValueError
        As :func:`cluster_nms`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 6.0], [20.0, 0.0, 30.0, 10.0]])
    >>> anyops.cluster_nms_scores(boxes, np.asarray([0.9, 0.8, 0.7])).tolist()
    [0.9, 0.0, 0.7]
    """
    numbers = _check(boxes, iou_threshold, penalty, sigma, fmt, check_parameter)
    given = Detections(boxes, scores, labels, overlaps, valid)
    call, numbers = static_call("cluster_nms_scores", given, Measure(kind, fmt), numbers)
    return call.back(None, in_place(call, **_settings(numbers, penalty, _rescore, fmt))[0])[1]


@op(Kind.SELECTION, SHAPES_BY_VALUE, static="weighted_cluster_nms_boxes")
def weighted_cluster_nms(
    boxes: Array | None,
    scores: Array,
    iou_threshold: float | Array = 0.5,
    *,
    penalty: Penalty = None,
    kind: BoxKind = "iou",
    labels: Array | None = None,
    scenes: Array | None = None,
    sigma: float | Array = 0.2,
    score_threshold: float | Array | None = 0.01,
    max_output: int | None = None,
    overlaps: Array | None = None,
) -> WeightedBoxes:
    """Boxes Σ_j w_ij box_j / Σ_j w_ij of weighted Cluster-NMS, their scores and indices.

    w_ij = (C_ij [C_ij > 0.8] + δ_ij) s_j, with C and the new scores s of :func:`cluster_nms`. A box that greedy NMS
    keeps becomes the weighted average of itself and the lower-ranked boxes that it overlaps by more than 0.8, however
    low their scores.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy; floating or integer.
    scores, iou_threshold, penalty, kind, labels, scenes, sigma, score_threshold, max_output, overlaps
        As in :func:`cluster_nms`.

    Returns
    -------
    boxes : array (K, 4)
        In the floating dtype of `boxes`.
    scores : array (K,)
        By descending new score, ties to the lowest index.
    indices : array (K,)
        Positions of the original boxes.

    Raises
    ------
    TypeError, ValueError
        As :func:`cluster_nms`, and if `boxes` is None. For batches and under a transform there is
        :func:`weighted_cluster_nms_boxes`.

    References
    ----------
    .. [1] Zheng et al., arXiv:2005.03572, section 4.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 0.0, 30.0, 10.0]])
    >>> averaged = anyops.weighted_cluster_nms(boxes, np.asarray([0.9, 0.8, 0.7]))
    >>> averaged.boxes.round(2).tolist(), averaged.indices.tolist()
    ([[0.0, 0.0, 10.0, 9.56], [20.0, 0.0, 30.0, 10.0]], [0, 2])
    """
    given = _check(boxes, iou_threshold, penalty, sigma)
    check_averaged("weighted_cluster_nms", boxes)
    # Boxes below the score threshold still contribute to the averages of better ones.
    call = index_call(
        "weighted_cluster_nms",
        Detections(boxes, scores, labels, overlaps),
        Measure(kind),
        score_threshold,
        max_output,
        scenes=scenes,
        early=False,
    )
    indices, new, moved = best_first(call, **_settings(given, penalty, _averaged), early=False)
    indices, new, moved = call.back(indices, new, moved)
    return WeightedBoxes(moved, new, indices)


@op(Kind.VALUES, ORDERS, LOOPS)
def weighted_cluster_nms_boxes(
    boxes: Array | None,
    scores: Array,
    iou_threshold: float | Array = 0.5,
    *,
    penalty: Penalty = None,
    kind: BoxKind = "iou",
    labels: Array | None = None,
    sigma: float | Array = 0.2,
    valid: Array | None = None,
    overlaps: Array | None = None,
) -> RescoredInPlace:
    """Boxes Σ_j w_ij box_j / Σ_j w_ij and new scores: the static form of :func:`weighted_cluster_nms`.

    Differentiable in scores, boxes, overlaps and `sigma`.

    Parameters
    ----------
    boxes : array (..., N, 4)
    scores : array (..., N)
    iou_threshold : float in [0, 1], or array ()
        As in :func:`cluster_nms`.
    penalty : {None, "score", "score+distance"}
        As in :func:`cluster_nms`.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou"}
        As in :func:`cluster_nms`.
    labels : array (..., N), optional
    sigma : float, or array ()
        As in :func:`cluster_nms`.
    valid : bool array (..., N), optional
        False for padding, which affects nothing and gets 0.
    overlaps : array (..., N, N), optional
        Used instead of the overlaps of `boxes`.

    Returns
    -------
    boxes : array (..., N, 4)
        Averaged boxes; dropped boxes are unchanged.
    scores : array (..., N)
        New scores, 0 for dropped boxes.

    Raises
    ------
    TypeError, ValueError
        As :func:`weighted_cluster_nms`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    >>> averaged = anyops.weighted_cluster_nms_boxes(boxes, np.asarray([0.9, 0.9]))
    >>> averaged.boxes.round(2).tolist(), averaged.scores.tolist()
    ([[0.0, 0.0, 10.0, 9.53], [0.0, 0.0, 10.0, 9.0]], [0.9, 0.0])
    """
    numbers = _check(boxes, iou_threshold, penalty, sigma, check=check_parameter)
    op = "weighted_cluster_nms_boxes"
    check_averaged(op, boxes)
    call, numbers = static_call(op, Detections(boxes, scores, labels, overlaps, valid), Measure(kind), numbers)
    new, _, moved = in_place(call, **_settings(numbers, penalty, _averaged))
    _, new, moved = call.back(None, new, moved)
    if call.origin is not None and valid is not None:  # restore padding, which was not moved by the origin
        xp = namespace(boxes=boxes)
        assert moved is not None
        moved = xp.where(valid[..., None], moved, cast(xp, boxes, moved.dtype))
    return RescoredInPlace(moved, new)


def _check(
    boxes: Array | None,
    iou_threshold: float,
    penalty: str | None,
    sigma: float,
    fmt: str = "xyxy",
    check: Callable[..., Any] = check_number,
) -> Parameters:
    """Return the numeric parameters; raise unless all options are valid."""
    check_choice("penalty", penalty, PENALTIES)
    check_fmt("fmt", fmt)
    if penalty == "score+distance" and FORMATS[fmt].geometry.distance is None:
        raise ValueError(
            f"penalty must be None or 'score' for fmt={fmt!r}, which has no centre distance, got {penalty!r}"
        )
    if penalty == "score+distance" and boxes is None:
        raise TypeError("boxes must be an array for penalty='score+distance', which measures distances, got None")
    threshold = check_threshold("iou_threshold", iou_threshold, largest=1.0, check=check)
    return {"threshold": threshold, "sigma": check_positive("sigma", sigma, check=check)}


def _settings(given: Parameters, penalty: str | None, rescore: Rescore, fmt: str = "xyxy") -> dict[str, Any]:
    """Return the keyword arguments of `best_first` and `in_place`."""
    # Without a penalty only overlaps above this have an effect. An array occurs only with tiles, which use all of them.
    least = given["threshold"]
    if rescore is _averaged and isinstance(least, float):
        least = min(least, AVERAGED)
    measure = Measure("diou", "xyxy" if fmt in PLANE else fmt)
    return {
        "given": given,
        "floor": 0.0 if penalty else least,
        "rescore": rescore,
        "some_rivals": _winners,
        "penalty": penalty,
        "centres": measure if penalty == "score+distance" else None,
    }


def _winners(
    mode: Mode, detections: Detections, given: Parameters, least: float | None, *, measure: Measure, floor: float
) -> Winners | None:
    """Return the rivals that greedy NMS keeps, since only these have an effect; None for a small scene or no strips."""
    if detections.scores.shape[0] < undivided(measure):
        return None
    found = decided_in_parts(mode, detections, given["threshold"], least, measure=measure)
    if found is None:
        return None
    kept = mode.xp.take(*found[:2])
    pairs = pairs_with_kept(mode, detections, kept, floor, least, measure, among=True)
    return None if pairs is None else Winners(mode.xp, *pairs)


def _rescore(
    mode: Mode,
    rivals: Rivals | Winners,
    boxes: Array | None,
    scores: Array,
    given: Parameters,
    *,
    penalty: str | None,
    centres: Measure | None,
) -> Rescored:
    xp, kept = mode.xp, rivals.kept(given["threshold"])
    if penalty is None:
        return scores, kept, None
    return _penalised(xp, rivals, kept, boxes, scores, given["sigma"], centres), xp.ones_like(kept), None


def _penalised(
    xp: Namespace,
    rivals: Rivals | Winners,
    kept: Array,
    boxes: Array | None,
    scores: Array,
    sigma: float,
    measure: Measure | None,
) -> Array:
    """Scores penalised by the overlaps with boxes kept, and by distances if `measure` is given."""
    distances = None if measure is None else _distances(xp, boxes, measure)

    def log_factor(pair: Pair) -> Array:
        exponent = -(pair.overlap**2) / sigma
        if distances is not None:
            exponent = _log_sum(xp, exponent, cast(xp, distances(pair), exponent.dtype))
        return xp.where(pair.better(kept), exponent, xp.zeros_like(exponent))

    factor = xp.exp(rivals.sum(log_factor))
    return decayed(xp, scores, factor)


def _distances(xp: Namespace, boxes: Array, measure: Measure) -> Callable[[Pair], Array]:
    """ρ² / c² of pairs of boxes."""
    regions = ready(xp, working(xp, boxes), measure)
    return lambda pair: distance(xp, regions.map(pair.better), regions.map(pair.worse), measure)


def _log_sum(xp: Namespace, exponent: Array, distance: Array) -> Array:
    """log min(exp(exponent) + distance^0.6, 1), with a finite gradient at a distance of 0."""
    zero, apart = xp.zeros_like(distance), distance > 0
    other = 0.6 * xp.log(xp.where(apart, distance, zero + 1))
    return xp.minimum(xp.where(apart, xp.logaddexp(exponent, other), exponent), zero)


def _averaged(
    mode: Mode,
    rivals: Rivals | Winners,
    boxes: Array,
    scores: Array,
    given: Parameters,
    *,
    penalty: str | None,
    centres: Measure | None,
) -> Rescored:
    xp, kept = mode.xp, rivals.kept(given["threshold"])
    new = scores if penalty is None else _penalised(xp, rivals, kept, boxes, scores, given["sigma"], centres)
    corners = xp.stack(columns_of(working(xp, boxes)))

    def weight(pair: Pair) -> Array:
        # AVERAGED as a literal: torch.compile makes module-level numbers symbolic, which inductor's loops cannot use.
        averaged = pair.better(kept) & (pair.overlap > 0.8)
        return xp.where(averaged, pair.overlap, xp.zeros_like(pair.overlap))

    # A box with a non-finite score has no weight; one with non-finite corners has no weight and is not averaged.
    own = cast(xp, xp.where(xp.isfinite(new), new, xp.zeros_like(new)), corners.dtype)
    bounded = xp.all(xp.isfinite(corners), axis=0)
    finite, weighed = xp.where(bounded, corners, xp.zeros_like(corners)), xp.where(bounded, own, xp.zeros_like(own))
    sums = rivals.sums_of_worse(weight, xp.concat((weighed[None, ...], finite * weighed)))
    total = own + sums[0, ...]
    some = bounded & (total != 0)
    # As an offset from the box, so that a box without partners does not move.
    step = (sums[1:, ...] - finite * sums[0, ...]) / xp.where(some, total, xp.ones_like(total))
    moved = xp.where(some, corners + step, corners)
    returned = kept if penalty is None else xp.ones_like(kept)
    return new, returned, cast(xp, xp.stack(rows_of(moved), axis=-1), result_dtype(xp, boxes=boxes))

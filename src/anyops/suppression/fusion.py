"""Weighted boxes fusion: overlapping boxes become one box, their mean weighted by scores.

With boxes numbered by rank, c_k is the founder of the fused box that box k joins:

    c_k = argmax_{j < k, c_j = j, same label} IoU(F_j, k)   if that IoU > t, else k,
    F_j = Σ_{c_i = j} s_i box_i / Σ_{c_i = j} s_i           over the boxes i <= k.

Only c is sequential. The index form finds it on the host (`_host.match`), the static one in N steps of a loop.
Given c, both compute boxes and scores by the same sums over the boxes of each founder, which are differentiable.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple, get_args

from .._array.arguments import check_number, check_parameter
from .._array.backends import to_host
from .._array.loop import while_loop
from .._array.mode import Mode, enter, floating_of, mode_of
from .._array.namespace import (
    Array,
    DType,
    Namespace,
    cast,
    check_can_order,
    check_dtype,
    compute_dtype,
    default_int,
    device,
    is_array,
    namespace,
    number_in,
    result_dtype,
    rows_of,
    stop_gradient,
)
from .._array.nearest import as_compared
from .._array.order import descending
from .._array.padding import bucket, pad
from .._array.segments import segment_sum
from .._array.selection import take_along
from .._array.support import LOOPS, ORDERS, Kind, op
from .._host.match import matched
from ..boxes.aligned import columns_of, overlap, overlaps_others, ready
from ..boxes.geometry import Regions
from ..boxes.iou import beside_first, taking_part
from ..boxes.regions import Measure
from .arguments import (
    check_averaged,
    check_choice,
    check_detections,
    check_index_form,
    check_score_threshold,
    check_threshold,
    comparable,
    is_floating,
    whole,
)
from .detections import Detections

ConfType = Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]
CONF_TYPES: tuple[ConfType, ...] = get_args(ConfType)


MODELS = 1 << 20  # largest number of models without model_weights


class FusedBoxes(NamedTuple):
    """Fused boxes by descending score, their scores and labels."""

    boxes: Array
    scores: Array
    labels: Array


class PaddedFusedBoxes(NamedTuple):
    """Fused boxes by descending score, then zeros; `valid` is true for the fused boxes."""

    boxes: Array
    scores: Array
    labels: Array
    valid: Array


@op(Kind.SELECTION, static="weighted_boxes_fusion_padded")
def weighted_boxes_fusion(
    boxes: Array,
    scores: Array,
    labels: Array,
    *,
    model_ids: Array | None = None,
    model_weights: Array | Sequence[float] | None = None,
    iou_threshold: float | Array = 0.55,
    score_threshold: float | Array = 0.0,
    conf_type: ConfType = "avg",
) -> FusedBoxes:
    """Weighted boxes fusion (WBF) [1]_: Σ s box / Σ s over overlapping boxes, of one or several models.

    Boxes are taken by descending s, their score times the weight of their model, ties by the lower index. Each joins
    the fused box of its label that overlaps it most, if by more than `iou_threshold`, ties to the one founded first.
    Otherwise it founds a new one. A fused box is always the mean, weighted by s, of the boxes that have joined it.

    The score of a fused box follows the implementation of the authors [2]_. n is the number of boxes that were fused,
    w_i are the weights of their models. m is the number of all models, W are their weights. P are the weights of the
    models that found at least one of the boxes, each once.

    ========================  ==============================================================
    avg                       (Σ s_i / n) · min(n, m) / Σ W
    max                       max s_i / max W
    box_and_model_avg         (Σ s_i / Σ w_i) · Σ P / Σ W; 0 if all w_i are 0
    absent_model_aware_avg    Σ s_i / (Σ w_i + Σ W − Σ P)
    ========================  ==============================================================

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy, in any unit; floating or integer. A box without area, or with a NaN coordinate, overlaps nothing.
    scores : array (N,)
    labels : array (N,)
        Boxes of different labels are not fused. Integers of any size and sign.
    model_ids : integer array (N,), optional
        Number of the model that found each box, from 0; a single model if not given.
    model_weights : sequence or array (m,), optional
        Numbers of at least 0, not all 0. By default there are ``max(model_ids) + 1`` models of weight 1: give weights
        if the last model may have found nothing. A box of weight 0 counts in n, but moves nothing; if all boxes have s
        = 0, the fused box is their unweighted mean.
    iou_threshold : float in [0, 1], or array ()
        Strict: a box that overlaps a fused box by exactly this much does not join it.
    score_threshold : float
        Boxes with a score that is not strictly greater are ignored; compared before weights, and NaN is not greater.
    conf_type : {"avg", "max", "box_and_model_avg", "absent_model_aware_avg"}
        How the score of a fused box is computed, see above.

    Returns
    -------
    boxes : array (K, 4)
        By descending score, ties in the order in which they were founded. In the dtype of `boxes`, the default float
        for integers.
    scores : array (K,)
        In the dtype of `scores`, the default float for integers.
    labels : array (K,)
        In the dtype of `labels`.

    Raises
    ------
    TypeError, ValueError
        If arguments are not arrays of one library and device, or shapes, dtypes, thresholds, `conf_type`, model numbers
        or weights are out of range; for batches and under a transform (``jax.jit``, ...), where
        :func:`weighted_boxes_fusion_padded` works.

    Notes
    -----
    There is no ``overlaps``: a fused box moves, so no matrix could hold its overlaps.

    Overlaps are compared in float64. The choice of boxes to fuse has no gradient; fused boxes and scores have one, on
    libraries with automatic differentiation. Memory grows with the number of boxes, never with N².

    References
    ----------
    .. [1] Solovyev, Wang, Gabruseva, Weighted boxes fusion: Ensembling boxes from different object detection models,
       arXiv:1910.13302, section 3.
    .. [2] https://github.com/ZFTurbo/Weighted-Boxes-Fusion, which clips boxes to [0, 1] and swaps inverted corners.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 12.0], [20.0, 0.0, 30.0, 10.0]])
    >>> scores, labels, models = np.asarray([0.75, 0.25, 0.5]), np.asarray([3, 3, 7]), np.asarray([0, 1, 1])
    >>> fused = anyops.weighted_boxes_fusion(boxes, scores, labels, model_ids=models)
    >>> fused.boxes.tolist(), fused.scores.tolist(), fused.labels.tolist()
    ([[0.0, 0.0, 10.0, 10.5], [20.0, 0.0, 30.0, 10.0]], [0.5, 0.25], [3, 7])
    """
    op, given = "weighted_boxes_fusion", Detections(boxes, scores, labels)
    xp, threshold, least = _check(op, given, model_ids, model_weights, iou_threshold, score_threshold, conf_type)
    weights = None if isinstance(model_weights, Sequence) else model_weights
    mode, views = enter(xp, *given[:3], model_ids, weights, differentiable=True)
    check_index_form(op, mode, scores, "labels")
    boxes, scores, labels, model_ids, weights = views
    xp, n = mode.xp, scores.shape[0]
    dtypes = _floating(mode, boxes), _floating(mode, scores), labels.dtype
    boxes, scores, least, origin = _as_floats(mode, boxes, scores, None, least)
    weights = _weights(mode, model_weights if weights is None else weights, boxes, scores)
    if weights is not None:
        _check_weights(to_host(weights).tolist())
    if n == 0:
        return FusedBoxes(*map(mode.back, (cast(xp, boxes, dtypes[0]), cast(xp, scores, dtypes[1]), labels)))
    if model_ids is not None:
        _check_ids(to_host(model_ids).tolist(), None if weights is None else weights.shape[0])
    given = Detections(boxes, scores, comparable(xp, labels))
    if mode.padded:
        size = bucket(n)
        given = given.map(lambda x: pad(xp, x, size))._replace(valid=xp.arange(size) < n)
        model_ids = None if model_ids is None else pad(xp, model_ids, size)
    ranked = mode.run(_ranked, given, model_ids, weights, least)
    founders = matched(mode, ranked, threshold)
    *fused, exist = mode.run(_fused, ranked, founders, weights, origin, dtypes=dtypes, conf_type=conf_type)
    count = int(xp.sum(xp.astype(exist, default_int(xp, exist))))
    return FusedBoxes(*(mode.back(to_host(x)[:count] if mode.padded else x[:count, ...]) for x in fused))


@op(Kind.VALUES, ORDERS, LOOPS)
def weighted_boxes_fusion_padded(
    boxes: Array,
    scores: Array,
    labels: Array,
    *,
    model_ids: Array | None = None,
    model_weights: Array | Sequence[float] | None = None,
    iou_threshold: float | Array = 0.55,
    score_threshold: float | Array = 0.0,
    conf_type: ConfType = "avg",
    valid: Array | None = None,
) -> PaddedFusedBoxes:
    """Weighted boxes fusion in a fixed shape: see :func:`weighted_boxes_fusion`.

    The static form: batches, ``jax.jit``, ``jax.vmap``, ``torch.compile``, ``torch.func.vmap``. It takes N sequential
    steps, each over all boxes.

    Parameters
    ----------
    boxes : array (..., N, 4)
    scores : array (..., N)
    labels : array (..., N)
    model_ids : integer array (..., N), optional
        A box with a number that is negative, or beyond the weights, is ignored.
    model_weights : sequence or array (m,), optional
        By default the largest valid number in each scene is the number of the last model. Weights in an array are not
        checked.
    iou_threshold : float in [0, 1], or array ()
        As in :func:`weighted_boxes_fusion`.
    score_threshold : float
        As in :func:`weighted_boxes_fusion`.
    conf_type : {"avg", "max", "box_and_model_avg", "absent_model_aware_avg"}
        As in :func:`weighted_boxes_fusion`.
    valid : bool array (..., N), optional
        False for padding, which is ignored.

    Returns
    -------
    boxes : array (..., N, 4)
        Fused boxes by descending score, ties in the order in which they were founded, then zeros.
    scores : array (..., N)
    labels : array (..., N)
    valid : bool array (..., N)
        True for fused boxes, False for padding.

    Raises
    ------
    TypeError, ValueError
        As :func:`weighted_boxes_fusion`, except for values in arrays, which are not checked.

    Notes
    -----
    Overlaps are compared in the dtype that boxes are computed in. The index form compares them in float64: the two
    may decide differently if an overlap equals the threshold, or another overlap, up to rounding.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 12.0], [20.0, 0.0, 30.0, 10.0]]])
    >>> scores, labels = np.asarray([[0.75, 0.25, 0.5]]), np.asarray([[3, 3, 7]])
    >>> fused = anyops.weighted_boxes_fusion_padded(boxes, scores, labels)
    >>> fused.boxes.tolist()
    [[[0.0, 0.0, 10.0, 10.5], [20.0, 0.0, 30.0, 10.0], [0.0, 0.0, 0.0, 0.0]]]
    >>> fused.valid.tolist()
    [[True, True, False]]
    """
    op, given = "weighted_boxes_fusion_padded", Detections(boxes, scores, labels, valid=valid)
    xp, threshold, least = _check(
        *(op, given, model_ids, model_weights, iou_threshold, score_threshold, conf_type), check=check_parameter
    )
    dtypes = result_dtype(xp, boxes=boxes), result_dtype(xp, scores=scores), labels.dtype
    named = given._asdict() | {"model_ids": model_ids, "iou_threshold": threshold, "score_threshold": least}
    named |= {} if isinstance(model_weights, Sequence) else {"model_weights": model_weights}
    mode = mode_of(**{name: x for name, x in named.items() if is_array(x)})
    if model_ids is not None:
        models = None
        if model_weights is not None:
            models = len(model_weights) if isinstance(model_weights, Sequence) else model_weights.shape[0]
        model_ids, valid = mode.prepare(_known, model_ids, valid, models=models)
    boxes, scores, least, origin = _as_floats(mode, boxes, scores, valid, least)
    given = given._replace(boxes=boxes, scores=scores, valid=valid)
    weights = _weights(mode, model_weights, boxes, scores)
    if 0 in scores.shape:
        valid = xp.zeros_like(scores, dtype=xp.bool)
        return PaddedFusedBoxes(cast(xp, boxes, dtypes[0]), cast(xp, scores, dtypes[1]), labels, valid)
    arrays = given._replace(labels=comparable(xp, labels)), model_ids, weights, origin, least, threshold
    return PaddedFusedBoxes(*mode.run(_fused_in_place, *arrays, dtypes=dtypes, conf_type=conf_type))


def _fused_in_place(
    mode: Mode,
    detections: Detections,
    model_ids: Array | None,
    weights: Array | None,
    origin: Array | None,
    least: Array | float,
    threshold: Array | float,
    **settings: Any,
) -> tuple[Array, Array, Array, Array]:
    ranked = _ranked(mode, detections, model_ids, weights, least)
    return _fused(mode, ranked, _matched(mode, ranked, threshold), weights, origin, **settings)


def _floating(mode: Mode, x: Array) -> DType:
    """Return the floating dtype of a result."""
    return x.dtype if is_floating(mode, x) else floating_of(mode, x)


def _as_floats(
    mode: Mode, boxes: Array, scores: Array, valid: Array | None, least: Any
) -> tuple[Array, Array, Any, Array | None]:
    """Return boxes, scores, score threshold and origin; integer boxes become floats relative to the origin."""
    origin = None
    if not is_floating(mode, scores):
        scores = as_compared(mode.xp, scores)
    least = whole(mode, least, scores)
    if not is_floating(mode, boxes):
        boxes, origin = beside_first(mode, boxes, scores, least, valid)
    return boxes, scores, least, origin


def _check(
    op: str,
    given: Detections,
    model_ids: Array | None,
    model_weights: Array | Sequence[float] | None,
    iou_threshold: float,
    score_threshold: float,
    conf_type: str,
    *,
    check: Callable[..., Any] = check_number,
) -> tuple[Namespace, Any, Any]:
    """Return the namespace and the thresholds; raise unless the arguments match."""
    optional = {"model_ids": model_ids, "model_weights": None if isinstance(model_weights, Sequence) else model_weights}
    arrays = {"boxes": given.boxes, "scores": given.scores, "labels": given.labels}
    namespace(**arrays, **{k: x for k, x in optional.items() if x is not None})
    check_averaged(op, given.boxes)
    xp, shape = check_detections(given, Measure()), tuple(given.scores.shape)
    check_can_order(xp, op)
    if model_ids is not None:
        check_dtype(xp, "model_ids", model_ids, "integral")
        if tuple(model_ids.shape) != shape:
            raise ValueError(f"model_ids must have shape {shape}, as scores, got {tuple(model_ids.shape)}")
    if model_weights is not None and not isinstance(model_weights, Sequence):
        check_dtype(xp, "model_weights", model_weights, "real floating", "integral")
        if model_weights.ndim != 1 or model_weights.shape[0] == 0:
            raise ValueError(f"model_weights must have shape (n_models,), got {tuple(model_weights.shape)}")
    check_choice("conf_type", conf_type, CONF_TYPES)
    threshold = check_threshold("iou_threshold", iou_threshold, largest=1.0, check=check)
    return xp, threshold, check_score_threshold(score_threshold, check=check)


def _weights(mode: Mode, model_weights: Array | Sequence[float] | None, boxes: Array, scores: Array) -> Array | None:
    """Return the model weights as an array; raise unless they are numbers, and valid if in a sequence."""
    if model_weights is None:
        return None
    dtype = _compute_dtype(mode.xp, boxes, scores)
    if isinstance(model_weights, Sequence):
        wrong = [w for w in model_weights if isinstance(w, bool) or not isinstance(w, Real)]
        if wrong:
            raise TypeError(f"model_weights must be numbers, got {wrong[0]!r}")
        values = [float(w) for w in model_weights]
        _check_weights(values)
        return mode.constant(tuple(values), dtype, scores)
    return cast(mode.xp, model_weights, dtype)


def _known(mode: Mode, model_ids: Array, valid: Array | None, *, models: int | None) -> tuple[Array, Array]:
    """Return the model numbers as indices, 0 for unknown models, and which boxes are valid and of a known model."""
    xp, number = mode.xp, cast(mode.xp, model_ids, default_int(mode.xp, model_ids))
    known = number >= 0 if models is None else (number >= 0) & (number < models)
    return xp.where(known, number, xp.zeros_like(number)), known if valid is None else valid & known


def _check_weights(weights: list[float]) -> None:
    if not all(0 <= w < math.inf for w in weights) or not any(w > 0 for w in weights):
        raise ValueError(f"model_weights must be finite, at least 0, and not all 0, got {weights}")


def _check_ids(ids: list[int], models: int | None) -> None:
    if min(ids) < 0:
        raise ValueError(f"model_ids must be at least 0, got {min(ids)}")
    if models is None and max(ids) >= MODELS:
        raise ValueError(
            f"model_ids must be below {MODELS}, because max(model_ids) + 1 is the number of models, got {max(ids)}; "
            "number the models from 0, or pass model_weights"
        )
    if models is not None and max(ids) >= models:
        raise ValueError(f"model_ids must be below {models}, the number of model_weights, got {max(ids)}")


def _compute_dtype(xp: Namespace, boxes: Array, scores: Array) -> DType:
    """Return the dtype in which to compute boxes and scores."""
    return compute_dtype(xp, result_dtype(xp, boxes=boxes, scores=scores))


class Ranked(NamedTuple):
    """The boxes by descending s; ignored boxes come last, as zeros."""

    boxes: Array  # (..., N, 4)
    scores: Array  # s, score times weight
    labels: Array
    models: Array
    weights: Array  # weight of each box's model
    takes: Array  # false for ignored boxes
    proper: Array  # whether each box can overlap another
    count: Array  # (..., 1), number of models


def _ranked(
    mode: Mode, detections: Detections, model_ids: Array | None, weights: Array | None, least: Array | float
) -> Ranked:
    xp, (boxes, scores, labels, _, valid) = mode.xp, detections
    dtype = _compute_dtype(xp, boxes, scores)
    takes = taking_part(scores, least, valid)
    s = cast(xp, scores, dtype)
    models = xp.zeros_like(scores, dtype=default_int(xp, scores))
    if model_ids is not None:
        models = cast(xp, model_ids, models.dtype)
    if weights is None:
        each = xp.ones_like(s)
        counted = models if valid is None else xp.where(valid, models, xp.zeros_like(models))
        count = cast(xp, xp.max(counted, axis=-1, keepdims=True) + 1, dtype)
    else:
        each = xp.reshape(xp.take(weights, xp.reshape(models, (-1,))), scores.shape)
        count = xp.full_like(s[..., :1], weights.shape[0])
    s = s * each
    takes = takes & ~xp.isnan(s)  # 0 · inf
    order = descending(xp, xp.where(takes, s, xp.full_like(s, -math.inf)))
    boxes = take_along(xp, cast(xp, boxes, dtype), xp.broadcast_to(order[..., None], (*order.shape, 4)), axis=-2)
    s, labels, models, each, takes = (take_along(xp, x, order, axis=-1) for x in (s, labels, models, each, takes))
    boxes = xp.where(takes[..., None], boxes, xp.zeros_like(boxes))
    x1, y1, x2, y2 = columns_of(boxes)
    proper = overlaps_others(x1, y1, x2, y2, (x2 - x1) * (y2 - y1), "iou")
    return Ranked(boxes, xp.where(takes, s, xp.zeros_like(s)), labels, models, each, takes, proper, count)


def _matched(mode: Mode, ranked: Ranked, threshold: Array | float) -> Array:
    """Rank of the founder of the fused box that the box of each rank joins; one step for each rank."""
    xp = mode.xp
    columns = ready(xp, stop_gradient(ranked.boxes), "iou").columns
    s, labels = stop_gradient(ranked.scores), ranked.labels
    n = s.shape[-1]
    ranks = xp.arange(n, dtype=default_int(xp, s), device=device(s))
    usable = (s > 0) & (s < math.inf)
    # As arrays, because torch's loops cannot close over a symbolic number.
    last = xp.full_like(ranks, n - 1)
    limit = stop_gradient(xp.zeros_like(s[..., :1]) + number_in(xp, threshold, s.dtype))
    # In each lane ignored boxes come last.
    steps = xp.max(xp.sum(xp.astype(ranked.takes, ranks.dtype), axis=-1))

    def remain(k: Array, _fused: Array, _weight: Array, _founders: Array) -> Array:
        return k < steps

    def step(k: Array, fused: Array, weight: Array, founders: Array) -> tuple[Array, Array, Array, Array]:
        here = xp.reshape(k, (1,))
        box, label, score = (xp.take(x, here, axis=-1) for x in (columns, labels, s))
        over = overlap(xp, Regions(fused), Regions(box), "iou")
        over = xp.where((founders == ranks) & (labels == label), over, xp.full_like(over, -1.0))
        most = xp.max(over, axis=-1, keepdims=True)
        joins = most > limit
        # The first maximum, by two plain reductions, which compilers turn into faster loops than argmax.
        best = xp.min(xp.where(over == most, ranks, last), axis=-1, keepdims=True)
        added = _relative(xp, score, take_along(xp, s, best, axis=-1), take_along(xp, usable, best, axis=-1))
        total = take_along(xp, weight, best, axis=-1) + added
        old = take_along(xp, fused, xp.broadcast_to(best, (5, *best.shape)), axis=-1)
        x1, y1, x2, y2 = rows_of(old[:4, ...] + added / total * (box[:4, ...] - old[:4, ...]))
        new = xp.stack((x1, y1, x2, y2, (x2 - x1) * (y2 - y1)))
        hit = (ranks == best) & joins
        founders = xp.where(ranks == k, xp.where(joins, best, ranks), founders)
        return k + 1, xp.where(hit, new, fused), xp.where(hit, total, weight), founders

    nobody = xp.full_like(ranked.models, n)
    *_, founders = while_loop(remain, step, (xp.zeros_like(steps), columns, xp.ones_like(s), nobody))
    return xp.where(founders == nobody, ranks, founders)


def _relative(xp: Namespace, s: Array, top: Array, usable: Array) -> Array:
    """Weight s / top of a box relative to its founder; if `top` is not `usable`, 1 for scores equal to it, else 0."""
    return xp.where(usable, s / xp.where(usable, top, xp.ones_like(top)), xp.astype(s == top, top.dtype))


def _fused(
    mode: Mode,
    ranked: Ranked,
    founders: Array,
    weights: Array | None,
    origin: Array | None,
    *,
    dtypes: tuple[DType, DType, DType],
    conf_type: str,
) -> tuple[Array, Array, Array, Array]:
    """Fused boxes, scores and labels, best first, then zeros; and which of them are fused boxes."""
    xp, (boxes, s, labels, models, each, takes, proper, count) = mode.xp, ranked
    zero, one = xp.zeros_like(s), xp.ones_like(s)
    ranks = xp.arange(s.shape[-1], dtype=founders.dtype, device=device(founders))
    exists = takes & (founders == ranks)
    # The founder's score is a unit that cancels, so it is a constant. A founder that no box can join has weight 1.
    top = stop_gradient(take_along(xp, s, founders, axis=-1))
    relative = _relative(xp, s, top, proper & (top > 0) & (top < math.inf))
    # Averaged as offsets from the founder, so that equal corners stay exact.
    alone = (founders == ranks)[..., None]
    first = take_along(xp, boxes, xp.broadcast_to(founders[..., None], boxes.shape), axis=-2)
    offsets = xp.where(alone, xp.zeros_like(boxes), boxes) - xp.where(alone, xp.zeros_like(boxes), first)
    weight, *moments = _sums(xp, founders, relative, *(relative * x for x in columns_of(offsets)))
    moved = xp.stack(moments, axis=-1) / xp.where(exists, weight, one)[..., None]
    mean = boxes + moved if origin is None else origin + (boxes + moved)
    mean = xp.where(exists[..., None], mean, xp.zeros_like(mean))

    total = count if weights is None else xp.sum(weights)
    if conf_type == "max":
        score = s if weights is None else s / xp.max(weights)
    elif conf_type == "avg":
        added, n = _sums(xp, founders, s, one)
        n = xp.where(exists, n, one)
        score = added / n * xp.minimum(n, count + zero) / total
    else:
        added, present = _sums(xp, founders, s, each)
        distinct = _sum_of_distinct(xp, founders, models, each)
        if conf_type == "box_and_model_avg":
            some = exists & (present > 0)
            score = xp.where(some, added, zero) / xp.where(some, present, one) * distinct / total
        else:
            score = added / xp.where(exists, present + (total - distinct), one)
    score = xp.where(exists, score, zero)

    order = descending(xp, score)
    # Fused boxes first, even if their scores have overflowed to NaN.
    missing = xp.astype(take_along(xp, ~exists, order, axis=-1), order.dtype)
    order = take_along(xp, order, xp.argsort(missing, axis=-1, stable=True), axis=-1)
    labels = xp.where(exists, labels, xp.zeros_like(labels))
    score, labels, exists = (take_along(xp, x, order, axis=-1) for x in (score, labels, exists))
    mean = take_along(xp, mean, xp.broadcast_to(order[..., None], mean.shape), axis=-2)
    return *(cast(xp, x, dtype) for x, dtype in zip((mean, score, labels), dtypes, strict=True)), exists


def _sums(xp: Namespace, founders: Array, *values: Array) -> tuple[Array, ...]:
    """Sums of values (..., N) over the boxes of each founder, at its rank."""
    shape, n = tuple(founders.shape), founders.shape[-1]
    lanes = math.prod(shape[:-1])
    # A segment for each value, lane and rank.
    first = xp.arange(len(values) * lanes, dtype=founders.dtype, device=device(founders)) * n
    segments = xp.reshape(first, (len(values), lanes, 1)) + xp.reshape(founders, (1, lanes, n))
    flat = xp.reshape(xp.stack(values), (-1,))
    sums = segment_sum(xp, flat, xp.reshape(segments, (-1,)), len(values) * lanes * n)
    return rows_of(xp.reshape(sums, (len(values), *shape)))


def _sum_of_distinct(xp: Namespace, founders: Array, models: Array, each: Array) -> Array:
    """Sum of the weights of the models among the boxes of each founder, each model once."""
    order = xp.argsort(models, axis=-1, stable=True)
    order = take_along(xp, order, xp.argsort(take_along(xp, founders, order, axis=-1), axis=-1, stable=True), axis=-1)
    founders, models, each = (take_along(xp, x, order, axis=-1) for x in (founders, models, each))
    again = (founders[..., 1:] == founders[..., :-1]) & (models[..., 1:] == models[..., :-1])
    again = xp.concat((xp.zeros_like(founders[..., :1], dtype=xp.bool), again), axis=-1)
    return _sums(xp, founders, xp.where(again, xp.zeros_like(each), each))[0]

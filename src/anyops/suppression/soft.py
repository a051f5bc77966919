"""Soft-NMS: boxes are picked by descending score, and each pick lowers the scores of the boxes it overlaps.

Given the order of the picks, Soft-NMS is one product over higher-ranked rivals:

    s_j ← s_j · Π_i f(overlap(i, j)) over the boxes i picked before j.

Only this order is sequential. It is found pick by pick, or in rounds, which are faster if each step is a kernel launch.
Scores only fall, so a box whose score is above those of all its neighbours will be picked before any of them. All such
boxes can be picked in one round.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

from .._array.arguments import check_number, check_parameter
from .._array.integers import rounded_down
from .._array.loop import while_loop
from .._array.mode import Mode
from .._array.namespace import A, Array, DType, Namespace, cast, device, is_array, stop_gradient
from .._array.selection import indices_of, take_along
from .._array.support import LOOPS, ORDERS, SHAPES_BY_VALUE, Kind, op
from .._host.pick import pick_from_queue
from ..boxes.regions import Measure, OverlapKind, RegionFormat
from .arguments import (
    Call,
    check_choice,
    check_positive,
    check_score_threshold,
    check_threshold,
    index_call,
    static_call,
)
from .detections import Detections
from .graph import Graph
from .rescoring import Pair, Parameters, Rescored, RescoredBoxes, Rivals, best_first, decayed, in_place
from .select import as_floating
from .tiles import Tiles

DecayName = Literal["gaussian", "linear", "hard"]
DECAYS: tuple[DecayName, ...] = get_args(DecayName)
# Stands for log 0: its exp is exactly 0, and unlike −inf it can be multiplied by 0.
NOTHING = -1e4


@op(Kind.SELECTION, SHAPES_BY_VALUE, static="soft_nms_scores")
def soft_nms(
    boxes: Array | None,
    scores: Array,
    *,
    decay: DecayName = "gaussian",
    sigma: float | Array = 0.5,
    iou_threshold: float | Array = 0.3,
    labels: Array | None = None,
    scenes: Array | None = None,
    kind: OverlapKind = "iou",
    fmt: RegionFormat = "xyxy",
    score_threshold: float | Array | None = 1e-3,
    max_output: int | None = None,
    overlaps: Array | None = None,
) -> RescoredBoxes:
    """Indices and scores s_j · Π_i f(overlap(i, j)) of Soft-NMS over the boxes i picked before j, in picking order.

    Repeat: pick the box with the highest score, ties to the lowest index, and multiply the score of each remaining box
    of its label that it overlaps by f.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy, or as `fmt` says; floating or integer. May be None if `overlaps` is given.
    scores : array (N,)
        Negative scores and NaN are never picked.
    decay : {"gaussian", "linear", "hard"}
        f(o) = exp(−o² / `sigma`); or 1 − o, or 0, for o > `iou_threshold`, and 1 up to there. ``"hard"`` is greedy NMS.
    sigma : float, or array ()
        Positive. TensorFlow's ``soft_nms_sigma`` is half of it.
    iou_threshold : float in [0, 1], or array ()
        For the linear and the hard decay.
    labels : array (N,), optional
        Boxes of different labels do not lower each other.
    scenes : integer array (N,), optional
        Scene of each box. Boxes of different scenes do not lower each other, whatever their labels.
        `max_output` holds for each scene.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        Kind of overlap, see :func:`box_iou`, from the row of the picked box; only positive overlaps have an effect.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    score_threshold : float ≥ 0, optional
        A box is returned iff its score when it is picked is strictly greater; None means 0.
    max_output : int, optional
        Return the first `max_output` picks.
    overlaps : array (N, N), optional
        Used instead of the overlaps of `boxes`, for masks or keypoints.

    Returns
    -------
    indices : array (K,)
        In the order of the picks: by descending new score, ties to the lowest index.
    scores : array (K,)
        Scores when picked, in the floating dtype of `scores`.

    Raises
    ------
    TypeError, ValueError
        As :func:`nms`; if `decay` is unknown, or `sigma` not positive. For batches and under a transform there is
        :func:`soft_nms_scores`.

    Notes
    -----
    Memory grows with the number of overlapping pairs, never with N².

    References
    ----------
    .. [1] Bodla et al., Soft-NMS: Improving Object Detection With One Line of Code, arXiv:1704.04503, section 3.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 0.0, 30.0, 10.0]])
    >>> indices, scores = anyops.soft_nms(boxes, np.asarray([0.9, 0.8, 0.7]))
    >>> indices.tolist(), scores.round(4).tolist()
    ([0, 2, 1], [0.9, 0.7, 0.4852])
    """
    given = _parameters(decay, sigma, iou_threshold, score_threshold)
    call = index_call(
        "soft_nms",
        Detections(boxes, scores, labels, overlaps),
        Measure(kind, fmt),
        given["least"],
        max_output,
        scenes=scenes,
    )
    indices, new, _ = best_first(call, **_settings(call, given, decay), late=False)
    return RescoredBoxes(*call.back(indices, new)[:2])


@op(Kind.VALUES, ORDERS, LOOPS)
def soft_nms_scores(
    boxes: Array | None,
    scores: A,
    *,
    decay: DecayName = "gaussian",
    sigma: float | Array = 0.5,
    iou_threshold: float | Array = 0.3,
    labels: Array | None = None,
    kind: OverlapKind = "iou",
    fmt: RegionFormat = "xyxy",
    score_threshold: float | Array | None = 1e-3,
    valid: Array | None = None,
    overlaps: Array | None = None,
) -> A:
    """Score of each box when Soft-NMS picks it, 0 if it is never picked: the static form of :func:`soft_nms`.

    Differentiable in scores, boxes, overlaps and `sigma`, with the order of the picks as a constant.

    Parameters
    ----------
    boxes : array (..., N, 4)
    scores : array (..., N)
    decay : {"gaussian", "linear", "hard"}
        As in :func:`soft_nms`.
    sigma : float, or array ()
        As in :func:`soft_nms`.
    iou_threshold : float in [0, 1], or array ()
        As in :func:`soft_nms`.
    labels : array (..., N), optional
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou", "probiou"}
        As in :func:`soft_nms`.
    fmt : str
        Format of `boxes`, see :func:`box_convert`: also rotated boxes, polygons, segments, 3D boxes.
    score_threshold : float ≥ 0, optional
        As in :func:`soft_nms`.
    valid : bool array (..., N), optional
        False for padding, which lowers nothing and gets 0.
    overlaps : array (..., N, N), optional
        Used instead of the overlaps of `boxes`, which may then be None.

    Returns
    -------
    array (..., N)

    Raises
    ------
    TypeError, ValueError
        As :func:`soft_nms`.

    Notes
    -----
    Works pick by pick, with O(N) memory. For a derivative the libraries store values of all pairs.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 0.0, 30.0, 10.0]]])
    >>> anyops.soft_nms_scores(boxes, np.asarray([[0.9, 0.8, 0.7]]), decay="linear").round(4).tolist()
    [[0.9, 0.4, 0.7]]
    """
    numbers = _parameters(decay, sigma, iou_threshold, score_threshold, check_parameter)
    given = Detections(boxes, scores, labels, overlaps, valid)
    call, numbers = static_call("soft_nms_scores", given, Measure(kind, fmt), numbers)
    return call.back(None, in_place(call, **_settings(call, numbers, decay))[0])[1]


def _parameters(
    decay: str,
    sigma: float,
    iou_threshold: float,
    score_threshold: float | None,
    check: Callable[..., Any] = check_number,
) -> Parameters:
    check_choice("decay", decay, DECAYS)
    return {
        "sigma": check_positive("sigma", sigma, check=check),
        "threshold": check_threshold("iou_threshold", iou_threshold, largest=1.0, check=check),
        "least": 0.0 if score_threshold is None else check_score_threshold(score_threshold, check=check),
    }


def _settings(call: Call, given: Parameters, decay: str) -> dict[str, Any]:
    """Return the keyword arguments of `best_first` and `in_place`, with the score threshold in the scores' dtype."""
    mode, xp, scores = call.mode, call.mode.xp, call.detections.scores
    dtype = as_floating(xp, scores).dtype
    # Integer scores have already passed the threshold exactly. Rounded down, it does not reject one that was rounded.
    least = given["least"]
    if is_array(least):
        least = mode.prepare(_rounded_down, least, dtype=dtype)
    else:
        least = mode.constant(float(rounded_down(xp, least, dtype)), dtype, scores)
    floor = 0.0 if decay == "gaussian" else given["threshold"]
    return {"given": given | {"least": least}, "floor": floor, "rescore": _rescore, "decay": decay}


def _rounded_down(mode: Mode, value: Array, *, dtype: DType) -> Array:
    return rounded_down(mode.xp, value, dtype)


class Decay(NamedTuple):
    """The factor f(overlap) for the score of a box when a box that it overlaps is picked."""

    name: str
    sigma: Array | float
    threshold: Array | float

    def constant(self) -> "Decay":
        """Return this function as a constant for automatic differentiation."""
        return self._replace(**{k: stop_gradient(x) for k, x in self._asdict().items() if is_array(x)})

    def held(self, xp: Namespace, like: Array) -> "Decay":
        """Return this function with its numbers as 0-d arrays: torch's loops cannot close over symbolic numbers."""
        made = {
            k: xp.full((), x, dtype=like.dtype, device=device(like))
            for k, x in (("sigma", self.sigma), ("threshold", self.threshold))
            if not is_array(x)
        }
        return self._replace(**made)

    def factor(self, xp: Namespace, over: Array) -> Array:
        """f(o)."""
        if self.name == "gaussian":
            return xp.exp(-(over**2) / self.sigma)
        one, acts = xp.ones_like(over), over > self.threshold
        return xp.where(acts, 1 - over if self.name == "linear" else xp.zeros_like(over), one)

    def log_factor(self, xp: Namespace, over: Array) -> Array:
        """log f(o), with a finite gradient everywhere."""
        if self.name == "gaussian":
            return -(over**2) / self.sigma
        factor = self.factor(xp, over)
        some = factor > 0
        log = xp.log(xp.where(some, factor, xp.ones_like(factor)))
        return xp.where(some, log, xp.full_like(factor, NOTHING))


def _rescore(
    mode: Mode, rivals: Rivals, _boxes: Array | None, scores: Array, given: Parameters, *, decay: str
) -> Rescored:
    xp, falls = mode.xp, Decay(decay, given["sigma"], given["threshold"])
    if isinstance(rivals, Tiles):
        pick: Callable[..., tuple[Array, Array]] = _pick_in_place
    else:
        pick = pick_from_queue if mode.at_hand else _pick_in_rounds
    new, turn = pick(mode, rivals, stop_gradient(scores), cast(xp, given["least"], scores.dtype), falls.constant())
    if mode.grad:
        new = decayed(xp, scores, _product(xp, rivals, turn, falls))
    return new, turn < scores.shape[-1], None


def _product(xp: Namespace, rivals: Rivals, turn: Array, decay: Decay) -> Array:
    """Π_i f(overlap(i, j)) over the boxes i picked before j, given when each box is picked (`turn`)."""
    if isinstance(rivals, Tiles):
        position = xp.argsort(turn, axis=-1)
        rivals, turn = rivals.ranked_by(position), take_along(xp, turn, position, axis=-1)
    else:
        position, rivals = None, rivals.turned(rivals.better(turn) > rivals.worse(turn))

    def log_factor(pair: Pair) -> Array:
        log = decay.log_factor(xp, pair.overlap)
        return xp.where(pair.better(turn) < pair.worse(turn), log, xp.zeros_like(log))

    product = xp.exp(rivals.sum(log_factor))
    return product if position is None else take_along(xp, product, xp.argsort(position, axis=-1), axis=-1)


def _pick_in_place(mode: Mode, rivals: Tiles, scores: Array, least: Array, decay: Decay) -> tuple[Array, Array]:
    """Score of each box when it is picked, and the number of its pick; 0 and N for boxes that are never picked."""
    xp, rivals, zero = mode.xp, rivals.constant(), mode.xp.zeros_like(scores)
    if scores.shape[-1] == 0:  # max needs at least one score
        return zero, xp.zeros_like(rivals.order)
    never = xp.full_like(rivals.order, scores.shape[-1])
    last = xp.full_like(rivals.order, xp.iinfo(rivals.order.dtype).max)
    ranks = xp.cumulative_sum(xp.ones_like(rivals.order), axis=-1) - 1

    def cut(current: Array) -> Array:
        return xp.where(current > least, current, zero)

    def some(current: Array, _final: Array, _turn: Array, _now: Array) -> Array:
        return xp.any(current > 0)

    def pick(current: Array, final: Array, turn: Array, now: Array) -> tuple[Array, ...]:
        best = xp.max(current, axis=-1, keepdims=True)
        rank = xp.argmin(xp.where(current == best, rivals.order, last), axis=-1, keepdims=True)
        picked = (ranks == rank) & (best > 0)
        over, acts = rivals.row(rank)
        factor = xp.where(acts, decay.factor(xp, over), xp.ones_like(over))
        current = cut(xp.where(picked, zero, current * cast(xp, factor, current.dtype)))
        return current, xp.where(picked, best, final), xp.where(picked, now, turn), now + 1

    start = scores if rivals.valid is None else xp.where(rivals.valid, scores, zero)
    decay = decay.held(xp, xp.zeros_like(scores, dtype=rivals.dtype))
    now = xp.zeros_like(ranks[..., :1])
    _, final, turn, _ = while_loop(some, pick, (cut(start), xp.zeros_like(scores), never, now))
    return final, turn


def _pick_in_rounds(mode: Mode, rivals: Graph, scores: Array, least: Array, decay: Decay) -> tuple[Array, Array]:
    """Like `_pick_in_place`, in rounds: each picks all boxes that outrank every box they overlap."""
    xp, current, final = mode.xp, scores, mode.xp.zeros_like(scores)
    live, round_ = scores > least, 0
    turn = xp.full_like(rivals.order, scores.shape[0])
    while bool(xp.any(live)):
        rivals = rivals.at(indices_of(xp, rivals.better(live) & rivals.worse(live)))
        (a, b), (i, j) = ((rivals.better(x), rivals.worse(x)) for x in (current, rivals.order))
        rivals = rivals.turned((b > a) | ((b == a) & (j < i)))
        now = live & ~rivals.any(lambda pair: xp.ones_like(pair.overlap, dtype=xp.bool))
        final, turn = xp.where(now, current, final), xp.where(now, xp.full_like(turn, round_), turn)
        winners = rivals.at(indices_of(xp, rivals.better(now)))
        fallen = xp.exp(winners.sum(lambda pair: decay.log_factor(xp, stop_gradient(pair.overlap))))
        current = current * cast(xp, fallen, current.dtype)
        live, round_ = live & ~now & (current > least), round_ + 1
    return final, turn

"""References: the formulas of the docs for one pair, and greedy NMS as a loop. They share no code with anyops."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from mpmath import cos, diff, exp, fsum, log, log1p, mpf, pi, sin, sqrt, workdps

KINDS = ("iou", "iof", "ios", "giou", "diou", "ciou")
REMEMBERED = 512  # cached results of a reference
AT_ONCE = 256  # number of boxes up to which all pairs are compared in one step

F = TypeVar("F", bound=Callable[..., Any])


def remembered(f: F) -> F:
    """`f` with a cache, because all backends are compared with the same numbers."""
    answers: dict[Any, Any] = {}

    @functools.wraps(f)
    def ask(*args: Any, **options: Any) -> Any:
        key = _frozen((args, options))
        if key not in answers:
            if len(answers) == REMEMBERED:
                del answers[next(iter(answers))]
            answers[key] = f(*args, **options)
        return copy.deepcopy(answers[key])

    return ask  # type: ignore[return-value]


def _frozen(x: Any) -> Any:
    """A key that is equal only for equal arguments."""
    match x:
        case np.ndarray():
            return x.shape, x.dtype.str, x.tobytes()
        case dict():
            return tuple((name, _frozen(value)) for name, value in x.items())
        case list() | tuple():
            return type(x), tuple(map(_frozen, x))
    return type(x), x


def side(low: float, high: float) -> float:
    """Length of [low, high], 0 if high < low."""
    return high - low if high > low else 0.0


def product(a: float, b: float) -> float:
    """Area of a rectangle, 0 if one side is 0, even if the other is infinite."""
    return a * b if a and b else 0.0


def quotient(a: float, b: float) -> float:
    """a / b, 0 where b is zero or infinite."""
    return a / b if 0 < b < math.inf else 0.0


def box_area(box: Sequence[float]) -> float:
    x1, y1, x2, y2 = map(float, box)
    return math.nan if any(map(math.isnan, (x1, y1, x2, y2))) else product(side(x1, x2), side(y1, y2))


def overlap(a: Sequence[float], b: Sequence[float], kind: str = "iou", *, alpha: float | None = None) -> float:
    """The overlap of two boxes; `alpha` fixes CIoU's trade-off factor, which has no gradient."""
    a, b = [float(v) for v in a], [float(v) for v in b]
    if any(map(math.isnan, a + b)):
        return math.nan
    area1, area2 = box_area(a), box_area(b)
    inter = product(side(max(a[0], b[0]), min(a[2], b[2])), side(max(a[1], b[1]), min(a[3], b[3])))
    union = math.inf if math.inf in (area1, area2) else area1 + area2 - inter
    if kind == "iof":
        return quotient(inter, area1)
    if kind == "ios":
        return quotient(inter, min(area1, area2))
    iou = quotient(inter, union)
    if kind == "iou":
        return iou
    hull_w, hull_h = side(min(a[0], b[0]), max(a[2], b[2])), side(min(a[1], b[1]), max(a[3], b[3]))
    if kind == "giou":
        hull = product(hull_w, hull_h)
        return iou - quotient(hull - union, hull)
    distance = sum(((a[i] + a[i + 2]) / 2 - (b[i] + b[i + 2]) / 2) ** 2 for i in (0, 1))
    diou = iou - quotient(distance, hull_w**2 + hull_h**2)
    if kind == "diou":
        return diou
    angle = [math.atan2(side(box[0], box[2]), side(box[1], box[3])) for box in (a, b)]
    v = 4 / math.pi**2 * (angle[1] - angle[0]) ** 2
    return diou - (quotient(v, 1 - iou + v) if alpha is None else alpha) * v


def ciou_alpha(a: Sequence[float], b: Sequence[float]) -> float:
    angle = [math.atan2(side(box[0], box[2]), side(box[1], box[3])) for box in (a, b)]
    v = 4 / math.pi**2 * (angle[1] - angle[0]) ** 2
    return quotient(v, 1 - overlap(a, b) + v)


@remembered
def pairwise(boxes1: np.ndarray, boxes2: np.ndarray, kind: str = "iou") -> np.ndarray:
    """(N, 4), (M, 4) -> (N, M)."""
    return np.array([[overlap(a, b, kind) for b in boxes2] for a in boxes1], np.float64).reshape(
        len(boxes1), len(boxes2)
    )


def mask_overlap(a: np.ndarray, b: np.ndarray, kind: str = "iou") -> float:
    a, b = a != 0, b != 0
    inter, areas = int(np.sum(a & b)), (int(np.sum(a)), int(np.sum(b)))
    return quotient(inter, {"iou": sum(areas) - inter, "iof": areas[0], "ios": min(areas)}[kind])


@remembered
def keypoint_similarity(a: np.ndarray, b: np.ndarray, areas: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """COCO's OKS of poses (N, K, 2 or 3) with poses (M, K, 2 or 3), pair by pair, as on its evaluation page."""
    found = np.zeros((len(a), len(b)))
    for i, j in itertools.product(range(len(a)), range(len(b))):
        seen = [k for k in range(len(sigmas)) if b.shape[-1] == 2 or b[j, k, 2] > 0]
        total = 0.0
        for k in seen:
            far = (float(a[i, k, 0]) - float(b[j, k, 0])) ** 2 + (float(a[i, k, 1]) - float(b[j, k, 1])) ** 2
            total += math.exp(-far / (2 * float(areas[j]) * (2 * sigmas[k]) ** 2))
        found[i, j] = total / len(seen) if seen else 0.0
    return found


def mask_box(mask: np.ndarray) -> list[float]:
    """x1, y1, x2, y2 of the first and last true pixel."""
    pixels = [(x, y) for y, row in enumerate(mask) for x, value in enumerate(row) if value]
    xs, ys = zip(*pixels, strict=True) if pixels else ((0,), (0,))
    return [min(xs), min(ys), max(xs), max(ys)]


# Each format to and from (x1, y1, x2, y2).
TO_XYXY = {
    "xyxy": lambda a, b, c, d: (a, b, c, d),
    "yxyx": lambda a, b, c, d: (b, a, d, c),
    "xywh": lambda a, b, c, d: (a, b, a + c, b + d),
    "cxcywh": lambda a, b, c, d: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
}
FROM_XYXY = {
    "xyxy": lambda a, b, c, d: (a, b, c, d),
    "yxyx": lambda a, b, c, d: (b, a, d, c),
    "xywh": lambda a, b, c, d: (a, b, c - a, d - b),
    "cxcywh": lambda a, b, c, d: ((a + c) / 2, (b + d) / 2, c - a, d - b),
}


def box_convert(box: Sequence[float], in_fmt: str, out_fmt: str) -> tuple[float, ...]:
    return FROM_XYXY[out_fmt](*TO_XYXY[in_fmt](*map(float, box)))


def rank(scores: Sequence[float]) -> list[int]:
    """Indices by descending score, ties by index, NaN below every number."""
    return sorted(
        range(len(scores)), key=lambda i: (math.isnan(scores[i]), 0 if math.isnan(scores[i]) else -scores[i], i)
    )


def _side(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.where(high > low, high - low, np.zeros_like(low + high))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where((a == 0) | (b == 0), np.zeros_like(a + b), a * b)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where((b > 0) & (b < np.inf), a / b, np.zeros_like(a + b))


@np.errstate(all="ignore")
def overlap_row(box: np.ndarray, boxes: np.ndarray, kind: str) -> np.ndarray:
    """Overlap of a box, or of each box of (N, 1, 4), with many boxes, in their dtype: `overlap` by columns."""
    (ax1, ay1, ax2, ay2), (x1, y1, x2, y2) = np.moveaxis(box, -1, 0), boxes.T
    inter = _product(_side(np.maximum(ax1, x1), np.minimum(ax2, x2)), _side(np.maximum(ay1, y1), np.minimum(ay2, y2)))
    area1, area2 = _product(_side(ax1, ax2), _side(ay1, ay2)), _product(_side(x1, x2), _side(y1, y2))
    iou = _quotient(inter, np.where(np.isinf(area1) | np.isinf(area2), area1 + area2, area1 + area2 - inter))
    hull_w = _side(np.minimum(ax1, x1), np.maximum(ax2, x2))
    hull_h = _side(np.minimum(ay1, y1), np.maximum(ay2, y2))
    match kind:
        case "iou":
            value = iou
        case "iof":
            value = _quotient(inter, area1)
        case "ios":
            value = _quotient(inter, np.minimum(area1, area2))
        case "giou":
            hull = _product(hull_w, hull_h)
            value = iou - _quotient(hull - (area1 + area2 - inter), hull)
        case "diou":
            distance = ((ax1 + ax2) / 2 - (x1 + x2) / 2) ** 2 + ((ay1 + ay2) / 2 - (y1 + y2) / 2) ** 2
            value = iou - _quotient(distance, hull_w**2 + hull_h**2)
        case _:
            raise ValueError(kind)
    assert value.dtype == boxes.dtype
    return np.where(np.isnan(box).any(axis=-1) | np.isnan(boxes).any(axis=1), boxes.dtype.type(np.nan), value)


@remembered
def greedy(
    boxes: np.ndarray | None,
    scores: np.ndarray,
    iou_threshold: float = 0.5,
    *,
    labels: np.ndarray | None = None,
    kind: str = "iou",
    valid: np.ndarray | None = None,
    score_threshold: float | None = None,
    max_output: int | None = None,
    overlaps: np.ndarray | None = None,
    dtype: Any = np.float64,
) -> list[int]:
    """Textbook greedy NMS: take the best box, drop the boxes that overlap it, continue. Indices by rank."""
    given = boxes if overlaps is None else overlaps
    given, threshold = np.asarray(given, dtype), np.asarray(iou_threshold, dtype)
    alive = np.ones(len(scores), bool) if valid is None else np.array(valid)
    if score_threshold is not None:
        alive &= np.asarray(scores) > score_threshold
    rows = None if overlaps is None else given
    if overlaps is None and len(given) <= AT_ONCE:
        rows = overlap_row(given[:, None], given, kind)
    keep: list[int] = []
    for i in rank(list(map(float, scores))):
        if not alive[i]:
            continue
        keep.append(i)
        row = overlap_row(given[i], given, kind) if rows is None else rows[i]
        hit = row > threshold
        if labels is not None:
            hit &= labels == labels[i]
        alive &= ~hit
        alive[i] = False
    return keep if max_output is None else keep[:max_output]


def greedy_mask(*args: Any, **options: Any) -> np.ndarray:
    keep = np.zeros(len(args[1]), bool)
    keep[greedy(*args, **options)] = True
    return keep


def actions(
    boxes: np.ndarray | None,
    *,
    overlaps: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    kind: str = "iou",
    valid: np.ndarray | None = None,
    dtype: Any = np.float64,
) -> Callable[[int], np.ndarray]:
    """The function from i to its effect on each box: the overlap, rounded to `dtype`.

    0 for a negative overlap or NaN, for i itself, across labels, and from and to padding.
    """
    given = np.asarray(boxes if overlaps is None else overlaps, dtype)
    rows = None if overlaps is None else given
    if overlaps is None and len(given) <= AT_ONCE and kind != "ciou":
        rows = overlap_row(given[:, None], given, kind)

    def act(i: int) -> np.ndarray:
        if rows is not None:
            row = rows[i]
        elif kind == "ciou":
            row = pairwise(given[i : i + 1], given, kind)[0].astype(dtype)
        else:
            row = overlap_row(given[i], given, kind)
        acts = row > 0
        acts[i] = False
        if labels is not None:
            acts &= labels == labels[i]
        if valid is not None:
            acts &= valid & valid[i]
        return np.where(acts, row, 0).astype(np.float64)

    return act


def soft_picks(
    boxes: np.ndarray | None,
    scores: np.ndarray,
    *,
    decay: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    score_threshold: float | None = 1e-3,
    valid: np.ndarray | None = None,
    dtype: Any = np.float64,
    **options: Any,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Soft-NMS pick by pick: the box, all scores at that time, and the boxes left."""
    act, t = actions(boxes, valid=valid, dtype=dtype, **options), float(np.asarray(iou_threshold, dtype))
    weight: Callable[[np.ndarray], np.ndarray] = {
        "gaussian": lambda o: np.exp(-(o**2) / sigma),
        "linear": lambda o: np.where(o > t, 1 - o, 1),
        "hard": lambda o: np.where(o > t, 0, 1),
    }[decay]
    current = np.array(scores, np.float64)
    present = np.ones(len(current), bool) if valid is None else valid
    while (left := present & (current > (score_threshold or 0))).any():  # other boxes are dropped when picked
        candidates = np.flatnonzero(left)
        i = int(candidates[np.argmax(current[candidates])])
        present = present & (np.arange(len(left)) != i)
        yield i, current, left & present
        current = np.where(left, np.where(left, current, 0) * weight(act(i)), current)


@remembered
def soft_nms(*args: Any, max_output: int | None = None, **options: Any) -> tuple[list[int], list[float]]:
    """Indices and scores as picked."""
    picks = [(i, float(current[i])) for i, current, _ in soft_picks(*args, **options)][:max_output]
    return [i for i, _ in picks], [s for _, s in picks]


def soft_nms_scores(*args: Any, **options: Any) -> np.ndarray:
    new = np.zeros(len(args[1]))
    indices, scores = soft_nms(*args, **options)
    new[indices] = scores
    return new


def triangle(boxes: np.ndarray | None, scores: np.ndarray, **options: Any) -> tuple[list[int], np.ndarray]:
    """The boxes by rank, and X_ij: the effect of rank i on rank j > i, else 0."""
    order, act = rank(list(map(float, scores))), actions(boxes, **options)
    return order, np.triu(np.array([act(i)[order] for i in order]).reshape(len(order), len(order)), 1)


def by_new_score(new: np.ndarray, among: np.ndarray, max_output: int | None) -> tuple[list[int], list[float]]:
    """Some of the boxes by descending new score, and their scores."""
    order = [i for i in rank(new.tolist()) if among[i]][:max_output]
    return order, [float(new[i]) for i in order]


@remembered
def fast_nms_mask(
    boxes: np.ndarray | None,
    scores: np.ndarray,
    iou_threshold: float = 0.5,
    *,
    valid: np.ndarray | None = None,
    dtype: Any = np.float64,
    **options: Any,
) -> np.ndarray:
    """Kept iff max_i X_ij ≤ t."""
    order, x = triangle(boxes, scores, valid=valid, dtype=dtype, **options)
    keep = np.zeros(len(order), bool)
    keep[order] = x.max(axis=0, initial=0) <= float(np.asarray(iou_threshold, dtype))
    return keep if valid is None else keep & valid


def fast_nms(
    boxes: np.ndarray | None,
    scores: np.ndarray,
    iou_threshold: float = 0.5,
    *,
    score_threshold: float | None = None,
    max_output: int | None = None,
    **options: Any,
) -> list[int]:
    valid = np.ones(len(scores), bool) if score_threshold is None else scores > score_threshold
    keep = fast_nms_mask(boxes, scores, iou_threshold, valid=valid, **options)
    return [i for i in rank(list(map(float, scores))) if keep[i]][:max_output]


class Clusters(NamedTuple):
    """All of Cluster-NMS, in the order of the arguments."""

    kept: np.ndarray  # b; with a penalty, all boxes except padding
    scores: np.ndarray  # s after the penalty, without dropping boxes
    boxes: np.ndarray | None  # averaged


@remembered
def clusters(
    boxes: np.ndarray | None,
    scores: np.ndarray,
    iou_threshold: float = 0.5,
    *,
    penalty: str | None = None,
    sigma: float = 0.2,
    valid: np.ndarray | None = None,
    dtype: Any = np.float64,
    **options: Any,
) -> Clusters:
    """Cluster-NMS box by box: b from all ones to its fixed point, C, the penalty, and the averaged boxes."""
    n, t = len(scores), float(np.asarray(iou_threshold, dtype))
    order, x = triangle(boxes, scores, valid=valid, dtype=dtype, **options)
    present = np.ones(n, bool) if valid is None else valid
    b, before = np.ones(n, bool), np.zeros(n, bool)
    while (b != before).any():
        b, before = (b[:, None] * x).max(axis=0, initial=0) <= t, b
    c = b[:, None] * x
    corners = None if boxes is None else np.asarray(boxes, np.float64)[order]

    new = np.array(scores, np.float64)[order]
    for i, j in zip(*np.nonzero(c), strict=True):
        if penalty == "score":
            new[j] *= math.exp(-(c[i, j] ** 2) / sigma)
        elif penalty == "score+distance":
            d = overlap(corners[i], corners[j], "iou") - overlap(corners[i], corners[j], "diou")
            new[j] *= min(math.exp(-(c[i, j] ** 2) / sigma) + max(d, 0) ** 0.6, 1)

    fused = None if corners is None else corners.copy()
    c = np.where(c > float(np.asarray(0.8, dtype)), c, 0)
    for i in range(n if corners is not None else 0):
        w = (c[i] + (np.arange(n) == i)) * np.where(np.isfinite(new), new, 0)
        w = np.where(np.isfinite(corners).all(axis=1), w, 0)
        if np.isfinite(corners[i]).all() and w.sum():
            fused[i] = np.sum([w[j] * corners[j] for j in np.flatnonzero(w)], axis=0) / w.sum()

    place = np.argsort(order)
    kept = present & (b[place] | (penalty is not None))
    return Clusters(kept, new[place], None if fused is None else fused[place])


def cluster_nms_scores(*args: Any, **options: Any) -> np.ndarray:
    result = clusters(*args, **options)
    return np.where(result.kept, result.scores, 0)


def cluster_nms(
    *args: Any, score_threshold: float | None = 0.01, max_output: int | None = None, **options: Any
) -> tuple[list[int], list[float]]:
    result = clusters(*args, **options)
    above = result.kept if score_threshold is None else result.kept & (result.scores > score_threshold)
    return by_new_score(result.scores, above, max_output)


@remembered
def matrix_nms_scores(
    boxes: np.ndarray | None,
    scores: np.ndarray,
    *,
    kernel: str = "gaussian",
    sigma: float = 2.0,
    valid: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """s_j · min(1, min_{i<j} f(X_ij) / f(max_{k<i} X_ki)), where 0/0 is no constraint."""
    order, x = triangle(boxes, scores, valid=valid, **options)
    f = {"linear": lambda o: 1 - o, "gaussian": lambda o: math.exp(-sigma * o**2)}[kernel]
    compensate = [f(o) for o in x.max(axis=0, initial=0)]
    new = np.array(scores, np.float64)
    for rank_j, j in enumerate(order):
        constraints = ((f(x[i, rank_j]), compensate[i]) for i in range(rank_j))
        new[j] *= min([1, *(a / b for a, b in constraints if b > 0)])
    return new if valid is None else np.where(valid, new, 0)


def matrix_nms(
    *args: Any, score_threshold: float | None = 0.05, max_output: int | None = None, **options: Any
) -> tuple[list[int], list[float]]:
    new = matrix_nms_scores(*args, **options)
    return by_new_score(new, np.ones(len(new), bool) if score_threshold is None else new > score_threshold, max_output)


@remembered
def nms_groups(
    boxes: np.ndarray | None,
    scores: np.ndarray,
    iou_threshold: float = 0.5,
    *,
    score_threshold: float | None = None,
    dtype: Any = np.float64,
    **options: Any,
) -> list[int]:
    """The box itself if greedy NMS keeps it, else the first kept box that overlaps it; -1 below the threshold."""
    t, act = float(np.asarray(iou_threshold, dtype)), actions(boxes, dtype=dtype, **options)
    group = [-1] * len(scores)
    for i in greedy(boxes, scores, iou_threshold, score_threshold=score_threshold, dtype=dtype, **options):
        group[i] = i
        for j in np.flatnonzero(act(i) > t):
            if group[j] == -1 and (score_threshold is None or scores[j] > score_threshold):
                group[j] = i
    return group


@remembered
def non_max_merge(
    boxes: np.ndarray,
    scores: np.ndarray,
    overlap_threshold: float = 0.5,
    *,
    transitive: bool = False,
    dtype: Any = np.float64,
    **options: Any,
) -> tuple[np.ndarray, list[int], list[int]]:
    """Union boxes of groups, their best boxes by rank, and the group of each box, by a graph search."""
    group = nms_groups(boxes, scores, overlap_threshold, dtype=dtype, **options)
    ranked = rank(list(map(float, scores)))
    if transitive:
        t, act = float(np.asarray(overlap_threshold, dtype)), actions(boxes, dtype=dtype, **options)
        over = np.array([act(i) > t for i in range(len(scores))])
        place = np.argsort(ranked)
        better = place[:, None] < place
        pairs = (over & better) | (over & better).T
        group = [-1] * len(scores)
        for first in ranked:
            found = [first] if group[first] == -1 else []
            while found:
                i = found.pop()
                group[i] = first
                found += [j for j in np.flatnonzero(pairs[i]) if group[j] == -1]
    best = [i for i in ranked if group[i] == i]
    members = [boxes[np.asarray(group) == i] for i in best]
    merged = [[*m[:, :2].min(axis=0), *m[:, 2:].max(axis=0)] for m in members]
    return np.reshape(np.array(merged, boxes.dtype), (-1, 4)), best, [best.index(i) for i in group]


def slopes(f: Callable[..., float], *arrays: np.ndarray, step: float = 1e-6) -> list[np.ndarray]:
    """Central differences of a function of float64 arrays."""
    gradients = [np.zeros_like(x) for x in arrays]
    for k, gradient in enumerate(gradients):
        for at in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = [x.copy() for x in arrays]
                moved[k][at] += sign * step
                ends.append(f(*moved))
            gradient[at] = (ends[0] - ends[1]) / (2 * step)
    return gradients


class Fusion(NamedTuple):
    """Fused boxes, their members, and how close any decision was, ignoring exact ties."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    members: list[list[int]]
    clear: float


@remembered
def weighted_boxes_fusion(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    model_ids: np.ndarray | None = None,
    model_weights: Sequence[float] | None = None,
    iou_threshold: float = 0.55,
    score_threshold: float = 0.0,
    conf_type: str = "avg",
    valid: np.ndarray | None = None,
    dtype: Any = np.float64,
) -> Fusion:
    """Sequential; each mean is recomputed from all its boxes. An area that is 0 or infinite in `dtype` counts as 0."""
    ids = [0] * len(scores) if model_ids is None else [int(m) for m in model_ids]
    given = [i for i in range(len(scores)) if valid is None or valid[i]]
    models = max((ids[i] for i in given), default=0) + 1
    weights = [1.0] * models if model_weights is None else [float(w) for w in model_weights]
    points = [[float(x) for x in box] for box in boxes]
    with np.errstate(all="ignore"):
        areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in np.asarray(boxes, dtype)]
    s = {i: float(scores[i]) * weights[ids[i]] for i in given if float(scores[i]) > score_threshold}
    clear = math.inf

    def decided(a: float, b: float, *clusters: list[int]) -> None:
        nonlocal clear
        if a != b or any(len(members) > 1 for members in clusters):  # a tie between given boxes is exact
            clear = min(clear, abs(a - b))

    def mean(members: list[int]) -> list[float]:
        total = sum(s[i] for i in members)
        shares = [s[i] / total if total else 1 / len(members) for i in members]
        return [sum(share * points[i][c] for share, i in zip(shares, members, strict=True)) for c in range(4)]

    clusters: list[list[int]] = []
    places: list[list[float]] = []
    for i in sorted(s, key=lambda i: (-s[i], i)):
        found = []
        for c, members in enumerate(clusters):
            solid = all(0 < areas[k] < math.inf for k in (i, members[0]))
            if labels[members[0]] == labels[i] and solid:
                found.append((overlap(places[c], points[i]), -c))
        found.sort(reverse=True)
        best, c = (found[0][0], -found[0][1]) if found else (0.0, -1)
        if found:
            decided(best, iou_threshold, clusters[c])
        if best > iou_threshold:
            for other, negative in found[1:]:
                decided(best, other, clusters[c], clusters[-negative])
            clusters[c].append(i)
            places[c] = mean(clusters[c])
        else:
            clusters.append([i])
            places.append(points[i])

    def confidence(members: list[int]) -> float:
        added, own = sum(s[i] for i in members), sum(weights[ids[i]] for i in members)
        present = sum(weights[m] for m in {ids[i] for i in members})
        match conf_type:
            case "avg":
                return added / len(members) * min(len(members), len(weights)) / sum(weights)
            case "max":
                return max(s[i] for i in members) / max(weights)
            case "box_and_model_avg":
                return added / own * present / sum(weights) if own else 0.0
            case "absent_model_aware_avg":
                return added / (own + sum(weights) - present)
        raise ValueError(conf_type)

    values = [confidence(members) for members in clusters]
    order = sorted(range(len(values)), key=lambda c: (-values[c], c))
    for a, b in itertools.pairwise(order):
        decided(values[a], values[b], clusters[a], clusters[b])
    return Fusion(
        np.array([places[c] for c in order], np.float64).reshape(-1, 4),
        np.array([values[c] for c in order], np.float64),
        np.asarray(labels)[np.array([clusters[c][0] for c in order], int)],
        [clusters[c] for c in order],
        clear,
    )


# --- losses, in 60 digits --------------------------------------------------------------------------------------------


def sigmoid_focal(x: Any, t: float, alpha: float | None, gamma: float, positive: float = 1.0) -> Any:
    """−α_t (1 − p_t)^γ log p_t as in the paper, with log p_t split for soft targets as in torchvision and optax.

    The positive term is multiplied by `positive`, as in torch's cross-entropy.
    """
    t = mpf(float(t))
    p, miss = 1 / (1 + exp(-x)), 1 / (1 + exp(x))
    ce = mpf(float(positive)) * t * log1p(exp(-x)) + (1 - t) * log1p(exp(x))
    weight = 1 if alpha is None else alpha * t + (1 - mpf(alpha)) * (1 - t)
    return weight * (p * (1 - t) + miss * t) ** gamma * ce


def softmax_focal(x: Sequence[Any], t: Sequence[float], alpha: Sequence[float], gamma: float) -> Any:
    """−Σ t_c α_c (1 − p_c)^γ log p_c, 1 − p_c summed over the other classes."""
    e = [exp(v) for v in x]
    total = mpf(0)
    for c, weight in enumerate(t):
        if weight:
            rest = fsum(e[:c] + e[c + 1 :])
            total += mpf(float(weight)) * mpf(float(alpha[c])) * (rest / (rest + e[c])) ** gamma * log1p(rest / e[c])
    return total


def slope(f: Callable[[Any], Any], x: float, order: int = 1) -> float:
    """A derivative of a function of one 60-digit number."""
    with workdps(60):
        return float(diff(f, mpf(float(x)), order))


def value(f: Callable[..., Any], *x: float) -> float:
    """The value of a function of 60-digit numbers."""
    with workdps(60):
        return float(f(*(mpf(float(v)) for v in x)))


# --- k-means, by the definition in float64 ---------------------------------------------------------------------------


class Lloyd(NamedTuple):
    centers: np.ndarray
    labels: np.ndarray
    inertia: float
    n_iter: int
    converged: bool


def distance_to_centers(x: np.ndarray, centers: np.ndarray, metric: str = "euclidean") -> np.ndarray:
    """(n, k): ‖x − c‖², 1 − cos, or 1 − IoU of boxes of one centre."""
    a, b = np.asarray(x, np.float64)[:, None], np.asarray(centers, np.float64)[None]
    match metric:
        case "euclidean":
            return np.sum((a - b) ** 2, axis=-1)
        case "cosine":
            return 1 - np.sum(a * b, axis=-1) / np.sqrt(np.sum(a * a, axis=-1) * np.sum(b * b, axis=-1))
        case "iou":
            common = np.prod(np.minimum(a, b), axis=-1)
            return 1 - common / (np.prod(a, axis=-1) + np.prod(b, axis=-1) - common)
    raise ValueError(metric)


@remembered
def lloyd(
    x: np.ndarray,
    centers: np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    metric: str = "euclidean",
    center: str = "mean",
    tol: float = 1e-4,
    max_iter: int = 300,
) -> Lloyd:
    """Lloyd's iteration from `centers`; empty clusters take the farthest samples, the farthest first."""
    x, c = np.asarray(x, np.float64), np.array(centers, np.float64)
    w = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    kept = w > 0
    offset = np.mean(x[kept], axis=0) if metric == "euclidean" else 0.0
    z, c = np.where(kept[:, None], x, offset) - offset, c - offset
    if metric == "cosine":
        z = z / np.sqrt(np.sum(z * z, axis=1, keepdims=True))
        c = c / np.sqrt(np.sum(c * c, axis=1, keepdims=True))
    limit = tol * np.mean(np.var(z[kept], axis=0))
    labels, converged, n_iter = np.full(len(z), -1), False, 0
    while n_iter < max_iter and not converged:
        n_iter += 1
        d = distance_to_centers(z, c, metric)
        new = np.argmin(d, axis=1)
        same, labels = np.array_equal(new[kept], labels[kept]), new
        of = labels.copy()  # clusters for the update: a relocated sample leaves its cluster
        own = np.where(kept, d[np.arange(len(z)), labels], 0.0)
        farthest = [i for i in np.argsort(-own, kind="stable") if own[i] > 0]
        for j, i in zip([j for j in range(len(c)) if not np.any(kept & (of == j))], farthest, strict=False):
            of[i] = j
        moved = c.copy()
        for j in range(len(c)):
            members = kept & (of == j)
            if np.any(members):
                rows = z[members]
                moved[j] = np.median(rows, axis=0) if center == "median" else np.average(rows, 0, w[members])
                if metric == "cosine":
                    moved[j] /= np.sqrt(np.sum(moved[j] ** 2))
        shift = np.sum((moved - c) ** 2)
        c = moved
        converged = bool(same or shift <= limit)
    d = distance_to_centers(z, c, metric)
    labels = np.argmin(d, axis=1)
    inertia = float(np.sum(w[kept] * d[np.arange(len(z)), labels][kept]))
    return Lloyd(c + offset, labels, inertia, n_iter, converged)


# Regions: in high precision, by slabs between all corners and crossings.

Point = tuple[Any, Any]


def rotated_corners(box: Sequence[float]) -> list[Point]:
    """Corners of (cx, cy, w, h, degrees), counter-clockwise as seen in an image, with 40 digits."""
    with workdps(40):
        cx, cy, w, h, degrees = (mpf(float(v)) for v in box)
        c, s = cos(degrees * pi / 180), sin(degrees * pi / 180)
        ends = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
        return [(cx + u * w * c + v * h * s, cy - u * w * s + v * h * c) for u, v in ends]


def polygon_area(points: Sequence[Point]) -> Any:
    """Area by the trapezoids between the edges and y = 0."""
    with workdps(40):
        return (
            abs(sum((q[0] - p[0]) * (p[1] + q[1]) for p, q in zip(points, [*points[1:], points[0]], strict=True))) / 2
        )


@remembered
def shared_area(one: Sequence[Point], other: Sequence[Point]) -> Any:
    """Area of the intersection of two polygons, in slabs between the x of all corners and crossings."""
    with workdps(40):
        edges = [
            ((mpf(p[0]), mpf(p[1])), (mpf(q[0]), mpf(q[1])), k)
            for k, points in enumerate((one, other))
            for p, q in zip(points, [*points[1:], points[0]], strict=True)
        ]
        cuts = {p[0] for p, _, _ in edges}
        for (p, q, _), (r, s, _) in itertools.combinations(edges, 2):
            cross = (q[0] - p[0]) * (s[1] - r[1]) - (q[1] - p[1]) * (s[0] - r[0])
            if cross:
                at = ((r[0] - p[0]) * (s[1] - r[1]) - (r[1] - p[1]) * (s[0] - r[0])) / cross
                cuts.add(p[0] + at * (q[0] - p[0]))
        total = mpf(0)
        for left, right in itertools.pairwise(sorted(cuts)):
            middle, within, before = (left + right) / 2, [False, False], None
            met = [
                (p[1] + (middle - p[0]) / (q[0] - p[0]) * (q[1] - p[1]), k)
                for p, q, k in edges
                if min(p[0], q[0]) < middle < max(p[0], q[0])
            ]
            for y, k in sorted(met):
                total += (y - before) * (right - left) if all(within) else 0
                within[k], before = not within[k], y
        return total


def region_overlap(shared: Any, size1: Any, size2: Any, kind: str) -> float:
    """iou, iof or ios of two regions, from their intersection and sizes."""
    with workdps(40):
        whole = {"iou": size1 + size2 - shared, "iof": size1, "ios": min(size1, size2)}[kind]
        return float(shared / whole) if whole > 0 else 0.0


@remembered
def probiou(a: Sequence[float], b: Sequence[float]) -> float:
    """1 − the Hellinger distance of two Gaussians, by the published coefficients of their covariances."""
    with workdps(60):
        (x1, y1, *_), (x2, y2, *_) = one, other = [[mpf(float(v)) for v in box] for box in (a, b)]
        coefficients = []
        for _, _, w, h, degrees in (one, other):
            c, s = cos(degrees * pi / 180), -sin(degrees * pi / 180)
            along, across = w**2 / 12, h**2 / 12
            coefficients.append((along * c**2 + across * s**2, along * s**2 + across * c**2, (along - across) * c * s))
        (a1, b1, c1), (a2, b2, c2) = coefficients
        whole = (a1 + a2) * (b1 + b2) - (c1 + c2) ** 2
        near = ((a1 + a2) * (y1 - y2) ** 2 + (b1 + b2) * (x1 - x2) ** 2) / whole / 4
        near += (c1 + c2) * (x2 - x1) * (y1 - y2) / whole / 2
        alike = log(whole / (4 * sqrt((a1 * b1 - c1**2) * (a2 * b2 - c2**2)))) / 2
        return float(1 - sqrt(max(1 - exp(-near - alike), mpf(0))))

"""References: the formulas of the docs for one pair, one loop for greedy NMS. They share no code with anyops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mpmath import diff, exp, fsum, log1p, mpf, workdps

KINDS = ("iou", "iof", "ios", "giou", "diou", "ciou")


def side(low: float, high: float) -> float:
    """Length of [low, high], 0 if it runs backwards."""
    return high - low if high > low else 0.0


def product(a: float, b: float) -> float:
    """Area of a rectangle: 0 if one side is 0, however long the other."""
    return a * b if a and b else 0.0


def quotient(a: float, b: float) -> float:
    """a / b, 0 where b is zero or infinite."""
    return a / b if 0 < b < math.inf else 0.0


def box_area(box: Sequence[float]) -> float:
    x1, y1, x2, y2 = map(float, box)
    return math.nan if any(map(math.isnan, (x1, y1, x2, y2))) else product(side(x1, x2), side(y1, y2))


def overlap(a: Sequence[float], b: Sequence[float], kind: str = "iou", *, alpha: float | None = None) -> float:
    """The overlap of two boxes; `alpha` fixes the trade-off of CIoU, which has no gradient through it."""
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


def pairwise(boxes1: np.ndarray, boxes2: np.ndarray, kind: str = "iou") -> np.ndarray:
    """(N, 4), (M, 4) -> (N, M)."""
    return np.array([[overlap(a, b, kind) for b in boxes2] for a in boxes1], np.float64).reshape(
        len(boxes1), len(boxes2)
    )


def mask_overlap(a: np.ndarray, b: np.ndarray, kind: str = "iou") -> float:
    a, b = a != 0, b != 0
    inter, areas = int(np.sum(a & b)), (int(np.sum(a)), int(np.sum(b)))
    return quotient(inter, {"iou": sum(areas) - inter, "iof": areas[0], "ios": min(areas)}[kind])


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
    """Overlap of one box with many, in their dtype: the formulas of `overlap`, by columns."""
    (ax1, ay1, ax2, ay2), (x1, y1, x2, y2) = box, boxes.T
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
    return np.where(np.isnan(box).any() | np.isnan(boxes).any(axis=1), boxes.dtype.type(np.nan), value)


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
    """Textbook greedy NMS: take the best, drop what overlaps it, go on. Indices by rank."""
    given = boxes if overlaps is None else overlaps
    given, threshold = np.asarray(given, dtype), np.asarray(iou_threshold, dtype)
    alive = np.ones(len(scores), bool) if valid is None else np.array(valid)
    if score_threshold is not None:
        alive &= np.asarray(scores) > score_threshold
    keep: list[int] = []
    for i in rank(list(map(float, scores))):
        if not alive[i]:
            continue
        keep.append(i)
        row = overlap_row(given[i], given, kind) if overlaps is None else given[i]
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


# --- losses, in 60 digits --------------------------------------------------------------------------------------------


def sigmoid_focal(x: Any, t: float, alpha: float | None, gamma: float) -> Any:
    """−α_t (1 − p_t)^γ log p_t as the paper has it, log p_t split for soft targets as torchvision and optax do."""
    t = mpf(float(t))
    p, miss = 1 / (1 + exp(-x)), 1 / (1 + exp(x))
    ce = t * log1p(exp(-x)) + (1 - t) * log1p(exp(x))
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

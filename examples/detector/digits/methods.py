"""The variants of suppression that are compared, each with its parameters, on one array library or another."""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import numpy as np

import anyops

from .arrays import Ship, to_host
from .detector import Detections

REPEATS = 3
"""Timed calls of each method on each backend, of which the median counts; fewer if they take half a second together."""

IOU_THRESHOLD = 0.3
"""Digits overlap little, so that of two boxes that overlap by more one is superfluous."""


class Method(NamedTuple):
    """A variant by a short name, its function in `anyops`, and what is not its default."""

    name: str
    function: str
    parameters: dict[str, Any]

    @property
    def call(self) -> str:
        """The call, without its arrays."""
        return f"{self.function}({', '.join(f'{name}={value!r}' for name, value in self.parameters.items())})"


METHODS = (
    Method("nms", "nms", {"iou_threshold": IOU_THRESHOLD}),
    Method("fast", "fast_nms", {"iou_threshold": IOU_THRESHOLD}),
    Method("soft gaussian", "soft_nms", {"decay": "gaussian", "sigma": 0.5}),
    Method("soft linear", "soft_nms", {"decay": "linear", "iou_threshold": IOU_THRESHOLD}),
    Method("soft hard", "soft_nms", {"decay": "hard", "iou_threshold": IOU_THRESHOLD}),
    Method("cluster score", "cluster_nms", {"iou_threshold": IOU_THRESHOLD, "penalty": "score"}),
    Method("cluster distance", "cluster_nms", {"iou_threshold": IOU_THRESHOLD, "penalty": "score+distance"}),
    Method("weighted", "weighted_cluster_nms", {"iou_threshold": IOU_THRESHOLD}),
    Method("matrix gaussian", "matrix_nms", {"kernel": "gaussian", "sigma": 2.0}),
    Method("matrix linear", "matrix_nms", {"kernel": "linear"}),
    # There is one model. The mean of the scores of hundreds of boxes would tell nothing of the best.
    Method("wbf", "weighted_boxes_fusion", {"iou_threshold": 0.55, "conf_type": "max"}),
)
"""All with the defaults of their functions but for what is said here."""


class Suppression(NamedTuple):
    """What a method made of the raw boxes on one backend: what stays and, if it was timed, how long one call took.

    `kept` are the positions of the raw boxes that stay; of a fused box, that of the best one in it.
    """

    kept: np.ndarray
    found: Detections
    milliseconds: float | None


def suppress(raw: Detections, method: Method, ship: Ship, *, timed: bool = True) -> Suppression:
    """Suppress in all scenes by one call.

    A place holds one digit, so boxes compete whatever their digits, but only within their scene: the labels are
    the scenes. The time is that until the scores are on the host, without the first call, which may compile.
    """
    boxes, scores, labels = (ship(x) for x in (raw.boxes, raw.scores, raw.scenes))
    function = getattr(anyops, method.function)

    def call() -> tuple[np.ndarray, ...] | np.ndarray:
        result = function(boxes, scores, labels=labels, **method.parameters)
        return type(result)(*map(to_host, result)) if isinstance(result, tuple) else to_host(result)

    result = call()
    seconds: list[float] = []
    while timed and len(seconds) < REPEATS and sum(seconds) < 0.5:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    kept, found = _found(raw, result)
    return Suppression(kept, found, 1000 * statistics.median(seconds) if timed else None)


def _found(raw: Detections, result: Any) -> tuple[np.ndarray, Detections]:
    kept = result
    if hasattr(result, "indices"):
        kept = result.indices
    elif hasattr(result, "labels"):
        kept = _best_of_fused(raw, result)
    changes = {name: getattr(result, name) for name in ("boxes", "scores") if hasattr(result, name)}
    return kept, raw.take(kept)._replace(**changes)


def _best_of_fused(raw: Detections, fused: Any) -> np.ndarray:
    """Positions of the raw boxes whose scores, being the best, the fused boxes have; of equal ones the nearest."""
    best = np.empty(len(fused.scores), dtype=np.int64)
    for number, (scene, score, box) in enumerate(zip(fused.labels, fused.scores, fused.boxes, strict=True)):
        same = np.flatnonzero((raw.scenes == scene) & (raw.scores == score))
        best[number] = same[anyops.box_iou(box[None], raw.boxes[same])[0].argmax()]
    return best

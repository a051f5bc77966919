"""The compared variants of suppression, each with its parameters."""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import numpy as np

import anyops

from .arrays import Ship, to_host
from .detector import Detections

REPEATS = 3
"""Timed calls of each method on each backend; the median is reported. Fewer if they take half a second together."""

IOU_THRESHOLD = 0.3
"""Digits overlap little, so boxes that overlap by more are duplicates."""


class Method(NamedTuple):
    """A variant: its short name, its function in `anyops`, and the parameters that are not defaults."""

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
    # There is one model, and the mean of the scores of hundreds of boxes would hide the best score.
    Method("wbf", "weighted_boxes_fusion", {"iou_threshold": 0.55, "conf_type": "max"}),
)
"""Parameters that are not given here have their defaults."""


class Suppression(NamedTuple):
    """The result of a method on one backend: the boxes that stay and, if it was timed, the time of one call.

    `kept` are the indices of the raw boxes that stay; for a fused box, the index of the best box in it.
    """

    kept: np.ndarray
    found: Detections
    milliseconds: float | None


def suppress(raw: Detections, method: Method, ship: Ship, *, timed: bool = True) -> Suppression:
    """Suppress in all scenes by one call.

    A place holds one digit, so boxes compete whatever their digits, but only within their scene: the labels are
    the scenes. The time includes the transfer of the results to the host, but not the first call, which may compile.
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
    """Index of the best raw box in each fused box: equal in score and, among equals, with the largest IoU."""
    best = np.empty(len(fused.scores), dtype=np.int64)
    for number, (scene, score, box) in enumerate(zip(fused.labels, fused.scores, fused.boxes, strict=True)):
        same = np.flatnonzero((raw.scenes == scene) & (raw.scores == score))
        best[number] = same[anyops.box_iou(box[None], raw.boxes[same])[0].argmax()]
    return best

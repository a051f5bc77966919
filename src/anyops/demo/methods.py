"""The variants of suppression that are compared, each with its parameters, on one array library or another."""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

import anyops

from .._array.backends import to_backend, to_host
from .detector import Detections

REPEATS = 5
"""Timed calls of each method on each backend, of which the median counts; fewer if they take a second together."""

IOU_THRESHOLD = 0.3
"""Digits overlap little, so that of two boxes that overlap by more one is superfluous."""


class Method(NamedTuple):
    """A variant by the name that it has in the command, its function in `anyops`, and what is not its default."""

    name: str
    function: str
    parameters: dict[str, Any]

    @property
    def rescores(self) -> bool:
        """Whether scores are computed, and not only compared."""
        return self.name not in {"nms", "fast"}


METHODS = (
    Method("nms", "nms", {"iou_threshold": IOU_THRESHOLD}),
    Method("fast", "fast_nms", {"iou_threshold": IOU_THRESHOLD}),
    Method("soft", "soft_nms", {"decay": "gaussian", "sigma": 0.5}),
    Method("cluster", "cluster_nms", {"iou_threshold": IOU_THRESHOLD, "penalty": "score"}),
    Method("weighted", "weighted_cluster_nms", {"iou_threshold": IOU_THRESHOLD}),
    Method("matrix", "matrix_nms", {"kernel": "gaussian", "sigma": 2.0}),
    # There is one model. The mean of the scores of hundreds of boxes would tell nothing of the best.
    Method("wbf", "weighted_boxes_fusion", {"iou_threshold": 0.55, "conf_type": "max"}),
)
"""All with the defaults of their functions but for what is said here."""


class Suppression(NamedTuple):
    """What a method made of the raw boxes on one backend: what stays, where it ran, and how long one call took.

    `kept` are the positions of the raw boxes that stay; of a fused box, that of the best one in it.
    """

    kept: np.ndarray
    found: Detections
    device: str
    milliseconds: float

    def agrees(self, other: Suppression, method: Method) -> bool:
        """Whether two backends found the same: the same boxes or, of new scores, the same but for rounding."""
        if not method.rescores:
            return np.array_equal(self.kept, other.kept)
        # A score may lie at the limit but for rounding, and two may change places.
        n = min(len(self.kept), len(other.kept))
        scores = self.found.scores[:n], other.found.scores[:n]
        return abs(len(self.kept) - len(other.kept)) <= 2 and np.allclose(*scores, rtol=1e-3, atol=0)


def suppress(raw: Detections, method: Method, backend: str, device: str | None = None) -> Suppression:
    """Suppress in all scenes by one call.

    A place holds one digit, so boxes compete whatever their digits, but only within their scene: the labels are
    the scenes. The time is that until the scores are on the host, without the first call, which may compile.
    """
    boxes, scores, labels = (to_backend(x, backend, device) for x in (raw.boxes, raw.scores, raw.scenes))
    function = getattr(anyops, method.function)

    def call() -> tuple[np.ndarray, ...] | np.ndarray:
        result = function(boxes, scores, labels=labels, **method.parameters)
        return type(result)(*map(to_host, result)) if isinstance(result, tuple) else to_host(result)

    result = call()
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < 1:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    kept, found = _found(raw, result)
    return Suppression(kept, found, str(array_api_compat.device(boxes)), 1000 * statistics.median(seconds))


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

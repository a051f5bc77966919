"""COCO's file formats and its average precision, by pycocotools; and which digits are found."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import anyops

from .detector import Detections
from .scenes import Scene


class Precision(NamedTuple):
    """Average precision over IoU thresholds of 0.5 to 0.95, and at 0.5, with the precision-recall curve at 0.5.

    `curve` is the precision at an IoU of 0.5, the mean over the classes, at recalls of 0, 0.01 … 1.
    """

    ap: float
    ap50: float
    curve: np.ndarray


def coco_ground_truth(scenes: Sequence[Scene]) -> dict[str, list[dict[str, Any]]]:
    """Return the true boxes in COCO's annotation format; a category's id is its digit."""
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes):
        for bbox, label in zip(_xywh(scene.boxes), scene.labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # to COCOeval, 0 means no annotation
                    "image_id": number,
                    "category_id": label,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                }
            )
    return {
        "images": [
            {"id": number, "width": scene.image.shape[1], "height": scene.image.shape[0]}
            for number, scene in enumerate(scenes)
        ],
        "categories": [{"id": digit, "name": str(digit)} for digit in range(10)],
        "annotations": annotations,
    }


def coco_results(detections: Detections) -> list[dict[str, Any]]:
    """Return detections in COCO's results format."""
    return [
        {"image_id": scene, "category_id": label, "bbox": bbox, "score": score}
        for scene, label, bbox, score in zip(
            detections.scenes.tolist(),
            detections.labels.tolist(),
            _xywh(detections.boxes),
            np.round(detections.scores.astype(np.float64), 8).tolist(),  # enough to tell any two float32 apart
            strict=True,
        )
    ]


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).astype(np.float64).tolist()


def average_precision(ground_truth: dict[str, Any], results: list[dict[str, Any]]) -> Precision:
    """Evaluate detections as COCO does, with at most 100 of them for each image and category."""
    if not results:  # loadRes does not accept an empty list
        return Precision(0.0, 0.0, np.zeros(101))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        # It adds fields to the records, so it gets copies.
        found = truth.loadRes([record.copy() for record in results])
        evaluation = COCOeval(truth, found, "bbox")
        # Objects of all sizes together only: the three other ranges would triple the time.
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # IoU thresholds, recalls, categories
    precision = precision[..., precision[0, 0] > -1]  # -1: no digit of that category
    return Precision(float(precision.mean()), float(precision[0].mean()), precision[0].mean(axis=1))


def digits_found(scene: Scene, detections: Detections) -> np.ndarray:
    """For each box, return the index of the true box of its class that it overlaps by half or more, else -1."""
    overlaps = anyops.box_iou(detections.boxes.astype(np.float64), scene.boxes)
    overlaps = np.where(detections.labels[:, None] == scene.labels, overlaps, 0)
    return np.where(overlaps.max(axis=1) >= 0.5, overlaps.argmax(axis=1), -1)

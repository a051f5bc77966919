"""The types of the public functions: ``nox -s types`` checks this file, nothing runs it.

An unknown choice is a type error, so its `type: ignore` is used; mypy reports unused ones.
"""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import anyops

Floats = NDArray[np.float32]


def arrays_of_one_library(boxes: Floats, scores: Floats, labels: NDArray[np.int64]) -> None:
    """Results have the class of the arguments, including the dtype if that is part of the class."""
    assert_type(anyops.box_iou(boxes, boxes), Floats)
    assert_type(anyops.box_convert(boxes, "xyxy", "cxcywh"), Floats)
    assert_type(anyops.box_area(boxes), Floats)
    assert_type(anyops.clip_boxes(boxes, (480, 640)), Floats)
    assert_type(anyops.soft_nms_scores(boxes, scores, labels=labels), Floats)
    assert_type(anyops.matrix_nms_scores(None, scores, overlaps=boxes), Floats)
    assert_type(anyops.softmax_focal_loss(boxes, labels), Floats)
    assert_type(anyops.box_iou_loss(boxes, boxes, "mean"), Floats)
    assert_type(anyops.logistic_predict_proba(boxes, scores, scores), Floats)
    kept: NDArray[np.intp] = anyops.nms(boxes, scores)
    assert_type(boxes[kept], Floats)
    same: NDArray[np.intp] = anyops.batched_nms(boxes, scores, labels, 0.5)
    assert_type(boxes[anyops.fast_nms(boxes, scores)], Floats)
    assert_type(scores[same], Floats)


def arrays_of_any_library(boxes: Any, scores: Any) -> None:
    """Unknown types stay unknown."""
    assert_type(anyops.nms(boxes, scores), Any)
    assert_type(anyops.box_iou(boxes, boxes), Any)


def options_of_words(x: Floats, y: NDArray[np.int64]) -> None:
    """An unknown choice is a type error."""
    anyops.nms(x, x, kind="giou", fmt="cxcywhr")
    anyops.nms(x, x, kind="IoU")  # type: ignore[arg-type]
    anyops.box_area(x, fmt="ltrb")  # type: ignore[arg-type]
    anyops.box_convert(x, "xyxy", "ltrb")  # type: ignore[arg-type]
    anyops.mask_iou(x, x, kind="giou")  # type: ignore[arg-type]
    anyops.soft_nms(x, x, decay="exponential")  # type: ignore[arg-type]
    anyops.cluster_nms(x, x, penalty="distance")  # type: ignore[arg-type]
    anyops.cluster_nms(x, x, penalty=None)
    anyops.matrix_nms(x, x, kernel="hard")  # type: ignore[arg-type]
    anyops.weighted_boxes_fusion(x, x, y, conf_type="mean")  # type: ignore[arg-type]
    anyops.sigmoid_focal_loss(x, x, reduction="avg")  # type: ignore[arg-type]
    anyops.kmeans(x, 2, init=x, n_init="auto", center="median")
    anyops.kmeans(x, 2, metric="manhattan")  # type: ignore[arg-type]
    anyops.kmeans(x, 2, n_init="many")  # type: ignore[arg-type]
    anyops.logistic_regression(x, y, class_weight="balanced", solver="lbfgs")
    anyops.logistic_regression(x, y, solver="saga")  # type: ignore[arg-type]
    anyops.logistic_regression(x, y, class_weight="equal")  # type: ignore[arg-type]

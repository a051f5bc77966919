"""Calls of other libraries and their anyops equivalents; for docs/coming_from.md, and tests that both agree.

    python -m tests.peers > docs/coming_from.md    the page
    python -m tests.peers --record                 run the installed libraries, and record their answers

A pair is two expressions over the same arrays. The other library's answer is recorded with its version and the date
(tests/vectors/peers.json), so that anyops is tested against it even if that library is not installed. mmcv, which has
to be compiled, is not run: its answers are published in its tests and documentation.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import anyops

RECORD = Path(__file__).with_name("vectors") / "peers.json"


class Pair(NamedTuple):
    """An expression in the other library, the same in anyops, their tolerance, and a note."""

    theirs: str
    ours: str
    note: str = ""
    atol: float = 1e-6


class Peer(NamedTuple):
    """A library: its distribution, its imports, its pairs, and the NumPy arrays that both sides get."""

    title: str
    package: str
    imports: dict[str, str]  # name in expressions: module
    pairs: tuple[Pair, ...]
    arrays: Callable[[], dict[str, Any]]
    remarks: tuple[str, ...] = ()
    tensors: bool = False  # whether it needs torch tensors instead of NumPy arrays
    published: dict[str, Any] | None = None  # published answers


def scene() -> dict[str, Any]:
    """Boxes in clusters with scores and labels, two sets to compare, logits, samples and masks, as NumPy arrays."""
    rng = np.random.default_rng(7)
    corner = rng.integers(0, 6, (12, 1)) * 40 + rng.integers(0, 12, (12, 2))
    boxes = np.concatenate([corner, corner + rng.integers(20, 40, (12, 2))], axis=1).astype(np.float32)
    x = np.concatenate([rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 2.5])
    masks = np.zeros((3, 8, 8), bool)
    masks[0, 1:5, 2:7], masks[1, 3:8, 0:4], masks[2, 2:6, 2:7] = True, True, True
    return {
        "boxes": boxes,
        "scores": rng.permutation(12).astype(np.float32) / 16 + 0.125,
        "labels": np.arange(12) % 3,
        "a": boxes[:5],
        "b": boxes[5:10],
        "logits": rng.normal(size=(4, 3)).astype(np.float32) * 3,
        "targets": rng.integers(0, 2, (4, 3)).astype(np.float32),
        "masks": masks,
        "batch": rng.normal(size=(6, 3, 2)).astype(np.float32),
        "mean": np.zeros(3, np.float32),
        "var": np.ones(3, np.float32),
        "factors": np.asarray([0.5, 1, 2], np.float32),
        "half": np.asarray(0.5, np.float32),
        "x": x,
        "y": np.repeat([0, 1], 30),
        "three": np.arange(60) % 3,
        "start": x[[0, 20, 40]],
        "weight": rng.integers(1, 4, 60).astype(np.float64),
        # Centre, width, height and degrees.
        "turned": np.concatenate(
            ((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], np.arange(12)[:, None] * 31 - 170), axis=1
        ).astype(np.float32),
    }


@dataclass
class Detections:
    """The part of `supervision.Detections` that the rows use, if it is not installed."""

    xyxy: np.ndarray
    confidence: np.ndarray
    class_id: np.ndarray

    def __getitem__(self, some: np.ndarray) -> Detections:
        return Detections(self.xyxy[some], self.confidence[some], self.class_id[some])


def supervision_scene() -> dict[str, Any]:
    """With the rows (x1, y1, x2, y2, score, class) that supervision takes."""
    arrays = scene()
    columns = (arrays["boxes"], arrays["scores"][:, None], arrays["labels"][:, None].astype(np.float32))
    corners = anyops.box_convert(arrays["turned"].astype(np.float64), "cxcywhr", "xyxyxyxy")
    detections = Detections(arrays["boxes"], arrays["scores"], arrays["labels"])
    if importlib.util.find_spec("supervision"):
        sv = importlib.import_module("supervision")
        detections = sv.Detections(detections.xyxy, confidence=detections.confidence, class_id=detections.class_id)
    return arrays | {"rows": np.concatenate(columns, axis=1), "corners": corners, "detections": detections}


def opencv_scene() -> dict[str, Any]:
    """With the rectangles that OpenCV takes: ((x, y), (width, height), clockwise degrees), and (x, y, width, height)."""
    arrays = scene()
    turned = arrays["turned"].tolist()
    return arrays | {
        "rects": [((x, y), (width, height), -angle) for x, y, width, height, angle in turned],
        "xywh": anyops.box_convert(arrays["boxes"], "xyxy", "xywh").astype(np.float64),
    }


def sahi_scene() -> dict[str, Any]:
    """With the rows (x1, y1, x2, y2, score, category) that SAHI takes, of one category."""
    arrays = scene()
    columns = (arrays["boxes"], arrays["scores"][:, None], np.zeros((12, 1), np.float32))
    return arrays | {"rows": np.concatenate(columns, axis=1).astype(np.float64)}


def detectron2_scene() -> dict[str, Any]:
    """The box of the docstring of RotatedBoxes, and of pairwise_iou_rotated's tests."""
    return {"box": np.asarray([5.0, 3.0, 4.0, 2.0, 90.0]), "other": np.asarray([5.0, 3.0, 4.0, 2.0, -90.0])}


def pcdet_scene() -> dict[str, Any]:
    """x, y, z, dx, dy, dz, heading: in radians, from x towards y."""
    return {"boxes": np.asarray([[1, 2, 0, 4, 2, 1, np.pi / 6], [1, 2, 0.5, 4, 2, 1, np.pi / 6 + np.pi]])}


def keras_scene() -> dict[str, Any]:
    """The boxes of the docstring of convert_format, in an image of 300 × 200, as centres (y, x) and relative to it."""
    boxes, size = np.asarray([[10.0, 20, 30, 40], [50, 60, 70, 80]]), np.asarray([300.0, 200, 300, 200])
    centred = np.asarray([[30.0, 20, 20, 20], [70, 60, 20, 20]])
    return {"boxes": boxes, "size": size, "centred": centred, "relative": boxes / size}


def fusion_scene() -> dict[str, Any]:
    """Two models, with boxes in [0, 1] as ensemble-boxes needs them."""
    arrays = scene()
    unit, labels = (arrays["boxes"] / 512).astype(np.float64), np.asarray([0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1])
    scores = arrays["scores"].astype(np.float64)
    one = (unit[::2], scores[::2], labels[::2])
    two = (unit[::2] + 1 / 256, scores[1::2], labels[::2])
    return {
        "boxes": [one[0], two[0]],
        "scores": [one[1], two[1]],
        "labels": [one[2], two[2]],
        "all_boxes": np.concatenate([one[0], two[0]]),
        "all_scores": np.concatenate([one[1], two[1]]),
        "all_labels": np.concatenate([one[2], two[2]]),
        "models": np.repeat([0, 1], 6),
    }


def mmcv_scene() -> dict[str, Any]:
    """The inputs of mmcv's tests: tests/test_ops/test_nms.py, test_focal_loss.py, and the docstring of bbox_overlaps."""
    return {
        "boxes": np.float32([[6, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]]),
        "scores": np.float32([0.6, 0.9, 0.7, 0.2]),
        "a": np.float32([[0, 0, 10, 10], [10, 10, 20, 20], [32, 32, 38, 42]]),
        "b": np.float32([[0, 0, 10, 20], [0, 10, 10, 19], [10, 10, 20, 20]]),
        "logits": np.float32([[1, 0], [0, 1]]),
        "labels": np.asarray([0, 1]),
        "one_hot": np.float32([[1, 0], [0, 1]]),
        # Of tests/test_ops/test_box_iou_rotated.py and test_nms_rotated.py: clockwise radians.
        "p": np.float32([[1, 1, 3, 4, 0.5], [2, 2, 3, 4, 0.6], [7, 7, 8, 8, 0.4]]),
        "q": np.float32([[0, 2, 2, 5, 0.3], [2, 1, 3, 3, 0.5], [5, 5, 6, 7, 0.4]]),
        "turned": np.float32([[6, 3, 8, 7, 0.5], [3, 6, 9, 11, 0.6], [3, 7, 10, 12, 0.3], [1, 4, 13, 7, 0.6]]),
        "rated": np.float32([0.7, 0.8, 0.5, 0.9]),
        "degrees": np.float32([1, 1, 1, 1, -180 / np.pi]),
    }


TORCHVISION = (
    Pair("ops.nms(boxes, scores, 0.5)", "anyops.nms(boxes, scores, 0.5)"),
    Pair("ops.nms(boxes, scores, half)", "anyops.nms(boxes, scores, half)", "a threshold without axes"),
    Pair("ops.batched_nms(boxes, scores, labels, 0.5)", "anyops.batched_nms(boxes, scores, labels, 0.5)"),
    Pair("ops.box_iou(a, b)", "anyops.box_iou(a, b)"),
    Pair("ops.generalized_box_iou(a, b)", 'anyops.box_iou(a, b, kind="giou")'),
    Pair("ops.distance_box_iou(a, b)", 'anyops.box_iou(a, b, kind="diou")', "they add ε = 1e-7 to the diagonal"),
    Pair("ops.complete_box_iou(a, b)", 'anyops.box_iou(a, b, kind="ciou")', "as above"),
    Pair(
        'ops.box_iou(turned[:6], turned[6:], fmt="cxcywhr")',
        'anyops.box_iou(turned[:6], turned[6:], fmt="cxcywhr")',
        "`fmt` is a keyword here; degrees, counter-clockwise; [wrong there](wrong_there_right_here.md) for boxes of one object",
    ),
    Pair('ops.box_convert(turned, "cxcywhr", "xywhr")', 'anyops.box_convert(turned, "cxcywhr", "xywhr")', "", 1e-4),
    Pair(
        'ops.box_convert(turned, "cxcywhr", "xyxyxyxy")', 'anyops.box_convert(turned, "cxcywhr", "xyxyxyxy")', "", 1e-4
    ),
    Pair("ops.box_area(boxes)", "anyops.box_area(boxes)"),
    Pair('ops.box_convert(boxes, "xyxy", "cxcywh")', 'anyops.box_convert(boxes, "xyxy", "cxcywh")'),
    Pair("ops.clip_boxes_to_image(boxes, (100, 60))", "anyops.clip_boxes(boxes, (100, 60))", "height, width"),
    Pair(
        "boxes[ops.remove_small_boxes(boxes, 25.0)]",
        "boxes[(boxes[:, 2:] - boxes[:, :2] >= 25.0).all(1)]",
        "no function; the mask in brackets selects scores and labels too",
    ),
    Pair("ops.masks_to_boxes(masks)", "anyops.masks_to_boxes(masks)"),
    Pair("ops.sigmoid_focal_loss(logits, targets)", "anyops.sigmoid_focal_loss(logits, targets)"),
    Pair(
        'ops.sigmoid_focal_loss(logits, targets, alpha=-1, reduction="mean")',
        'anyops.sigmoid_focal_loss(logits, targets, alpha=None, reduction="mean")',
        "a negative α switches it off there",
    ),
    Pair("ops.generalized_box_iou_loss(a, b)", 'anyops.box_iou_loss(a, b, kind="giou")'),
    Pair("ops.distance_box_iou_loss(a, b)", 'anyops.box_iou_loss(a, b, kind="diou")'),
    Pair("ops.complete_box_iou_loss(a, b)", 'anyops.box_iou_loss(a, b, kind="ciou")'),
)

TORCH = (
    Pair(
        "F.batch_norm(batch, mean, var, training=True)",
        "anyops.batch_norm(batch, mean, var, training=True, correction=1).y",
    ),
    Pair("F.batch_norm(batch, mean, var)", "anyops.batch_norm(batch, mean, var).y"),
    Pair(
        "F.binary_cross_entropy_with_logits(logits, targets)",
        'anyops.sigmoid_focal_loss(logits, targets, alpha=None, gamma=0, reduction="mean")',
    ),
    Pair(
        "F.binary_cross_entropy_with_logits(logits, targets, pos_weight=factors)",
        'anyops.sigmoid_focal_loss(logits, targets, alpha=None, gamma=0, pos_weight=factors, reduction="mean")',
        "a factor for each column, on the loss of the positive ones",
    ),
    Pair(
        'F.binary_cross_entropy_with_logits(logits, targets, weight=factors, reduction="sum")',
        'anyops.sigmoid_focal_loss(logits, targets, alpha=None, gamma=0, sample_weight=factors, reduction="sum")',
        "their mean divides by the items, ours by the weights",
    ),
    Pair(
        "F.cross_entropy(logits, labels[:4])",
        'anyops.softmax_focal_loss(logits, labels[:4], gamma=0, reduction="mean")',
    ),
    Pair(
        'F.cross_entropy(logits, labels[:4], label_smoothing=0.1, ignore_index=0, reduction="sum")',
        'anyops.softmax_focal_loss(logits, labels[:4], gamma=0, label_smoothing=0.1, ignore_index=0, reduction="sum")',
    ),
    Pair(
        'F.cross_entropy(logits, labels[:4], weight=factors, reduction="sum")',
        'anyops.softmax_focal_loss(logits, labels[:4], alpha=factors, gamma=0, reduction="sum")',
        "`factors` by class",
    ),
    Pair(
        "F.cross_entropy(logits, labels[:4], weight=factors)",
        'anyops.softmax_focal_loss(logits, labels[:4], gamma=0, sample_weight=factors[labels[:4]], reduction="mean")',
        "both means divide by the weights; with `alpha`, ours divides by the items",
    ),
)

SUPERVISION = (
    Pair("sv.box_iou_batch(a, b)", "anyops.box_iou(a, b)"),
    Pair("sv.box_iou_batch(a, b, overlap_metric=sv.OverlapMetric.IOS)", 'anyops.box_iou(a, b, kind="ios")'),
    Pair(
        "sv.box_non_max_suppression(rows, 0.5)",
        "anyops.nms_mask(boxes, scores, 0.5, labels=labels)",
        "rows of corners, score, class",
    ),
    Pair(
        "sv.box_non_max_suppression(rows[:, :5], 0.5)",
        "anyops.nms_mask(boxes, scores, 0.5)",
        "no class column: NMS ignores classes",
    ),
    Pair(
        "detections.with_nms(0.5).xyxy",
        "detections[anyops.nms_mask(detections.xyxy, detections.confidence, 0.5, labels=detections.class_id)].xyxy",
        "`detections` is an `sv.Detections`",
    ),
    Pair(
        "sv.Detections(xyxy=boxes, confidence=scores).with_nmm(0.5, class_agnostic=True).xyxy",
        "anyops.non_max_merge(boxes, scores).boxes",
        "their scores are means weighted by area, ours the best",
    ),
    Pair(
        "sv.oriented_box_iou_batch(corners[:6], corners[6:])",
        'anyops.box_iou(corners[:6], corners[6:], fmt="xyxyxyxy")',
        "[wrong there](wrong_there_right_here.md) for boxes of one object",
        1e-5,
    ),
    Pair(
        "sv.oriented_box_non_max_suppression(rows, corners.reshape(-1, 4, 2), 0.3)",
        'anyops.nms_mask(corners, scores, 0.3, labels=labels, fmt="xyxyxyxy")',
    ),
    Pair("sv.mask_iou_batch(masks, masks)", "anyops.mask_iou(masks, masks)"),
    Pair("sv.mask_to_xyxy(masks)", "anyops.masks_to_boxes(masks)"),
    Pair("sv.xyxy_to_xywh(boxes)", 'anyops.box_convert(boxes, "xyxy", "xywh")'),
)

KERAS = (
    Pair('convert_format(boxes, "xyxy", "xywh")', 'anyops.box_convert(boxes, "xyxy", "xywh")'),
    Pair('convert_format(boxes, "xyxy", "center_xywh")', 'anyops.box_convert(boxes, "xyxy", "cxcywh")'),
    Pair(
        'convert_format(boxes, "xyxy", "center_yxhw")',
        'anyops.box_convert(boxes, "xyxy", "cxcywh")[:, [1, 0, 3, 2]]',
        "columns in another order",
    ),
    Pair(
        'convert_format(centred, "center_yxhw", "xyxy")',
        'anyops.box_convert(centred[:, [1, 0, 3, 2]], "cxcywh", "xyxy")',
    ),
    Pair(
        'convert_format(boxes, "xyxy", "rel_xyxy", height=200, width=300)',
        "boxes / size",
        "`size` is (300, 200, 300, 200): width, height, width, height",
        1e-7,
    ),
    Pair('convert_format(relative, "rel_xyxy", "xyxy", height=200, width=300)', "relative * size"),
    Pair(
        'convert_format(boxes, "xyxy", "rel_yxyx", height=200, width=300)',
        'anyops.box_convert(boxes / size, "xyxy", "yxyx")',
    ),
    Pair(
        'convert_format(boxes, "xyxy", "rel_xywh", height=200, width=300)',
        'anyops.box_convert(boxes / size, "xyxy", "xywh")',
    ),
)
KERAS_SAYS = {
    KERAS[0].theirs: [[10, 20, 20, 20], [50, 60, 20, 20]],
    KERAS[1].theirs: [[20, 30, 20, 20], [60, 70, 20, 20]],
    KERAS[2].theirs: [[30, 20, 20, 20], [70, 60, 20, 20]],
    KERAS[3].theirs: [[10, 20, 30, 40], [50, 60, 70, 80]],
    KERAS[4].theirs: [[0.03333334, 0.1, 0.1, 0.2], [0.16666667, 0.3, 0.23333333, 0.4]],
    KERAS[5].theirs: [[10, 20, 30, 40], [50, 60, 70, 80]],
    KERAS[6].theirs: [[0.1, 0.03333333, 0.2, 0.1], [0.3, 0.16666667, 0.4, 0.23333333]],
    KERAS[7].theirs: [[0.03333333, 0.1, 0.06666667, 0.1], [0.16666667, 0.3, 0.06666667, 0.1]],
}

SKLEARN = (
    Pair("cluster.KMeans(3, init=start, n_init=1).fit(x).cluster_centers_", "anyops.kmeans(x, 3, init=start).centers"),
    Pair("cluster.KMeans(3, init=start, n_init=1).fit(x).labels_", "anyops.kmeans(x, 3, init=start).labels"),
    Pair(
        "cluster.KMeans(3, init=start, n_init=1).fit(x, sample_weight=weight).inertia_",
        "anyops.kmeans(x, 3, init=start, sample_weight=weight).inertia",
    ),
    Pair(
        "cluster.KMeans(3, init=start, n_init=1).fit(x).predict(x[:9])",
        "anyops.kmeans_assign(x[:9], anyops.kmeans(x, 3, init=start).centers).labels",
    ),
    Pair(
        "linear_model.LogisticRegression(C=0.5, tol=1e-10).fit(x, y).coef_[0]",
        "anyops.logistic_regression(x, y, l2=2.0).coef",
        "l2 is 1 / C",
        1e-5,
    ),
    Pair(
        "linear_model.LogisticRegression(C=0.5, tol=1e-10).fit(x, three).predict_proba(x)",
        "anyops.logistic_predict_proba(x, *anyops.logistic_regression(x, three, l2=2.0)[:2])",
        "",
        1e-5,
    ),
    Pair(
        'linear_model.LogisticRegression(tol=1e-10, class_weight="balanced").fit(x, x[:, 0] > 1.5).intercept_[0]',
        'anyops.logistic_regression(x, x[:, 0] > 1.5, l2=1.0, class_weight="balanced").intercept',
        "",
        1e-4,
    ),
    Pair(
        "metrics.log_loss(y, special.expit(x[:, 0] - 1))",
        "anyops.logistic_loss(x, y, np.asarray([1.0, 0.0]), np.asarray(-1.0)).loss",
    ),
)

ENSEMBLE = (
    Pair(
        "ensemble_boxes.weighted_boxes_fusion(boxes, scores, labels, iou_thr=0.55)[0]",
        "anyops.weighted_boxes_fusion(all_boxes, all_scores, all_labels, model_ids=models).boxes",
        "all boxes in one array, the model of each box in another",
    ),
    Pair(
        "ensemble_boxes.weighted_boxes_fusion(boxes, scores, labels, weights=[2, 1], iou_thr=0.55)[1]",
        "anyops.weighted_boxes_fusion(all_boxes, all_scores, all_labels, model_ids=models, model_weights=[2, 1]).scores",
    ),
)

MMCV = (
    Pair(
        'mmcv.ops.soft_nms(boxes, scores, 0.3, min_score=0.01, method="linear")',
        'anyops.soft_nms(boxes, scores, decay="linear", score_threshold=0.01)',
        "they return boxes with scores, and indices",
        1e-5,
    ),
    Pair(
        'mmcv.ops.soft_nms(boxes, scores, 0.3, min_score=0.01, method="naive")',
        'anyops.soft_nms(boxes, scores, decay="hard", score_threshold=0.01)',
        "",
        1e-5,
    ),
    Pair("mmcv.ops.nms(boxes, scores, 0.3)", "anyops.nms(boxes, scores, 0.3)", "they return the boxes too"),
    Pair("mmcv.ops.bbox_overlaps(a, b)", "anyops.box_iou(a, b)", "`offset=0`, their default", 1e-4),
    Pair(
        'mmcv.ops.softmax_focal_loss(logits, labels, 2.0, 0.25, None, "mean")',
        'anyops.softmax_focal_loss(logits, labels, alpha=0.25, reduction="mean")',
        "",
        1e-5,
    ),
    Pair(
        'mmcv.ops.sigmoid_focal_loss(logits, labels, 2.0, 0.25, None, "mean")',
        'anyops.sigmoid_focal_loss(logits, one_hot, reduction="sum") / 2',
        "one-hot targets; their mean is over the rows",
        1e-5,
    ),
    Pair(
        "mmcv.ops.box_iou_rotated(p, q)",
        'anyops.box_iou(p * degrees, q * degrees, fmt="cxcywhr")',
        "radians, clockwise there: `degrees` is (1, 1, 1, 1, −180/π), with `clockwise=False` 180/π",
        1e-4,
    ),
    Pair(
        'mmcv.ops.box_iou_rotated(p, q, mode="iof", aligned=True)',
        'anyops.box_iou(p * degrees, q * degrees, kind="iof", pairwise=False, fmt="cxcywhr")',
        "",
        1e-4,
    ),
    Pair(
        "mmcv.ops.nms_rotated(turned, rated, 0.5)",
        'anyops.nms(turned * degrees, rated, 0.5, fmt="cxcywhr")',
        "they return the boxes too",
    ),
)
OPENCV = (
    Pair("cv2.dnn.NMSBoxes(xywh, scores, 0.0, 0.5)", 'anyops.nms(xywh, scores, 0.5, fmt="xywh")'),
    Pair(
        "cv2.boxPoints(rects[1])",
        'anyops.box_convert(turned[1], "cxcywhr", "polygon")[[3, 0, 1, 2]]',
        "their angles are clockwise: `-angle`; they begin with another corner",
        1e-4,
    ),
    Pair(
        "cv2.dnn.NMSBoxesRotated(rects, scores.tolist(), 0.0, 0.3)",
        'anyops.nms(turned, scores, 0.3, fmt="cxcywhr")',
        "OpenCV treats a box within another one as the same box",
    ),
)

SAHI = (
    Pair(
        'combine.nms(rows, "IOU", 0.5)',
        "anyops.nms(boxes, scores, 0.5)",
    ),
    Pair(
        '[1 + len(merged) for merged in combine.greedy_nmm(rows, "IOU", 0.5).values()]',
        "np.bincount(anyops.non_max_merge(boxes, scores).groups)",
        "how many boxes are in each group; `groups == k` are the boxes of row k",
    ),
    Pair(
        '[1 + len(merged) for merged in combine.nmm(rows, "IOU", 0.3).values()]',
        "np.bincount(anyops.non_max_merge(boxes, scores, overlap_threshold=0.3, transitive=True).groups)",
        'for `match_metric="IOS"`, `kind="ios"`',
    ),
)

DETECTRON2 = (
    Pair(
        "the corners A, B, C, D of RotatedBoxes([box])",
        'anyops.box_convert(box, "cxcywhr", "polygon")',
        "the same convention",
    ),
    Pair(
        "pairwise_iou(RotatedBoxes([box]), RotatedBoxes([other]))",
        'anyops.box_iou(box[None, :], other[None, :], fmt="cxcywhr")',
    ),
)
DETECTRON2_SAYS = {
    DETECTRON2[0].theirs: [[4, 5], [4, 1], [6, 1], [6, 5]],
    DETECTRON2[1].theirs: [[1]],
}

PCDET = (
    Pair(
        "boxes_to_corners_3d(boxes)[0, :4, :2]",
        'anyops.box_convert(np.r_[boxes[0, [0, 1, 3, 4]], -np.degrees(boxes[0, 6])], "cxcywhr", "polygon")[[2, 1, 0, 3]]',
        "headings run from x towards y, in radians",
    ),
    Pair(
        "boxes_iou3d_gpu(boxes[:1], boxes[1:])",
        'anyops.box_iou(*(np.c_[boxes[i, None, :6], -np.degrees(boxes[i, None, 6:])] for i in (0, 1)), fmt="cxcyczwhdr")',
        "z is the z of the centre in both",
    ),
)
SIN, COS = 0.5, 3**0.5 / 2  # of the heading, π / 6
PCDET_SAYS = {
    # The corner (dx, dy) / 2, then (dx, −dy) / 2 and on, turned from x towards y; half a turn more is the same box, and
    # heights of 1 that are 0.5 apart share a third.
    PCDET[0].theirs: [[1 + x * COS - y * SIN, 2 + x * SIN + y * COS] for x, y in ((2, 1), (2, -1), (-2, -1), (-2, 1))],
    PCDET[1].theirs: [[1 / 3]],
}

MMCV_SAYS = {
    MMCV[0].theirs: [[1, 0, 2, 3], [0.9, 0.6, 0.29024392, 0.2]],
    MMCV[1].theirs: [[1, 0, 3], [0.9, 0.6, 0.2]],
    MMCV[2].theirs: [1, 0, 3],  # hard Soft-NMS is NMS
    MMCV[3].theirs: [[0.5, 0, 0], [0, 0, 1], [0, 0, 0]],
    MMCV[4].theirs: 0.00566451,
    MMCV[5].theirs: 0.13562961,
    MMCV[6].theirs: [[0.3708, 0.4351, 0], [0.1104, 0.4487, 0.0424], [0, 0, 0.3622]],
    MMCV[7].theirs: [0.4959, 0.5420, 0.4404],
    MMCV[8].theirs: [3, 1, 0],
}

PEERS = (
    Peer(
        "torchvision",
        "torchvision",
        {"ops": "torchvision.ops"},
        TORCHVISION,
        scene,
        (
            "Integer boxes are exact here: torchvision subtracts uint8 corners in uint8 and multiplies int32 sides in int32, so both can wrap around.",
            "`batched_nms` shifts boxes by their class there, which fails for negative coordinates and loses bits for large class numbers; here labels are compared.",
            "`eps=` of the overlaps and losses has no counterpart. torchvision adds it to denominators, so none is 0; here "
            "nothing is added, and a quotient with denominator 0 is a special case.",
            "`torch.jit.script` takes none of these functions. Use `torch.compile` (with the static forms; or call `torch.compiler.disable(anyops.nms)` inside), or `anyops.onnx` for [a model that runs without Python](deploy.md).",
            "There are no layers, and neither `roi_align`, `roi_pool`, `ps_roi_align`, `ps_roi_pool` nor `deform_conv2d`: stay with torchvision for these. "
            "Tensors go from one to the other as they are.",
            "A threshold may be an array without axes. `nms` reads its value; `nms_mask` and the other static forms do not, so it may "
            "[change under `jit` and `torch.compile`](transforms.md#numbers-that-change).",
            "Keywords differ: `inputs` is `logits` here, and `boxes1`, `boxes2` of the losses are `pred`, `target`.",
            "`nox -s dropin` tests each of these facts on both libraries. An [application swaps `nms`]"
            "(../examples/drop_in.py).",
        ),
        tensors=True,
    ),
    Peer(
        "torch",
        "torch",
        {"F": "torch.nn.functional"},
        TORCH,
        scene,
        (
            "`momentum` here is one minus torch's, and the state is returned: [all settings](batch_norm.md#settings-of-other-libraries).",
        ),
        tensors=True,
    ),
    Peer(
        "mmcv",
        "mmcv",
        {},
        MMCV,
        mmcv_scene,
        (
            "mmcv has to be compiled, so it is not run: its results are those that its own tests and documentation publish.",
            "`mmcv.ops.batched_nms` with `class_agnostic=True` is `nms`, else `nms(..., labels=idxs)`; `nms_match` is `nms_groups`.",
        ),
        published=MMCV_SAYS,
    ),
    Peer(
        "supervision",
        "supervision",
        {"sv": "supervision"},
        SUPERVISION,
        supervision_scene,
        (
            "Best first: `detections[anyops.nms(detections.xyxy, detections.confidence, 0.5, labels=detections.class_id)]`. "
            "With `nms_mask` the detections keep their order, as in supervision.",
        ),
    ),
    Peer("OpenCV", "opencv-python-headless", {"cv2": "cv2"}, OPENCV, opencv_scene),
    Peer(
        "SAHI",
        "sahi",
        {"combine": "sahi.postprocess.combine"},
        SAHI,
        sahi_scene,
        (
            "Their `GreedyNMMPostprocess` and `NMMPostprocess` merge a group box by box, and leave out a box that overlaps the union so far by less than the threshold; "
            "here the whole group is merged.",
        ),
    ),
    Peer(
        "detectron2",
        "detectron2",
        {},
        DETECTRON2,
        detectron2_scene,
        ("detectron2 is not run: its results are those in the docstring of `RotatedBoxes`.",),
        published=DETECTRON2_SAYS,
    ),
    Peer(
        "OpenPCDet",
        "pcdet",
        {},
        PCDET,
        pcdet_scene,
        (
            "OpenPCDet is not run: its results follow from the convention in its documentation.",
            "If z is the base of the box, as in KITTI, add half the height.",
        ),
        published=PCDET_SAYS,
    ),
    Peer(
        "Keras",
        "keras",
        {},
        KERAS,
        keras_scene,
        (
            "`convert_format` is `keras.utils.bounding_boxes.convert_format`. Keras is not run: its results are those of its docstring, "
            "or follow from the formats that this defines.",
            "`iou`, `iof`, `ios` and `giou` are the same in relative coordinates and in pixels; `diou` and `ciou` only if the image is square.",
        ),
        published=KERAS_SAYS,
    ),
    Peer(
        "scikit-learn",
        "scikit-learn",
        {
            "cluster": "sklearn.cluster",
            "linear_model": "sklearn.linear_model",
            "metrics": "sklearn.metrics",
            "special": "scipy.special",
        },
        SKLEARN,
        scene,
        (
            "Classes with `fit` and `predict` are in [estimators](estimators.md); the rows above show the functions that they call.",
            "With the same seed k-means++ draws other samples than scikit-learn, so these rows pass the initial centres.",
            "Renamed: `n_clusters` is `k`, `random_state` is `seed`, `C` is 1 / l2.",
        ),
    ),
    Peer(
        "ensemble-boxes",
        "ensemble-boxes",
        {"ensemble_boxes": "ensemble_boxes"},
        ENSEMBLE,
        fusion_scene,
    ),
)


def answer(expression: str, names: dict[str, Any]) -> Any:
    """The value of an expression, as numbers for JSON."""
    found = eval(expression, {"np": np, "anyops": anyops} | names)
    parts = [np.asarray(part).tolist() for part in (found if isinstance(found, tuple) else (found,))]
    return parts if isinstance(found, tuple) else parts[0]


def arrays_of(peer: Peer) -> dict[str, Any]:
    """The arrays in the type that the library takes."""
    if not peer.tensors:
        return peer.arrays()
    torch = importlib.import_module("torch")
    return {name: torch.asarray(value) for name, value in peer.arrays().items()}


def why_not(peer: Peer) -> str | None:
    """Why a library cannot be run here, or None."""
    if peer.published is not None:
        return f"{peer.title} is not run: its answers are published ones"
    for module in peer.imports.values():
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{peer.title}: {error}".splitlines()[0]
    return None


def ask(peer: Peer, pair: Pair) -> Any:
    """The answer of the other library."""
    names = {}
    for name, module in peer.imports.items():
        found = importlib.import_module(module)
        names[name] = getattr(found, name, found)
    return answer(pair.theirs, names | arrays_of(peer))


def recorded() -> dict[str, Any]:
    """The record: for each library its version, the date, and the answers by expression."""
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    published = {
        peer.title: {"version": "published", "date": None, "answers": peer.published}
        for peer in PEERS
        if peer.published
    }
    return known | published


def record() -> None:
    """Record the answers of every installed library."""
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for peer in PEERS:
        if why := why_not(peer):
            print(f"left as it is: {why}", file=sys.stderr)
            continue
        known[peer.title] = {
            "version": metadata.version(peer.package),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "answers": {pair.theirs: ask(peer, pair) for pair in peer.pairs},
        }
    part = RECORD.with_suffix(".part")
    part.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    part.replace(RECORD)


def render() -> str:
    """The page."""
    known = recorded()
    lines = [
        "# Coming from torchvision, mmcv, supervision, SAHI, scikit-learn",
        "",
        "<!-- Generated by `python -m tests.peers > docs/coming_from.md`. -->",
        "",
        "Calls of other libraries (*there*), and the same in anyops (*here*). A test runs both sides of each row; for libraries that are not run, it",
        "compares with their documentation or tests. The results are equal up to rounding, and up to the ε that some libraries add. anyops takes arrays of any library, the other side those of its own. Calls with several results return",
        "a named tuple, with fields such as `.centers`, `.boxes`, `.y`.",
        "",
        "Names in the rows:",
        "",
        "- `boxes`, `a`, `b`: boxes (N, 4) of corners; `scores` and `labels` belong to `boxes`; `half`: the threshold 0.5, an array without axes.",
        "- `turned`, `p`, `q`: rotated boxes (N, 5), centre, width, height and angle; `rated`: scores of `turned`; `corners`: their corners (N, 8).",
        "- `rows`: corners, score and class of each box as one array (N, 6); `xywh` and `rects`: boxes and rotated boxes as OpenCV takes them.",
        "- `masks`: bool (N, height, width); `centred` and `relative`: boxes (N, 4) in the format that the row names.",
        "- `logits`, `targets`: (N, C); `one_hot`: the labels as such targets; `factors`: one weight for each class.",
        "- `batch`: (N, C, L), with the running statistics `mean` and `var`.",
        "- `x`: samples (n, p); `y`: their two classes; `three`: three classes; `weight`: weights of the samples; `start`: initial centres.",
        "- `all_boxes`, `all_scores`, `all_labels`: the boxes of all models one after the other; `models`: the model of each.",
    ]
    for peer in PEERS:
        found = known[peer.title]
        when = f"Compared with version {found['version']} on {found['date']}." if found["date"] else ""
        lines += ["", f"## {peer.title}", "", *([when, ""] if when else [])]
        lines += ["| there | here | note |", "|---|---|---|"]
        lines += [f"| `{pair.theirs}` | `{pair.ours}` | {pair.note} |".replace("|  |", "| |") for pair in peer.pairs]
        lines += ["", *(f"- {remark}" for remark in peer.remarks)] if peer.remarks else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    record() if "--record" in sys.argv[1:] else sys.stdout.write(render())

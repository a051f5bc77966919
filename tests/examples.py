"""A small call of each op that runs wherever the op declares to; the test matrix runs them with changed arguments."""

from functools import partial
from inspect import signature

import array_api_compat
import numpy as np

import anyops
from tests import scenes

BOXES, SCORES = scenes.clustered(8)
BOXES[-1, 2:] = BOXES[-1, :2]  # a point
IDS = np.arange(8, dtype=np.int32) % 2
MASKS = np.random.default_rng(0).random((3, 4, 5)) < 0.5
LOGITS = np.float32([[0.5, -1, 2], [0, 3, -2], [1, 1, 1], [-4, 0, 4]])
LABELS = np.array([2, 0, 1, 2], np.int32)
BATCH = np.random.default_rng(1).normal(size=(4, 3, 2)).astype(np.float32)
CHANNELS = np.float32([1, 2, -1])
POSES = np.random.default_rng(3).random((7, 5, 3)).astype(np.float32) * np.float32([8, 8, 1])
POSES[-1, 1:3, 2] = 0  # keypoints that are not visible
AREAS, SIGMAS = np.float32([4, 9, 16, 25]), (0.5, 0.25, 0.5, 1.0, 0.75)
ROWS = np.random.default_rng(2).normal(size=(12, 2)).astype(np.float32)
CLASSES = np.array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0], np.int32)
COEF, INTERCEPT = np.float32([0.5, -0.25]), np.array(0.25, np.float32)
MODEL = ROWS, CLASSES, COEF, INTERCEPT


def here(x, results):
    """Statistics as arrays of the library of `x`, because those of dask arrays are NumPy arrays."""
    xp = array_api_compat.array_namespace(x)
    return tuple(xp.asarray(y) if isinstance(y, (np.ndarray, np.generic)) else y for y in results)


def fused(boxes, scores):
    """Fused boxes and scores in one array, for a gradient."""
    boxes, scores = anyops.weighted_cluster_nms_boxes(boxes, scores)
    return boxes * scores[..., None]


def united(boxes, scores, labels):
    """Merged boxes and scores in one array, for a gradient."""
    found = anyops.non_max_merge(boxes, scores, overlap_threshold=0.1, labels=labels)
    return found.boxes * found.scores[..., None]


def of_parts(part, merge):
    """The merged statistics of two parts of the rows; centres and coefficients are not split."""

    def call(*arrays, by_row):
        parts = (part(*(a[rows, ...] for a in arrays[:by_row]), *arrays[by_row:]) for rows in (slice(5), slice(5, 12)))
        return here(arrays[0], merge(*parts))

    return call


# The op, or a function that calls it, and its arguments. Ops of boxes and scores need no line here.
EXAMPLES = {
    "box_area": (anyops.box_area, BOXES),
    "box_convert": (anyops.box_convert, BOXES, "xyxy", "cxcywh"),
    "clip_boxes": (anyops.clip_boxes, BOXES, (3, 4)),
    "masks_to_boxes": (anyops.masks_to_boxes, MASKS),
    "box_iou": (anyops.box_iou, BOXES, BOXES[:5]),
    "mask_iou": (anyops.mask_iou, MASKS, MASKS),
    "keypoint_similarity": (partial(anyops.keypoint_similarity, sigmas=SIGMAS), POSES[:3], POSES[3:], AREAS),
    "sigmoid_focal_loss": (anyops.sigmoid_focal_loss, LOGITS, (LOGITS > 0) * 1),
    "sigmoid_focal_loss_and_grad": (anyops.sigmoid_focal_loss_and_grad, LOGITS, (LOGITS > 0) * 1),
    "softmax_focal_loss": (anyops.softmax_focal_loss, LOGITS, LABELS),
    "softmax_focal_loss_and_grad": (anyops.softmax_focal_loss_and_grad, LOGITS, LABELS),
    "box_iou_loss": (anyops.box_iou_loss, BOXES, BOXES[::-1].copy()),
    "batch_norm": (lambda x, w: anyops.batch_norm(x, 0 * w, 0 * w + 1, w, w, training=True), BATCH, CHANNELS),
    "batch_norm_grad": (anyops.batch_norm_grad, BATCH**2, BATCH, CHANNELS),
    "batch_stats": (lambda x: here(x, anyops.batch_stats(x)), BATCH),
    "merge_batch_stats": (
        lambda x: here(x, anyops.merge_batch_stats(anyops.batch_stats(x[:1, ...]), anyops.batch_stats(x[1:, ...]))),
        BATCH,
    ),
    "logistic_loss": (partial(anyops.logistic_loss, l2=0.5), *MODEL),
    "logistic_partial": (lambda x, *rest: here(x, anyops.logistic_partial(x, *rest)), *MODEL),
    "logistic_merge": (partial(of_parts(anyops.logistic_partial, anyops.logistic_merge), by_row=2), *MODEL),
    "logistic_step": (partial(anyops.logistic_step, l2=0.5), *MODEL),
    "logistic_predict_proba": (anyops.logistic_predict_proba, ROWS, COEF, INTERCEPT),
    "logistic_log_proba": (anyops.logistic_log_proba, ROWS, COEF, INTERCEPT),
    "logistic_regression": (lambda x, y: here(x, anyops.logistic_regression(x, y)[:2]), ROWS, CLASSES),
    "kmeans": (lambda x: here(x, anyops.kmeans(x, 2, init="k-means||", seed=0)[:1]), ROWS),
    "kmeans_plusplus": (lambda x: anyops.kmeans_plusplus(x, 2, seed=0), ROWS),
    "minibatch_kmeans": (
        lambda x: here(x, anyops.minibatch_kmeans([x[:6, ...], x[6:, ...]], 2, seed=0)[:1]),
        ROWS,
    ),
    "anchor_boxes": (lambda x: here(x, anyops.anchor_boxes(x, 2, center="mean", seed=0)[:1]), np.exp(ROWS)),
    "kmeans_assign": (anyops.kmeans_assign, ROWS, ROWS[:3]),
    "kmeans_partial": (lambda x, c: here(x, anyops.kmeans_partial(x, c)), ROWS, ROWS[:3]),
    "kmeans_merge": (partial(of_parts(anyops.kmeans_partial, anyops.kmeans_merge), by_row=1), ROWS, ROWS[:3]),
    "kmeans_step": (anyops.kmeans_step, ROWS, ROWS[:3]),
    "batched_nms": (anyops.batched_nms, BOXES, SCORES, IDS, 0.5),
    "top_scores": (anyops.top_scores, SCORES, 3),
    "cluster_nms": (partial(anyops.cluster_nms, penalty="score"), BOXES, SCORES),
    "cluster_nms_scores": (partial(anyops.cluster_nms_scores, penalty="score"), BOXES, SCORES),
    "weighted_cluster_nms_boxes": (fused, BOXES, SCORES),
    "non_max_merge": (united, BOXES, SCORES, IDS),
    "weighted_boxes_fusion": (lambda b, s, i: anyops.weighted_boxes_fusion(b, s, i).boxes, BOXES, SCORES, IDS),
    "weighted_boxes_fusion_padded": (
        lambda b, s, i: anyops.weighted_boxes_fusion_padded(b, s, i).boxes,
        *(BOXES, SCORES, IDS),
    ),
}


def example(name):
    """A function that calls the op, and its arguments."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    op = getattr(anyops, name)
    assert list(signature(op).parameters)[:2] == ["boxes", "scores"], f"{name} needs an example in {__name__}"
    return op, BOXES, SCORES

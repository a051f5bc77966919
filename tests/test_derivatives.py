"""Derivatives by each differentiable argument of each op against finite differences, in float64.

At ordinary and at special points: numbers that are exactly 0 or 1, rows of weight 0, constants, boxes that are
disjoint, contained, without area, masked. Not at kinks of the function.
"""

import numpy as np
import pytest

import anyops
from tests.backends import Backend, Transform, why_not

RNG = np.random.default_rng(7)
BOXES = np.array(  # the last but one is inverted: it has no area
    [[0, 0, 4, 3], [1, 0.5, 5, 4], [0.5, 1.25, 2.5, 2], [10, 10, 12, 13], [7, 6, 6, 8], [1.5, 0.25, 4.5, 3.5]]
)
OTHER = np.array([[0.25, 0.75, 3, 3.25], [9, 9, 13, 12], [20, 20, 22, 21], [1.75, 1, 1.25, 1.5]])
SCORES = np.array([0.9, 0.8, 0.75, 0.6, 0.5, 0.4])
LABELS = np.array([0, 0, 0, 0, 1, 0], np.int32)
VALID = np.array([True, True, False, True, True, True])
OVERLAPS = np.where(np.eye(6) > 0, 1.0, RNG.random((6, 6)) * 0.9 + 0.05)
LOGITS = np.array([[0.0, 1.5, -2.0], [30.0, -30.0, 0.0], [0.5, 0.5, 0.5], [-1.0, 2.0, 0.25]])
TARGETS = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.25, 1.0, 0.0]])
SOFT = np.array([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
HARD = np.array([1, 0, 2, 0], np.int32)
ALPHA = np.array([0.0, 1.0, 0.3])
ITEMS = np.array([[1.0], [1e-3], [2.0], [0.5]])  # weights of rows
X = np.concatenate([RNG.normal(size=(5, 3)), np.zeros((1, 3))])
X[:, 2] = 1.5  # a constant channel
DY = RNG.normal(size=(6, 3))
MEAN, VAR = np.array([0.5, 0.0, 1.5]), np.array([0.25, 1.0, 0.0])
WEIGHT, BIAS = np.array([1.0, 0.0, -2.0]), np.array([0.0, 1.0, 3.0])
ROWS = np.array([1.0, 0.0, 2.0, 0.5, 1.0, 1.0])
P = np.concatenate([RNG.normal(size=(5, 2)), np.zeros((1, 2))])
Y, Y3 = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0]), np.array([0, 1, 2, 0, 2, 1], np.int32)
COEF, INTERCEPT, COEF3, INTERCEPT3 = np.array([0.5, 0.0]), np.array(0.25), RNG.normal(size=(3, 2)), np.zeros(3)
CENTERS = np.array([[0.5, 0.25], [-1.0, 0.5]])

# Pairs of quadrilaterals: vertical edges; vertices above each other, on an edge, or equal; one repeated vertex.
QUADS = np.array(
    [
        ([[0, 0], [2, 0], [2, 1], [0, 1]], [[1, 0.5], [3, 0.5], [3, 1.5], [1, 1.5]]),
        ([[0, 0], [2, 0], [2, 1], [0, 1]], [[1, 2], [2, 1], [1, 0], [0, 1]]),
        ([[0.5, 0.25], [1, 0.25], [1, 0.5], [0.5, 0.5]], [[0, 1], [1, 0], [2, 1], [1, 2]]),
        ([[0, 0], [4, 0], [4, 4], [2, 1]], [[2, -1], [2, 0.5], [1, 0.5], [1, -1]]),
        ([[0.5, -1], [1.5, -1], [1.5, 3], [0.5, 3]], [[0, 0], [3, 0], [0, 3], [0, 3]]),
    ]
)
REGIONS = {  # two that overlap, and one that is contained
    "cxcywhr": ([[1, 2, 4, 2, 0], [1, 2, 4, 2, 90]], [[1.5, 2.25, 2, 3, 30], [1.125, 2, 1, 1.5, 90]]),
    "segment": ([[0, 2], [0, 4]], [[1, 3], [1, 2]]),
    "xyzxyz": ([[0, 0, 0, 2, 1, 3], [0, 0, 0, 4, 4, 4]], [[1, 0.5, -1, 3, 2, 2], [1, 1, 1, 2, 2, 3]]),
    "cxcyczwhdr": (
        [[1, 2, 0, 4, 2, 1, 0], [1, 2, 0, 4, 2, 3, 90]],
        [[1.5, 2, 0.25, 2, 3, 1, 30], [1.25, 2, 0, 1, 1, 1, 45]],
    ),
}
REGIONS = {fmt: [np.array(x, float) for x in pair] for fmt, pair in REGIONS.items()} | {
    "polygon": [QUADS[:, 0], QUADS[:, 1]]
}

# op: calls of floating arrays, by which their results are differentiated; other arguments are constants in the call.
# A call gets `c`, which converts a constant to an array of the library.
CASES = {
    "box_area": [(lambda c, b: anyops.box_area(b), BOXES)],
    "box_convert": [
        (lambda c, b, i=i, o=o: anyops.box_convert(b, i, o), BOXES)
        for i in ("xyxy", "cxcywh")
        for o in ("xywh", "yxyx")
    ],
    "clip_boxes": [(lambda c, b: anyops.clip_boxes(b, (3.25, 4.25)), BOXES[[0, 1, 3]] + 0.1)],
    "box_iou": [
        (lambda c, a, b, k=k: anyops.box_iou(a, b, kind=k), BOXES, OTHER) for k in ("iou", "iof", "ios", "giou", "diou")
    ]
    + [(lambda c, a, b, f=f: anyops.box_iou(a, b, pairwise=False, fmt=f), *pair) for f, pair in REGIONS.items()],
    "keypoint_similarity": [
        (
            lambda c, a, b, area: anyops.keypoint_similarity(a, b, area, sigmas=(0.3, 0.2, 0.25)),
            BOXES[:, :2].reshape(2, 3, 2),
            np.stack((BOXES[:, 2], BOXES[:, 3], ROWS - 0.1), -1).reshape(2, 3, 3),
            np.array([30.0, 50.0]),
        )
    ],
    "box_iou_loss": [
        (lambda c, a, b, k=k: anyops.box_iou_loss(a, b, kind=k), BOXES[:4], OTHER) for k in ("iou", "giou", "diou")
    ]
    + [
        (lambda c, a, b, w, r=r: anyops.box_iou_loss(a, b, r, sample_weight=w), BOXES[:4], OTHER, ITEMS[:, 0])
        for r in ("none", "mean")
    ],
    "sigmoid_focal_loss": [
        (lambda c, x, t, g=g, a=a: anyops.sigmoid_focal_loss(x, t, gamma=g, alpha=a), LOGITS, TARGETS)
        for g, a in ((2.0, 0.25), (0.0, None), (0.0, 1.0), (1.5, 0.0))
    ]
    + [
        (
            lambda c, x, t, p, w, r=r: anyops.sigmoid_focal_loss(x, t, reduction=r, pos_weight=p, sample_weight=w),
            *(LOGITS, TARGETS, np.array([0.5, 2.5, 1.0]), ITEMS),
        )
        for r in ("none", "mean")
    ]
    + [
        (lambda c, *n, t=t: anyops.sigmoid_focal_loss(c(LOGITS), c(t), *n), np.array(0.3), np.array(g))
        for t in (TARGETS, (TARGETS > 0) * 1)
        for g in (1.7, 2.0)
    ],
    "sigmoid_focal_loss_and_grad": [
        (
            lambda c, x, p, w, r=r: (
                anyops.sigmoid_focal_loss_and_grad(x, c(TARGETS), reduction=r, pos_weight=p, sample_weight=w).dlogits
            ),
            *(LOGITS, np.array([0.5, 2.5, 1.0]), ITEMS),
        )
        for r in ("none", "mean")
    ]
    + [
        (
            lambda c, *n: anyops.sigmoid_focal_loss_and_grad(c(LOGITS), c(TARGETS), *n).dlogits,
            *(np.array(0.3), np.array(1.7)),
        )
    ],
    "softmax_focal_loss": [
        (lambda c, x, t, g=g: anyops.softmax_focal_loss(x, t, gamma=g), LOGITS, SOFT) for g in (0.0, 2.0)
    ]
    + [
        (
            lambda c, x, a, g=g, s=s: anyops.softmax_focal_loss(x, c(HARD), gamma=g, alpha=a, label_smoothing=s),
            LOGITS,
            ALPHA,
        )
        for g, s in ((0.0, 0.0), (2.0, 0.0), (2.0, 0.1))
    ]
    + [(lambda c, x: anyops.softmax_focal_loss(x, c(HARD), ignore_index=0, reduction="mean"), LOGITS)]
    + [
        (lambda c, x, w, r=r: anyops.softmax_focal_loss(x, c(HARD), reduction=r, sample_weight=w), LOGITS, ITEMS[:, 0])
        for r in ("sum", "mean")
    ]
    + [
        (
            lambda c, a, g, s, t=t: anyops.softmax_focal_loss(c(LOGITS), c(t), alpha=a, gamma=g, label_smoothing=s),
            *(np.array(0.3), np.array(1.7), np.array(0.1)),
        )
        for t in (HARD, SOFT)
    ],
    "batch_norm": [
        (lambda c, x, w, b: anyops.batch_norm(x, c(MEAN), c(VAR), w, b, training=True).y, X, WEIGHT, BIAS),
        (
            lambda c, x, w, b: (
                anyops.batch_norm(x, c(MEAN), c(VAR), w, b, training=True, sample_weight=c(ROWS), eps=0.1).y
            ),
            *(X, WEIGHT, BIAS),
        ),
        (lambda c, x, w, b: anyops.batch_norm(x, c(MEAN), c(VAR), w, b, eps=0.1).y, X, WEIGHT, BIAS),
        (lambda c, e: anyops.batch_norm(c(X), c(MEAN), c(VAR), training=True, eps=e).y, np.array(0.1)),
        (
            lambda c, m: anyops.batch_norm(c(X), c(MEAN), c(VAR), training=True, momentum=m).running_var,
            np.array(0.9),
        ),
    ],
    "batch_norm_grad": [
        (lambda c, dy, x, w: anyops.batch_norm_grad(dy, x, w, eps=0.1).dx, DY, X, WEIGHT),
        (lambda c, dy, x, w: anyops.batch_norm_grad(dy, x, w, eps=0.1, sample_weight=c(ROWS)).dx, DY, X, WEIGHT),
        (lambda c, dy, x: anyops.batch_norm_grad(dy, x, eps=0.1).dweight, DY, X),
        (lambda c, e: anyops.batch_norm_grad(c(DY), c(X), eps=e).dx, np.array(0.1)),
    ],
    "batch_stats": [
        (lambda c, x: anyops.batch_stats(x).m2, X),
        (lambda c, x: anyops.batch_stats(x, sample_weight=c(ROWS)).mean, X),
    ],
    "logistic_loss": [
        (lambda c, x, v, b, l2=l2: anyops.logistic_loss(x, c(Y), v, b, l2=l2).loss, P, COEF, INTERCEPT)
        for l2 in (0.0, 0.5)
    ]
    + [
        (lambda c, x, v, b: anyops.logistic_loss(x, c(Y), v, b, sample_weight=c(ROWS)).loss, P, COEF, INTERCEPT),
        (lambda c, x, v, b: anyops.logistic_loss(x, c(Y3), v, b).loss, P, COEF3, INTERCEPT3),
        (lambda c, x, v, b: anyops.logistic_loss(x, c(Y), v, b).grad_coef, P, COEF, INTERCEPT),
        (lambda c, w: anyops.logistic_loss(c(P), c(Y), c(COEF), c(INTERCEPT), sample_weight=w).loss, ROWS + 0.5),
        (lambda c, y: anyops.logistic_loss(c(P), y, c(COEF), c(INTERCEPT)).loss, np.clip(Y, 0.1, 0.9)),
        (lambda c, l2: anyops.logistic_loss(c(P), c(Y), c(COEF), c(INTERCEPT), l2=l2).loss, np.array(0.5)),
    ],
    "logistic_predict_proba": [
        (lambda c, *a: anyops.logistic_predict_proba(*a), P, COEF, INTERCEPT),
        (lambda c, *a: anyops.logistic_predict_proba(*a), P, COEF3, INTERCEPT3),
    ],
    "logistic_log_proba": [
        (lambda c, *a: anyops.logistic_log_proba(*a), P, COEF, INTERCEPT),
        (lambda c, *a: anyops.logistic_log_proba(*a), P, COEF3, INTERCEPT3),
    ],
    "logistic_partial": [(lambda c, x, v, b: anyops.logistic_partial(x, c(Y), v, b).grad, P, COEF, INTERCEPT)],
    "logistic_step": [
        (lambda c, x, v, b: anyops.logistic_step(x, c(Y), v, b, l2=0.5).coef, P, COEF, INTERCEPT),
        (lambda c, l2: anyops.logistic_step(c(P), c(Y), c(COEF), c(INTERCEPT), l2=l2).coef, np.array(0.5)),
    ],
    "kmeans_assign": [
        (lambda c, x, m, k=k: anyops.kmeans_assign(x, m, metric=k).distances, P[:5], CENTERS)
        for k in ("euclidean", "cosine")
    ],
    "kmeans_partial": [(lambda c, x, m: anyops.kmeans_partial(x, m, sample_weight=c(ROWS)).inertia, P, CENTERS)],
    "kmeans_step": [(lambda c, x: anyops.kmeans_step(x, c(CENTERS)).centers, P)],
    "soft_nms_scores": [
        (lambda c, b, s, d=d: anyops.soft_nms_scores(b, s, decay=d, iou_threshold=0.2, valid=c(VALID)), BOXES, SCORES)
        for d in ("gaussian", "linear")
    ]
    + [(lambda c, s, o: anyops.soft_nms_scores(None, s, overlaps=o, labels=c(LABELS)), SCORES, OVERLAPS)]
    + [(lambda c, v: anyops.soft_nms_scores(c(BOXES), c(SCORES), sigma=v), np.array(0.4))],
    "matrix_nms_scores": [
        (lambda c, b, s, k=k: anyops.matrix_nms_scores(b, s, kernel=k, valid=c(VALID)), BOXES, SCORES)
        for k in ("gaussian", "linear")
    ]
    + [(lambda c, s, o: anyops.matrix_nms_scores(None, s, overlaps=o, labels=c(LABELS)), SCORES, OVERLAPS)]
    + [(lambda c, v: anyops.matrix_nms_scores(c(BOXES), c(SCORES), sigma=v), np.array(1.5))],
    "cluster_nms_scores": [
        (lambda c, b, s, p=p: anyops.cluster_nms_scores(b, s, penalty=p, valid=c(VALID)), BOXES, SCORES)
        for p in (None, "score", "score+distance")
    ]
    + [(lambda c, s, o: anyops.cluster_nms_scores(None, s, penalty="score", overlaps=o), SCORES, OVERLAPS)]
    + [
        (lambda c, v, p=p: anyops.cluster_nms_scores(c(BOXES), c(SCORES), penalty=p, sigma=v), np.array(0.4))
        for p in ("score", "score+distance")
    ],
    "weighted_cluster_nms_boxes": [
        (lambda c, b, s: anyops.weighted_cluster_nms_boxes(b, s, 0.3).boxes, BOXES, SCORES),
        (
            lambda c, v: anyops.weighted_cluster_nms_boxes(c(BOXES), c(SCORES), 0.3, penalty="score", sigma=v).scores,
            np.array(0.4),
        ),
    ],
    "weighted_boxes_fusion_padded": [
        (lambda c, b, s: anyops.weighted_boxes_fusion_padded(b, s, c(LABELS), iou_threshold=0.3).boxes, BOXES, SCORES),
        (lambda c, b, s: anyops.weighted_boxes_fusion_padded(b, s, c(LABELS), iou_threshold=0.3).scores, BOXES, SCORES),
    ],
}


def differences(f, arrays, weights, step=1e-6):
    """Of Σ weights · f(*arrays) by each number of each array"""
    found = []
    for k, x in enumerate(arrays):
        slope = np.zeros(x.shape)
        for at in np.ndindex(*x.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = [a.copy() for a in arrays]
                moved[k][at] += sign * step
                ends.append(np.sum(weights * np.asarray(f(np.asarray, *moved))))
            slope[at] = (ends[0] - ends[1]) / (2 * step)
        found.append(slope)
    return found


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("place", [Backend.TORCH_CPU, Backend.JAX_X64], ids=str)
def test_derivatives(place, op):
    if why := place.why_unavailable() or why_not(op, place, Transform.GRAD):
        pytest.skip(why)
    with place.active():
        for number, case in enumerate(CASES[op]):
            check(place, *case, name=f"{op}, case {number}")


def check(place, f, *arrays, name):
    weights = np.random.default_rng(len(name)).normal(size=np.shape(f(np.asarray, *arrays)))
    w = place.asarray(np.asarray(weights))
    got = place.gradient(lambda *xs: f(place.asarray, *xs) * w, *arrays)
    for k, (a, b) in enumerate(zip(got, differences(f, arrays, weights), strict=True)):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6, err_msg=f"{name}, argument {k}")

"""The contenders for ops that are one call on the arrays of a problem, each in the way its users would call it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from cases import (
    BATCH_NORM_GRAD,
    BOX_AREA,
    BOX_CONVERT,
    BOX_LOSSES,
    CLIP_BOXES,
    CLUSTER,
    CLUSTER_SCORE,
    GROUPS,
    IOU_KINDS,
    IOU_THRESHOLD,
    KEYPOINTS,
    KINDS,
    KMEANS_ASSIGN,
    LOGISTIC_LOSS,
    LOGISTIC_PROBA,
    MASK_IOU,
    MASKS_TO_BOXES,
    MERGE,
    POLYGON_IOU,
    ROTATED_GROUPS,
    ROTATED_IOU,
    ROTATED_NMS,
    SOFTMAX,
    SOFTMAX_TRAIN,
    WEIGHTED_CLUSTER,
)
from numpy.typing import NDArray
from scenes import Backward, Floats, Linear, Mixture, Oriented, Pair, Poses, Scene

Call = Callable[..., Any]
Table = dict[str, Call]  # by operation: a function of a module and of the arrays of a problem

SIGMA, LEAST, AVERAGED = 0.2, 0.01, 0.8  # of Cluster-NMS
SIGMAS = (0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89)
SIGMAS = tuple(sigma / 10 for sigma in SIGMAS)  # of the keypoints of COCO
BY_VALUE = (CLUSTER, CLUSTER_SCORE, WEIGHTED_CLUSTER, GROUPS, MERGE, ROTATED_NMS, ROTATED_GROUPS)


def calls(module: str, library: Callable[[], Any], table: Table) -> dict[str, Callable[[Any], Call]]:
    """The functions of a module on the arrays of a library; under its jit, unless lengths depend on values."""

    def prepare(operation: str, problem: Any) -> Call:
        lib = library()
        call = partial(table[operation], importlib.import_module(module))
        compiled = call if operation in BY_VALUE else lib.jit(call)
        arrays = [lib.asarray(part) for part in problem if part is not None]
        return lambda: lib.wait(compiled(*arrays))

    return {operation: partial(prepare, operation) for operation in table}


# --- anyops ----------------------------------------------------------------------------------------------------------

ANYOPS: Table = {
    BOX_AREA: lambda anyops, boxes, _: anyops.box_area(boxes),
    BOX_CONVERT: lambda anyops, boxes, _: anyops.box_convert(boxes, "xyxy", "cxcywh"),
    CLIP_BOXES: lambda anyops, boxes, _: anyops.clip_boxes(boxes, (600, 800)),
    **{
        operation: lambda anyops, first, second, kind=kind: anyops.box_iou(first, second, kind=kind)
        for operation, kind in zip(IOU_KINDS, KINDS, strict=True)
    },
    MASKS_TO_BOXES: lambda anyops, masks, _: anyops.masks_to_boxes(masks),
    MASK_IOU: lambda anyops, masks, _: anyops.mask_iou(masks, masks),
    CLUSTER: lambda anyops, *scene: anyops.cluster_nms(*scene, IOU_THRESHOLD, score_threshold=None).indices,
    CLUSTER_SCORE: lambda anyops, *scene: anyops.cluster_nms(*scene, IOU_THRESHOLD, penalty="score")[::-1],
    WEIGHTED_CLUSTER: lambda anyops, *scene: anyops.weighted_cluster_nms(*scene, IOU_THRESHOLD, penalty="score"),
    GROUPS: lambda anyops, *scene: anyops.nms_groups(*scene, IOU_THRESHOLD),
    MERGE: lambda anyops, *scene: anyops.non_max_merge(*scene, overlap_threshold=IOU_THRESHOLD),
    ROTATED_IOU: lambda anyops, first, second: anyops.box_iou(first, second, fmt="cxcywhr"),
    POLYGON_IOU: lambda anyops, first, second: anyops.box_iou(first, second, fmt="polygon"),
    ROTATED_NMS: lambda anyops, *scene: anyops.nms(*scene, IOU_THRESHOLD, fmt="cxcywhr"),
    ROTATED_GROUPS: lambda anyops, *scene: anyops.nms_groups(*scene, IOU_THRESHOLD, fmt="cxcywhr"),
    KEYPOINTS: lambda anyops, *poses: anyops.keypoint_similarity(*poses, sigmas=SIGMAS),
    BATCH_NORM_GRAD: lambda anyops, dy, x, weight: anyops.batch_norm_grad(dy, x, weight),
    KMEANS_ASSIGN: lambda anyops, x, start: anyops.kmeans_assign(x, start).labels,
    LOGISTIC_PROBA: lambda anyops, x, _, coef, intercept: anyops.logistic_predict_proba(x, coef, intercept),
    LOGISTIC_LOSS: lambda anyops, *linear: anyops.logistic_loss(*linear)[1:],
}
# On NumPy, which has no autodiff.
NUMPY_LOSSES: Table = {
    SOFTMAX: lambda anyops, *classes: anyops.softmax_focal_loss(*classes),
    SOFTMAX_TRAIN: lambda anyops, *classes: anyops.softmax_focal_loss_and_grad(*classes, reduction="sum").dlogits,
    **{
        operation: lambda anyops, *matched, kind=kind: anyops.box_iou_loss(*matched, kind=kind)
        for operation, kind in zip(BOX_LOSSES, KINDS, strict=True)
    },
}


# --- torchvision -----------------------------------------------------------------------------------------------------


def torchvision_groups(ops: Any, boxes: Any, scores: Any) -> Any:
    """For each box, the best kept box that overlaps it."""
    kept = ops.nms(boxes, scores, IOU_THRESHOLD)
    return kept[(ops.box_iou(boxes[kept], boxes) > IOU_THRESHOLD).int().argmax(0)]


TORCHVISION: Table = {
    BOX_AREA: lambda ops, boxes, _: ops.box_area(boxes),
    BOX_CONVERT: lambda ops, boxes, _: ops.box_convert(boxes, "xyxy", "cxcywh"),
    CLIP_BOXES: lambda ops, boxes, _: ops.clip_boxes_to_image(boxes, (600, 800)),
    **{
        operation: lambda ops, first, second, name=name: getattr(ops, name)(first, second)
        for operation, name in zip(
            IOU_KINDS, ("generalized_box_iou", "distance_box_iou", "complete_box_iou"), strict=True
        )
    },
    MASKS_TO_BOXES: lambda ops, masks, _: ops.masks_to_boxes(masks),
    ROTATED_IOU: lambda ops, first, second: ops.box_iou(first, second, fmt="cxcywhr"),
    CLUSTER: lambda ops, *scene: ops.nms(*scene, IOU_THRESHOLD),
    GROUPS: torchvision_groups,
}


# --- textbook formulas -----------------------------------------------------------------------------------------------


def mask_iou(xp: Any, masks: Any, _: Any) -> Any:
    flat = xp.asarray(masks.reshape(len(masks), -1), dtype=xp.float32)
    common, area = flat @ flat.T, flat.sum(1)
    return common / (area[:, None] + area - common)


def logistic_loss(xp: Any, x: Any, y: Any, coef: Any, intercept: Any) -> Any:
    r = x @ coef + intercept
    t = xp.asarray(y, dtype=r.dtype)
    loss = (xp.clip(r, 0, None) - t * r + xp.log1p(xp.exp(-xp.abs(r)))).mean()
    residual = (1 / (1 + xp.exp(-r)) - t) / len(t)
    return loss, x.T @ residual, residual.sum()


def batch_norm_grad(xp: Any, dy: Any, x: Any, weight: Any) -> Any:
    axes = (0, 2, 3)
    mean, std = x.mean(axes, keepdims=True), xp.sqrt(x.var(axes, keepdims=True) + 1e-5)
    scaled = (x - mean) / std
    dweight, dbias = (dy * scaled).sum(axes, keepdims=True), dy.sum(axes, keepdims=True)
    dx = weight[:, None, None] / std * (dy - (dbias + scaled * dweight) * (len(weight) / dy.size))
    return dx, dweight, dbias


def cluster_matrix(torch: Any, boxes: Any, scores: Any) -> tuple[Any, Any, Any, Any]:
    """Cluster-NMS as in its paper: a matrix of all pairs, and the fixed point of the kept boxes."""
    from torchvision.ops import box_iou

    order = torch.argsort(scores, descending=True)
    overlap = box_iou(boxes[order], boxes[order]).triu(1)
    kept, before = torch.ones_like(scores), None
    while before is None or not torch.equal(kept, before):
        before, kept = kept, ((overlap * kept[:, None]).amax(0) <= IOU_THRESHOLD).to(scores.dtype)
    matrix = overlap * kept[:, None]
    found = scores[order] * torch.exp(-(matrix**2) / SIGMA).prod(0)
    return matrix, order, found, found > LEAST


def cluster_scores(torch: Any, boxes: Any, scores: Any) -> Any:
    _, order, found, left = cluster_matrix(torch, boxes, scores)
    return found[left], order[left]


def weighted_cluster(torch: Any, boxes: Any, scores: Any) -> Any:
    matrix, order, found, left = cluster_matrix(torch, boxes, scores)
    weights = (matrix * (matrix > AVERAGED) + torch.eye(len(scores))) * found
    averaged = weights @ boxes[order] / weights.sum(1, keepdim=True)
    return averaged[left], found[left], order[left]


FORMULAS: Table = {MASK_IOU: mask_iou, LOGISTIC_LOSS: logistic_loss}
NUMPY_FORMULAS: Table = {**FORMULAS, BATCH_NORM_GRAD: batch_norm_grad}
TORCH_FORMULAS: Table = {**FORMULAS, CLUSTER_SCORE: cluster_scores, WEIGHTED_CLUSTER: weighted_cluster}


# --- other peers -----------------------------------------------------------------------------------------------------


def torch_batch_norm_grad(problem: Backward) -> Call:
    """Only the backward pass, after a forward pass that is not timed."""
    import torch

    dy, x, weight = (torch.from_numpy(part) for part in problem)
    inputs = [each.clone().requires_grad_() for each in (x, weight, torch.zeros_like(weight))]
    y = torch.nn.functional.batch_norm(inputs[0], None, None, *inputs[1:], training=True)
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def sklearn_assign(problem: Mixture) -> Call:
    from sklearn.cluster import KMeans

    x, start = problem
    model = KMeans(len(start), init=start, n_init=1).fit(start)  # each centre is the mean of itself
    return lambda: model.predict(x)


def faiss_assign(problem: Mixture) -> Call:
    import faiss

    x, start = problem
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(start)
    return lambda: index.search(x, 1)[1][:, 0]


def sklearn_proba(problem: Linear) -> Call:
    """A model with given coefficients."""
    from sklearn.linear_model import LogisticRegression

    x, _, coef, intercept = problem
    model = LogisticRegression()
    model.coef_, model.intercept_ = np.atleast_2d(coef), np.atleast_1d(intercept)
    model.classes_ = np.arange(max(len(model.coef_), 2))
    if coef.ndim == 1:
        return lambda: model.predict_proba(x)[:, 1]
    return lambda: model.predict_proba(x)


# --- rotated boxes, polygons, poses ----------------------------------------------------------------------------------


def opencv_rotated_nms(problem: Oriented) -> Call:
    """Angles of OpenCV are clockwise in an image."""
    import cv2

    boxes = [((x, y), (width, height), -angle) for x, y, width, height, angle in problem.boxes.tolist()]
    scores = problem.scores.tolist()
    return lambda: cv2.dnn.NMSBoxesRotated(boxes, scores, 0.0, IOU_THRESHOLD)


def corners(boxes: Floats) -> NDArray[np.float64]:
    """Rotated boxes as four corners (n, 4, 2)."""
    import anyops

    return anyops.box_convert(boxes.astype(np.float64), "cxcywhr", "xyxyxyxy").reshape(-1, 4, 2)


def supervision_rotated_nms(problem: Oriented) -> Call:
    import supervision

    given = np.column_stack((problem.boxes[:, :4], problem.scores)), corners(problem.boxes)
    return lambda: supervision.oriented_box_non_max_suppression(*given, IOU_THRESHOLD)


def supervision_rotated_merge(problem: Oriented) -> Call:
    import supervision

    given = np.column_stack((problem.boxes[:, :4], problem.scores)), corners(problem.boxes)
    return lambda: supervision.oriented_box_non_max_merge(*given, IOU_THRESHOLD)


def supervision_merge(problem: Scene) -> Call:
    import supervision

    rows = np.column_stack((problem.boxes, problem.scores))
    return lambda: supervision.box_non_max_merge(rows, IOU_THRESHOLD)


def shapely_iou(problem: Pair) -> Call:
    """As users would call an exact overlay: areas for the pairs whose envelopes meet, which a tree finds."""
    import shapely

    first, second = (shapely.polygons(corners(part) if part.ndim == 2 else part.astype(np.float64)) for part in problem)

    def overlaps() -> object:
        i, j = shapely.STRtree(second).query(first)
        shared = shapely.area(shapely.intersection(first[i], second[j]))
        found = np.zeros((len(first), len(second)))
        found[i, j] = shared / (shapely.area(first)[i] + shapely.area(second)[j] - shared)
        return found

    return overlaps


def pycocotools_similarity(problem: Poses) -> Call:
    """The method of an evaluation with only these poses, in the order of their scores."""
    from types import SimpleNamespace

    from pycocotools.cocoeval import COCOeval, Params

    third = np.ones((*problem.found.shape[:-1], 1))
    found = [np.ravel(pose).tolist() for pose in np.concatenate((problem.found, third), axis=-1)]
    given = SimpleNamespace(
        params=Params("keypoints"),
        _dts={(0, 0): [{"keypoints": pose, "score": 1 - i / len(found)} for i, pose in enumerate(found)]},
        _gts={
            (0, 0): [
                {"keypoints": np.ravel(pose).tolist(), "area": float(area), "bbox": [0, 0, 1, 1]}
                for pose, area in zip(problem.true, problem.areas, strict=True)
            ]
        },
    )
    given.params.maxDets = [len(found)]
    return lambda: COCOeval.computeOks(given, 0, 0)


# --- answers ---------------------------------------------------------------------------------------------------------


def in_place(problem: Scene, result: Any) -> NDArray[Any]:
    """The results in the rows of the boxes, by the indices, which come last; zeros for other boxes."""
    *columns, indices = (np.asarray(part) for part in result)
    values = np.column_stack(columns)
    found = np.zeros((len(problem.scores), values.shape[1]), np.float32)
    found[indices] = values
    return found


def means(problem: Backward, result: Any) -> NDArray[Any]:
    """dx, and the others as means, so that one tolerance fits all."""
    dx, *sums = (np.asarray(part).ravel() for part in result)
    return np.concatenate([dx, *(each * (len(problem.weight) / dx.size) for each in sums)])


def distances(problem: Mixture, labels: Any) -> NDArray[Any]:
    """The squared distance of each sample from its centre: equal if centres are equally far."""
    return np.sum((problem.x - problem.start[np.asarray(labels)]) ** 2, axis=1)


def joined(_: Linear, result: Any) -> NDArray[Any]:
    """The loss and its gradient."""
    return np.concatenate([np.asarray(part).ravel() for part in result])


def merged(problem: Scene, result: Any) -> NDArray[Any]:
    """Merged boxes with their scores, by descending score; groups of positions are merged here."""
    if isinstance(result, list):
        boxes = [problem.boxes[group] for group in result]
        rows = [[*x[:, :2].min(axis=0), *x[:, 2:].max(axis=0)] for x in boxes]
        scores = [problem.scores[group].max() for group in result]
    else:
        rows, scores = (np.asarray(part) for part in result[:2])
    found = np.column_stack((rows, scores))
    return found[np.lexsort(found.T)]


def grouped(_: Oriented, result: Any) -> NDArray[Any]:
    """The position of the best box of each box's group."""
    if not isinstance(result, list):
        return np.asarray(result)
    found = np.zeros(sum(map(len, result)), np.int64)
    for group in result:
        found[group] = group[0]
    return found


ANSWERS: dict[str, Callable[[Any, Any], NDArray[Any]]] = {
    MERGE: merged,
    ROTATED_GROUPS: grouped,
    CLUSTER_SCORE: in_place,
    WEIGHTED_CLUSTER: in_place,
    BATCH_NORM_GRAD: means,
    KMEANS_ASSIGN: distances,
    LOGISTIC_LOSS: joined,
}

"""The timed problems: float32 boxes (xyxy) and scores, logits, and batches, drawn from fixed seeds."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

SCORE_THRESHOLD = 0.95  # of `padded`; scores are uniform in [0, 1]


class Scene(NamedTuple):
    """One problem for NMS; `labels` (classes or image numbers) if suppression stays within a label."""

    boxes: Floats
    scores: Floats
    labels: Integers | None = None


class Padded(NamedTuple):
    """One problem for NMS in a fixed shape: boxes, most of them padding."""

    boxes: Floats
    scores: Floats
    valid: NDArray[np.bool_]


class Oriented(NamedTuple):
    """One problem for suppression of rotated boxes: centre, width, height, degrees."""

    boxes: Floats
    scores: Floats


class Poses(NamedTuple):
    """One problem for the similarity of keypoints: (N, K, 2) as found, (M, K, 3) as annotated, and their areas."""

    found: Floats
    true: Floats
    areas: Floats


class Pair(NamedTuple):
    """One problem for pairwise IoU."""

    first: Floats
    second: Floats


class Masks(NamedTuple):
    """One problem for suppression by masks."""

    masks: NDArray[np.bool_]
    scores: Floats


class Models(NamedTuple):
    """One problem for fusion: the boxes of several models in one picture, with coordinates in [0, 1]."""

    boxes: Floats
    scores: Floats
    labels: Integers
    model_ids: Integers


class Logits(NamedTuple):
    """One problem for a loss; targets are 0 and 1."""

    logits: Floats
    targets: Floats


class Classes(NamedTuple):
    """One problem for a loss over classes: (n, classes) logits, and the class index of each row."""

    logits: Floats
    labels: Integers


class Matched(NamedTuple):
    """One problem for a loss of boxes: predicted and true boxes."""

    pred: Floats
    target: Floats


class Batch(NamedTuple):
    """One problem for batch norm: (N, C, H, W), and the parameters and statistics of the channels."""

    x: Floats
    weight: Floats
    bias: Floats
    mean: Floats
    var: Floats


class Backward(NamedTuple):
    """One problem for the gradient of batch norm: the derivative by its result, its input, and the channel weights."""

    dy: Floats
    x: Floats
    weight: Floats


class Mixture(NamedTuple):
    """One problem for k-means: samples, and initial centres."""

    x: Floats
    start: Floats


class Labelled(NamedTuple):
    """One problem for logistic regression: samples, and their class indices."""

    x: NDArray[Any]
    y: Integers


class Linear(NamedTuple):
    """One problem for the parts of logistic regression: samples, their classes, and a model."""

    x: Floats
    y: Integers
    coef: Floats
    intercept: Floats


Problem = (
    Scene
    | Padded
    | Oriented
    | Poses
    | Pair
    | Masks
    | Models
    | Logits
    | Classes
    | Matched
    | Batch
    | Backward
    | Mixture
    | Labelled
    | Linear
)


def mixture(n: int, d: int, k: int) -> Mixture:
    """Samples of k overlapping normal distributions, and k of the samples as initial centres."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(k, d))
    x = (centers[rng.integers(0, k, n)] + rng.normal(size=(n, d))).astype(np.float32)
    return Mixture(x, x[np.random.default_rng(1).choice(n, k, replace=False)])


def labelled(n: int, p: int, classes: int, dtype: str) -> Labelled:
    """Normal samples, and labels drawn by a logistic model of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    r = x @ (rng.normal(size=(classes if classes > 2 else 1, p)) * 0.5).T
    y = (r[:, 0] + rng.logistic(size=n) > 0) * 1 if classes == 2 else np.argmax(r + rng.gumbel(size=r.shape), axis=1)
    return Labelled(x.astype(dtype), y)


def linear(n: int, p: int, classes: int) -> Linear:
    """`labelled`, with a model of normal coefficients that is not the model of the labels."""
    rng = np.random.default_rng(1)
    coef = rng.normal(size=(classes, p) if classes > 2 else p) * 0.5
    intercept = np.asarray(rng.normal(size=classes if classes > 2 else ()))
    return Linear(*labelled(n, p, classes, "float32"), coef.astype(np.float32), intercept.astype(np.float32))


def logits(n: int) -> Logits:
    """Logits like a trained detector's, one target in ten positive."""
    rng = np.random.default_rng(0)
    return Logits((rng.normal(size=n) * 3).astype(np.float32), (rng.random(n) < 0.1).astype(np.float32))


def class_logits(n: int, classes: int) -> Classes:
    """Logits like a trained detector's: higher for the label than for the other classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += 3
    return Classes(logits.astype(np.float32), labels)


def matched(n: int) -> Matched:
    """Boxes, and predictions for them, which are moved and scaled a little."""
    target = spread(n).boxes
    side = np.concatenate([target[:, 2:] - target[:, :2]] * 2, axis=1)
    return Matched((target + np.random.default_rng(1).normal(0, 0.1, target.shape) * side).astype(np.float32), target)


def batch(*shape: int) -> Batch:
    """A batch of normal values."""
    rng = np.random.default_rng(0)
    c = shape[1]
    x, weight, bias = (rng.normal(size=s).astype(np.float32) for s in (shape, c, c))
    return Batch(x, weight, bias, np.zeros(c, np.float32), np.ones(c, np.float32))


def backward(*shape: int) -> Backward:
    """`batch`, with a normal derivative by its result."""
    made = batch(*shape)
    return Backward(np.random.default_rng(1).normal(size=shape).astype(np.float32), made.x, made.weight)


def spread(n: int, extent: float = 1000.0, largest: float = 100.0, seed: int = 0) -> Scene:
    """Boxes of independent position and size, like a detector's of small objects: most survive."""
    # The order of the draws is part of the published scenes: do not reorder.
    rng = np.random.default_rng(seed)
    corner = rng.random((n, 2)) * extent
    size = rng.random((n, 2)) * largest + 1
    scores = rng.random(n)
    return Scene(_corners(corner, corner + size), scores.astype(np.float32))


def clustered(n: int, objects: int = 300, extent: float = 1333.0, seed: int = 0) -> Scene:
    """Boxes jittered around a few objects, like a detector's before NMS: most are suppressed."""
    rng = np.random.default_rng(seed)
    centre = rng.random((objects, 2)) * extent
    size = np.exp(rng.normal(4, 0.8, (objects, 2)))
    of = rng.integers(0, objects, n)
    centre = centre[of] + rng.normal(0, 0.12, (n, 2)) * size[of]
    size = size[of] * np.exp(rng.normal(0, 0.15, (n, 2)))
    scores = rng.random(n)
    return Scene(_corners(centre - size / 2, centre + size / 2), scores.astype(np.float32))


def aerial(n: int, seed: int = 0) -> Scene:
    """`spread` at the density of 100 000 boxes in 20 000 x 20 000 pixels, whatever n is."""
    return spread(n, extent=20_000.0 * math.sqrt(n / 100_000), largest=100.0, seed=seed)


def crowd(n: int) -> Scene:
    """`clustered` at the density of its 10 000 boxes around 300 objects, whatever n is."""
    return clustered(n, objects=n * 300 // 10_000, extent=1333.0 * math.sqrt(n / 10_000))


def classes(scene: Scene, count: int = 80, seed: int = 1) -> Scene:
    """The same boxes with a random class each."""
    return scene._replace(labels=np.random.default_rng(seed).integers(0, count, len(scene.boxes)))


def padded(n: int = 8_400, objects: int = 40) -> Padded:
    """All raw boxes of a detector in an image, one in twenty above the score threshold."""
    boxes, scores, _ = clustered(n, objects)
    return Padded(boxes, scores, scores > SCORE_THRESHOLD)


def images(count: int = 64, n: int = 1_000) -> Scene:
    """`count` clustered images of n boxes, one after another; the labels are the image numbers."""
    each = [clustered(n, 40, seed=seed) for seed in range(count)]
    boxes, scores = (np.concatenate([image[part] for image in each]) for part in (0, 1))
    return Scene(boxes, scores, np.repeat(np.arange(count, dtype=np.int64), n))


def identical(n: int = 20_000) -> Scene:
    """Every box overlaps every other: n² / 2 overlaps, one survivor."""
    boxes = np.tile(np.float32([[10, 20, 40, 60]]), (n, 1))
    return Scene(boxes, np.random.default_rng(0).random(n).astype(np.float32))


def chain(n: int = 20_000) -> Scene:
    """Box i overlaps (IoU 0.6) only its neighbours and ranks above the next: each decision waits for the one before."""
    left = np.arange(n, dtype=np.float32)
    boxes = np.stack([left, np.zeros_like(left), left + 4, np.full_like(left, 4)], axis=1)
    return Scene(boxes, np.linspace(1, 0, n, endpoint=False, dtype=np.float32))


def giant(n: int = 100_000) -> Scene:
    """A large box with the best score over n small ones; it suppresses none."""
    boxes, scores, _ = spread(n, extent=1000.0, largest=2.0)
    over = np.float32([[0, 0, 1003, 1003]])
    return Scene(np.concatenate([over, boxes]), np.concatenate([np.float32([1]), scores]))


def all_sizes(n: int = 20_000) -> Scene:
    """Sides and places log-uniform from 1e-3 to 1e6; far from the origin float32 rounds small boxes to size 0."""
    rng = np.random.default_rng(0)
    corner, size = 10.0 ** rng.uniform(-3, 6, (2, n, 2))
    return Scene(_corners(corner, corner + size), rng.random(n).astype(np.float32))


def pair(n: int, m: int) -> Pair:
    """n boxes against m others in the same picture."""
    return Pair(spread(n, seed=0).boxes, spread(m, seed=1).boxes)


def oriented(n: int, seed: int = 0) -> Oriented:
    """Rotated boxes jittered around a few objects, at the density of `crowd`: most are suppressed."""
    rng = np.random.default_rng(seed)
    objects, extent = n * 300 // 10_000, 1333.0 * math.sqrt(n / 10_000)
    centre, size = rng.random((objects, 2)) * extent, np.exp(rng.normal(4, 0.8, (objects, 2)))
    angle, of = rng.uniform(-180, 180, objects), rng.integers(0, objects, n)
    centre, angle = centre[of] + rng.normal(0, 3, (n, 2)), angle[of] + rng.normal(0, 5, n)
    size = size[of] * np.exp(rng.normal(0, 0.15, (n, 2)))
    boxes = np.concatenate((centre, size, angle[:, None]), axis=1).astype(np.float32)
    return Oriented(boxes, rng.random(n).astype(np.float32))


def turned_pair(n: int, m: int) -> Pair:
    """`pair`, each box turned by its own angle."""
    angles = np.random.default_rng(2).uniform(-180, 180, n + m)
    first, second = pair(n, m)
    return Pair(_turned(first, angles[:n]), _turned(second, angles[n:]))


def polygons(n: int, m: int, corners: int = 8) -> Pair:
    """`pair`, with each box replaced by a polygon, corners at ascending angles around its centre: most are concave."""
    rng = np.random.default_rng(2)

    def within(boxes: Floats) -> Floats:
        angle = (np.arange(corners) + rng.uniform(-0.4, 0.4, (len(boxes), corners))) * (2 * np.pi / corners)
        far = rng.uniform(0.4, 1, (len(boxes), corners))[..., None] * (boxes[:, None, 2:] - boxes[:, None, :2]) / 2
        centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        return (centre + far * np.stack((np.cos(angle), np.sin(angle)), axis=-1)).astype(np.float32)

    return Pair(*map(within, pair(n, m)))


def poses(n: int, m: int, keypoints: int = 17) -> Poses:
    """Annotated poses, some of their keypoints not visible, and detected poses near them."""
    rng = np.random.default_rng(0)
    body = rng.uniform(0, 100, (keypoints, 2))
    true, found = (
        body + rng.normal(0, 20, (count, 1, 2)) + rng.normal(0, 3, (count, keypoints, 2)) for count in (m, n)
    )
    seen = rng.integers(0, 3, (m, keypoints, 1))
    seen[:, 0] = 2
    areas = rng.uniform(2e3, 1e4, m)
    return Poses(*(x.astype(np.float32) for x in (found, np.concatenate((true, seen), axis=-1), areas)))


def _turned(boxes: Floats, angle: NDArray[np.float64]) -> Floats:
    """Boxes as centre, width, height and angle."""
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    return np.concatenate(((low + high) / 2, high - low, angle[:, None]), axis=1).astype(np.float32)


def masks(n: int, height: int, width: int, seed: int = 0) -> Masks:
    """Ellipses jittered around a few objects, like a segmentation model's."""
    boxes, scores, _ = clustered(n, n // 10, extent=float(height), seed=seed)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    cx, cy = (boxes[:, :2] + boxes[:, 2:]).T[..., None, None] / 2
    w, h = (boxes[:, 2:] - boxes[:, :2]).T[..., None, None]
    return Masks(((x - cx) / w) ** 2 + ((y - cy) / h) ** 2 <= 0.25, scores)


def models(count: int, n: int, classes: int = 10, seed: int = 0) -> Models:
    """n boxes from each of several models, jittered around the same objects."""
    rng = np.random.default_rng(seed)
    true, _, _ = spread(n, seed=seed)
    side = np.concatenate([true[:, 2:] - true[:, :2]] * 2, axis=1)
    labels = rng.integers(0, classes, n)
    boxes = np.concatenate([true + rng.normal(0, 0.05, true.shape) * side for _ in range(count)])
    boxes = np.clip(boxes / 1101, 0, 1).astype(np.float32)
    scores = rng.random(count * n).astype(np.float32)
    return Models(boxes, scores, np.tile(labels, count), np.repeat(np.arange(count), n))


def _corners(low: NDArray[np.float64], high: NDArray[np.float64]) -> Floats:
    return np.concatenate([low, high], axis=1).astype(np.float32)

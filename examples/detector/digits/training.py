"""The classifier, trained twice on the same windows: with cross-entropy, and with the focal loss.

Hardly any window of a page is on a digit. Here a hundred are on none for each one on a digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

import anyops

from .arrays import Array, Ship, to_host
from .codebook import Codebook
from .scenes import Scene
from .windows import View, window_features

BACKGROUND = 10
"""The class of a window on no digit."""

RATIO = 100
"""Windows on no digit for each one on a digit."""

ON, OFF = 0.7, 0.5
"""A window is on a digit if their IoU is above ON, and on none below OFF. The best window of a digit only needs OFF."""

MORE = 15
"""Windows on digits that are drawn from each scene, besides the best one of each digit."""

L2 = 30.0
"""Penalty on the squares of the coefficients, for both losses."""

GAMMA = 2.0
"""The focal loss multiplies the cross-entropy of a window by (1 - p)^GAMMA, p being the probability of its class."""

STEPS = 250
"""The most steps of either training."""

IDLE = 5
"""L-BFGS stops after this many steps in a row with almost no gain: a single one may just be short."""

PAIRS = 10
"""Steps that L-BFGS remembers."""


class Windows(NamedTuple):
    """Features ``(n, p)`` of windows and their classes ``(n,)``, digits or `BACKGROUND`."""

    features: Array
    labels: Array


class Normalisation(NamedTuple):
    """Mean and variance ``(p,)`` of each feature over the training windows."""

    mean: Array
    var: Array


class Classifier(NamedTuple):
    """Logits are ``features @ coef.T + intercept``, 11 classes. `n_iter` is the number of steps of the training."""

    coef: Array
    intercept: Array
    n_iter: int = 0


def pick_windows(scene: Scene, views: Sequence[View], rng: np.random.Generator, ship: Ship) -> tuple[Any, Any]:
    """Draw windows of a scene, `RATIO` on no digit for each on one: their indices over all views, and classes."""
    truth = ship(scene.boxes.astype(np.float32))
    overlaps = np.concatenate([to_host(anyops.box_iou(view.boxes, truth)) for view in views])
    best = overlaps.max(axis=1)
    on = np.union1d(overlaps.argmax(axis=0)[overlaps.max(axis=0) > OFF], _some(rng, best > ON, MORE))
    off = _some(rng, best < OFF, RATIO * len(on))
    labels = scene.labels[overlaps[on].argmax(axis=1)]
    return np.concatenate([on, off]), np.concatenate([labels, np.full(len(off), BACKGROUND)])


def _some(rng: np.random.Generator, which: np.ndarray, count: int) -> np.ndarray:
    return rng.permutation(np.flatnonzero(which))[:count]


def gather_windows(
    scenes: Iterable[Scene], codebook: Codebook, views: Sequence[View], ship: Ship, *, seed: int = 0
) -> Windows:
    """Draw windows of each scene and compute their features."""
    xp = array_api_compat.array_namespace(codebook.words)
    rng = np.random.default_rng(seed)
    features, labels = [], []
    for scene in scenes:
        picked, classes = pick_windows(scene, views, rng, ship)
        page = ship(scene.image)
        seen = xp.concat([window_features(page, view, codebook.words) for view in views], axis=0)
        features.append(xp.take(seen, ship(picked), axis=0))
        labels.append(classes)
    return Windows(xp.concat(features, axis=0), ship(np.concatenate(labels)))


def normalise(windows: Windows) -> tuple[Windows, Normalisation]:
    """Scale each feature to mean 0 and variance 1; with momentum 0, the running state becomes the mean and variance."""
    xp = array_api_compat.array_namespace(windows.features)
    zeros = xp.zeros_like(windows.features[0, :])
    y, mean, var = anyops.batch_norm(windows.features, zeros, zeros + 1, training=True, momentum=0.0)
    return Windows(y, windows.labels), Normalisation(mean, var)


def train_cross_entropy(windows: Windows) -> Classifier:
    """Logistic regression over the eleven classes."""
    x, y = windows
    start = zero_classifier(x)
    found = anyops.logistic_regression(
        x, y, l2=L2, solver="lbfgs", tol=1e-4, max_iter=STEPS, init=(start[:, :-1], start[:, -1])
    )
    return Classifier(found.coef, found.intercept, found.n_iter)


def train_focal(windows: Windows, *, gamma: float = GAMMA) -> Classifier:
    """The same model with the focal loss, whose gradient by the logits is known in closed form."""
    x, y = windows
    xp = array_api_compat.array_namespace(x)

    def objective(theta: Array) -> tuple[float, Array]:
        coef, intercept = theta[:, :-1], theta[:, -1]
        loss, dlogits = anyops.softmax_focal_loss_and_grad(
            x @ xp.permute_dims(coef, (1, 0)) + intercept, y, gamma=gamma, reduction="sum"
        )
        back = xp.permute_dims(dlogits, (1, 0))
        slope = xp.concat([back @ x + L2 * coef, xp.sum(back, axis=1, keepdims=True)], axis=1)
        return float(loss) + L2 / 2 * float(xp.sum(coef * coef)), slope

    theta, n_iter = minimise(objective, zero_classifier(x), max_iter=STEPS)
    return Classifier(theta[:, :-1], theta[:, -1], n_iter)


def zero_classifier(x: Array) -> Array:
    """Coefficients and, last, intercepts of 0, with which all classes are equally likely: ``(11, p + 1)``."""
    xp = array_api_compat.array_namespace(x)
    row = xp.concat([x[0, :], x[0, :1]], axis=0)
    return xp.zeros_like(xp.stack([row] * (BACKGROUND + 1)))


def minimise(
    objective: Callable[[Array], tuple[float, Array]], theta: Array, *, tol: float = 1e-7, max_iter: int = 100
) -> tuple[Array, int]:
    """L-BFGS with step halving, until `IDLE` steps in a row gain less than `tol`, relative; and the number of steps."""
    xp = array_api_compat.array_namespace(theta)

    def dot(a: Array, b: Array) -> float:
        return float(xp.sum(a * b))

    value, slope = objective(theta)
    pairs: list[tuple[Array, Array, float]] = []
    n_iter = idle = 0
    while n_iter < max_iter and dot(slope, slope) > 0:
        n_iter += 1
        move, factors = -slope, []
        for step, change, product in reversed(pairs):
            factors.append(dot(step, move) / product)
            move = move - factors[-1] * change
        # The first step is of length 1; later ones are scaled by the curvature along the last one.
        move = move * (pairs[-1][2] / dot(pairs[-1][1], pairs[-1][1]) if pairs else dot(slope, slope) ** -0.5)
        for (step, change, product), factor in zip(pairs, reversed(factors), strict=True):
            move = move + (factor - dot(change, move) / product) * step
        length, expected = 1.0, dot(slope, move)
        new_value, new_slope = objective(theta + move)
        while not new_value <= value + 1e-4 * length * expected and length > 1e-4:
            length /= 2
            new_value, new_slope = objective(theta + length * move)
        if new_value >= value:  # a bad direction, or rounding hides any further gain
            if not pairs:
                break
            pairs = []
            continue
        step, change = length * move, new_slope - slope
        if (product := dot(step, change)) > 0:
            pairs = [*pairs, (step, change, product)][-PAIRS:]
        gain = value - new_value
        theta, value, slope = theta + step, new_value, new_slope
        idle = idle + 1 if gain <= tol * value else 0
        if idle == IDLE:
            break
    return theta, n_iter

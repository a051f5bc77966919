"""A sliding-window detector: normalised cross-correlation with templates learnt from digits, at many scales.

Like any dense detector it finds each object many times over. That is what non-maximum suppression is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .scenes import SIDES, Digits, draw_digits, ink_box, resize

CELLS = 16
"""Side of a template. A window slides by one cell, a sixteenth of its side."""

PER_CLASS = 10
"""Number of templates for each digit: the ways to write it."""

SCALE_STEP = 1.1
"""Ratio of one window side to the next smaller one."""

MIN_CONTRAST = 0.15
"""Standard deviation of the ink below which a window is blank paper."""

MIN_SCORE = 0.78
"""Correlation below which a window is no digit."""

GRID = 1 / 8
"""Boxes are told to an eighth of a pixel: areas are then exact in float32, and overlaps the same in every library."""


class Templates(NamedTuple):
    """What a window is compared with.

    Attributes
    ----------
    patterns
        ``(k, CELLS**2)``, each of mean 0 and norm 1.
    boxes
        ``(k, 4)``: where in the window the ink of such digits lies, xyxy as shares of its side.
    labels
        ``(k,)``: the digits they stand for.
    """

    patterns: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


class Detections(NamedTuple):
    """Boxes ``(n, 4)`` as xyxy, with the number of the scene, the score and the digit of each, all ``(n,)``."""

    scenes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> Detections:
        """Return those at `indices`, in that order."""
        return Detections(*(field[indices] for field in self))

    @classmethod
    def concatenated(cls, parts: Iterable[Detections]) -> Detections:
        """Return all of `parts` as one."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


def learn_templates(digits: Digits, classes: Iterable[int] = range(10), *, seed: int = 0) -> Templates:
    """Cluster the digits of each of `classes` with k-means; the centres are the templates."""
    from sklearn.cluster import KMeans

    drawn = draw_digits(digits.images, 4 * CELLS)
    patches = _normalised(resize(drawn, CELLS, CELLS).reshape(len(drawn), -1))
    boxes = np.stack([ink_box(image) for image in drawn]) / (4 * CELLS)
    members = []
    for label in classes:
        ours = np.flatnonzero(digits.labels == label)
        clusters = KMeans(PER_CLASS, n_init=1, random_state=seed).fit_predict(patches[ours])
        members += [ours[clusters == cluster] for cluster in range(PER_CLASS)]
    patterns = _normalised(np.stack([patches[m].mean(axis=0) for m in members]))
    return Templates(
        patterns.astype(np.float32),
        np.stack([boxes[m].mean(axis=0) for m in members]),
        np.array([digits.labels[m[0]] for m in members]),
    )


def detect_all(images: Iterable[np.ndarray], templates: Templates) -> Detections:
    """Find digits in each of `images`; their scenes are numbered in order."""
    from threadpoolctl import threadpool_limits

    # Matrices this small gain little from threads, and on a busy machine the threads wait for each other.
    with threadpool_limits(1):
        return Detections.concatenated(detect(image, templates, scene=i) for i, image in enumerate(images))


def detect(image: np.ndarray, templates: Templates, *, scene: int = 0) -> Detections:
    """Find digits in an image ``(height, width)``: each window that resembles some template gives one box."""
    return Detections.concatenated(_detect_at(side, image, templates, scene) for side in _window_sides())


def _window_sides() -> Iterator[float]:
    side: float = SIDES[0]
    while side < SIDES[1] * SCALE_STEP:
        yield side
        side *= SCALE_STEP


def _detect_at(side: float, image: np.ndarray, templates: Templates, scene: int) -> Detections:
    """Slide a window of about `side` pixels: the image shrinks until that window is as large as the templates."""
    height, width = (round(length * CELLS / side) for length in image.shape)
    small = resize(image.astype(np.float32), height, width)
    contrast = np.sqrt(np.maximum(_window_means(small**2) - _window_means(small) ** 2, 0))
    rows, columns = np.nonzero(contrast > MIN_CONTRAST)
    windows = sliding_window_view(small, (CELLS, CELLS))[rows, columns].reshape(-1, CELLS**2)
    # The patterns have mean 0, so there is no need to subtract the mean from the windows.
    correlation = windows @ templates.patterns.T / (contrast[rows, columns, None] * CELLS)
    scores = correlation.max(axis=1)
    good = np.flatnonzero(scores > MIN_SCORE)
    best = correlation[good].argmax(axis=1)
    corners = np.stack([columns, rows, columns, rows], axis=1)[good]
    # Rounding made the two axes shrink by slightly different factors.
    cell = np.array(image.shape)[[1, 0, 1, 0]] / (width, height, width, height)
    boxes = np.round((corners + templates.boxes[best] * CELLS) * cell / GRID) * GRID
    scenes = np.full(len(good), scene, dtype=np.int32)
    return Detections(scenes, boxes.astype(np.float32), scores[good], templates.labels[best])


def _window_means(image: np.ndarray) -> np.ndarray:
    columns = sliding_window_view(image, CELLS, axis=1).mean(axis=-1)
    return sliding_window_view(columns, CELLS, axis=0).mean(axis=-1)


def _normalised(patches: np.ndarray) -> np.ndarray:
    """Bring rows to mean 0 and norm 1."""
    centred = patches - patches.mean(axis=1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)

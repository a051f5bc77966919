"""Strokes and box sizes, which the detector learns without labels by k-means.

Strokes are the centres of patches of digits, clustered by the angle between them (`metric="cosine"`). Box sizes, called
anchors, are clustered by IoU (`metric="iou"`, `center="median"`, as in YOLO9000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

import anyops

from .arrays import Array
from .scenes import Digits, Scene, draw_digits, ink_box, resampling

CELLS = 16
"""Side of a window as the detector sees it, whatever its size on the page."""

MARGIN = 2
"""Cells of a window on each side of the box, so that the end of the ink can be seen."""

PATCH = 5
"""Side of a patch, in cells."""

WORDS = 24
"""Number of strokes in the codebook."""

ANCHORS = 8
"""Number of box sizes."""

PATCHES = 8000
"""Number of patches that are clustered."""

FAINT = 0.1
"""Standard deviation added to each patch's, in squares, so that paper is not scaled to the contrast of ink."""

MIN_CONTRAST = 0.15
"""Standard deviation below which a patch has no stroke to learn from."""


class Codebook(NamedTuple):
    """The results of k-means.

    Attributes
    ----------
    words
        ``(WORDS, PATCH**2)``: strokes, of mean 0 and norm 1.
    anchors
        ``(ANCHORS, 2)``: widths and heights by ascending area.
    """

    words: Array
    anchors: Array


def stroke_patches(digits: Digits, *, seed: int = 0) -> np.ndarray:
    """Cut ``(PATCHES, PATCH**2)`` out of digits that fill a window as an ideal box would, at even contrast."""
    windows = np.stack([_window(image) for image in draw_digits(digits.images, 4 * CELLS)])
    patches = np.lib.stride_tricks.sliding_window_view(windows, (PATCH, PATCH), axis=(1, 2)).reshape(-1, PATCH**2)
    patches = patches[patches.std(axis=1) > MIN_CONTRAST]
    some = np.random.default_rng(seed).permutation(len(patches))[:PATCHES]
    centred = patches[some] - patches[some].mean(axis=1, keepdims=True)
    return (centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + FAINT**2)).astype(np.float32)


def _window(image: np.ndarray) -> np.ndarray:
    """Resample a drawn digit so that its ink fills the cells within the margin."""
    x1, y1, x2, y2 = ink_box(image).astype(int)
    inside = CELLS - 2 * MARGIN
    ink = image[y1:y2, x1:x2]
    return np.pad(resampling(y2 - y1, inside) @ ink @ resampling(x2 - x1, inside).T, MARGIN)


def box_sizes(scenes: Sequence[Scene]) -> np.ndarray:
    """Widths and heights ``(n, 2)`` of the true boxes of scenes."""
    return np.concatenate([scene.boxes[:, 2:] - scene.boxes[:, :2] for scene in scenes]).astype(np.float32)


def learn_codebook(patches: Array, sizes: Array, *, seed: int = 0) -> Codebook:
    """Cluster patches into words and box sizes into anchors, in the library of the arrays."""
    xp = array_api_compat.array_namespace(patches, sizes)
    words = anyops.kmeans(patches, WORDS, metric="cosine", seed=seed).centers
    found = anyops.kmeans(sizes, ANCHORS, metric="iou", center="median", seed=seed)
    by_area = xp.argsort(anyops.box_area(_boxes(xp, found.centers)))
    return Codebook(words, xp.take(found.centers, by_area, axis=0))


def mean_iou(sizes: Array, anchors: Array) -> float:
    """Return the mean IoU of sizes with the closest anchor."""
    xp = array_api_compat.array_namespace(sizes, anchors)
    return 1 - float(xp.mean(anyops.kmeans_assign(sizes, anchors, metric="iou").distances))


def _boxes(xp: Any, sizes: Array) -> Array:
    """Return boxes of these sizes at the origin."""
    return xp.concat([xp.zeros_like(sizes), sizes], axis=1)

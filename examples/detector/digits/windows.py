"""Features of windows: the similarity of their parts to the strokes of the codebook, for all windows of a size at once.

The page is resampled so that a window, whatever its sides, is `CELLS` by `CELLS`; the correlations of each patch with
the words are averaged over a 3 by 3 grid in the window, which keeps the rough position of a stroke.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from .arrays import Array, Ship, to_host
from .codebook import CELLS, FAINT, MARGIN, PATCH
from .scenes import PAGE, resampling

STEP = 2
"""Cells from one window to the next."""

POOLS = 3
"""A window is averaged over this many parts along each side."""

GRID = 1 / 8
"""Boxes are rounded to an eighth of a pixel: areas are then exact in float32, and overlaps equal in every library."""


class View(NamedTuple):
    """A page seen through all windows of one size.

    Attributes
    ----------
    rows, columns
        Matrices ``(height, page height)`` and ``(width, page width)`` that resample the page.
    down, across
        Indices of the cells of each row, and of each column, of patches.
    shape
        Number of windows along each axis.
    boxes
        ``(n, 4)`` float32 xyxy on the page, one for each window: the window without its margin.
    """

    rows: Array
    columns: Array
    down: Array
    across: Array
    shape: tuple[int, int]
    boxes: Array


def make_view(anchor: np.ndarray, ship: Ship) -> View:
    """Prepare the windows of one size, a width and a height in pixels."""
    inside = CELLS - 2 * MARGIN
    page = np.asarray(PAGE)
    size = STEP * np.round(page * inside / (anchor[::-1] * STEP)).astype(int)
    rows, columns = (ship(resampling(a, b).astype(np.float32)) for a, b in zip(PAGE, size, strict=True))
    down, across = (ship((np.arange(n - PATCH + 1)[:, None] + np.arange(PATCH)).reshape(-1)) for n in size)
    shape = (size - CELLS) // STEP + 1
    corners = np.stack(np.meshgrid(*(np.arange(n) * STEP + MARGIN for n in shape), indexing="ij"), axis=-1)
    corners = corners.reshape(-1, 2)
    yxyx = np.hstack([corners, corners + inside]) * np.tile(page / size, 2)
    boxes = np.round(yxyx[:, [1, 0, 3, 2]] / GRID) * GRID
    return View(rows, columns, down, across, (int(shape[0]), int(shape[1])), ship(boxes.astype(np.float32)))


def make_views(anchors: Array, ship: Ship) -> list[View]:
    """Prepare the windows of all sizes."""
    return [make_view(anchor, ship) for anchor in to_host(anchors)]


def window_features(page: Array, view: View, words: Array) -> Array:
    """Features ``(n, POOLS**2 * k)`` of all windows of a page ``(height, width)``, k being the number of words."""
    xp = array_api_compat.array_namespace(page, words)
    small = view.rows @ page @ xp.permute_dims(view.columns, (1, 0))
    found = stroke_map(xp, small, view, words)
    # Means of 2 by 2 patches, then of 2 by 2 such means: a part of a window is four patches wide.
    height, width, k = found.shape
    halves = xp.mean(xp.reshape(found, (height // STEP, STEP, width // STEP, STEP, k)), axis=(1, 3))
    tall = halves[:-1, :, :] + halves[1:, :, :]
    parts = (tall[:, :-1, :] + tall[:, 1:, :]) / 4
    ny, nx = view.shape
    of_windows = [parts[y : y + ny, x : x + nx, :] for y in range(0, 2 * POOLS, 2) for x in range(0, 2 * POOLS, 2)]
    return xp.reshape(xp.concat(of_windows, axis=-1), (ny * nx, -1))


def stroke_map(xp: Any, image: Array, view: View, words: Array) -> Array:
    """Positive correlation of each patch of an image with each word, (height, width, k); faint patches have little."""
    cells = xp.take(xp.take(image, view.across, axis=1), view.down, axis=0)
    height, width = view.down.shape[0] // PATCH, view.across.shape[0] // PATCH
    patches = xp.permute_dims(xp.reshape(cells, (height, PATCH, width, PATCH)), (0, 2, 1, 3))
    patches = xp.reshape(patches, (height * width, PATCH**2))
    variance = xp.mean(patches * patches, axis=1) - xp.mean(patches, axis=1) ** 2
    # The words have mean 0, so there is no need to subtract the mean from the patches.
    contrast = PATCH * xp.sqrt(variance + FAINT**2)
    correlation = patches @ xp.permute_dims(words, (1, 0)) / contrast[:, None]
    positive = xp.where(correlation > 0, correlation, xp.zeros_like(correlation))
    return xp.reshape(positive, (height, width, words.shape[0]))

"""Scenes: real handwritten digits pasted, scaled and overlapping, onto stained paper, each with its true box."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn import datasets

INK = 0.25
"""A pixel at least this dark belongs to a digit; true boxes bound such pixels."""

SIDES = (28, 100)
"""Smallest and largest side of a pasted digit image, in pixels."""

PAGE = (480, 640)
"""Height and width of a scene."""

DIGITS_ON_PAGE = 40

MAX_COVERED = 0.25
"""Largest share of the smaller box that the boxes of two digits may have in common."""


class Digits(NamedTuple):
    """Digit images, ``(n, 8, 8)`` with ink in 0 … 1, and their labels, ``(n,)``."""

    images: np.ndarray
    labels: np.ndarray


class Scene(NamedTuple):
    """A page of size `PAGE` of float32 ink in 0 … 1, the xyxy boxes ``(n, 4)`` of its digits, and their labels."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


class Settings(NamedTuple):
    """The numbers of scenes for detection and for training, and the seed."""

    scenes: int = 24
    training_scenes: int = 12
    seed: int = 0


class Material(NamedTuple):
    """Digits and scenes for training, and scenes by other writers for detection."""

    digits: Digits
    training: list[Scene]
    scenes: list[Scene]


def prepare(settings: Settings) -> Material:
    """Load the digits and draw the scenes; training and detection use different writers."""
    to_learn, to_find = load_digits()
    training = make_scenes(to_learn, settings.training_scenes, np.random.default_rng([settings.seed, 1]))
    return Material(to_learn, training, make_scenes(to_find, settings.scenes, np.random.default_rng(settings.seed)))


def load_digits() -> tuple[Digits, Digits]:
    """Return the digits that come with scikit-learn, for training and for detection.

    The set is ordered by writer, and is split in this order: the last third is by writers that the detector has never
    seen.
    """
    data = datasets.load_digits()
    images, labels = data.images / 16.0, data.target
    split = len(images) * 2 // 3
    return Digits(images[:split], labels[:split]), Digits(images[split:], labels[split:])


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample the last two axes with a Gaussian that is half a pixel of the coarser grid wide."""
    rows = resampling(images.shape[-2], height).astype(images.dtype)
    columns = resampling(images.shape[-1], width).astype(images.dtype)
    return rows @ images @ columns.T


def resampling(size: int, new_size: int) -> np.ndarray:
    """Return the matrix ``(new_size, size)`` that resamples one axis."""
    ratio = size / new_size
    centers = (np.arange(new_size) + 0.5) * ratio - 0.5
    distances = (centers[:, None] - np.arange(size)) / (0.5 * max(ratio, 1.0))
    weights = np.exp(-0.5 * distances**2)
    return weights / weights.sum(axis=1, keepdims=True)


def draw_digits(images: np.ndarray, side: int) -> np.ndarray:
    """Enlarge ``(..., 8, 8)`` digits to squares of `side` pixels with a narrow margin and the sharp edge of a pen."""
    margin = [(0, 0)] * (images.ndim - 2) + [(1, 1), (1, 1)]
    soft = resize(np.pad(images, margin), side, side)
    ramp = np.clip((soft - 0.2) / 0.4, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def ink_box(image: np.ndarray) -> np.ndarray:
    """Return the tightest xyxy box around the ink; a pixel spans one unit, so the far edges are exclusive."""
    rows, columns = np.nonzero(image >= INK)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)


def make_scenes(digits: Digits, count: int, rng: np.random.Generator) -> list[Scene]:
    """Draw `count` scenes, each from its own stream of random numbers."""
    return [_make_scene(digits, stream) for stream in rng.spawn(count)]


def _make_scene(digits: Digits, rng: np.random.Generator) -> Scene:
    page = _paper(rng)
    boxes = np.zeros((0, 4))
    labels: list[int] = []
    while len(boxes) < DIGITS_ON_PAGE:
        pick = int(rng.integers(len(digits.labels)))
        side = round(float(np.exp(rng.uniform(*np.log(SIDES)))))
        digit = draw_digits(digits.images[pick], side) * rng.uniform(0.6, 1.0)
        y, x = (int(rng.integers(0, limit - side)) for limit in PAGE)
        box = ink_box(digit) + np.array([x, y, x, y])
        if _covered(box, boxes) > MAX_COVERED:
            continue
        patch = page[y : y + side, x : x + side]
        np.maximum(patch, digit, out=patch)
        boxes = np.vstack([boxes, box])
        labels.append(int(digits.labels[pick]))
    return Scene(page.astype(np.float32), boxes, np.array(labels))


def _paper(rng: np.random.Generator) -> np.ndarray:
    """Return a page of faint stains and fibres."""
    height, width = PAGE
    stains = resize(rng.uniform(0, 0.16, (height // 40, width // 40)), height, width)
    fibres = resize(rng.normal(0, 0.04, (height // 3, width // 3)), height, width)
    return np.clip(stains + fibres, 0, 1)


def _covered(box: np.ndarray, boxes: np.ndarray) -> float:
    """Return the largest share of the smaller box that `box` has in common with any of `boxes`."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return float(np.max(common / np.minimum(areas, np.prod(box[2:] - box[:2])), initial=0.0))

"""The picture: one scene before and after NMS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import anyops

from .detector import Detections
from .scenes import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#d62728", "#1a3fbf", "#e8780c", "#008b8b", "#8e24aa", "#2a9134", "#e0219b", "#8c564b", "#a08000", "#1e88e5")
"""One for each digit: all show on paper, and white text shows on all."""

_CAPTION = "Tags: digit and score. Solid: right, the same digit is there with an IoU of at least 0.5. Dashed: wrong."


def draw_before_after(path: Path, scene: Scene, raw: Detections, kept: Detections) -> None:
    """Write a PNG of a scene under its raw detections and, beside it, under those that NMS kept."""
    from matplotlib.figure import Figure

    height, width = scene.image.shape
    figure = Figure(figsize=(12.8, 6.4 * height / width + 0.8), layout="constrained")
    before, after = figure.subplots(1, 2)
    for axes in (before, after):
        # Squared, which fades the paper more than the ink.
        axes.imshow(1 - 0.85 * scene.image**2, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("0.8")
    truth = _truth_found(scene, kept)
    right = truth >= 0
    _draw_boxes(before, raw, linewidth=0.5, alpha=0.25)
    _draw_boxes(after, kept.take(right), linewidth=1.8)
    _draw_boxes(after, kept.take(~right), linewidth=1.2, linestyle="dashed")
    _draw_tags(after, kept)
    digits, found = len(scene.labels), len(np.unique(truth[right]))
    before.set_title(f"Before: {len(raw.scores):,} boxes for {digits} digits", fontsize=15, pad=9)
    after.set_title(f"After anyops.nms: {len(kept.scores)} boxes, {found} digits found", fontsize=15, pad=9)
    figure.supxlabel(_CAPTION, fontsize=11)
    figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})


def _truth_found(scene: Scene, kept: Detections) -> np.ndarray:
    """For each box, return the number of the true box of its class that it overlaps by half or more, else -1."""
    overlaps = anyops.box_iou(kept.boxes.astype(np.float64), scene.boxes)
    overlaps = np.where(kept.labels[:, None] == scene.labels, overlaps, 0)
    return np.where(overlaps.max(axis=1) >= 0.5, overlaps.argmax(axis=1), -1)


def _draw_boxes(axes: Axes, detections: Detections, **style: Any) -> None:
    from matplotlib.collections import PolyCollection

    x1, y1, x2, y2 = detections.boxes.T
    corners = np.stack([x1, y1, x2, y1, x2, y2, x1, y2], axis=1).reshape(-1, 4, 2)
    colors = [_COLORS[label] for label in detections.labels]
    axes.add_collection(PolyCollection(list(corners), facecolors="none", edgecolors=colors, **style))


def _draw_tags(axes: Axes, detections: Detections) -> None:
    best_last = detections.take(np.argsort(detections.scores, stable=True))  # the best lie on top
    for (left, top, _, _), score, label in zip(best_last.boxes, best_last.scores, best_last.labels, strict=True):
        tag = {"boxstyle": "square,pad=0.15", "facecolor": _COLORS[label], "edgecolor": "none", "alpha": 0.9}
        axes.text(left, top, f"{label}  {score:.2f}", color="white", fontsize=6.5, va="bottom", bbox=tag)

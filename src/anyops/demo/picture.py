"""The pictures: one scene before and after NMS, and what each method makes of its most crowded part."""

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

_BACKEND_COLORS = ("#2a9134", "#e8780c", "#8e24aa", "#1e88e5")

_CAPTION = "Tags: digit and score. Solid: right, the same digit is there with an IoU of at least 0.5. Dashed: wrong."

_VIEW = (180, 240)
"""Height and width of the part of a scene that shows what each method does."""

_SHOWN = 0.7
"""Score down to which a box has a tag, and counts as one that was not lowered; all raw boxes are above it."""

_METHODS_CAPTION = f"{_CAPTION} Boxes of low new scores are faint; below {_SHOWN} they have no tag."


def draw_before_after(path: Path, scene: Scene, raw: Detections, kept: Detections) -> None:
    """Write a PNG of a scene under its raw detections and, beside it, under those that NMS kept."""
    from matplotlib.figure import Figure

    height, width = scene.image.shape
    figure = Figure(figsize=(12.8, 6.4 * height / width + 0.8), layout="constrained")
    before, after = figure.subplots(1, 2)
    _draw_page(before, scene)
    _draw_boxes(before, raw, linewidth=0.5, alpha=0.25)
    _draw_page(after, scene)
    _draw_right_and_wrong(after, scene, kept)
    _draw_tags(after, kept)
    truth = _truth_found(scene, kept)
    digits, found = len(scene.labels), len(np.unique(truth[truth >= 0]))
    before.set_title(f"Before: {len(raw.scores):,} boxes for {digits} digits", fontsize=15, pad=9)
    after.set_title(f"After anyops.nms: {len(kept.scores)} boxes, {found} digits found", fontsize=15, pad=9)
    figure.supxlabel(_CAPTION, fontsize=11)
    figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})


def draw_methods(
    path: Path, scene: Scene, raw: Detections, found: dict[str, Detections], figures: dict[str, Any]
) -> None:
    """Write a PNG of the crowded part of a scene as each method leaves it, above their precision and time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.8, 8.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(5.6, 2.6))
    pages, bars = parts
    top, left = _most_crowded(scene)
    panels = list(pages.subplots(2, 4).flat)
    for axes in panels:
        _draw_page(axes, scene)
        axes.set(xlim=(left, left + _VIEW[1]), ylim=(top + _VIEW[0], top))
    _draw_boxes(panels[0], raw, linewidth=0.5, alpha=0.25)
    panels[0].set_title(f"raw: {len(raw.scores):,} boxes in the whole scene", fontsize=11)
    for axes, (name, ours) in zip(panels[1:], found.items(), strict=True):
        tagged = ours.take(ours.scores > _SHOWN)
        _draw_right_and_wrong(axes, scene, ours, fading=2)
        _draw_tags(axes, tagged, clip_on=True)
        lowered = len(ours.scores) - len(tagged.scores)
        others = f", {lowered:,} below {_SHOWN}" if lowered else ""
        axes.set_title(f"{name}: {len(tagged.scores)} boxes{others}", fontsize=11)
    pages.supxlabel(_METHODS_CAPTION, fontsize=10)
    _draw_bars(bars.subplots(1, 2), figures)
    figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})


def _draw_bars(axes: Any, figures: dict[str, Any]) -> None:
    """Draw the precision and the time of each method as bars."""
    names = ["raw", *(row["method"] for row in figures["methods"])]
    precision, times = axes
    ap = [row["ap"] for row in (figures["raw"], *figures["methods"])]
    precision.barh(names, ap, color=["0.75", *["#1a3fbf"] * (len(names) - 1)])
    for place, value in enumerate(ap):
        precision.text(value, place, f" {value:.3f}", va="center", fontsize=9)
    precision.set(xlim=(0, 1.12 * max(ap)), title=f"COCO's AP over {figures['scenes']} scenes")
    backends = [entry["backend"] for entry in figures["backends"]]
    height = 0.8 / len(backends)
    for number, backend in enumerate(backends):
        places = np.arange(len(figures["methods"])) + (number - (len(backends) - 1) / 2) * height
        values = [row["milliseconds"][backend] for row in figures["methods"]]
        times.barh(places, values, height, label=backend, color=_BACKEND_COLORS[number])
        for place, value in zip(places, values, strict=True):
            times.text(value, place, f" {value:,.0f}" if value >= 10 else f" {value:.1f}", va="center", fontsize=7)
    times.set_yticks(np.arange(len(figures["methods"])), names[1:])
    times.set(xscale="log", title=f"Milliseconds for {figures['raw']['boxes']:,} boxes, on a logarithmic scale")
    times.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    times.margins(x=0.15)
    times.legend(loc="upper right", fontsize=8)
    for each in axes:
        each.invert_yaxis()
        each.spines[["top", "right"]].set_visible(False)
        each.title.set_fontsize(11)


def _most_crowded(scene: Scene) -> tuple[int, int]:
    """Top and left of the part of a scene where most digits are whole."""
    best, place = -1, (0, 0)
    for top in range(0, scene.image.shape[0] - _VIEW[0] + 1, 10):
        for left in range(0, scene.image.shape[1] - _VIEW[1] + 1, 10):
            low, high = np.array([left, top]), np.array([left + _VIEW[1], top + _VIEW[0]])
            whole = (scene.boxes[:, :2] >= low).all(axis=1) & (scene.boxes[:, 2:] <= high).all(axis=1)
            if whole.sum() > best:
                best, place = int(whole.sum()), (top, left)
    return place


def _draw_page(axes: Axes, scene: Scene) -> None:
    height, width = scene.image.shape
    # Squared, which fades the paper more than the ink.
    axes.imshow(1 - 0.85 * scene.image**2, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("0.8")


def _draw_right_and_wrong(axes: Axes, scene: Scene, found: Detections, *, fading: int = 0) -> None:
    """Draw boxes the fainter the lower they score, with a power for how much."""
    right = _truth_found(scene, found) >= 0
    for which, style in ((right, {"linewidth": 1.8}), (~right, {"linewidth": 1.2, "linestyle": "dashed"})):
        _draw_boxes(axes, found.take(which), alpha=np.clip(found.scores[which] ** fading, 0, 1), **style)


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


def _draw_tags(axes: Axes, detections: Detections, *, clip_on: bool = False) -> None:
    best_last = detections.take(np.argsort(detections.scores, stable=True))  # the best lie on top
    for (left, top, _, _), score, label in zip(best_last.boxes, best_last.scores, best_last.labels, strict=True):
        tag = {"boxstyle": "square,pad=0.15", "facecolor": _COLORS[label], "edgecolor": "none", "alpha": 0.9}
        text = f"{label}  {score:.2f}"
        axes.text(left, top, text, color="white", fontsize=6.5, va="bottom", bbox=tag, clip_on=clip_on)

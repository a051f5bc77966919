"""The pictures: scenes before and after suppression, what was learnt, curves and bars. Each is a Matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from .codebook import PATCH
from .detector import Detections
from .evaluate import Precision, digits_found
from .imbalance import HARDEST
from .scenes import Scene

_COLORS = ("#d62728", "#1a3fbf", "#e8780c", "#008b8b", "#8e24aa", "#2a9134", "#e0219b", "#8c564b", "#a08000", "#1e88e5")
"""One for each digit: all are visible on paper, and white text is legible on all."""

BACKEND_COLORS = ("#1a3fbf", "#e8780c", "#2a9134", "#8e24aa")

LOSS_COLORS = ("#1a3fbf", "#d1495b")

_STEP_COLORS = ("#12355b", "#2f6690", "#81a4cd", "#d1495b", "#edae49", "#66a182")

_FAMILIES = {
    "raw": "0.6",
    "nms": "#111111",
    "fast": "#008b8b",
    "soft": "#d62728",
    "cluster": "#1a3fbf",
    "weighted": "#8e24aa",
    "matrix": "#e8780c",
    "wbf": "#2a9134",
}
"""Colours of methods, by the first word of their names; variants differ in their dashes."""

CAPTION = "Tags: digit and score. Solid: correct, with an IoU of at least 0.5 with the same digit. Dashed: wrong."

_VIEW = (180, 240)
"""Height and width of the part of a scene that shows what each method does."""

_SHOWN = 0.4
"""Boxes with a higher score have a tag, and count as kept."""

_INVISIBLE = 0.1
"""Boxes with a higher score are drawn; their opacity is the square of the score."""

_METHODS_CAPTION = f"{CAPTION} Boxes of low scores are faint; below {_SHOWN} they have no tag."


def before_after(scene: Scene, raw: Detections, kept: Detections) -> Figure:
    """Draw a scene with its raw detections and, beside it, with the detections that NMS kept."""
    height, width = scene.image.shape
    figure = _figure(12.8, 6.4 * height / width + 0.8)
    before, after = figure.subplots(1, 2)
    _draw_raw(before, scene, raw)
    _draw_kept(after, scene, kept)
    before.set_title(f"Before: {len(raw.scores):,} boxes for {len(scene.labels)} digits", fontsize=15, pad=9)
    after.set_title(f"After anyops.nms: {box_counts(scene, kept)}", fontsize=15, pad=9)
    figure.supxlabel(_METHODS_CAPTION, fontsize=11)
    return figure


def page(scene: Scene, found: Detections, *, raw: bool = False) -> Figure:
    """Draw a scene with its raw detections, or with the detections after a method."""
    height, width = scene.image.shape
    figure = _figure(7.2, 7.2 * height / width)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    (_draw_raw if raw else _draw_kept)(axes, scene, found)
    return figure


def box_counts(scene: Scene, found: Detections) -> str:
    """Describe how many boxes have high scores, and how many digits they find."""
    good = found.take(found.scores > _SHOWN)
    truth = digits_found(scene, good)
    return f"{len(good.scores)} boxes, {len(np.unique(truth[truth >= 0]))} digits found"


def methods(scene: Scene, raw: Detections, found: Mapping[str, Detections], figures: Mapping[str, Any]) -> Figure:
    """Draw the crowded part of a scene as each method leaves it, above their precision and time."""
    figure = _figure(12.8, 12.2)
    parts: Any = figure.subfigures(2, 1, height_ratios=(8.4, 3.8))
    pages, bars = parts
    _draw_crops(pages, scene, raw, found)
    pages.supxlabel(_METHODS_CAPTION, fontsize=10)
    precision, times = bars.subplots(1, 2)
    precision_bars(precision, figures)
    time_bars(times, figures)
    return figure


def crops(scene: Scene, raw: Detections, found: Mapping[str, Detections]) -> Figure:
    """Draw the crowded part of a scene as each method leaves it."""
    figure = _figure(12.8, 8.2)
    _draw_crops(figure, scene, raw, found)
    return figure


def _draw_crops(figure: Any, scene: Scene, raw: Detections, found: Mapping[str, Detections]) -> None:
    top, left = _most_crowded(scene)
    for axes, (name, ours) in zip(figure.subplots(3, 4).flat, {"raw": raw, **found}.items(), strict=True):
        visible = _visible(ours, top, left)
        if name == "raw":
            _draw_raw(axes, scene, visible)
            axes.set_title(f"before: {len(raw.scores):,} boxes in the whole scene", fontsize=11)
        else:
            _draw_kept(axes, scene, visible)
            lowered = int(np.sum(ours.scores <= _SHOWN))
            others = f", {lowered:,} below {_SHOWN}" if lowered else ""
            axes.set_title(f"{name}: {len(ours.scores) - lowered} boxes{others}", fontsize=11)
        axes.set(xlim=(left, left + _VIEW[1]), ylim=(top + _VIEW[0], top))


def precision_bars(axes: Axes, figures: Mapping[str, Any]) -> None:
    """Draw the precision before and after each method, by the loss of the classifier."""
    losses = list(figures["losses"])
    rows = [figures["raw"], *figures["methods"]]
    height = 0.8 / len(losses)
    for number, loss in enumerate(losses):
        places = np.arange(len(rows)) + (number - (len(losses) - 1) / 2) * height
        values = [row["ap"][loss] for row in rows]
        axes.barh(places, values, height, label=loss, color=LOSS_COLORS[number])
        for place, value in zip(places, values, strict=True):
            axes.text(value, place, f" {value:.3f}", va="center", fontsize=7)
    axes.set_yticks(np.arange(len(rows)), ["raw", *(row["method"] for row in figures["methods"])])
    axes.set(title=f"COCO's AP over {figures['scenes']} scenes, by the classifier's loss")
    axes.set_xlim(right=1.4 * max(max(row["ap"].values()) for row in rows))
    axes.legend(loc="upper right", fontsize=8, framealpha=1)
    _bars_style(axes)


def time_bars(axes: Axes, figures: Mapping[str, Any]) -> None:
    """Draw the time of each method on each backend."""
    backends = [entry["backend"] for entry in figures["backends"]]
    height = 0.8 / len(backends)
    for number, backend in enumerate(backends):
        places = np.arange(len(figures["methods"])) + (number - (len(backends) - 1) / 2) * height
        values = [row["milliseconds"][backend] for row in figures["methods"]]
        axes.barh(places, values, height, label=backend, color=BACKEND_COLORS[number])
        for place, value in zip(places, values, strict=True):
            axes.text(value, place, f" {value:,.0f}" if value >= 10 else f" {value:.1f}", va="center", fontsize=7)
    axes.set_yticks(np.arange(len(figures["methods"])), [row["method"] for row in figures["methods"]])
    axes.set(xscale="log", title=f"Milliseconds for {figures['raw']['boxes']:,} boxes, on a logarithmic scale")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlim(right=4 * max(max(row["milliseconds"].values()) for row in figures["methods"]))
    axes.legend(loc="upper right", fontsize=8, framealpha=1)
    _bars_style(axes)


def step_bars(axes: Axes, figures: Mapping[str, Any]) -> None:
    """Draw the seconds of each step on each backend, end to end."""
    backends = [entry["backend"] for entry in figures["backends"]]
    left = np.zeros(len(backends))
    for color, step in zip(_STEP_COLORS, figures["backends"][0]["seconds"], strict=True):
        values = np.asarray([entry["seconds"][step] for entry in figures["backends"]])
        axes.barh(backends, values, 0.55, left=left, color=color, label=step)
        left += values
    for place, value in enumerate(left):
        axes.text(value, place, f" {value:.1f} s", va="center", fontsize=9)
    axes.set(title="Seconds for each step")
    axes.set_xlim(right=1.12 * left.max())
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(_STEP_COLORS), fontsize=8, frameon=False)
    _bars_style(axes)


def _bars_style(axes: Axes) -> None:
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize(11)


def chart(draw: Any, *arguments: Any, width: float, height: float) -> Figure:
    """Draw one chart alone on a figure."""
    figure = _figure(width, height)
    draw(figure.subplots(), *arguments)
    return figure


def precision_recall(axes: Axes, curves: Mapping[str, Precision]) -> None:
    """Draw precision against recall, one line for each method."""
    variants: dict[str, int] = {}
    for name, precision in curves.items():
        family = name.split()[0]
        style = ("-", "--", ":")[variants.setdefault(family, 0)]
        variants[family] += 1
        label = f"{name}  {precision.ap50:.3f}"
        axes.plot(np.linspace(0, 1, 101), precision.curve, style, color=_FAMILIES[family], label=label, linewidth=1.7)
    axes.set(title="Precision at an IoU of 0.5, mean of the ten digits")
    axes.legend(title="AP50", loc="lower left", fontsize=8.5, frameon=False)
    _curve_style(axes)


def losses_precision_recall(axes: Axes, curves: Mapping[str, Precision]) -> None:
    """Draw precision against recall, one line for each loss."""
    for color, (name, precision) in zip(LOSS_COLORS, curves.items(), strict=True):
        label = f"{name}  {precision.ap50:.3f}"
        axes.plot(np.linspace(0, 1, 101), precision.curve, color=color, label=label, linewidth=1.9)
    axes.set(title="After nms, precision at an IoU of 0.5")
    axes.legend(title="AP50", loc="lower left", fontsize=9, frameon=False)
    _curve_style(axes)


def _curve_style(axes: Axes) -> None:
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize(11)


def shares(axes: Axes, curves: Mapping[str, np.ndarray]) -> None:
    """Draw the cumulative share of the loss of windows on no digit, the hardest first."""
    for color, (name, curve) in zip(LOSS_COLORS, curves.items(), strict=True):
        axes.plot(100 * HARDEST, 100 * curve, color=color, label=name, linewidth=1.9)
    axes.set(xscale="log", xlabel="hardest windows on no digit, % of all of them", ylabel="% of their loss")
    axes.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    axes.set(title="Share of the hardest windows in the loss", xlim=(0.01, 100), ylim=(0, 102))
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize(11)


def words(codebook_words: np.ndarray) -> Figure:
    """Draw the strokes of the codebook."""
    columns = 8
    rows = -(-len(codebook_words) // columns)
    figure = _figure(4.8, 4.8 * rows / columns)
    for axes, word in zip(figure.subplots(rows, columns).flat, codebook_words, strict=True):
        limit = np.abs(word).max()
        axes.imshow(-word.reshape(PATCH, PATCH), cmap="gray", vmin=-limit, vmax=limit)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("0.8")
    return figure


def anchors(axes: Axes, sizes: np.ndarray, found: np.ndarray) -> None:
    """Draw the sizes of boxes, and the anchors among them."""
    axes.scatter(sizes[:, 0], sizes[:, 1], s=7, color="0.7", linewidths=0, label="digits of the training scenes")
    axes.scatter(found[:, 0], found[:, 1], s=45, marker="s", color=LOSS_COLORS[1], label="anchors")
    axes.set(xlabel="width, pixels", ylabel="height, pixels", xlim=(0, None), ylim=(0, None))
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _draw_raw(axes: Axes, scene: Scene, raw: Detections) -> None:
    _draw_page(axes, scene)
    _draw_boxes(axes, raw, linewidth=0.5, alpha=0.3)


def _draw_kept(axes: Axes, scene: Scene, found: Detections) -> None:
    """Draw boxes, fainter at lower scores, and tags on boxes with high scores."""
    _draw_page(axes, scene)
    found = found.take(found.scores > _INVISIBLE)
    right = digits_found(scene, found) >= 0
    for which, style in ((right, {"linewidth": 1.8}), (~right, {"linewidth": 1.2, "linestyle": "dashed"})):
        _draw_boxes(axes, found.take(which), alpha=np.clip(found.scores[which], 0, 1) ** 2, **style)
    _draw_tags(axes, found.take(found.scores > _SHOWN))


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


def _visible(detections: Detections, top: int, left: int) -> Detections:
    """Return the boxes that are visible in a part of a scene, or whose tags are."""
    x1, y1, x2, y2 = detections.boxes.T
    height, width = _VIEW
    return detections.take((x2 > left) & (x1 < left + width) & (y2 > top) & (y1 < top + height + 20))


def _draw_page(axes: Axes, scene: Scene) -> None:
    height, width = scene.image.shape
    # Squared, which fades the paper more than the ink.
    axes.imshow(1 - 0.85 * scene.image**2, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("0.8")


def _draw_boxes(axes: Axes, detections: Detections, **style: Any) -> None:
    x1, y1, x2, y2 = detections.boxes.T
    corners = np.stack([x1, y1, x2, y1, x2, y2, x1, y2], axis=1).reshape(-1, 4, 2)
    colors = [_COLORS[label] for label in detections.labels]
    boxes = PolyCollection(list(corners), facecolors="none", edgecolors=colors, **style)
    boxes.set_in_layout(False)  # they are within the axes, and measuring them all is slow
    axes.add_collection(boxes)


def _draw_tags(axes: Axes, detections: Detections) -> None:
    best_last = detections.take(np.argsort(detections.scores, stable=True))  # the best are on top
    for (left, top, _, _), score, label in zip(best_last.boxes, best_last.scores, best_last.labels, strict=True):
        tag = {"boxstyle": "square,pad=0.15", "facecolor": _COLORS[label], "edgecolor": "none", "alpha": 0.9}
        text = f"{label}  {score:.2f}"
        tag_text = axes.text(left, top, text, color="white", fontsize=6.5, va="bottom", bbox=tag, clip_on=True)
        tag_text.set_in_layout(False)

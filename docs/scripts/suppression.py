"""The picture of docs/suppression.md: what each variant of suppression makes of one crowded scene.

    python docs/scripts/suppression.py [PNG]

It needs matplotlib, and writes docs/images/suppression.png unless told another name.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

import anyops

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = Path(__file__).parents[1] / "images" / "suppression.png"

# What is there: the big objects, and the small one on the first of them.
OBJECTS = np.asarray(
    [[8, 14, 38, 54], [50, 16, 72, 56], [57.1, 16, 79.1, 56], [89, 14, 113, 46], [102.4, 14, 126.4, 46]], dtype=float
)
SMALL = np.asarray([19, 27, 31, 39], dtype=float)

# What a detector finds: a name, a box, a score, its model and the corner of the box at which its tag stands.
RAW = (
    ("a", (8.0, 14.0, 38.0, 54.0), 0.95, 0, "above"),
    ("b", (10.0, 12.0, 40.0, 53.0), 0.85, 1, "top right"),
    ("c", (5.0, 19.0, 35.0, 60.0), 0.60, 1, "bottom left"),
    ("d", (19.0, 27.0, 31.0, 39.0), 0.50, 0, "middle"),
    ("e", (50.0, 16.0, 72.0, 56.0), 0.90, 0, "top left"),
    ("f", (57.1, 16.0, 79.1, 56.0), 0.80, 1, "bottom right"),
    ("g", (89.0, 14.0, 113.0, 46.0), 0.88, 0, "top left"),
    ("h", (95.7, 14.0, 119.7, 46.0), 0.72, 1, "bottom middle"),
    ("i", (102.4, 14.0, 126.4, 46.0), 0.66, 0, "top right"),
)
NAMES = [name for name, *_ in RAW]
BOXES = np.asarray([box for _, box, *_ in RAW])
SCORES = np.asarray([score for _, _, score, *_ in RAW])
MODELS = np.asarray([model for *_, model, _ in RAW])
CORNERS = [corner for *_, corner in RAW]
COLORS = ("#d62728", "#1a3fbf", "#e8780c", "#6b4a3a", "#00797c", "#8e24aa", "#2a9134", "#c2187e", "#1879c9")


class Panel(NamedTuple):
    """What a variant returns, and what to see in it."""

    title: str
    note: str
    names: list[int]  # of what is drawn: the raw box that each is, or that founded it
    boxes: np.ndarray
    scores: np.ndarray
    groups: np.ndarray | None = None


def kept(title: str, note: str, indices: np.ndarray) -> Panel:
    """Return the panel of boxes that stay as they are."""
    return Panel(title, note, indices.tolist(), BOXES[indices], SCORES[indices])


def rescored(title: str, note: str, result: tuple[np.ndarray, np.ndarray]) -> Panel:
    """Return the panel of boxes with new scores."""
    indices, scores = result
    return Panel(title, note, indices.tolist(), BOXES[indices], scores)


def moved(title: str, note: str, result: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Panel:
    """Return the panel of boxes with new scores and corners."""
    boxes, scores, indices = result
    return Panel(title, note, indices.tolist(), boxes, scores)


def fused(title: str, note: str) -> Panel:
    """Return the panel of weighted boxes fusion; a fused box has the name of the raw one that it overlaps most."""
    boxes, scores, _ = anyops.weighted_boxes_fusion(BOXES, SCORES, np.zeros(len(RAW), dtype=int), model_ids=MODELS)
    return Panel(title, note, anyops.box_iou(boxes, BOXES).argmax(axis=1).tolist(), boxes, scores)


def panels() -> list[Panel]:
    """Return what each variant makes of the scene."""
    groups = anyops.nms_groups(BOXES, SCORES)
    best = np.unique(groups)
    scene = BOXES, SCORES
    return [
        kept("raw: 9 boxes and their scores", "grey: the six objects", np.arange(len(RAW))),
        kept("nms, cluster_nms", "f is lost: it overlaps e by 0.51", anyops.nms(*scene)),
        kept('nms(kind="diou")', "f stays: its centre is elsewhere", anyops.nms(*scene, kind="diou")),
        kept("fast_nms", "h is dropped, and still drops i", anyops.fast_nms(*scene)),
        moved(
            "weighted_cluster_nms",
            "nms, and a moves towards b, which overlaps it by 0.82",
            anyops.weighted_cluster_nms(*scene),
        ),
        Panel(
            "nms_groups",
            "dashed: suppressed by the box of that colour",
            best.tolist(),
            BOXES[best],
            SCORES[best],
            groups,
        ),
        rescored('soft_nms(decay="gaussian")', "each overlap counts, also with d", anyops.soft_nms(*scene)),
        rescored('matrix_nms(kernel="gaussian")', "h does not lower i: g lowers h as much", anyops.matrix_nms(*scene)),
        rescored(
            'cluster_nms(penalty="score")',
            "only kept boxes count: g lowers i, h does not",
            anyops.cluster_nms(*scene, penalty="score"),
        ),
        rescored(
            'soft_nms(decay="linear")', "overlaps up to 0.3 do not count", anyops.soft_nms(*scene, decay="linear")
        ),
        rescored(
            'matrix_nms(kernel="linear")', "the same, with 1 − overlap", anyops.matrix_nms(*scene, kernel="linear")
        ),
        rescored(
            'cluster_nms(penalty="score+distance")',
            "centres apart count less: f and i are higher",
            anyops.cluster_nms(*scene, penalty="score+distance"),
        ),
        moved(
            'weighted_cluster_nms(penalty="score")',
            "b, whose new score is low, hardly moves a",
            anyops.weighted_cluster_nms(*scene, penalty="score"),
        ),
        fused("weighted_boxes_fusion", "two models: a, b, c fuse, and g, h; single boxes halve"),
    ]


def main(picture: Path = PICTURE) -> None:
    """Draw the picture."""
    figure = Figure(figsize=(12, 12.4), layout="constrained")
    axes = list(figure.subplots(5, 3).flat)
    for one, panel in zip(axes, panels(), strict=False):
        draw(one, panel)
    draw_legend(axes[-1])
    figure.savefig(picture, dpi=100, metadata={"Software": None}, pil_kwargs={"optimize": True})


def draw(axes: Axes, panel: Panel) -> None:
    """Draw one panel: objects, raw boxes, and what is left of them."""
    start(axes)
    draw_objects(axes)
    axes.set_title(panel.title, fontsize=10.5, family="monospace", pad=4)
    axes.set_xlabel(panel.note, fontsize=10, labelpad=3)
    for number, box in enumerate(BOXES):
        if panel.groups is not None and number not in panel.names:
            rectangle(axes, box, COLORS[panel.groups[number]], linestyle=(0, (4, 2)), linewidth=1.4)
        else:
            rectangle(axes, box, "0.45", linestyle=(0, (1, 2)), linewidth=0.8)
    for name, box, score in reversed(list(zip(panel.names, panel.boxes, panel.scores, strict=True))):
        rectangle(axes, box, COLORS[name], linewidth=2.0, alpha=faded(score))
    for name, box, score in zip(panel.names, panel.boxes, panel.scores, strict=True):
        tag(axes, box, CORNERS[name], f"{NAMES[name]} {score:.2f}", COLORS[name], faded(score))


def draw_legend(axes: Axes) -> None:
    """Say what the lines mean."""
    start(axes)
    axes.spines[:].set_visible(False)
    lines = (
        ("a box that is returned, with its score", {"color": COLORS[0], "linewidth": 2.0}),
        ("the same with a low score", {"color": COLORS[0], "linewidth": 2.0, "alpha": faded(0.2)}),
        ("a raw box", {"color": "0.45", "linewidth": 0.8, "linestyle": (0, (1, 2))}),
        ("suppressed by the box of that colour", {"color": COLORS[0], "linewidth": 1.4, "linestyle": (0, (4, 2))}),
    )
    for number, (text, style) in enumerate(lines):
        y = 8 + 13 * number
        axes.plot([8, 26], [y, y], **style)
        axes.text(31, y, text, fontsize=10, va="center")


def start(axes: Axes) -> None:
    """Set up an empty scene."""
    axes.set(xlim=(0, 132), ylim=(67, 2), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_color("0.8")


def draw_objects(axes: Axes) -> None:
    """Draw what is there."""
    for (x1, y1, x2, y2), shade in zip((*OBJECTS, SMALL), (*["0.88"] * len(OBJECTS), "0.75"), strict=True):
        round_ = "round,pad=0,rounding_size=5"
        axes.add_patch(
            FancyBboxPatch((x1 + 0.5, y1 + 0.5), x2 - x1 - 1, y2 - y1 - 1, boxstyle=round_, fc=shade, ec="0.8", lw=0.6)
        )


def rectangle(axes: Axes, box: np.ndarray, color: str, **style: object) -> None:
    """Draw a box."""
    x1, y1, x2, y2 = box
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor="none", edgecolor=color, **style))


def faded(score: float) -> float:
    """Return the opacity of a box."""
    return float(np.clip(0.12 + 0.95 * score, 0, 1))


def tag(axes: Axes, box: np.ndarray, corner: str, text: str, color: str, alpha: float) -> None:
    """Write a name and a score at a corner of a box."""
    x1, y1, x2, y2 = box
    x, y, horizontal, vertical = {
        "above": (x1, y1 - 2.6, "left", "bottom"),
        "top left": (x1, y1 - 1, "left", "bottom"),
        "top right": (x2, y1 - 1, "right", "bottom"),
        "bottom left": (x1, y2 + 1, "left", "top"),
        "bottom middle": ((x1 + x2) / 2, y2 + 1, "center", "top"),
        "bottom right": (x2, y2 + 1, "right", "top"),
        "middle": ((x1 + x2) / 2, y2 + 1, "center", "top"),
    }[corner]
    style = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7}
    axes.text(
        x,
        y,
        text,
        color=color,
        alpha=max(alpha, 0.6),
        fontsize=9,
        ha=horizontal,
        va=vertical,
        weight="bold",
        bbox=style,
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))

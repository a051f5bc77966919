"""The pictures of docs/wrong_there_right_here.md: the integral, the envelopes, and a crowded scene of rotated boxes.

    python docs/scripts/rotated.py [FOLDER]

It needs matplotlib, and writes to docs/images unless told another folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

import anyops

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = Path(__file__).parents[1] / "images"
FIRST, SECOND, SHARED, AROUND = "#0072b2", "#d55e00", "#009e73", "#999999"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def figure(columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure with its axes in one row, y down as in an image."""
    made = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.set(xticks=[], yticks=[], aspect="equal")
        one.spines[:].set_visible(False)
    return made, list(axes)


def corners(box: np.ndarray) -> np.ndarray:
    """The corners (4, 2) of a rotated box, in order around."""
    return anyops.box_convert(box, "cxcywhr", "polygon")


def outline(axes: Axes, points: np.ndarray, colour: str, **style: object) -> None:
    axes.add_patch(Polygon(points, fill=False, edgecolor=colour, **{"linewidth": 2, **style}))


def filled(axes: Axes, points: np.ndarray, colour: str, alpha: float) -> None:
    axes.add_patch(Polygon(points, facecolor=colour, edgecolor="none", alpha=alpha))


def integral() -> Figure:
    """The boundary of a, the same clamped onto b, and what one edge adds."""
    p, q = 30.0, 18.0
    a, b = np.asarray([14.0, -9.0, 62.0, 26.0, 35.0]), np.asarray([0.0, 0.0, 2 * p, 2 * q, 0.0])
    points, limit = corners(a), np.asarray([p, q])
    edge = np.linspace(0, 1, 400)[:, None]
    path = np.concatenate([s + (e - s) * edge for s, e in zip(points, np.roll(points, -1, axis=0), strict=True)])
    clamped = np.clip(path, -limit, limit)
    made, (both, moved, one) = figure(3, width=13, height=4.2)
    for axes in (both, moved):
        filled(axes, corners(b), SECOND, 0.15)
        outline(axes, corners(b), SECOND)
        axes.set(xlim=(-38, 52), ylim=(36, -46))
    outline(both, points, FIRST)
    filled(both, clamped, SHARED, 0.5)
    both.text(*points[1] + (-9, -1), "a", color=FIRST, fontsize=15, weight="bold")
    both.text(-p + 2, q - 3, "b", color=SECOND, fontsize=15, weight="bold")
    both.set_title("two boxes, in the frame of b")
    outline(moved, points, FIRST, linewidth=1, linestyle=":")
    for start, end in zip(path[::50], clamped[::50], strict=True):
        if np.any(start != end):
            moved.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": AROUND, "linewidth": 0.8})
    filled(moved, clamped, SHARED, 0.3)
    moved.plot(*np.concatenate([clamped, clamped[:1]]).T, color=SHARED, linewidth=3)
    moved.set_title("the boundary of a, clamped onto b:\nit encloses what both share")
    draw_edge(one, p, q)
    return made


def draw_edge(axes: Axes, p: float, q: float) -> None:
    """∫ X dY along one edge: X = clamp(x) over the part with |y| ≤ q."""
    start, end = np.asarray([-44.0, 12.0]), np.asarray([58.0, -21.0])
    at = np.linspace(0, 1, 2000)[:, None]
    x, y = (start + (end - start) * at).T
    within = np.abs(y) <= q
    axes.add_patch(Rectangle((-p, -q), 2 * p, 2 * q, facecolor=SECOND, alpha=0.12))
    axes.add_patch(Rectangle((-p, -q), 2 * p, 2 * q, fill=False, edgecolor=SECOND, linewidth=2))
    axes.plot(x, y, color=FIRST, linewidth=1, linestyle=":")
    clamped = np.clip(x, -p, p)
    axes.fill_betweenx(y[within], 0, clamped[within], color=SHARED, alpha=0.3)
    # Where each piece has its name, beside its middle.
    pieces = (("X = −p", x < -p, (2, 0)), ("X = x", np.abs(x) <= p, (3, 4)), ("X = p", x > p, (2, 4)))
    for name, some, (right, down) in pieces:
        part = np.flatnonzero(some & within)
        axes.plot(clamped[part], y[part], color=SHARED, linewidth=3.5)
        middle = int(part.mean())
        axes.text(clamped[middle] + right, y[middle] + down, name, va="center", color="black", fontsize=11)
    axes.axvline(0, color=AROUND, linewidth=0.8)
    axes.set(xlim=(-40, 50), ylim=(36, -46), title="one edge adds ∫ X dY:\nthree pieces in closed form")


def ships(n: int = 6, each: int = 5, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Ships that lie side by side, aslant, each found several times."""
    rng = np.random.default_rng(seed)
    angle = 38.0
    across = np.asarray([np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])
    centre = np.asarray([50.0, 50.0]) + (np.arange(n) - (n - 1) / 2)[:, None] * 13.0 * across
    centre = centre + rng.normal(0, 1.5, (n, 2))
    objects = np.concatenate((centre, np.tile([62.0, 10.0], (n, 1)), np.full((n, 1), angle)), axis=1)
    objects[:, 2] *= rng.uniform(0.8, 1.05, n)
    found = np.repeat(objects, each, axis=0)
    found = found + rng.normal(0, 1, found.shape) * [1.2, 1.2, 1.5, 0.6, 1.6]
    scores = rng.uniform(0.5, 0.95, len(found))
    return found, scores


def envelopes() -> Figure:
    """Rotated boxes, the envelopes by which pairs are found, and which of these pairs overlap."""
    rng = np.random.default_rng(11)
    boxes = np.stack(
        (
            *rng.uniform(0, 100, (2, 16)),
            rng.uniform(14, 44, 16),
            rng.uniform(4, 10, 16),
            rng.uniform(-90, 90, 16),
        ),
        axis=1,
    )
    around = anyops.box_convert(boxes, "cxcywhr", "xyxy")
    meet = np.triu(anyops.box_iou(around, around) > 0, 1)
    overlap = np.triu(anyops.box_iou(boxes, boxes, fmt="cxcywhr") > 0, 1)
    made, (before, after) = figure(2, width=11, height=5.4)
    for axes in (before, after):
        for number, box in enumerate(boxes):
            filled(axes, corners(box), COLOURS[number % 6], 0.25)
            outline(axes, corners(box), COLOURS[number % 6], linewidth=1.5)
        axes.set(xlim=(-10, 104), ylim=(120, -12))
    for x1, y1, x2, y2 in around:
        before.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=AROUND, linestyle=":"))
    before.set_title(
        f"{len(boxes)} boxes and their envelopes: of {len(boxes) * (len(boxes) - 1) // 2} pairs, {meet.sum()} meet"
    )
    for i, j in zip(*np.nonzero(meet), strict=True):
        style = {"color": "black", "linewidth": 1.8} if overlap[i, j] else {"color": AROUND, "linestyle": "--"}
        after.plot(*boxes[[i, j], :2].T, **style)
    after.set_title(f"compared: {meet.sum()} pairs, of which {overlap.sum()} overlap (black)")
    return made


def crowd() -> Figure:
    """A crowded scene, after NMS of the rotated boxes, and after NMS of their envelopes."""
    boxes, scores = ships()
    around = anyops.box_convert(boxes, "cxcywhr", "xyxy")
    rotated = anyops.nms(boxes, scores, 0.3, fmt="cxcywhr")
    upright = anyops.nms(around, scores, 0.3)
    panels = {
        f"{len(boxes)} boxes found": np.arange(len(boxes)),
        f'nms(fmt="cxcywhr"): {len(rotated)} left': rotated,
        f"nms of their envelopes: {len(upright)} left": upright,
    }
    made, axes = figure(3, width=13, height=4.6)
    for one, (title, some) in zip(axes, panels.items(), strict=True):
        for i in range(len(boxes)):
            outline(one, corners(boxes[i]), AROUND, linewidth=0.6)
        for i in some[::-1]:
            filled(one, corners(boxes[i]), COLOURS[i // 5], 0.25)
            outline(one, corners(boxes[i]), COLOURS[i // 5], linewidth=1.6)
        if some is upright:
            for x1, y1, x2, y2 in around[some]:
                one.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="black", linestyle=":"))
        one.set(xlim=(-2, 102), ylim=(106, -6), title=title)
    return made


PICTURES: dict[str, Callable[[], Figure]] = {
    "rotated-integral": integral,
    "rotated-envelopes": envelopes,
    "rotated-crowd": crowd,
}


def main(folder: Path = IMAGES) -> None:
    """Draw all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        draw().savefig(folder / f"{name}.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

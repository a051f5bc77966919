"""The pictures of the guides to boxes, batch norm, k-means and logistic regression.

    python docs/scripts/guides.py [FOLDER]

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
from matplotlib.patches import Rectangle

import anyops

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = Path(__file__).parents[1] / "images"
FIRST, SECOND, AROUND = "#0072b2", "#d55e00", "#999999"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")

PAIRS = {
    "the same": ((20, 20, 80, 70), (20, 20, 80, 70)),
    "shifted": ((20, 20, 70, 70), (35, 30, 85, 80)),
    "inside": ((15, 15, 85, 85), (40, 40, 70, 60)),
    "other shape": ((20, 35, 90, 65), (40, 10, 70, 90)),
    "touching": ((10, 30, 50, 70), (50, 30, 90, 70)),
    "apart": ((5, 10, 35, 40), (65, 60, 95, 90)),
}
KINDS = ("iou", "iof", "ios", "giou", "diou", "ciou")


def figure(columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure with its axes in one row."""
    made = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return made, list(axes)


def overlaps() -> Figure:
    """Six pairs, and what each kind of overlap says of them."""
    made, axes = figure(len(PAIRS), width=13, height=4.1)
    for one, (name, (a, b)) in zip(axes, PAIRS.items(), strict=True):
        both = np.asarray([a, b], dtype=float)
        low, high = both[:, :2].min(axis=0), both[:, 2:].max(axis=0)
        one.add_patch(Rectangle(low, *(high - low), fill=False, edgecolor=AROUND, linestyle=":", linewidth=1.5))
        for (x1, y1, x2, y2), colour in zip(both, (FIRST, SECOND), strict=True):
            one.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=colour, edgecolor=colour, alpha=0.35))
            one.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2))
        said = [f"{kind:5}{anyops.box_iou(both[0], both[1], kind=kind, pairwise=False).item():6.2f}" for kind in KINDS]
        one.set(xlim=(0, 101), ylim=(101, -1), xticks=[], yticks=[], aspect="equal", title=name)
        one.spines[:].set_visible(False)
        one.set_xlabel("\n".join(said), family="monospace", fontsize="large")
    return made


def batch_norm() -> Figure:
    """Three channels before and after, and the running mean as batches come."""
    rng = np.random.default_rng(0)
    centre, spread = np.asarray([-4.0, 0.0, 6.0]), np.asarray([0.5, 2.0, 1.0])
    made, (before, after, state) = figure(3, width=12, height=3.4)
    mean, variance, means = np.zeros(3), np.ones(3), [np.zeros(3)]
    for _ in range(40):
        x = centre + spread * rng.normal(size=(256, 3))
        y, mean, variance = anyops.batch_norm(x, mean, variance, training=True)
        means.append(mean)
    for channel in range(3):
        for one, values in ((before, x), (after, y)):
            one.hist(values[:, channel], bins=25, color=COLOURS[channel], histtype="step", linewidth=2)
        state.plot([m[channel] for m in means], color=COLOURS[channel], label=f"channel {channel}")
        state.axhline(centre[channel], color=COLOURS[channel], linestyle=":")
    before.set(title="a batch of three channels", yticks=[])
    after.set(title="the same, normalised", yticks=[], xlim=(-4, 4))
    state.set(title="running mean, momentum 0.9", xlabel="batches")
    state.legend(frameon=False, loc="center right")
    return made


def blobs() -> np.ndarray:
    rng = np.random.default_rng(4)
    centre = np.asarray([[-3, -2], [0, 2.5], [3.5, -1.5], [3, 3], [-3.5, 2]], dtype=float)
    return np.concatenate(
        [c + s * rng.normal(size=(150, 2)) for c, s in zip(centre, (1, 0.7, 0.8, 0.6, 0.9), strict=True)]
    )


def kmeans() -> Figure:
    """A start, two steps and the fixed point, above what is closest to each centre."""
    x = blobs()
    start = anyops.kmeans_plusplus(x, 5, seed=3).centers
    once = anyops.kmeans_step(x, start).centers
    found = anyops.kmeans(x, 5, init=start)
    shown = {
        "k-means++": start,
        "one step": once,
        f"the fixed point, {found.n_iter} steps": found.centers,
    }
    made, axes = figure(3, width=12, height=3.9)
    side = np.linspace(-6, 6, 241)
    plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    for one, (name, centers) in zip(axes, shown.items(), strict=True):
        regions = anyops.kmeans_assign(plane, centers).labels.reshape(241, 241)
        labels, distances = anyops.kmeans_assign(x, centers)
        levels = np.arange(6) - 0.5
        one.contourf(side, side, regions, levels=levels, colors=COLOURS, alpha=0.18)
        one.scatter(*x.T, s=5, c=[COLOURS[i] for i in labels])
        one.scatter(*centers.T, s=90, marker="X", c="black", edgecolors="white")
        one.set(xticks=[], yticks=[], aspect="equal", title=f"{name}\nΣ d = {distances.sum():.0f}")
    return made


def logistic() -> Figure:
    """Probabilities of two classes with two penalties, and which of three classes is likeliest."""
    x, labels = blobs(), np.repeat(np.arange(5), 150)
    side = np.linspace(-6, 6, 241)
    plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    made, axes = figure(3, width=12, height=3.9)
    upper = (labels % 2 == 1).astype(np.int32)
    for one, l2 in zip(axes, (0.0, 300.0), strict=False):
        found = anyops.logistic_regression(x, upper, l2=l2)
        p = anyops.logistic_predict_proba(plane, found.coef, found.intercept).reshape(241, 241)
        one.contourf(side, side, p, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
        one.contour(side, side, p, levels=[0.5], colors="black")
        one.scatter(*x.T, s=5, c=[COLOURS[i] for i in upper])
        one.set_title(f"two classes, l2 = {l2:g}\nmean loss {found.loss:.3f}")
    three = labels < 3
    found = anyops.logistic_regression(x[three], labels[three])
    p = anyops.logistic_predict_proba(plane, found.coef, found.intercept)
    axes[2].contourf(
        side, side, p.argmax(axis=1).reshape(241, 241), levels=np.arange(4) - 0.5, colors=COLOURS[:3], alpha=0.25
    )
    axes[2].scatter(*x[three].T, s=5, c=[COLOURS[i] for i in labels[three]])
    axes[2].set_title(f"three classes\nmean loss {found.loss:.3f}")
    for one in axes:
        one.set(xticks=[], yticks=[], aspect="equal")
    return made


PICTURES: dict[str, Callable[[], Figure]] = {
    "overlaps": overlaps,
    "batch-norm": batch_norm,
    "kmeans": kmeans,
    "logistic": logistic,
}


def main(folder: Path = IMAGES) -> None:
    """Draw all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        draw().savefig(folder / f"{name}.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

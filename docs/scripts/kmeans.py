"""The picture of docs/kmeans.md: clusters, and how inertia and the centres settle.

    python docs/scripts/kmeans.py [PNG]

It needs matplotlib, and writes docs/images/kmeans-convergence.png unless told another name.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import anyops

PICTURE = Path(__file__).parents[1] / "images" / "kmeans-convergence.png"
K = 7
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f")
STARTS = {"k-means++": ("#0072b2", "o"), "k-means||": ("#d55e00", "s"), "random": ("#009e73", "^")}


def samples() -> np.ndarray:
    """Groups of different size and shape, two of which touch."""
    rng = np.random.default_rng(4)
    middles = np.asarray([[0, 0], [5, 1], [2.2, 4.5], [7.5, 5.5], [-3.5, 4], [9.5, 1], [4.4, 8]])
    shapes = rng.uniform(0.35, 1.0, (K, 2))
    counts = rng.integers(120, 420, K)
    return np.concatenate([m + s * rng.normal(size=(n, 2)) for m, s, n in zip(middles, shapes, counts, strict=True)])


def history(x: np.ndarray, init: str) -> tuple[list[tuple[int, float, float]], anyops.KMeansResult]:
    """(iteration, inertia, shift) of each iteration from one start, and the result."""
    seen: list[tuple[int, float, float]] = []
    result = anyops.kmeans(x, K, init=init, n_init=1, tol=0, seed=3, callback=lambda *step: seen.append(step))
    return seen, result


def draw() -> bytes:
    """The picture as a PNG."""
    x = samples()
    figure = Figure(figsize=(11, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    runs = {init: history(x, init) for init in STARTS}
    found = runs["k-means++"][1]
    for j in range(K):
        left.scatter(*x[found.labels == j].T, s=7, color=COLOURS[j], linewidths=0, alpha=0.7)
    left.scatter(*found.centers.T, s=130, color="black", marker="X", edgecolors="white", linewidths=1.2)
    left.set_title(f"kmeans(x, {K}, seed=3): inertia {found.inertia:,.0f}", loc="left", fontsize="medium")
    left.set_aspect("equal")
    left.set(xticks=[], yticks=[])
    for init, (colour, marker) in STARTS.items():
        seen, result = runs[init]
        inertia = [step[1] for step in seen]
        label = f"{init}: {result.n_iter} iterations"
        right.plot([step[0] for step in seen], inertia, color=colour, marker=marker, markersize=5, label=label)
    right.set_title("Inertia by the centres of each iteration", loc="left", fontsize="medium")
    right.set(xlabel="iteration", yscale="log")
    right.yaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
    right.yaxis.set_minor_formatter(lambda v, _: f"{v:,.0f}")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.grid(color="#dddddd", which="both", linewidth=0.6)
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False)
    png = io.BytesIO()
    figure.savefig(png, metadata={"Software": None})
    return png.getvalue()


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else PICTURE).write_bytes(draw())

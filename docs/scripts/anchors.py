"""The picture of docs/anchors.md: anchors of the boxes that a made-up street holds.

    python docs/scripts/anchors.py [PNG]

It needs matplotlib, typer and rich, and writes docs/images/anchors.png unless told another name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import anyops
from anyops.cli.scatter import draw_anchors

PICTURE = Path(__file__).parents[1] / "images" / "anchors.png"
# Width by height in metres, how the logarithm of either varies, and how many of it there are.
THINGS = (
    ((0.55, 1.7), 0.14, 5_000),  # people
    ((1.8, 1.5), 0.12, 3_500),  # cars from the front
    ((4.4, 1.5), 0.16, 2_500),  # cars from the side
    ((2.6, 3.2), 0.12, 700),  # lorries from the front
    ((9.0, 3.2), 0.22, 500),  # buses from the side
    ((0.35, 0.9), 0.12, 1_800),  # traffic lights
)


def street(seed: int = 0) -> np.ndarray:
    """Widths and heights in pixels of what is at random distances from a camera, in images of 640 × 480."""
    rng = np.random.default_rng(seed)
    parts = []
    for size, spread, count in THINGS:
        metres = np.asarray(size) * np.exp(rng.normal(0, spread, (count, 2)))
        distance = 4 + 60 * rng.beta(1.2, 2.2, (count, 1))
        parts.append(metres * 620 / distance)
    return np.clip(np.concatenate(parts), 2, [640, 480])


def draw() -> bytes:
    """The picture as a PNG."""
    wh = street()
    found = anyops.anchor_boxes(wh, 9, seed=0)
    labels, _ = anyops.kmeans_assign(wh, found.anchors, metric="iou")
    figures = f"mean IoU {found.mean_iou:.3f}, best possible recall {found.best_possible_recall:.4f}"
    return draw_anchors(wh, labels, found.anchors, f"9 anchors: {figures}", "pixels")


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else PICTURE).write_bytes(draw())

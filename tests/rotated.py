"""Overlaps of rotated boxes in other libraries and here, beside arithmetic with 40 digits; drives a page of the docs.

    python -m tests.rotated > docs/wrong_there_right_here.md    the page
    python -m tests.rotated --record    ask torchvision, OpenCV and anyops for many pairs, and keep the worst answers

`--record` needs torchvision, supervision and opencv-python-headless, as `nox -s dropin` installs them. The record,
tests/vectors/rotated.json, holds the pair of each family on which each library is farthest off. Tests hold anyops to
the exact value of all of them, and where the others are installed, them to what was recorded.
"""

from __future__ import annotations

import datetime
import json
import math
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import anyops
from tests import reference
from tests.boxes.test_regions import families

RECORD = Path(__file__).with_name("vectors") / "rotated.json"
COUNT, SEED = 150, 1  # pairs of a family
PACKAGES = ("torchvision", "supervision", "opencv-python-headless")

Box = tuple[float, ...]
# Overlaps that need no arithmetic; the name of each, its boxes, and what is right.
KNOWN: tuple[tuple[str, Box, Box, float], ...] = (
    ("a box, and itself with sides swapped and turned by 90°", (0, 0, 100, 50, 0), (0, 0, 50, 100, 90), 1.0),
    ("a box, and a quarter of it", (10, 20, 2, 1, 11), (10, 20, 0.5, 1, 11), 0.25),
    ("a box, and itself turned by 180°", (0, 0, 30, 20, 17), (0, 0, 30, 20, -163), 1.0),
    ("a box of 2e−7 × 1e−7, and itself", (0, 0, 2e-7, 1e-7, 5), (0, 0, 2e-7, 1e-7, 5), 1.0),
    *(
        (
            f"a box, and its own half, at {t}°",
            (0, 0, 100, 50, t),
            (25 * math.cos(math.radians(t)), -25 * math.sin(math.radians(t)), 50, 50, t),
            0.5,
        )
        for t in (2, 3, 5, 30)
    ),
)


def torchvision_iou(dtype: str) -> Any:
    def overlaps(a: np.ndarray, b: np.ndarray) -> list[float]:
        import torch
        from torchvision.ops import box_iou

        pairs = zip(*(torch.tensor(x, dtype=getattr(torch, dtype)) for x in (a, b)), strict=True)
        return [float(box_iou(p[None], q[None], fmt="cxcywhr")) for p, q in pairs]

    return overlaps


def supervision_iou(a: np.ndarray, b: np.ndarray) -> list[float]:
    """By OpenCV's intersectConvexConvex, of four corners."""
    import supervision

    p, q = (anyops.box_convert(x, "cxcywhr", "xyxyxyxy").reshape(-1, 1, 4, 2) for x in (a, b))
    return [float(supervision.oriented_box_iou_batch(one, other)[0, 0]) for one, other in zip(p, q, strict=True)]


def anyops_iou(dtype: str) -> Any:
    def overlaps(a: np.ndarray, b: np.ndarray) -> list[float]:
        return anyops.box_iou(a.astype(dtype), b.astype(dtype), fmt="cxcywhr", pairwise=False).tolist()

    return overlaps


# By name: who is asked, and the dtype in which it is given the boxes.
LIBRARIES = {
    "torchvision, float32": (torchvision_iou("float32"), "float32"),
    "torchvision, float64": (torchvision_iou("float64"), "float64"),
    "OpenCV, through supervision": (supervision_iou, "float64"),
    "anyops, float32": (anyops_iou("float32"), "float32"),
    "anyops, float64": (anyops_iou("float64"), "float64"),
}
OURS = tuple(name for name in LIBRARIES if name.startswith("anyops"))


def exact(a: np.ndarray, b: np.ndarray, dtype: str) -> list[float]:
    """IoU of pairs as a dtype holds them."""
    found = []
    for p, q in zip(*(x.astype(dtype).astype(float).tolist() for x in (a, b)), strict=True):
        shared = reference.shared_area(reference.rotated_corners(p), reference.rotated_corners(q))
        sizes = (reference.mpf(x[2]) * reference.mpf(x[3]) for x in (p, q))
        found.append(reference.region_overlap(shared, *sizes, "iou"))
    return found


def ask(name: str, pairs: list[dict[str, Any]]) -> list[float]:
    """What a library answers for recorded pairs."""
    overlaps, _ = LIBRARIES[name]
    return overlaps(*(np.array([pair[side] for pair in pairs], np.float64) for side in ("a", "b")))


def missing() -> str | None:
    """Why the other libraries cannot be asked here, or None."""
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            return f"{name} is not installed"
    return None


def record() -> None:
    """Ask all libraries for all pairs, and keep the worst answer of each in each family."""
    known = [{"name": name, "a": a, "b": b, "right": right, "gives": {}} for name, a, b, right in KNOWN]
    for library in LIBRARIES:
        for pair, answer in zip(known, ask(library, known), strict=True):
            pair["gives"][library] = answer
    worst = []
    for family, (a, b) in families(COUNT, SEED).items():
        right = {dtype: np.array(exact(a, b, dtype)) for dtype in ("float32", "float64")}
        for library, (overlaps, dtype) in LIBRARIES.items():
            got = np.array(overlaps(a, b))
            i = int(np.argmax(np.abs(got - right[dtype])))
            worst.append(
                {
                    "family": family,
                    "library": library,
                    "a": a[i].tolist(),
                    "b": b[i].tolist(),
                    "right": float(right[dtype][i]),
                    "gives": float(got[i]),
                }
            )
        print(family, [f"{abs(w['gives'] - w['right']):.1e}" for w in worst[-len(LIBRARIES) :]], file=sys.stderr)
    found = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "count": COUNT,
        "known": known,
        "worst": worst,
    }
    RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def load() -> dict[str, Any]:
    """The record."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


if __name__ == "__main__":
    record() if "--record" in sys.argv[1:] else sys.stdout.write(render())

"""Overlaps of rotated boxes in other libraries and in anyops, compared with 40-digit arithmetic; for a docs page.

    python -m tests.rotated > docs/wrong_there_right_here.md    the page
    python -m tests.rotated --record    run torchvision, OpenCV and anyops on many pairs, and record the worst answers

`--record` needs torchvision, supervision and opencv-python-headless, as `nox -s dropin` installs them. The record,
tests/vectors/rotated.json, has the pair of each family on which each library is farthest off. Tests compare anyops with
the exact values of all of them, and the other libraries, if installed, with their recorded answers.
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


def along(far: float, degrees: float) -> tuple[float, float]:
    """The point at a distance along the width of a box around the origin."""
    return far * math.cos(math.radians(degrees)), -far * math.sin(math.radians(degrees))


# Overlaps that need no arithmetic: name, boxes, and the right value.
KNOWN: tuple[tuple[str, Box, Box, float], ...] = (
    ("a box, and itself with sides swapped and turned by 90°", (0, 0, 100, 50, 0), (0, 0, 50, 100, 90), 1.0),
    ("a box, and a quarter of it", (10, 20, 2, 1, 11), (10, 20, 0.5, 1, 11), 0.25),
    ("a box, and itself turned by 180°", (0, 0, 30, 20, 17), (0, 0, 30, 20, -163), 1.0),
    ("a box of 2e−7 × 1e−7, and itself", (0, 0, 2e-7, 1e-7, 5), (0, 0, 2e-7, 1e-7, 5), 1.0),
    *(
        (f"a box, and its {side} half, at {t}°", (0, 0, 100, 50, t), (*along(25 * way, t), 50, 50, t), 0.5)
        for side, way, t in (("right", 1, 4), ("right", 1, 17), ("left", -1, 62), ("left", -1, 64))
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
    """By OpenCV's intersectConvexConvex, of four corners: the last bit of one changes the answers."""
    import supervision

    around = ([reference.rotated_corners(box) for box in boxes.tolist()] for boxes in (a, b))
    p, q = (np.array(corners, np.float64).reshape(-1, 1, 4, 2) for corners in around)
    return [float(supervision.oriented_box_iou_batch(one, other)[0, 0]) for one, other in zip(p, q, strict=True)]


def anyops_iou(dtype: str) -> Any:
    def overlaps(a: np.ndarray, b: np.ndarray) -> list[float]:
        return anyops.box_iou(a.astype(dtype), b.astype(dtype), fmt="cxcywhr", pairwise=False).tolist()

    return overlaps


# By name: the function, and the dtype of its boxes.
LIBRARIES = {
    "torchvision, float32": (torchvision_iou("float32"), "float32"),
    "torchvision, float64": (torchvision_iou("float64"), "float64"),
    "OpenCV, through supervision": (supervision_iou, "float64"),
    "anyops, float32": (anyops_iou("float32"), "float32"),
    "anyops, float64": (anyops_iou("float64"), "float64"),
}
OURS = tuple(name for name in LIBRARIES if name.startswith("anyops"))


def exact(a: np.ndarray, b: np.ndarray, dtype: str) -> list[float]:
    """IoU of pairs as rounded to a dtype."""
    found = []
    for p, q in zip(*(x.astype(dtype).astype(float).tolist() for x in (a, b)), strict=True):
        shared = reference.shared_area(reference.rotated_corners(p), reference.rotated_corners(q))
        sizes = (reference.mpf(x[2]) * reference.mpf(x[3]) for x in (p, q))
        found.append(reference.region_overlap(shared, *sizes, "iou"))
    return found


def ask(name: str, pairs: list[dict[str, Any]]) -> list[float]:
    """A library's answers for recorded pairs."""
    overlaps, _ = LIBRARIES[name]
    return overlaps(*(np.array([pair[side] for pair in pairs], np.float64) for side in ("a", "b")))


def missing() -> str | None:
    """Why the other libraries cannot be run here, or None."""
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            return f"{name} is not installed"
    return None


def record() -> None:
    """Run all libraries on all pairs, and record the worst answer of each in each family."""
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


FAMILIES = {
    "any": "near each other, sides 5 to 60",
    "equal": "a box and itself",
    "nearly equal": "all five numbers differ by about a millionth",
    "thin": "a thousand times as long as wide, nearly parallel",
    "sides swapped, +90": "the same box, described otherwise",
    "+180": "the same",
    "+3600": "the same, after ten turns",
    "far": "as any, at 200 000, 200 000",
    "millimetres": "sides of 0.005 to 0.06",
    "tiny": "sides of 5e−9 to 6e−8",
    "along a side": "a box, and itself moved along its own side",
    "contained": "a smaller box within, turned by 33°",
    "normalised": "coordinates in [0, 1]",
    "apart": "no overlap",
}


def render() -> str:
    """The page."""
    known = load()
    theirs = [name for name in LIBRARIES if name not in OURS]
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    lines = [
        "# Rotated boxes: wrong there, right here",
        "",
        "<!-- Generated by `python -m tests.rotated > docs/wrong_there_right_here.md`. -->",
        "",
        "Overlaps of rotated boxes are between 0 and 1. The libraries compared here are wrong by up to 1, for ordinary boxes too. They search for the corners of",
        "the intersection, sort them, and use absolute tolerances to decide whether two nearly equal points are the same. This fails for boxes that share a side,",
        "an angle or all corners, as detections of one object often do. The same failures are reported for",
        "detectron2 ([#4889](https://github.com/facebookresearch/detectron2/issues/4889)) and mmcv",
        "([#2621](https://github.com/open-mmlab/mmcv/issues/2621), [#2933](https://github.com/open-mmlab/mmcv/issues/2933),",
        "[#2952](https://github.com/open-mmlab/mmcv/issues/2952)), which were not run for this page.",
        "",
        '`anyops.box_iou(fmt="cxcywhr")` searches for no corners, sorts nothing and has no tolerance: [how](#why-nothing-is-sorted).',
        "",
        f"Measured on {known['date']} with {versions}, on a CPU.",
        "`nox -s dropin` installs these libraries and checks their answers again. The tests of anyops always check its own answers against the right values.",
        "",
        "## Pairs with an obvious answer",
        "",
        "Boxes are given as centre, width, height, degrees. Errors above 1e−3 are bold. For the halves, the table shows angles at which one of the libraries fails;",
        "at other angles, such as 2° and 3°, all libraries are right.",
        "",
        f"| boxes | IoU | {' | '.join(theirs)} | {' | '.join(OURS)} |",
        "|---|---" + "|---" * len(LIBRARIES) + "|",
    ]
    for pair in known["known"]:
        cells = [_answer(pair["gives"][name], pair["right"]) for name in (*theirs, *OURS)]
        lines.append(
            f"| {pair['name']}: {_box(pair['a'])} and {_box(pair['b'])} | {pair['right']:g} | {' | '.join(cells)} |"
        )
    lines += [
        "",
        "The first pair in Python:",
        "",
        "```python",
        "import numpy as np, anyops",
        "",
        "a, b = np.asarray([0.0, 0, 100, 50, 0]), np.asarray([0.0, 0, 50, 100, 90])",
        'anyops.box_iou(a, b, fmt="cxcywhr", pairwise=False)  # 1.0',
        "```",
        "",
        "```python",
        "import torch",
        "import torchvision",
        "",
        "x, y = torch.from_numpy(a)[None], torch.from_numpy(b)[None]",
        'torchvision.ops.box_iou(x, y, fmt="cxcywhr")  # 0.6',
        "```",
        "",
        "`cv2.dnn.NMSBoxesRotated` also treats a box inside another one as the same box, whatever their sizes: the IoU of (0, 0, 100, 50, 0) and",
        "(0, 0, 20, 10, 0) is 0.04, and at a threshold of 0.5 it keeps only one of them.",
        "",
        "## Families of pairs",
        "",
        f"The largest error among {known['count']} pairs of each family. The right values are computed with 40 digits from the boxes after rounding to the dtype.",
        "",
        f"| pairs | | {' | '.join(theirs)} | {' | '.join(OURS)} |",
        "|---|---" + "|---" * len(LIBRARIES) + "|",
    ]
    for family, words in FAMILIES.items():
        errors = {
            pair["library"]: abs(pair["gives"] - pair["right"]) for pair in known["worst"] if pair["family"] == family
        }
        lines.append(f"| {family} | {words} | {' | '.join(_error(errors[name]) for name in (*theirs, *OURS))} |")
    lines += [
        "",
        "## Why nothing is sorted",
        "",
        "![Two boxes; the boundary of one, clamped onto the other; what one edge adds](images/rotated-integral.png)",
        "",
        "Let p and q be half the width and half the height of b. In the frame of b, let X = clamp(x, −p, p) and Y = clamp(y, −q, q). The clamp maps the plane",
        "onto b and does not move the points inside b, so the boundary of a has the same winding number around each of these before and after the clamp. By Green's theorem",
        "the area of the intersection is therefore ∮ X dY along the boundary of a, a sum over its four edges. On an edge, X is first −p, then x, then p (or the",
        "reverse), and the integral of each piece has a closed form. Edges that lie on each other, equal corners and parallel sides are not special cases. Every",
        "step is differentiable, and the same source runs on NumPy, torch, JAX and CuPy, under jit and vmap.",
        "",
        "![Rotated boxes with their envelopes, and the pairs that are compared](images/rotated-envelopes.png)",
        "",
        "NMS does not compare all pairs. Two boxes can overlap only if their envelopes do. An envelope is the smallest axis-aligned box that contains a box. A [sweep](how_nms_works.md) finds",
        'these pairs, and its memory grows with their number: `nms(boxes, scores, 0.5, fmt="cxcywhr")` never builds an N × N matrix.',
        "",
        "![A crowded scene: all boxes, NMS of rotated boxes, NMS of their envelopes](images/rotated-crowd.png)",
        "",
        "Six ships side by side. NMS of the rotated boxes keeps one box per ship. NMS of their envelopes loses three ships, because envelopes of neighbours overlap",
        "by more than the threshold, 0.3.",
    ]
    return "\n".join(lines) + "\n"


def _box(box: list[float]) -> str:
    return f"({', '.join(f'{x:.4g}'.replace('e-07', 'e−7').replace('-', '−') for x in box)})"


def _answer(got: float, right: float) -> str:
    text = f"{got:.4f}".rstrip("0").rstrip(".")
    return f"**{text}**" if abs(got - right) > 1e-3 else text


def _error(error: float) -> str:
    text = f"{error:.0e}".replace("e-0", "e−").replace("e-", "e−") if error and error < 0.01 else f"{error:.2g}"
    return f"**{text}**" if error > 1e-3 else text


if __name__ == "__main__":
    record() if "--record" in sys.argv[1:] else sys.stdout.write(render())

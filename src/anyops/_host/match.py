"""The matching of weighted boxes fusion, in NumPy and Python: which fused box each box joins.

A fused box moves whenever a box joins it, so the matching is sequential, and too fine-grained for array operations.
These find the few pairs that can matter beforehand. 1 − IoU is a metric, so for a fused box F, its place A when pairs
were searched, and any box j,

    IoU(F, j) <= IoU(A, j) + (1 − IoU(F, A)).

As long as 1 − IoU(F, A) is within a margin, only boxes whose overlap with A is above t − margin can join F. These are a
sparse graph of boxes that do not move. The few fused boxes that leave their margin are compared with all later boxes.
Until F moves, its overlaps are the overlaps of the pairs, so a pair with an overlap up to t matters only after the
first box that can move F.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from .._array.backends import to_host
from .._array.host import Host
from .._array.mode import Mode, mode_of
from .._array.namespace import Array, default_int, device
from .._array.segments import segment_min
from ..boxes.aligned import overlap
from ..boxes.geometry import Regions
from ..boxes.regions import Measure
from ..suppression.graph import compared
from ..suppression.overlaps import Edges, Scene, Strips, Sweep, collected, overlapping_between, overlapping_within

# Margin: how far a fused box may move from its place, as 1 − IoU; or half the threshold if that is less.
MARGIN = 0.25
# A bound for the rounding of sums and differences of overlaps.
ROUNDING = 1e-9
# Number of boxes up to which all pairs are compared, because that takes fewer calls.
ALL_MATCHED = 128
# Boxes are matched in parts, so that most boxes that fuse are not compared with each other. The first part is 1 / SHARE
# of all boxes. If all the others as one part would give fewer than SPARSE pairs per box, they are the last part.
SHARE, SPARSE = 8, 4
# Largest number of pairs of a part: in all, or per box of the part or fused box.
PAIRS, PAIRS_PER_BOX = 1 << 15, 16

# Scores are clipped to this range, so that the quotient of any two is finite. Scores of 0 have equal weights among
# themselves and negligible ones beside others; infinite scores outweigh all others.
SMALLEST, LARGEST = 1e-300, 1e300


class Fused(NamedTuple):
    """A fused box that has moved. Once it leaves its margin, the boxes that may join it are searched again."""

    x1: float
    y1: float
    x2: float
    y2: float
    area: float
    weight: float  # sum of its boxes' scores, in units of its founder's score
    distance: float  # 1 − IoU with `anchor`
    anchor: list[float]  # its place when its pairs were searched


def matched(mode: Mode, ranked: Any, threshold: float) -> Array:
    """Rank of the founder of the fused box that the box of each rank joins; its own rank if it founds one."""
    boxes, scores, labels, *_, proper, _ = map(to_host, ranked)
    founders, some = np.arange(scores.shape[0]), proper.nonzero()[0]
    boxes, scores = (x.take(some, axis=0).astype(np.float64) for x in (boxes, scores))
    with np.errstate(over="ignore", invalid="ignore"):
        founders[some] = some.take(_Matching(boxes, scores, labels.take(some), threshold).run())
    if mode.padded:
        return founders
    return mode.xp.asarray(founders, dtype=default_int(mode.xp, ranked.scores), device=device(ranked.scores))


class _Matching:
    """State of a matching; `slots` is the founder of each box matched so far, see `run`.

    For boxes (N, 4) in float64, by descending score, with positive sides and finite areas.
    """

    def __init__(self, boxes: Host, scores: Host, labels: Host, threshold: float):
        self.labels, self.threshold = labels, threshold
        self.mode = mode_of(boxes=boxes)
        self.margin = min(MARGIN, threshold / 2)
        x1, y1, x2, y2 = boxes.T
        lowest = max(threshold - self.margin - ROUNDING, 0.0)
        columns = Regions(np.stack((x1, y1, x2, y2, (x2 - x1) * (y2 - y1))))
        self.scene = Scene(columns, np.arange(boxes.shape[0]), labels, Measure(), lowest)
        self.boxes, self.scores = boxes.tolist(), scores.clip(SMALLEST, LARGEST).tolist()
        self.slots = list(range(boxes.shape[0]))
        self.moved: dict[int, Fused] = {}

    def run(self) -> list[int]:
        """Match all boxes; return the rank of each box's founder."""
        xp, n = self.mode.xp, self.scene.size
        strips = Strips.of(xp, self.scene) if n > ALL_MATCHED else None
        if strips is None or not bool(strips.fits(xp)):
            size, strips = ALL_MATCHED, None
        else:
            size = max(n // SHARE, 4 * ALL_MATCHED)
        start = 0
        while start < n:
            stop = min(start + size, n)
            pairs = self._pairs(strips, start, stop)
            if pairs is None:
                size //= 2
                continue
            self._match(start, stop, *pairs)
            if strips is not None and len(pairs[1]) * (n - stop) < SPARSE * (stop - start) ** 2:
                size = n - stop
            start = stop
        return self.slots

    def _pairs(self, strips: Strips | None, start: int, stop: int) -> tuple[list[int], list[int], list[float]] | None:
        """Pairs of a founder, or a box that may become one, and a box from `start` to `stop`; None if too many.

        Returned as the start of each box's pairs, their founders and their overlaps.
        """
        xp, n = self.mode.xp, self.scene.size
        part = self.scene.part(start, stop)
        fused = self.scene.take(xp, np.asarray([k for k in range(start) if self.slots[k] == k], dtype=np.intp))
        found: Iterable[Edges]
        if strips is None:
            found = [compared(xp, part, part), compared(xp, fused, part)]
        else:
            sweep = Sweep.of(xp, strips, part)
            found = overlapping_within(self.mode, sweep)
            if start > 0:
                found = chain(found, overlapping_between(self.mode, Sweep.of(xp, strips, fused), sweep))
        room = max(PAIRS, PAIRS_PER_BOX * (fused.size + part.size)) if part.size > ALL_MATCHED else math.inf
        parts = collected(found, room)
        if parts is None:
            return None
        edges = Edges.join(xp, part, parts)
        hit = edges.forth > self.threshold
        over = edges.map(lambda x: x[hit])
        first = segment_min(xp, over.worse, over.better, np.full_like(self.scene.ranks, n))
        some = hit | (edges.worse > first.take(edges.better))
        better, worse, over = (x[some] for x in edges[:3])
        order = (worse * n + better).argsort()
        starts = worse.take(order).searchsorted(np.arange(start, stop + 1))
        return starts.tolist(), better.take(order).tolist(), over.take(order).tolist()

    def _match(self, start: int, stop: int, starts: list[int], founders: list[int], overlaps: list[float]) -> None:
        """Match the boxes from `start` to `stop`."""
        boxes, slots, moved = self.boxes, self.slots, self.moved
        later: dict[int, list[int]] = {}  # for each box, fused boxes that left their margin and that it may join
        part: _Sorted | None = None
        for k, (first, last) in enumerate(pairwise(starts), start):
            if first == last and k not in later:
                continue
            box, best, found = boxes[k], self.threshold, -1
            for i in range(first, last):
                f = founders[i]
                if slots[f] != f:
                    continue
                over = overlaps[i]
                if f in moved:
                    if over + moved[f].distance + ROUNDING < best:
                        continue
                    over = _iou(*moved[f][:5], box)
                if over > best or (over == best and f < found):
                    best, found = over, f
            for f in later.get(k, ()):
                over = _iou(*moved[f][:5], box)
                if over > best or (over == best and f < found):
                    best, found = over, f
            if found >= 0:
                slots[k] = found
                if self._join(found, k):
                    part = part or _Sorted.of(self.scene, start, stop)
                    for j in part.near(moved[found], self.labels[found]):
                        if j > k:
                            later.setdefault(j, []).append(found)
        if stop < self.scene.size and moved:  # the next pairs are searched at the current places of the fused boxes
            for f, fused in moved.items():
                moved[f] = fused._replace(distance=0.0, anchor=list(fused[:4]))
            self.scene.boxes.columns[:, list(moved)] = np.asarray([fused[:5] for fused in moved.values()]).T

    def _join(self, f: int, k: int) -> bool:
        """Move a fused box towards a box that joins it; tell whether it leaves its margin."""
        a1, b1, a2, b2 = self.boxes[k]
        if f in self.moved:
            x1, y1, x2, y2, _, weight, _, anchor = self.moved[f]
        else:
            x1, y1, x2, y2 = anchor = self.boxes[f]
            weight = 1.0
        added = self.scores[k] / self.scores[f]
        weight += added
        share = added / weight
        x1 += share * (a1 - x1)
        y1 += share * (b1 - y1)
        x2 += share * (a2 - x2)
        y2 += share * (b2 - y2)
        area = (x2 - x1) * (y2 - y1)
        distance = 1 - _iou(x1, y1, x2, y2, area, anchor)
        left = distance > self.margin
        self.moved[f] = Fused(x1, y1, x2, y2, area, weight, distance, [x1, y1, x2, y2] if left else anchor)
        return left


class _Sorted(NamedTuple):
    """A part of a scene, sorted by x1."""

    scene: Scene
    x1: list[float]

    @classmethod
    def of(cls, scene: Scene, start: int, stop: int) -> "_Sorted":
        part = scene.part(start, stop)
        part = part.map(lambda x: x.take(part.boxes.columns[0].argsort(), axis=-1))
        return cls(part, part.boxes.columns[0].tolist())

    def near(self, fused: Fused, label: Any) -> list[int]:
        """Boxes of the part that can join a fused box before it leaves its margin again."""
        x1, x2 = fused.x1, fused.x2
        lowest = self.scene.threshold
        # If the IoU of two boxes is above t, the width of each is more than t times the width of their enclosing box.
        reach = (x2 - x1) / lowest * (1 + ROUNDING) + abs(x2) * 1e-15 if lowest > 0 else math.inf
        near = self.scene.part(bisect_left(self.x1, x2 - reach), bisect_right(self.x1, x2))
        over = overlap(np, Regions(np.asarray(fused[:5])[:, None]), near.boxes, "iou") > lowest
        return near.ranks[over & (near.labels == label)].tolist()


def _iou(ax1: float, ay1: float, ax2: float, ay2: float, area: float, box: list[float]) -> float:
    """IoU of a fused box and a box, with the same rounding as `overlap`."""
    x1, y1, x2, y2 = box
    width = (x2 if x2 < ax2 else ax2) - (x1 if x1 > ax1 else ax1)
    height = (y2 if y2 < ay2 else ay2) - (y1 if y1 > ay1 else ay1)
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((area + (x2 - x1) * (y2 - y1)) - inter)

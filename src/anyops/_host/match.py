"""Which fused box each box joins: the matching of weighted boxes fusion, on the host.

The matching is sequential, for a fused box moves whenever a box joins it: too fine for array operations. What arrays
do beforehand is to find the few pairs that can matter. 1 − IoU is a metric, so for a fused box F that was found at the
place A, and any box j,

    IoU(F, j) <= IoU(A, j) + (1 − IoU(F, A)).

As long as 1 − IoU(F, A) is within a margin, only boxes can join F whose overlap with A is above t − margin: pairs of
boxes that do not move, a sparse graph. A fused box that leaves its margin, which few do, is compared with all that come
later. Until F moves, the overlap of the pair is the answer, so that a pair at or below t matters only behind the first
box that can move F.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import chain, pairwise
from typing import NamedTuple

from .._array.namespace import Array, Namespace
from .._array.segments import segment_min
from .._array.selection import indices_of
from ..boxes.iou import Boxes, overlap
from ..suppression.graph import join
from ..suppression.overlaps import Pairs, Scene, Strips, Sweep, overlapping, searches_between, searches_within, tile

# How far a fused box may move from where its pairs were found; half the threshold where that is less.
MARGIN = 0.25
# More than the rounding of sums and differences of overlaps.
ROUNDING = 1e-9
# Up to this many boxes all are compared with all: that takes fewer calls.
SMALL = 128
# Boxes are matched a part at a time, so that most of those that fuse are not compared with each other: the first part,
# as a share of all; and how many pairs a box may have in one part of all the others for there to be no further parts.
SHARE, SPARSE = 8, 4
# Pairs of one part, altogether or for each of its boxes and the fused ones.
PAIRS, EACH = 1 << 15, 16

# Scores become these, so that a quotient of two exists: those of 0 weigh the same among themselves, and nothing beside
# others, which infinite ones outweigh.
SMALLEST, LARGEST = 1e-300, 1e300


class Fused(NamedTuple):
    """A fused box that has moved. Once it left its margin all that may join it is listed anew, beside the pairs."""

    x1: float
    y1: float
    x2: float
    y2: float
    area: float
    weight: float  # of its boxes, in units of its founder's
    distance: float  # 1 − IoU with where its pairs were found
    anchor: list[float]  # that place


def matched(xp: Namespace, boxes: Array, scores: Array, labels: Array, threshold: float) -> list[int]:
    """Return for each box the number of the one that founded what it joins, its own where it founds.

    Of host arrays in the order of the scores: boxes (N, 4) with positive sides and finite areas, scores (N,) of at
    least 0, labels (N,).
    """
    return _Matching(xp, boxes, xp.clip(scores, SMALLEST, LARGEST), labels, threshold).run()


class _Matching:
    """A matching in the making: `slots` is what `matched` returns, for the boxes that are done."""

    def __init__(self, xp: Namespace, boxes: Array, scores: Array, labels: Array, threshold: float):
        self.xp, self.labels, self.threshold = xp, labels, threshold
        self.margin = min(MARGIN, threshold / 2)
        corners = [boxes[:, c] for c in range(4)]
        columns = xp.stack((*corners, (corners[2] - corners[0]) * (corners[3] - corners[1])))
        lowest = max(threshold - self.margin - ROUNDING, 0.0)
        self.scene = Scene(Boxes(columns), xp.arange(boxes.shape[0]), labels, "iou", lowest)
        self.boxes, self.scores = boxes.tolist(), scores.tolist()
        self.slots = list(range(boxes.shape[0]))
        self.moved: dict[int, Fused] = {}

    def run(self) -> list[int]:
        """Match all boxes, and return the slots."""
        xp, n = self.xp, self.scene.size
        strips = Strips.of(xp, self.scene) if n > SMALL else None
        if strips is None or not bool(strips.fits(xp)):
            size, strips = SMALL, None
        else:
            size = max(n // SHARE, 4 * SMALL)
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
        """Pairs of a fused box, or one that may found it, and a box from `start` to `stop`; None if they are too many.

        As the first pair of each of those boxes, the founders, and the overlaps.
        """
        xp, n = self.xp, self.scene.size
        part = self.scene.map(lambda x: x[..., start:stop])
        fused = self.scene.take(xp, xp.asarray([k for k in range(start) if self.slots[k] == k], dtype=part.ranks.dtype))
        found: Iterable[Pairs]
        if strips is None:
            found = [_compared(xp, part, part), _compared(xp, fused, part)]
        else:
            sweep = Sweep.of(xp, strips, part)
            found = overlapping(xp, sweep.scene, sweep.scene, searches_within(xp, sweep))
            if start > 0:
                before = Sweep.of(xp, strips, fused)
                forth, back = searches_between(xp, before, sweep)
                found = chain(
                    found,
                    overlapping(xp, before.scene, sweep.scene, forth),
                    overlapping(xp, sweep.scene, before.scene, back),
                )
        room = max(PAIRS, EACH * (fused.size + part.size)) if part.size > SMALL else math.inf
        pairs = []
        for some in found:
            pairs.append(some)
            room -= some[0].shape[0]
            if room < 0:
                return None
        better, worse, over = join(xp, (part.ranks[:0], part.ranks[:0], part.boxes.columns[0, :0]), pairs)
        hit = over > self.threshold
        some = indices_of(xp, hit)
        first = segment_min(xp, xp.take(worse, some), xp.take(better, some), xp.full_like(self.scene.ranks, n))
        some = indices_of(xp, hit | (worse > xp.take(first, better)))
        better, worse, over = (xp.take(x, some) for x in (better, worse, over))
        order = xp.argsort(worse * n + better)
        better, worse, over = (xp.take(x, order) for x in (better, worse, over))
        starts = xp.searchsorted(worse, xp.arange(start, stop + 1))
        return starts.tolist(), better.tolist(), over.tolist()

    def _match(self, start: int, stop: int, starts: list[int], founders: list[int], overlaps: list[float]) -> None:
        """Match the boxes from `start` to `stop`."""
        boxes, slots, moved = self.boxes, self.slots, self.moved
        later: dict[int, list[int]] = {}  # of boxes, the fused boxes that left their margin
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
                    part = part or _Sorted.of(self.xp, self.scene, start, stop)
                    for j in part.near(self.xp, moved[found], self.labels[found]):
                        if j > k:
                            later.setdefault(j, []).append(found)
        if stop < self.scene.size and moved:  # the next pairs are found where the fused boxes are now
            for f, fused in moved.items():
                moved[f] = fused._replace(distance=0.0, anchor=list(fused[:4]))
            self.scene.boxes.columns[:, list(moved)] = self.xp.asarray([fused[:5] for fused in moved.values()]).T

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
    """A part of a scene by x1."""

    scene: Scene
    x1: list[float]

    @classmethod
    def of(cls, xp: Namespace, scene: Scene, start: int, stop: int) -> "_Sorted":
        part = scene.map(lambda x: x[..., start:stop])
        part = part.take(xp, xp.argsort(part.boxes.columns[0, :]))
        return cls(part, part.boxes.columns[0, :].tolist())

    def near(self, xp: Namespace, fused: Fused, label: Array) -> list[int]:
        """Boxes of the part that can join a fused box before it leaves its margin again."""
        x1, x2 = fused.x1, fused.x2
        lowest = self.scene.threshold
        # Of two boxes that overlap above a threshold, each spans more than that share of what both span.
        reach = (x2 - x1) / lowest * (1 + ROUNDING) + abs(x2) * 1e-15 if lowest > 0 else math.inf
        near = self.scene.map(lambda x: x[..., bisect_left(self.x1, x2 - reach) : bisect_right(self.x1, x2)])
        over = overlap(xp, Boxes(xp.asarray(fused[:5])[:, None]), near.boxes, "iou") > lowest
        return xp.take(near.ranks, indices_of(xp, over & (near.labels == label))).tolist()


def _compared(xp: Namespace, rows: Scene, columns: Scene) -> Pairs:
    """Return the pairs of a better box in `rows` and a worse one in `columns` that overlap."""
    hit = tile(xp, rows, columns) & (rows.ranks[:, None] < columns.ranks)
    at = indices_of(xp, xp.reshape(hit, (-1,)))
    a, b = rows.take(xp, at // columns.size), columns.take(xp, at % columns.size)
    over = overlap(xp, a.boxes, b.boxes, "iou")
    return a.ranks, b.ranks, over, over


def _iou(ax1: float, ay1: float, ax2: float, ay2: float, area: float, box: list[float]) -> float:
    """IoU of a fused box and a box as `overlap` computes it, to the last bit."""
    x1, y1, x2, y2 = box
    width = (x2 if x2 < ax2 else ax2) - (x1 if x1 > ax1 else ax1)
    height = (y2 if y2 < ay2 else ay2) - (y1 if y1 > ay1 else ay1)
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((area + (x2 - x1) * (y2 - y1)) - inter)

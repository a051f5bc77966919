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

from itertools import chain, pairwise
from typing import Any

from .._array.namespace import Array, Namespace
from .._array.segments import segment_min
from .._array.selection import indices_of
from ..boxes.iou import Boxes, overlap
from .graph import join
from .overlaps import Scene, Strips, Sweep, candidates, overlapping, searches_between, searches_within, tile

# How far a fused box may move from where its pairs were found; half the threshold where that is less.
MARGIN = 0.25
# More than the rounding of sums and differences of overlaps.
ROUNDING = 1e-9
# Up to this many boxes all are compared with all: that takes fewer calls.
SMALL = 256
# Candidates of one graph, altogether or for each box of the scene: beyond, a part of the boxes is matched at a time,
# so that boxes which fuse are not compared with each other.
CANDIDATES, EACH = 1 << 20, 64
# Under a margin this narrow nearly every box that joins makes a comparison with the rest of a part: they are small.
NARROW, PART = 0.1, 1024

# A fused box that has moved is a list, changed in place: its corners, and these.
AREA = 4
WEIGHT = 5  # of all its boxes, in units of its founder's
MOVED = 6  # 1 − IoU with where its pairs were found; 1 once it has left the margin
ANCHOR = 7  # where they were found
Fused = list[Any]


class Matching:
    """A matching in the making: `slots` has for each box the one that founded what it joined, itself if it founded."""

    def __init__(self, xp: Namespace, boxes: Array, scores: Array, labels: Array, threshold: float):
        """Take host arrays in the order of the scores: boxes (N, 4) with positive sides and finite areas."""
        self.xp, self.threshold = xp, threshold
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
        strips = Strips.of(xp, self.scene, self.scene.threshold) if n > SMALL else None
        if strips is None or not bool(strips.fits(xp)):
            size, strips = SMALL, None
        else:
            size = n if self.margin > NARROW else PART
        start = 0
        while start < n:
            stop = min(start + size, n)
            pairs = self._pairs(strips, start, stop)
            if pairs is None:
                size //= 2
                continue
            self._match(start, stop, *pairs)
            start = stop
        return self.slots

    def _pairs(
        self, strips: Strips | None, start: int, stop: int
    ) -> tuple[list[int], list[int], list[float]] | None:
        """Pairs of a fused box, or one that may found it, and a box from `start` to `stop`; None if they are too many.

        As the first pair of each of those boxes, the founders, and the overlaps.
        """
        xp, n = self.xp, self.scene.size
        part = self.scene.map(lambda x: x[..., start:stop])
        fused = self.scene.take(xp, xp.asarray([k for k in range(start) if self.slots[k] == k], dtype=part.ranks.dtype))
        if strips is None:
            parts = [_compared(xp, part, part), _compared(xp, fused, part)]
        else:
            sweep = Sweep.of(xp, strips, part)
            within = searches_within(xp, sweep)
            if stop - start > SMALL and candidates(xp, within) > max(CANDIDATES, EACH * n):
                return None
            parts = overlapping(xp, sweep.scene, sweep.scene, within)
            if start > 0:
                before = Sweep.of(xp, strips, fused)
                forth, back = searches_between(xp, before, sweep)
                parts = chain(
                    parts,
                    overlapping(xp, before.scene, sweep.scene, forth),
                    overlapping(xp, sweep.scene, before.scene, back),
                )
        better, worse, over = join(xp, (part.ranks[:0], part.ranks[:0], part.boxes.columns[0, :0]), parts)
        hit = over > self.threshold
        some = indices_of(xp, hit)
        first = segment_min(xp, xp.take(worse, some), xp.take(better, some), n, initial=n)
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
        for k, (first, last) in enumerate(pairwise(starts), start):
            if first == last and k not in later:
                continue
            best, found = self.threshold, -1
            for i in range(first, last):
                f = founders[i]
                if slots[f] != f:
                    continue
                over = overlaps[i]
                if f in moved:
                    state = moved[f]
                    if over + state[MOVED] + ROUNDING < best:
                        continue
                    over = _iou(state, boxes[k])
                if over > best or (over == best and f < found):
                    best, found = over, f
            for f in later.get(k, ()):
                over = _iou(moved[f], boxes[k])
                if over > best or (over == best and f < found):
                    best, found = over, f
            if found >= 0:
                slots[k] = found
                if self._join(found, k):
                    for j in self._near(found, k + 1, stop):
                        later.setdefault(j, []).append(found)
        for f, state in moved.items():  # the next pairs are found where they are now
            state[MOVED], state[ANCHOR] = 0.0, state[:AREA]
            self.scene.boxes.columns[:, f] = self.xp.asarray(state[: AREA + 1])

    def _join(self, f: int, k: int) -> bool:
        """Move a fused box towards a box that joins it; tell whether it leaves its margin."""
        box, state = self.boxes[k], self.moved.get(f)
        if state is None:
            state = self.moved[f] = [*self.boxes[f], 0.0, 1.0, 0.0, self.boxes[f]]
        weight = self.scores[k] / self.scores[f]
        state[WEIGHT] += weight
        share = weight / state[WEIGHT]
        x1, y1, x2, y2 = (old + share * (new - old) for old, new in zip(state[:AREA], box, strict=True))
        state[: AREA + 1] = x1, y1, x2, y2, (x2 - x1) * (y2 - y1)
        distance = 1 - _iou(state, state[ANCHOR])
        if distance > self.margin:
            state[MOVED], state[ANCHOR] = 1.0, state[:AREA]
            return True
        state[MOVED] = max(state[MOVED], distance) 
        return False

    def _near(self, f: int, start: int, stop: int) -> list[int]:
        """Boxes from `start` to `stop` that can join a fused box before it leaves its margin again."""
        xp = self.xp
        rest = self.scene.map(lambda x: x[..., start:stop])
        here = Boxes(xp.asarray(self.moved[f][: AREA + 1])[:, None])
        over = overlap(xp, here, rest.boxes, "iou") > self.scene.threshold
        return (indices_of(xp, over & (rest.labels == self.scene.labels[f])) + start).tolist()


def _compared(xp: Namespace, rows: Scene, columns: Scene) -> tuple[Array, Array, Array]:
    """Return the pairs that overlap, of all, as the ranks (better, worse) and the overlap."""
    hit = tile(xp, rows, columns) & (rows.ranks[:, None] < columns.ranks)
    at = indices_of(xp, xp.reshape(hit, (-1,)))
    a, b = rows.take(xp, at // columns.size), columns.take(xp, at % columns.size)
    return a.ranks, b.ranks, overlap(xp, a.boxes, b.boxes, "iou")


def _iou(fused: Fused, box: list[float]) -> float:
    """IoU as `overlap` computes it, to the last bit."""
    ax1, ay1, ax2, ay2, area = fused[: AREA + 1]
    x1, y1, x2, y2 = box
    width = (x2 if x2 < ax2 else ax2) - (x1 if x1 > ax1 else ax1)
    height = (y2 if y2 < ay2 else ay2) - (y1 if y1 > ay1 else ay1)
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((area + (x2 - x1) * (y2 - y1)) - inter)

"""Which boxes overlap which: the pairs above a threshold, found without comparing all with all.

If IoU(i, j) > t then, with w, h the sides and q = 1 − t,

* h_j / h_i and w_j / w_i lie in (t, 1/t);
* y1_j − y1_i lies in [−q h_j, q h_i], and x1_j − x1_i in [−q w_j, q w_i].

So boxes are sorted by (label, class of height, strip of y1, x1). The classes grow by a factor of at least 1/t, so that
a box has partners in its own class and in the two beside it only; the strips of a class are as high as its boxes reach.
The candidates of a box are then a few contiguous ranges of the sorted order, found by binary search. A smaller t, or an
overlap that bounds no ratio (iof, ios), leaves only "they intersect": the classes are then of the longer side, and a
box looks for partners in its own class and in every larger one.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .._array.namespace import Array, Namespace, chunk_size, default_int, device, rows_of
from .._array.selection import indices_of
from ..boxes.iou import Boxes, overlap

# The bounds are those of a threshold smaller by this factor, for the rounding of the IoU that is compared.
SLACK = 1 - 1e-4
# Below this threshold the bounds on ratios are worth less than the search for intersections.
RATIO_THRESHOLD = 0.2
# Strips are no lower than this share of the scene: rounding does not reach across them, and their numbers stay small.
FINEST = 2.0**-14
CLASSES, STRIPS = 32, 1 << 18  # more than FINEST lets there be


class Scene(NamedTuple):
    """Boxes along a last axis, their ranks and labels, and what counts as an overlap."""

    boxes: Boxes
    ranks: Array
    labels: Array | None
    kind: str
    threshold: Array | float

    @property
    def size(self) -> int:
        """Number of boxes."""
        return self.boxes.columns.shape[-1]

    def map(self, function: Callable[[Array], Array]) -> "Scene":
        """Return this scene with a function applied to each column of it."""
        labels = None if self.labels is None else function(self.labels)
        return self._replace(boxes=self.boxes.map(function), ranks=function(self.ranks), labels=labels)

    def take(self, xp: Namespace, index: Array) -> "Scene":
        """Return the boxes at the positions `index`."""
        return self.map(lambda x: xp.take(x, index, axis=-1))


def tile(xp: Namespace, rows: Scene, columns: Scene) -> Array:
    """Whether each box of `rows` overlaps each of `columns`, seen from the better one: bool (..., N, M)."""
    return exceeds(xp, rows.map(lambda x: x[..., :, None]), columns.map(lambda x: x[..., None, :]))


def overlaps_any(xp: Namespace, rows: Scene, columns: Scene) -> Array:
    """Whether any box of `rows` overlaps each of `columns`: bool (M,), without the whole matrix."""
    step = max(1, 2 * chunk_size(rows.boxes.columns) // max(rows.size, 1))
    parts = [
        xp.any(tile(xp, rows, columns.map(lambda x: x[..., i : min(i + step, columns.size)])), axis=0)  # noqa: B023
        for i in range(0, columns.size, step)
    ]
    return parts[0] if len(parts) == 1 else xp.concat(parts)


class Lattice(NamedTuple):
    """The classes, strips and cells that the boxes of a scene are sorted into, whichever part of it is sorted."""

    origin_x: Array
    origin_y: Array
    cells_per_unit: Array
    smallest: Array  # side that opens class 0
    growth: float  # of the sides from class to class
    bounded: bool  # whether the overlap bounds the ratio of sides
    q: float
    cell_bits: int
    group_bits: int

    @classmethod
    def of(cls, xp: Namespace, scene: Scene, threshold: float) -> "Lattice":
        """Return the lattice of a scene of boxes with positive sides, for overlaps above a threshold."""
        x1, y1, x2, y2, _ = rows_of(scene.boxes.columns)
        threshold = threshold * SLACK
        bounded = threshold > RATIO_THRESHOLD and scene.kind not in ("iof", "ios")
        origin_x, origin_y = xp.min(x1), xp.min(y1)
        extent_x, extent_y = xp.max(x2) - origin_x, xp.max(y2) - origin_y
        extent = extent_y if bounded else xp.maximum(extent_x, extent_y)
        bits = xp.iinfo(default_int(xp, x1)).bits - 2
        cell_bits = 24 if bits > 32 else 12
        return cls(
            origin_x,
            origin_y,
            (2.0**cell_bits - 1) / extent_x,
            xp.maximum(xp.min(_side(xp, x1, y1, x2, y2, bounded=bounded)), extent * FINEST),
            1.001 * max(2.0, 1 / threshold) if bounded else 4.0,
            bounded,
            1 - threshold if bounded else 1.0,
            cell_bits,
            bits - cell_bits,
        )

    def fits(self, xp: Namespace) -> Array:
        """Whether the scene has an extent that its numbers can express."""
        return xp.isfinite(self.cells_per_unit) & (self.cells_per_unit > 0) & xp.isfinite(self.smallest)

    def level(self, xp: Namespace, boxes: Boxes) -> Array:
        """Class of each box."""
        side = _side(xp, *rows_of(boxes.columns[:4, ...]), bounded=self.bounded)
        ratio = xp.maximum(side / self.smallest, xp.ones_like(side))
        return xp.astype(xp.floor(xp.log(ratio) * (1 / math.log(self.growth))), default_int(xp, side))

    def largest(self, xp: Namespace, level: Array) -> Array:
        """Upper bound of the sides in a class."""
        bounds = [self.growth ** (k + 1) for k in range(CLASSES)]
        return xp.take(xp.asarray(bounds, dtype=self.smallest.dtype, device=device(level)), level) * self.smallest

    def strip(self, xp: Namespace, y: Array, largest: Array) -> Array:
        """Number of the strip that holds y, among those of the class with the given bound."""
        # As high as a box of the class below reaches up and down, and a little more for the rounding of the quotient.
        # Not much lower than the class however near 1 the threshold: FINEST is about the rounding of y too.
        reach = max(self.q, 0.25) * (1 + 1 / self.growth) if self.bounded else 2.0
        return xp.astype(xp.floor((y - self.origin_y) / (largest * (1.01 * reach))), default_int(xp, y))

    def key(self, xp: Namespace, hashed: Array | None, level: Array, strip: Array, x: Array) -> Array:
        """Sort key of (label, class, strip, x): equal ones for boxes that share a cell, ascending in x."""
        if self.group_bits > 32:
            group = (level + 1) * STRIPS + (strip + 2)
            group = group if hashed is None else group + hashed * (STRIPS * CLASSES)
        else:  # too few bits for all of them: groups that share a number add candidates, and lose none
            group = (level + 1) * 40009 + (strip + 2)
            group = group if hashed is None else group + hashed * 99989
            group = group % ((1 << self.group_bits) - 5)
        cell = xp.astype((x - self.origin_x) * self.cells_per_unit, group.dtype)
        return group * (1 << self.cell_bits) + xp.clip(cell, 0, (1 << self.cell_bits) - 1)

    def hash(self, xp: Namespace, labels: Array | None) -> Array | None:
        """Small numbers, equal for equal labels; different labels may share one, which adds candidates."""
        if labels is None:
            return None
        if xp.isdtype(labels.dtype, "real floating"):
            labels = xp.where(xp.isfinite(labels), labels, xp.zeros_like(labels))
        return xp.astype(labels % (8191 if self.group_bits > 32 else 509), default_int(xp, labels))


def _side(xp: Namespace, x1: Array, y1: Array, x2: Array, y2: Array, *, bounded: bool) -> Array:
    return y2 - y1 if bounded else xp.maximum(x2 - x1, y2 - y1)


class Grid(NamedTuple):
    """A scene sorted into a lattice."""

    lattice: Lattice
    scene: Scene
    level: Array
    hashed: Array | None
    key: Array

    @classmethod
    def of(cls, xp: Namespace, lattice: Lattice, scene: Scene, members: Array | None = None) -> "Grid":
        """Sort a scene into a lattice; boxes that are not members sort last, where no search meets them."""
        level, hashed = lattice.level(xp, scene.boxes), lattice.hash(xp, scene.labels)
        x1, y1 = scene.boxes.columns[0, ...], scene.boxes.columns[1, ...]
        strip = lattice.strip(xp, y1, lattice.largest(xp, level))
        key = lattice.key(xp, hashed, level, strip, x1)
        if members is not None:
            key = xp.where(members, key, xp.full_like(key, xp.iinfo(key.dtype).max))
        order = xp.argsort(key)
        hashed = None if hashed is None else xp.take(hashed, order)
        return cls(lattice, scene.take(xp, order), xp.take(level, order), hashed, xp.take(key, order))

    def levels_above(self, xp: Namespace) -> range:
        """Return how far above its own class a box may have partners."""
        return range(1, 2 if self.lattice.bounded else int(xp.max(self.level)) + 1)


Ranges = list[tuple[Array, Array]]
"""Per search and query: the first entry of a grid that is a candidate, and their number (none if not positive)."""


def _entries(xp: Namespace, queries: Grid, grid: Grid, level: Array, strip: Array) -> tuple[Array, Array]:
    """Return the range of entries in a strip whose x1 is within reach of each query."""
    lattice, columns = grid.lattice, queries.scene.boxes.columns
    x1, width = columns[0, ...], columns[2, ...] - columns[0, ...]
    # q w_j where w_j < w_i / t; any width of the class otherwise
    left = (1 / (1 - lattice.q) - 1) * width if lattice.bounded else lattice.largest(xp, level)
    first = lattice.key(xp, queries.hashed, level, strip, x1 - left)
    last = lattice.key(xp, queries.hashed, level, strip, x1 + lattice.q * width)
    start = xp.searchsorted(grid.key, first, side="left")
    return start, xp.searchsorted(grid.key, last, side="right") - start


def ranges_within(xp: Namespace, grid: Grid) -> Ranges:
    """Return, for each entry of a grid, ranges of it that hold each pair of overlapping boxes in one direction."""
    lattice, columns = grid.lattice, grid.scene.boxes.columns
    x1, width = columns[0, ...], columns[2, ...] - columns[0, ...]
    strip = lattice.strip(xp, columns[1, ...], lattice.largest(xp, grid.level))
    # In its own strip a box looks to the right alone, and in the strip beside it to both sides.
    after = xp.arange(1, grid.key.shape[0] + 1, dtype=grid.key.dtype, device=device(grid.key))
    last = lattice.key(xp, grid.hashed, grid.level, strip, x1 + lattice.q * width)
    own = after, xp.searchsorted(grid.key, last, side="right") - after
    return [own, _entries(xp, grid, grid, grid.level, strip + 1), *ranges_above(xp, grid, grid)]


def ranges_above(xp: Namespace, queries: Grid, grid: Grid) -> Ranges:
    """Return, for each query, the ranges of a grid that hold its partners of larger classes."""
    return [found for d in grid.levels_above(xp) for found in _ranges_at(xp, queries, grid, d)]


def ranges_from(xp: Namespace, queries: Grid, grid: Grid) -> Ranges:
    """Return, for each query, the ranges of a grid that hold its partners of its own and larger classes."""
    return [*_ranges_at(xp, queries, grid, 0), *ranges_above(xp, queries, grid)]


def _ranges_at(xp: Namespace, queries: Grid, grid: Grid, d: int) -> Ranges:
    lattice, columns = grid.lattice, queries.scene.boxes.columns
    y1, height = columns[1, ...], columns[3, ...] - columns[1, ...]
    level = queries.level + d
    largest = lattice.largest(xp, level)
    up = lattice.q * xp.minimum(largest, height / (1 - lattice.q)) if lattice.bounded else largest
    top = lattice.strip(xp, y1 - up, largest)
    # Up and down together a box reaches over less than a strip of a larger class, so into two of them.
    strips = 3 if lattice.bounded and d == 0 else 2
    return [_entries(xp, queries, grid, level, top + s) for s in range(strips)]


def candidates(xp: Namespace, ranges: Ranges) -> int:
    """Return how many pairs some ranges hold."""
    return sum(int(xp.sum(xp.clip(count, 0, None))) for _, count in ranges)


def overlapping(xp: Namespace, queries: Grid, grid: Grid, ranges: Ranges) -> tuple[Array, Array]:
    """Return the ranks (better, worse) of the pairs that overlap above the threshold and share a label.

    Memory follows the number of these pairs, not of the candidates.
    """
    nothing = queries.scene.ranks[:0]
    parts = ((nothing, nothing), *overlapping_parts(xp, queries, grid, ranges))
    better, worse = zip(*parts, strict=True)
    return xp.concat(better), xp.concat(worse)


def overlapping_parts(xp: Namespace, queries: Grid, grid: Grid, ranges: Ranges) -> Iterator[tuple[Array, Array]]:
    """Yield the pairs of `overlapping`, a chunk of candidates at a time."""
    for start, count in ranges:
        for i, j in _expand(xp, start, count):
            a, b = queries.scene.take(xp, i), grid.scene.take(xp, j)
            hit = indices_of(xp, exceeds(xp, a, b))
            first, second = xp.take(a.ranks, hit), xp.take(b.ranks, hit)
            yield xp.minimum(first, second), xp.maximum(first, second)


def exceeds(xp: Namespace, a: Scene, b: Scene) -> Array:
    """Whether the boxes of each pair share a label and overlap above the threshold, seen from the better one."""
    over = overlap(xp, a.boxes, b.boxes, a.kind) > a.threshold
    if a.kind == "iof":  # the one overlap that depends on the side
        over = xp.where(a.ranks < b.ranks, over, overlap(xp, b.boxes, a.boxes, a.kind) > a.threshold)
    return over if a.labels is None else over & (a.labels == b.labels)


def _expand(xp: Namespace, start: Array, count: Array) -> Iterator[tuple[Array, Array]]:
    """Yield (range, entry) for all entries of all ranges, a chunk of them at a time."""
    some = indices_of(xp, count > 0)
    if some.shape[0] == 0:
        return
    start, count = xp.take(start, some), xp.take(count, some)
    ends = xp.cumulative_sum(count)
    total = int(ends[-1])
    chunk = chunk_size(ends)
    targets = xp.arange(chunk, total + chunk, chunk, dtype=ends.dtype, device=device(ends))
    cuts = xp.searchsorted(ends, targets, side="left") + 1  # past the range in which each chunk ends
    first = done = 0
    for i in range(cuts.shape[0]):
        last = min(int(cuts[i]), some.shape[0])
        if last <= first:
            continue
        size = int(ends[last - 1]) - done
        counts = count[first:last]
        shift = start[first:last] - (ends[first:last] - counts - done)
        entry = xp.arange(size, dtype=ends.dtype, device=device(ends)) + xp.repeat(shift, counts)
        yield xp.repeat(some[first:last], counts), entry
        first, done = last, done + size

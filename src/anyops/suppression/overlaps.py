"""Find the pairs of boxes that overlap by more than a threshold, without comparing all pairs.

If IoU(i, j) > t and i starts left of j, then j starts within the first fraction 1 − t of the width of i. So the boxes
still intersect if the sides of each are shortened to this fraction, from the corner (x1, y1). A sweep finds the pairs
that intersect:

* The scene is cut into strips along y, 1.5 times as high as the average box. Each box gets an entry in every strip that
  it reaches: the `first` strip, where it starts, and `more`. On average that is fewer than three entries per box.
* The first strip that two intersecting boxes share is the one in which the later of them starts. So each pair is found
  once, in the strip where one of the boxes has its first entry.
* The entries of a strip are sorted by x1. The partners of an entry that start right of it have their x1 within its
  width. They are a contiguous range, found by binary search.

iof and ios can be large even if the intersection is small, so boxes are not shortened for them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .._array.mode import Mode
from .._array.namespace import Array, Namespace, default_int, device, rows_of, working
from .._array.selection import indices_of
from ..boxes.geometry import Regions, meet
from ..boxes.regions import Measure, overlap, ready, with_envelopes

# Boxes are shortened for a threshold smaller by this factor, to allow for the rounding of the IoU.
SLACK = 1 - 1e-4
# Number of candidates from which on pairs of very different areas are removed first, which takes a few calls.
MANY = 1 << 12
# Smallest height of a strip as a fraction of the scene's height, so that the strip numbers fit into the keys.
FINEST = 2.0**-16
STRIPS = 1 << 17


class Scene(NamedTuple):
    """Boxes or other regions along the last axis, their ranks and labels, and the kind and threshold of overlap."""

    boxes: Regions
    ranks: Array
    labels: Array | None
    measure: Measure
    threshold: Array | float

    @property
    def size(self) -> int:
        """Number of boxes."""
        return self.boxes.columns.shape[-1]

    def map(self, function: Callable[[Array], Array]) -> "Scene":
        """Return this scene with a function applied to each array."""
        labels = None if self.labels is None else function(self.labels)
        return self._replace(boxes=self.boxes.map(function), ranks=function(self.ranks), labels=labels)

    def take(self, xp: Namespace, index: Array) -> "Scene":
        """Return the boxes at the positions `index`."""
        return self.map(lambda x: xp.take(x, index, axis=-1))

    def part(self, start: int | None, stop: int | None) -> "Scene":
        """Return the boxes from one position to another."""
        return self.map(lambda x: x[..., start:stop])


def scene_by_rank(
    xp: Namespace, boxes: Array, labels: Array | None, order: Array, measure: Measure, threshold: float
) -> tuple[Scene, Array | None]:
    """Return the scene of the boxes at the positions `order`, and which of them can overlap others; None if all can."""
    boxes = xp.take(working(xp, boxes), order, axis=0)
    regions = with_envelopes(xp, ready(xp, boxes, measure, look=True), measure, threshold)
    proper = can_overlap(xp, regions)
    ranks = xp.arange(order.shape[0], dtype=order.dtype, device=device(order))
    scene = Scene(regions, ranks, None if labels is None else xp.take(labels, order), measure, threshold)
    return _within_bounds(xp, scene), None if bool(xp.all(proper)) else proper


def can_overlap(xp: Namespace, regions: Regions) -> Array:
    """Whether each region can overlap another."""
    return xp.all(regions.columns[2:4, ...] > regions.columns[:2, ...], axis=0)


def _within_bounds(xp: Namespace, scene: Scene) -> Scene:
    """Return the scene with infinite corners, which iof and ios allow, moved to the outermost finite ones.

    Areas are not changed, so neither are overlaps.
    """
    if scene.measure.kind not in ("iof", "ios"):
        return scene
    columns = scene.boxes.columns
    corners = columns[:4, ...]
    finite = xp.isfinite(corners)
    if bool(xp.all(finite)):
        return scene
    corners = xp.where(finite, corners, xp.zeros_like(corners))
    low, high = xp.min(corners, axis=-1, keepdims=True), xp.max(corners, axis=-1, keepdims=True)
    low, high = xp.minimum(low[:2, ...], low[2:, ...]), xp.maximum(high[:2, ...], high[2:, ...])
    corners = xp.minimum(xp.maximum(columns[:4, ...], xp.concat((low, low))), xp.concat((high, high)))
    return scene._replace(boxes=Regions(xp.concat((corners, columns[4:, ...]))))


def both_ways(xp: Namespace, a: Scene, b: Scene) -> tuple[Array, Array]:
    """Return the overlap of each pair with the better box first, and with the worse box first."""
    forth = overlap(xp, a.boxes, b.boxes, a.measure)
    if a.measure.kind != "iof":  # the only asymmetric kind
        return forth, forth
    back, better = overlap(xp, b.boxes, a.boxes, a.measure), a.ranks < b.ranks
    return xp.where(better, forth, back), xp.where(better, back, forth)


def acts(a: Scene, b: Scene, over: Array) -> Array:
    """Whether the boxes of each pair have the same label and an overlap `over` above the threshold."""
    over = over > a.threshold
    return over if a.labels is None else over & (a.labels == b.labels)


class Edges(NamedTuple):
    """Overlapping pairs of boxes: their ranks, and the overlaps with the better box first and the worse box first."""

    better: Array
    worse: Array
    forth: Array
    back: Array  # `forth` itself for symmetric overlaps

    @classmethod
    def where(cls, xp: Namespace, hit: Array, rows: Array, columns: Array, forth: Array, back: Array) -> "Edges":
        """Return the pairs at which a matrix (N, M) is true, given the ranks of its rows and columns."""
        at = indices_of(xp, xp.reshape(hit, (-1,)))
        one, other = xp.take(rows, at // columns.shape[0]), xp.take(columns, at % columns.shape[0])
        return cls(one, other, forth, back).with_overlaps(lambda x: xp.take(xp.reshape(x, (-1,)), at))

    @classmethod
    def join(cls, xp: Namespace, scene: Scene, parts: Iterable["Edges"]) -> "Edges":
        """Return all pairs of a scene from parts."""
        nothing = scene.boxes.columns[0, :0]
        found = [cls(scene.ranks[:0], scene.ranks[:0], nothing, nothing), *parts]
        better, worse, forth = (xp.concat(column) for column in list(zip(*found, strict=True))[:3])
        return cls(
            better, worse, forth, xp.concat([part.back for part in found]) if scene.measure.kind == "iof" else forth
        )

    def map(self, function: Callable[[Array], Array]) -> "Edges":
        """Return the edges with a function applied to each column."""
        return self._replace(better=function(self.better), worse=function(self.worse)).with_overlaps(function)

    def with_overlaps(self, function: Callable[[Array], Array]) -> "Edges":
        """Return the edges with a function applied to the overlaps."""
        forth = function(self.forth)
        return self._replace(forth=forth, back=forth if self.back is self.forth else function(self.back))


def collected(parts: Iterable[Edges], room: float) -> list[Edges] | None:
    """Return all parts as a list; None once they hold more than `room` pairs."""
    found = []
    for part in parts:
        found.append(part)
        room -= part.better.shape[0]
        if room < 0:
            return None
    return found


def gathered(xp: Namespace, scene: Scene, parts: Iterable[Edges], size: int) -> Iterator[Edges]:
    """Yield the pairs of a scene in parts of at least `size` pairs, then the rest, which may be empty."""
    waiting, many = [], 0
    for part in parts:
        waiting.append(part)
        many += part.better.shape[0]
        if many >= size:
            yield Edges.join(xp, scene, waiting)
            waiting, many = [], 0
    yield Edges.join(xp, scene, waiting)


def least_alike(scene: Scene) -> float:
    """Return the least ratio of the smaller to the larger size in a pair: IoU ≤ min(|a|, |b|) / max(|a|, |b|)."""
    return 0.0 if scene.measure.kind in ("iof", "ios", "probiou") else scene.threshold * SLACK


def cut_for(scene: Scene) -> float:
    """Return the fraction by which each side is shortened: no later partner starts in it."""
    return least_alike(scene) if scene.measure.geometry.along_axes else 0.0


class Strips(NamedTuple):
    """The strips along y, and the cells along x, that a scene is cut into."""

    origin_x: Array
    origin_y: Array
    cells_per_unit: Array
    height: Array
    cut: float  # fraction of each side, at its end, in which no later partner starts
    cell_bits: int
    group_bits: int

    @classmethod
    def of(cls, xp: Namespace, scene: Scene) -> "Strips":
        """Return the strips for a scene of boxes with positive sides."""
        x1, y1, x2, y2, _ = rows_of(scene.boxes.columns)
        cut = cut_for(scene)
        origin_x, origin_y = xp.min(x1), xp.min(y1)
        finest = (xp.max(y2) - origin_y) * FINEST
        bits = xp.iinfo(default_int(xp, x1)).bits - 2
        cell_bits = 24 if bits > 32 else 12
        return cls(
            origin_x,
            origin_y,
            (2.0**cell_bits - 1) / (xp.max(x2) - origin_x),
            # High enough that n boxes reach into fewer than 2n further strips. Higher strips would add candidates.
            xp.maximum(xp.mean(y2 - y1) * (1.5 * (1 - cut)), finest),
            cut,
            cell_bits,
            bits - cell_bits,
        )

    def fits(self, xp: Namespace) -> Array:
        """Whether the dtype can represent the extent of the scene."""
        fits = xp.isfinite(self.origin_y)
        for scale in (self.cells_per_unit, self.height):
            fits = fits & xp.isfinite(scale) & (scale > 0)
        return fits

    def strip(self, xp: Namespace, y: Array) -> Array:
        """Index of the strip that contains y."""
        return xp.astype(xp.floor((y - self.origin_y) / self.height), default_int(xp, y))

    def key(self, xp: Namespace, hashed: Array | None, strip: Array, x: Array) -> Array:
        """Sort key of (label, strip, x), ascending in x, and equal for boxes in the same cell."""
        if self.group_bits > 32:
            group = strip if hashed is None else strip + hashed * STRIPS
        else:  # too few bits for both: collisions of group numbers only add candidates
            group = strip if hashed is None else (strip + hashed * 99989) % ((1 << self.group_bits) - 5)
        cell = xp.astype((x - self.origin_x) * self.cells_per_unit, group.dtype)
        return group * (1 << self.cell_bits) + xp.clip(cell, 0, (1 << self.cell_bits) - 1)

    def hash(self, xp: Namespace, labels: Array | None) -> Array | None:
        """Small numbers, equal for equal labels; collisions of different labels only add candidates."""
        if labels is None:
            return None
        if xp.isdtype(labels.dtype, "real floating"):
            labels = xp.where(xp.isfinite(labels), labels, xp.zeros_like(labels))
        return xp.astype(labels % (8191 if self.group_bits > 32 else 509), default_int(xp, labels))


class Entries(NamedTuple):
    """Sorted entries of boxes in strips: position of the box in the scene, and keys of its left and right ends."""

    box: Array
    left: Array
    right: Array


class Sweep(NamedTuple):
    """A scene sorted into strips: the entries in the first strip of each box, then the other entries."""

    scene: Scene
    first: Entries
    more: Entries

    @classmethod
    def of(
        cls, xp: Namespace, strips: Strips, scene: Scene, members: Array | None = None, room: int | None = None
    ) -> "Sweep":
        """Sort a scene into strips.

        Boxes that are not members sort last, where no search finds them. `room` is a fixed number of entries in further
        strips, for a library that compiles for each shape.
        """
        x1, y1, x2, y2 = rows_of(scene.boxes.columns[:4, ...])
        hashed = strips.hash(xp, scene.labels)
        begin = strips.strip(xp, y1)
        reach = strips.strip(xp, y2 - strips.cut * (y2 - y1)) - begin
        if members is not None:
            reach = xp.where(members, reach, xp.zeros_like(reach))
        end = x2 - strips.cut * (x2 - x1)

        def entries(box: Array, at: list[Array | None], strip: Array, real: Array | None) -> Entries:
            begins, ends, number = at
            left, right = (strips.key(xp, number, strip, x) for x in (begins, ends))
            if real is not None:
                left = xp.where(real, left, xp.full_like(left, xp.iinfo(left.dtype).max))
            order = xp.argsort(left, stable=False)
            return Entries(*(xp.take(x, order) for x in (box, left, right)))

        number, columns = xp.arange(scene.size, dtype=begin.dtype, device=device(begin)), [x1, end, hashed]
        first = entries(number, columns, begin, members)
        ends = xp.cumulative_sum(reach)
        box = xp.repeat(number, reach) if room is None else xp.repeat(number, reach, total_repeat_length=room)
        slot = xp.arange(box.shape[0], dtype=begin.dtype, device=device(begin))
        strip = xp.take(begin - (ends - reach), box) + (slot + 1)
        some = [None if x is None else xp.take(x, box) for x in columns]
        more = entries(box, some, strip, None if room is None else slot < ends[-1])
        return cls(scene.take(xp, xp.concat((first.box, more.box))), first, more)


class Search(NamedTuple):
    """A range of candidates for each of some entries, from `query` on: first candidate and length (none if ≤ 0)."""

    query: int
    start: Array
    count: Array


def _after(xp: Namespace, queries: Entries, entries: Entries, query: int, entry: int, side: str) -> Search:
    """Return the range of entries that start within the width of each query."""
    start = xp.searchsorted(entries.left, queries.left, side=side)
    return Search(query, start + entry, xp.searchsorted(entries.left, queries.right, side="right") - start)


def searches_within(xp: Namespace, sweep: Sweep) -> list[Search]:
    """Return searches that find each intersecting pair of a scene once."""
    first, more = sweep.first, sweep.more
    n = first.left.shape[0]
    # Among the first entries, the candidates of an entry are those after it, so each pair is found once.
    number = xp.arange(1, n + 1, dtype=first.left.dtype, device=device(first.left))
    own = Search(0, number, xp.searchsorted(first.left, first.right, side="right") - number)
    # If two entries share a cell, only one of the two directions finds the pair.
    return [own, _after(xp, first, more, 0, n, "left"), _after(xp, more, first, n, 0, "right")]


def searches_between(xp: Namespace, a: Sweep, b: Sweep, side: str) -> list[Search]:
    """Return searches for entries of `b` that start right of entries of `a`; side "left" includes the same cell."""
    n, m = a.first.left.shape[0], b.first.left.shape[0]
    found = [_after(xp, a.first, b.first, 0, 0, side), _after(xp, a.first, b.more, 0, m, side)]
    return [*found, _after(xp, a.more, b.first, n, 0, side)]


def candidates(xp: Namespace, searches: list[Search]) -> int:
    """Return the number of candidate pairs of some searches."""
    return sum(int(xp.sum(xp.clip(search.count, 0, None))) for search in searches)


def overlapping(
    mode: Mode, queries: Scene, entries: Scene, searches: list[Search], *, either: bool = False
) -> Iterator[Edges]:
    """Yield the candidate pairs with one label whose overlap is above the threshold, a chunk of candidates at a time.

    The better box comes first in the overlap; if `either`, one of both directions suffices. Memory grows with the
    number of pairs, not of candidates.
    """
    xp, chunk = mode.xp, mode.chunk // queries.measure.geometry.weight(queries.boxes, entries.boxes)
    for query, start, count in searches:
        for some, entry in _expand(xp, start, count, chunk):
            i, j = _promising(xp, queries, entries, some + query, entry)
            a, b = queries.take(xp, i), entries.take(xp, j)
            if not a.measure.geometry.along_axes:  # symmetric except for rounding
                a, b = _better_first(xp, a, b)
            forth, back = both_ways(xp, a, b)
            hit = indices_of(xp, acts(a, b, xp.maximum(forth, back) if either else forth))
            found = Edges(a.ranks, b.ranks, forth, back).map(lambda x: xp.take(x, hit))  # noqa: B023
            yield found._replace(better=xp.minimum(*found[:2]), worse=xp.maximum(*found[:2]))


def _promising(xp: Namespace, queries: Scene, entries: Scene, i: Array, j: Array) -> tuple[Array, Array]:
    """Return the candidates that may overlap enough, judged by their sizes, and by envelopes that they do not fill."""
    least, along_axes = least_alike(queries), queries.measure.geometry.along_axes
    if along_axes and not (least and i.shape[0] > MANY):
        return i, j
    rows = slice(4 if along_axes else 0, 5)
    a, b = (xp.take(x.boxes.columns[rows, :], at, axis=-1) for x, at in ((queries, i), (entries, j)))
    size, other = a[-1, :], b[-1, :]
    fits = xp.minimum(size, other) >= least * xp.maximum(size, other)
    if not along_axes:
        fits = fits & meet(xp, Regions(a), Regions(b))
    some = indices_of(xp, fits)
    return xp.take(i, some), xp.take(j, some)


def _better_first(xp: Namespace, a: Scene, b: Scene) -> tuple[Scene, Scene]:
    """Return pairs with the better boxes in the first scene."""
    better = a.ranks < b.ranks

    def pick(one: Scene, other: Scene) -> Scene:
        boxes = Regions(*(xp.where(better, x, y) for x, y in zip(one.boxes, other.boxes, strict=True)))
        return one._replace(boxes=boxes, ranks=xp.where(better, one.ranks, other.ranks))

    # Labels of a pair are only compared with each other.
    return pick(a, b), pick(b, a)


def overlapping_within(mode: Mode, sweep: Sweep, *, either: bool = False) -> Iterator[Edges]:
    """Yield each overlapping pair of boxes of one sweep once, see `overlapping`."""
    return overlapping(mode, sweep.scene, sweep.scene, searches_within(mode.xp, sweep), either=either)


def overlapping_between(mode: Mode, a: Sweep, b: Sweep) -> Iterator[Edges]:
    """Yield each overlapping pair of a box of one sweep and a box of another once, see `overlapping`."""
    for one, other, side in ((a, b, "left"), (b, a, "right")):
        yield from overlapping(mode, one.scene, other.scene, searches_between(mode.xp, one, other, side))


def _expand(xp: Namespace, start: Array, count: Array, chunk: int) -> Iterator[tuple[Array, Array]]:
    """Yield (range, entry) for all entries of all ranges, a chunk of them at a time."""
    some = indices_of(xp, count > 0)
    if some.shape[0] == 0:
        return
    start, count = xp.take(start, some), xp.take(count, some)
    ends = xp.cumulative_sum(count)
    total = int(ends[-1])
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

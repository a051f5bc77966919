"""The pairs of boxes that overlap by more than a threshold, found without comparing all pairs.

If IoU(i, j) > t, and i begins left of j, then j begins within the first 1 − t of the width of i: the boxes, each cut to
that share of its sides at its corner (x1, y1), still intersect. Pairs that intersect are found by a sweep:

* The picture is cut into strips along y, half again as high as the boxes on average, and a box is entered into each
  strip that it reaches: into the `first`, where it begins, and into `more`. That makes fewer than three entries a box,
  on average.
* The first strip that two intersecting boxes share is the one in which the later of them begins. So each pair is found
  once, in a strip where one of the boxes has its first entry.
* The entries of a strip are sorted by x1. The partners of an entry that begin right of it are those whose x1 lies in
  its width: one contiguous range, found by binary search.

iof and ios can be large even if the intersection is small, so boxes are not cut for them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .._array.mode import Mode
from .._array.namespace import Array, Namespace, default_int, device, rows_of, working
from .._array.selection import indices_of
from ..boxes.geometry import Regions, meet
from ..boxes.regions import Measure, overlap, ready, with_envelopes

# Boxes are cut for a threshold smaller by this factor, to allow for the rounding of the IoU.
SLACK = 1 - 1e-4
# From this many candidates on, boxes of unlike areas are sorted out first, which takes a few calls.
MANY = 1 << 12
# Strips are at least this share of the scene high, so that their numbers fit the keys.
FINEST = 2.0**-16
STRIPS = 1 << 17


class Scene(NamedTuple):
    """Boxes or other regions along the last axis, their ranks and labels, and the overlap above which a pair counts."""

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
        """Return this scene with a function applied to each column of it."""
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
    """Return the scene of the boxes at the positions `order`, and which can overlap others; None where all can."""
    boxes = xp.take(working(xp, boxes), order, axis=0)
    regions = with_envelopes(xp, ready(xp, boxes, measure, look=True), measure, threshold)
    proper = can_overlap(xp, regions)
    ranks = xp.arange(order.shape[0], dtype=order.dtype, device=device(order))
    scene = Scene(regions, ranks, None if labels is None else xp.take(labels, order), measure, threshold)
    return _within_bounds(xp, scene), None if bool(xp.all(proper)) else proper


def can_overlap(xp: Namespace, regions: Regions) -> Array:
    """Whether each region can overlap another at all."""
    return xp.all(regions.columns[2:4, ...] > regions.columns[:2, ...], axis=0)


def _within_bounds(xp: Namespace, scene: Scene) -> Scene:
    """Return the scene with infinite corners, which iof and ios admit, moved to the outermost finite ones.

    Areas stay as they are, so no overlap changes.
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
    """Return the overlap of each pair of boxes as seen from the better and from the worse box."""
    forth = overlap(xp, a.boxes, b.boxes, a.measure)
    if a.measure.kind != "iof":  # the only overlap that depends on the side
        return forth, forth
    back, better = overlap(xp, b.boxes, a.boxes, a.measure), a.ranks < b.ranks
    return xp.where(better, forth, back), xp.where(better, back, forth)


def acts(a: Scene, b: Scene, over: Array) -> Array:
    """Whether the boxes of each pair share a label and overlap, seen from the better one, above the threshold."""
    over = over > a.threshold
    return over if a.labels is None else over & (a.labels == b.labels)


class Edges(NamedTuple):
    """Pairs of boxes that overlap: their ranks, and the overlaps seen from the better and from the worse box."""

    better: Array
    worse: Array
    forth: Array
    back: Array  # `forth` itself for the overlaps that do not depend on the side

    @classmethod
    def where(cls, xp: Namespace, hit: Array, rows: Array, columns: Array, forth: Array, back: Array) -> "Edges":
        """Return the pairs at which a matrix (N, M) is true, given the ranks of its rows and columns."""
        at = indices_of(xp, xp.reshape(hit, (-1,)))
        one, other = xp.take(rows, at // columns.shape[0]), xp.take(columns, at % columns.shape[0])
        return cls(one, other, forth, back).with_overlaps(lambda x: xp.take(xp.reshape(x, (-1,)), at))

    @classmethod
    def join(cls, xp: Namespace, scene: Scene, parts: Iterable["Edges"]) -> "Edges":
        """Return all pairs of a scene, found in parts."""
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
    """Return all parts; None as soon as they hold more than `room` pairs."""
    found = []
    for part in parts:
        found.append(part)
        room -= part.better.shape[0]
        if room < 0:
            return None
    return found


def gathered(xp: Namespace, scene: Scene, parts: Iterable[Edges], size: int) -> Iterator[Edges]:
    """Yield the pairs of a scene in parts of at least `size` of them, and the rest, which may be none."""
    waiting, many = [], 0
    for part in parts:
        waiting.append(part)
        many += part.better.shape[0]
        if many >= size:
            yield Edges.join(xp, scene, waiting)
            waiting, many = [], 0
    yield Edges.join(xp, scene, waiting)


def least_alike(scene: Scene) -> float:
    """Return the share of the larger size that the smaller one of a pair must have: IoU ≤ min(|a|, |b|) / max(…)."""
    return 0.0 if scene.measure.kind in ("iof", "ios", "probiou") else scene.threshold * SLACK


def cut_for(scene: Scene) -> float:
    """Return the share of each side that is cut off: no later partner begins in it."""
    return least_alike(scene) if scene.measure.geometry.along_axes else 0.0


class Strips(NamedTuple):
    """The strips that a scene is cut into along y, and the cells of its width along x."""

    origin_x: Array
    origin_y: Array
    cells_per_unit: Array
    height: Array
    cut: float  # share of each side, at its end, in which no later partner begins
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
            # So high that n boxes reach into fewer than 2n further strips: higher ones add candidates.
            xp.maximum(xp.mean(y2 - y1) * (1.5 * (1 - cut)), finest),
            cut,
            cell_bits,
            bits - cell_bits,
        )

    def fits(self, xp: Namespace) -> Array:
        """Whether the dtype can express the extent of the scene."""
        fits = xp.isfinite(self.origin_y)
        for scale in (self.cells_per_unit, self.height):
            fits = fits & xp.isfinite(scale) & (scale > 0)
        return fits

    def strip(self, xp: Namespace, y: Array) -> Array:
        """Number of the strip that holds y."""
        return xp.astype(xp.floor((y - self.origin_y) / self.height), default_int(xp, y))

    def key(self, xp: Namespace, hashed: Array | None, strip: Array, x: Array) -> Array:
        """Sort key of (label, strip, x): equal ones for boxes that share a cell, ascending in x."""
        if self.group_bits > 32:
            group = strip if hashed is None else strip + hashed * STRIPS
        else:  # too few bits for both: labels that share a group number add candidates
            group = strip if hashed is None else (strip + hashed * 99989) % ((1 << self.group_bits) - 5)
        cell = xp.astype((x - self.origin_x) * self.cells_per_unit, group.dtype)
        return group * (1 << self.cell_bits) + xp.minimum(xp.maximum(cell, 0), (1 << self.cell_bits) - 1)

    def hash(self, xp: Namespace, labels: Array | None) -> Array | None:
        """Small numbers, equal for equal labels; different labels may share one, which adds candidates."""
        if labels is None:
            return None
        if xp.isdtype(labels.dtype, "real floating"):
            labels = xp.where(xp.isfinite(labels), labels, xp.zeros_like(labels))
        return xp.astype(labels % (8191 if self.group_bits > 32 else 509), default_int(xp, labels))


class Entries(NamedTuple):
    """Entries of boxes into strips, sorted: positions in the scene, keys of where they begin and of where they end."""

    box: Array
    left: Array
    right: Array


class Sweep(NamedTuple):
    """A scene sorted into strips: its entries, with those into the first strip of each box before the others."""

    scene: Scene
    first: Entries
    more: Entries

    @classmethod
    def of(
        cls, xp: Namespace, strips: Strips, scene: Scene, members: Array | None = None, room: int | None = None
    ) -> "Sweep":
        """Sort a scene into strips.

        Boxes that are not members sort last, where no search meets them. `room` is a fixed number of entries into
        further strips, for a library that compiles for each number of them.
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
    """For each of some entries, from `query` on, a range of candidates: its first entry and length (none if ≤ 0)."""

    query: int
    start: Array
    count: Array


def _after(xp: Namespace, queries: Entries, entries: Entries, query: int, entry: int, side: str) -> Search:
    """Return where the entries lie that begin within the width of each query."""
    start = xp.searchsorted(entries.left, queries.left, side=side)
    return Search(query, start + entry, xp.searchsorted(entries.left, queries.right, side="right") - start)


def searches_within(xp: Namespace, sweep: Sweep) -> list[Search]:
    """Return searches that find each intersecting pair of a scene once."""
    first, more = sweep.first, sweep.more
    n = first.left.shape[0]
    # Candidates of a first entry among the first entries are those behind it, of which it is the earlier.
    number = xp.arange(1, n + 1, dtype=first.left.dtype, device=device(first.left))
    own = Search(0, number, xp.searchsorted(first.left, first.right, side="right") - number)
    # Where two entries share a cell, either may be the earlier one: only one of the two directions takes the pair.
    return [own, _after(xp, first, more, 0, n, "left"), _after(xp, more, first, n, 0, "right")]


def searches_between(xp: Namespace, a: Sweep, b: Sweep, side: str) -> list[Search]:
    """Return searches, of entries of `a` for later ones of `b`; those in the same cell are later on the "left" side."""
    n, m = a.first.left.shape[0], b.first.left.shape[0]
    found = [_after(xp, a.first, b.first, 0, 0, side), _after(xp, a.first, b.more, 0, m, side)]
    return [*found, _after(xp, a.more, b.first, n, 0, side)]


def candidates(xp: Namespace, searches: list[Search]) -> int:
    """Return how many pairs some searches find."""
    return sum(int(xp.sum(xp.clip(search.count, 0, None))) for search in searches)


def overlapping(
    mode: Mode, queries: Scene, entries: Scene, searches: list[Search], *, either: bool = False
) -> Iterator[Edges]:
    """Yield the pairs found that overlap above the threshold and share a label, a chunk of candidates at a time.

    As seen from the better box, or from one of them if `either`. Memory follows the number of these pairs, not of the
    candidates.
    """
    xp, chunk = mode.xp, mode.chunk // queries.measure.geometry.weight(queries.boxes, entries.boxes)
    for query, start, count in searches:
        for some, entry in _expand(xp, start, count, chunk):
            i, j = _promising(xp, queries, entries, some + query, entry)
            a, b = queries.take(xp, i), entries.take(xp, j)
            if not a.measure.geometry.along_axes:  # symmetric but for rounding
                a, b = _better_first(xp, a, b)
            forth, back = both_ways(xp, a, b)
            hit = indices_of(xp, acts(a, b, xp.maximum(forth, back) if either else forth))
            found = Edges(a.ranks, b.ranks, forth, back).map(lambda x: xp.take(x, hit))  # noqa: B023
            yield found._replace(better=xp.minimum(*found[:2]), worse=xp.maximum(*found[:2]))


def _promising(xp: Namespace, queries: Scene, entries: Scene, i: Array, j: Array) -> tuple[Array, Array]:
    """Return those of some candidates that by their sizes, and by envelopes they do not fill, may overlap enough."""
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
    """Return pairs with the better box first."""
    better = a.ranks < b.ranks

    def pick(one: Scene, other: Scene) -> Scene:
        boxes = Regions(*(xp.where(better, x, y) for x, y in zip(one.boxes, other.boxes, strict=True)))
        return one._replace(boxes=boxes, ranks=xp.where(better, one.ranks, other.ranks))

    # Labels of a pair are only compared with each other.
    return pick(a, b), pick(b, a)


def overlapping_within(mode: Mode, sweep: Sweep, *, either: bool = False) -> Iterator[Edges]:
    """Yield the pairs of boxes of one sweep that overlap, see `overlapping`: each pair once."""
    return overlapping(mode, sweep.scene, sweep.scene, searches_within(mode.xp, sweep), either=either)


def overlapping_between(mode: Mode, a: Sweep, b: Sweep) -> Iterator[Edges]:
    """Yield the pairs of a box of one sweep and a box of another that overlap, see `overlapping`: each pair once."""
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

"""Samples of a fit that are read in chunks: only sums and drawn samples leave a chunk.

The twin of :class:`~anyops._host.cluster.samples.Samples` for lazy arrays. A task reads a chunk, transforms it tile by
tile, and returns arrays whose size does not grow with the number of rows. Labels are computed on demand.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..._array.backends import to_host
from ..._array.chunked import block_sizes, empty_rows, fold_blocks, over_rows
from ..._array.finite import describe_not_finite
from ..._array.host import Host, beside, from_host, on_host
from ..._array.integers import ends, farthest, largest_exact, may_be_rounded, middle, unresolved
from ..._array.mode import Mode, mode_of
from ..._array.namespace import Array, default_int, working
from ..._array.random import uniforms
from ...cluster.assign import KMeansPartial, kmeans_assign, kmeans_merge, partial_sums
from ...cluster.distances import Metric, to_each, unit
from ...norm import batch_stats, merge_batch_stats
from .place import Place, entered, scale_of, shift_of, unmoved
from .samples import Farthest, Fitted, farthest_of
from .seeding import Drawn, default_trials, parallel, positions
from .sums import Totals
from .weights import unit_of, weights_of

T = TypeVar("T")
COMPARED_AT_ONCE = 1 << 17  # numbers in the rows that are transformed and compared at once


class Extent(NamedTuple):
    """The result of a first pass over samples and their weights."""

    positive: int  # number of samples of positive weight
    largest: float  # largest weight
    low: Host  # (d,) minimum over the samples of positive weight; floating samples of weight 0 count as 0
    high: Host  # (d,) maximum, likewise


def extent(name: str, x: Array, sample_weight: Array | None) -> Extent:
    """Return the extent of rows (n, d); raise ValueError unless weights, and samples of positive weight, are finite."""
    found = _fold(partial(_extent, name), _merge_extents, x, sample_weight)
    nothing = np.zeros(x.shape[1])
    return Extent(0, 0.0, nothing, nothing) if found is None else found


def _extent(name: str, start: int, x: Array, weight: Array | None) -> Extent:
    mode, shipped = mode_of(x=x), weights_of(weight, x.shape[0])
    xp, kept = mode.xp, shipped > 0
    positive, largest = int(np.count_nonzero(kept)), float(np.max(shipped))
    mask = None if np.all(kept) else beside(mode, kept, x)
    if may_be_rounded(xp, x, working(xp, x[:0, ...]).dtype):
        return Extent(positive, largest, *ends(x, mask))
    rows = x if mask is None else xp.where(mask[:, None], x, xp.zeros_like(x))
    if not bool(xp.all(xp.isfinite(rows))):
        raise ValueError(f"{name} must be finite, got {describe_not_finite(xp, rows, start=start)}")
    low, high = (on_host(f(rows, axis=0)) for f in (xp.min, xp.max))
    return Extent(positive, largest, low, high)


def _merge_extents(a: Extent, b: Extent) -> Extent:
    low, high = np.minimum(a.low, b.low), np.maximum(a.high, b.high)
    return Extent(a.positive + b.positive, max(a.largest, b.largest), low, high)


class Frame(NamedTuple):
    """The transform of samples, the unit of their weights, and the metric."""

    place: Place
    unit: float
    metric: Metric

    def samples(self, x: Array, weight: Array | None) -> tuple[Mode, Array, Host, Array | None]:
        """Return the mode of a tile, its transformed samples, its weights on the host, and, if given, with z."""
        mode, x = entered(mode_of(x=x).xp, x)
        shipped = weights_of(weight, x.shape[0]) / self.unit
        xp, kept = mode.xp, None
        if not np.all(shipped > 0):
            kept = beside(mode, shipped > 0, x)[:, None]
            x = xp.where(kept, x, xp.zeros_like(x))
        z = self.place.enter(xp, x)
        z = unit(xp, z) if self.metric == "cosine" else z
        z = z if kept is None else xp.where(kept, z, xp.zeros_like(z))
        return mode, z, shipped, None if weight is None else beside(mode, shipped, z, z.dtype)


def _unshifted(given: Array, like: Array, found: Extent, metric: Metric) -> tuple[Place, float]:
    """Return the transform without its shift, and the squared rounding error of a sample of integers that is left.

    `given` and `like` are empty slices of the samples and of the transformed samples.
    """
    place, low, high, rounded = unmoved(given.shape[1]), found.low, found.high, 0.0
    xp = mode_of(x=given).xp
    floating = xp.finfo(like.dtype)
    if metric == "cosine":
        return place, rounded
    if may_be_rounded(xp, given, like.dtype):
        far = metric == "euclidean" and float(np.max(farthest(low, high))) > largest_exact(xp, like.dtype)
        if far:
            place, rounded = place._replace(offset=middle(low, high)), float(unresolved(low, high, float(floating.eps)))
        low, high = low.astype(np.float64), high.astype(np.float64)
        if far:
            low, high = low - place.offset, high - place.offset
    largest = np.maximum(high, -low)
    largest = largest if metric == "iou" else np.full(largest.shape, np.max(largest))
    return place._replace(scale=scale_of(largest, floating)), rounded


class Chunks(Fitted):
    """Samples in chunks, and the passes over them."""

    def __init__(self, home: Mode, x: Array, found: Extent, weight: Array | None, k: int, metric: Metric, init: Any):
        """Take samples and the mode of their library, their extent, and their weights."""
        super().__init__(home, x, k, metric, "mean", init, unit_of(found.largest))
        self.x, self.weight = x, weight
        like = working(mode_of(x=empty_rows(x)).xp, empty_rows(x))
        self.mode, self.z = mode_of(z=like), like
        self.eps = float(self.mode.xp.finfo(like.dtype).eps)
        place, self.rounded = _unshifted(empty_rows(x), like, found, metric)
        self.frame = Frame(place, self.unit, metric)
        stats = self._fold(_stats, merge_batch_stats)
        mean, m2 = on_host(stats.mean), on_host(stats.m2)
        variance = m2 / found.positive
        self.variance = float(np.mean(variance))
        if metric == "euclidean":
            shift = from_host(self.mode.xp, shift_of(mean, m2, variance, self.frame.place.scale), like.dtype, like)
            self.frame = self.frame._replace(place=self.frame.place._replace(shift=on_host(shift)))
        self.place = self.frame.place
        self.at = np.zeros(())  # the centres of the last pass

    # --- passes ---

    def passes(self) -> "Chunks":
        """Return itself, which has the methods of a pass."""
        return self

    def assign_and_sum(self, centers: Host) -> Totals:
        """Return the sums over the samples closest to each of (k, d) centres."""
        found = self._sums(centers)
        return Totals(on_host(found.sums), on_host(found.counts), float(found.inertia))

    def assign(self, centers: Host) -> Array:
        """Return the index of the closest centre of each sample, as a lazy array."""
        self.at = centers
        make = partial(_labels, self.frame, centers, self.returned(centers))
        return over_rows(make, self.x, None, default_int(self.home.xp, self.x), self.weight)

    def inertia(self) -> float:
        """Σ w · distance by the centres of the last :meth:`assign`."""
        return float(self._sums(self.at).inertia)

    def _sums(self, centers: Host) -> KMeansPartial:
        return self._fold(_sums, kmeans_merge, centers)

    def _fold(
        self, f: Callable[..., T], merge: Callable[[T, T], T], *options: Any, blocks: list[int] | None = None
    ) -> Any:
        return _fold(partial(f, self.frame, *options), merge, self.x, self.weight, blocks)

    def farthest(self, centers: Host, closest: tuple[Array, Array] | None, count: int) -> Farthest:
        """Return the samples farthest from their centres, and how many samples each centre has; `closest` is None."""
        merge = partial(_merge_farthest, count, self.eps)
        return self._fold(_farthest, merge, centers, count, self.eps)

    def labels_out(self, labels: Array, returned: Host, *, from_host_memory: bool) -> Array:
        """Return labels unchanged: they are in the library of the given samples."""
        return labels

    def detached(self, labels: Array) -> Array:
        """Return labels that a later pass does not overwrite."""
        return labels

    def differ(self, a: Array, b: Array) -> int:
        """Return how many labels differ."""
        return int(self.home.xp.sum(a != b))

    def mass(self) -> float:
        """Σ w in the unit of the weights."""
        return float(np.sum(self._weight_by_block(np.zeros(0, np.int64))))

    def are_copies(self, _labels: Array) -> bool:
        """Whether the integers of each cluster are equal, so that its inertia is 0; by the centres of the last pass."""
        low, high = self._fold(_ends, _merge_ends, self.at)
        return bool(np.all(low >= high))

    # --- initial centres ---

    def start(self, rng: Any) -> Host:
        """Return initial centres (k, d)."""
        if not isinstance(self.init, str):
            return self.given_start()
        if self.init == "k-means||":
            return parallel(self, self.k, rng, self.metric)
        return self._distinct(rng) if self.init == "random" else self._plusplus(rng)

    def drawn(self, numbers: Host) -> Drawn:
        """Return samples drawn with probabilities ∝ weights, one for each uniform number."""
        none = np.zeros(0, np.int64)
        return self._draw(numbers, self._weight_by_block(none), None, none)

    def drawn_far(self, key: int, seeds: Drawn, rate: float) -> Drawn:
        """Draw each sample independently with probability `rate` · w · distance / Σ w · distance."""
        found = self._fold(_far, partial(_merge_far, rate), key, seeds, rate)
        order = np.argsort(found.at)
        return Drawn(found.at[order], found.points[order, :])

    def rest(self, seeds: Drawn, count: int) -> Drawn:
        """Return the first samples of positive weight that are not among the seeds."""
        return self._fold(_rest, partial(_merge_rest, count), seeds, count)

    def counts(self, points: Host) -> Host:
        """Return the total weight of the samples closest to each point."""
        return on_host(self._sums(points).counts)

    def _distinct(self, rng: Any) -> Host:
        """Samples drawn without replacement, with the same draws as :meth:`numpy.random.Generator.choice`."""
        index, points = np.zeros(0, np.int64), np.zeros((0, self.x.shape[1]))
        while (missing := self.k - index.shape[0]) > 0:
            new = self._draw(rng.random(missing), self._weight_by_block(index), None, index)
            _, first = np.unique(new.at, return_index=True)
            first = np.sort(first)
            index, points = np.concat([index, new.at[first]]), np.concat([points, new.points[first, :]])
        return points

    def _plusplus(self, rng: Any) -> Host:
        """Samples drawn by k-means++, one pass per centre; distances are recomputed, not stored."""
        index, points = self.drawn(rng.random(1))
        totals = self._lowered(None, points, index, index)[:, 0]
        for _ in range(1, self.k):
            uniform = rng.random(default_trials(self.k))
            if np.sum(totals) > 0:
                new = self._draw(uniform, totals, points, index)
            else:  # only copies of drawn samples are left
                new = self._draw(uniform, self._weight_by_block(index), None, index)
            lowered = self._lowered(points, new.points, index, new.at)
            best = int(np.argmin(np.sum(lowered, axis=0)))
            totals = lowered[:, best]
            index = np.concat([index, new.at[best : best + 1]])
            points = np.concat([points, new.points[best : best + 1, :]])
        return points

    def _weight_by_block(self, without: Host) -> Host:
        """The total weight of each chunk, excluding the samples `without`."""
        ends = np.cumulative_sum(block_sizes(self.x), include_initial=True)
        if self.weight is None:
            return np.diff(ends) - np.histogram(without, ends)[0].astype(np.float64)
        return self._by_block(_weight_left, without)[:, 0]

    def _lowered(self, points: Host | None, new: Host, index: Host, candidates: Host) -> Host:
        """(chunks, m): Σ w · distance to the closest point, if each of m candidates were added to the points."""
        return self._by_block(_lowered, points, new, index, candidates)

    def _by_block(self, f: Callable[..., Host], *options: Any) -> Host:
        """Sums (chunks, m) of each chunk, added up from the sums (m,) of its tiles."""
        of_tiles = partial(_sum_of_tiles, partial(f, self.frame, *options))
        found: dict[int, Host] = fold_blocks(of_tiles, _joined, self.x, self.weight)
        sizes = block_sizes(self.x)
        starts = np.cumulative_sum(sizes) - sizes
        sums = np.zeros((sizes.shape[0], next(iter(found.values())).shape[0]))
        full = np.flatnonzero(sizes)  # an empty chunk begins where the next one does
        sums[full, :] = [found[start] for start in starts[full].tolist()]
        return sums

    def _draw(self, numbers: Host, totals: Host, points: Host | None, without: Host) -> Drawn:
        """Return samples drawn with probabilities ∝ weights, or w · distance from the closest of `points`.

        `totals` are the sums of chunks, so only chunks with a drawn sample are read.
        """
        block, rest = positions(totals, numbers)
        blocks = np.unique(block)
        ends = np.cumulative_sum(block_sizes(self.x), include_initial=True)
        wanted = {int(ends[i]): np.flatnonzero(block == i) for i in blocks.tolist()}
        pick = partial(_pick, self.frame, points, without, {at: rest[of] for at, of in wanted.items()})
        found = fold_blocks(pick, _joined, self.x, self.weight, blocks.tolist())
        index, drawn = np.zeros(len(numbers), np.int64), np.zeros((len(numbers), self.x.shape[1]))
        for at, of in wanted.items():
            index[of], drawn[of, :] = found[at]
        return Drawn(index, drawn)


# --- chunks ----------------------------------------------------------------------------------------------------------


def _fold(f: Callable[..., T], merge: Callable[[T, T], T], x: Array, weight: Array | None, blocks: Any = None) -> Any:
    """Return the merged ``f(index of the first row, rows, weights)`` of the tiles of all chunks; None without rows."""
    return fold_blocks(partial(_fold_tiles, f, merge), partial(_merge_some, merge), x, weight, blocks)


def _fold_tiles(
    f: Callable[..., T], merge: Callable[[T, T], T], starts: Host, x: Array, weight: Array | None
) -> T | None:
    return reduce(merge, (f(*tile) for tile in _tiles(starts, x, weight))) if x.shape[0] else None


def _tiles(starts: Host, x: Array, weight: Array | None) -> Any:
    start, step = int(starts[0]), max(1, COMPARED_AT_ONCE // x.shape[1])
    for at in range(0, x.shape[0], step):
        rows = slice(at, min(at + step, x.shape[0]))
        yield start + at, x[rows, ...], None if weight is None else weight[rows]


def _merge_some(merge: Callable[[T, T], T], a: T | None, b: T | None) -> T | None:
    return b if a is None else a if b is None else merge(a, b)


def _sum_of_tiles(f: Callable[..., Host], starts: Host, x: Array, weight: Array | None) -> dict[int, Host]:
    """The sum over a chunk, keyed by the index of its first row."""
    found = _fold_tiles(f, np.add, starts, x, weight)
    return {} if found is None else {int(starts[0]): found}


def _joined(a: dict[int, Any], b: dict[int, Any]) -> dict[int, Any]:
    return a | b


# --- tiles -----------------------------------------------------------------------------------------------------------


def _stats(frame: Frame, _start: int, x: Array, weight: Array | None) -> Any:
    mode, z, shipped, _ = frame.samples(x, weight)
    return batch_stats(z, axis=1, sample_weight=None if np.all(shipped > 0) else beside(mode, shipped > 0, z))


def _sums(frame: Frame, centers: Host, _start: int, x: Array, weight: Array | None) -> KMeansPartial:
    # If labels repeat, sums and centres do too, and the shift is 0.
    mode, z, _, given = frame.samples(x, weight)
    return partial_sums(z, from_host(mode.xp, centers, z.dtype, z), given, frame.metric, recenter=False)


def _closest(frame: Frame, centers: Host, x: Array, weight: Array | None) -> tuple[Array, Host, Host, Host]:
    """The transformed samples, and on the host their weights, labels and distances."""
    mode, z, shipped, _ = frame.samples(x, weight)
    labels, distances = kmeans_assign(z, from_host(mode.xp, centers, z.dtype, z), metric=frame.metric)
    return z, shipped, to_host(labels), on_host(distances)


def _farthest(frame: Frame, centers: Host, count: int, eps: float, *tile: Any) -> Farthest:
    z, shipped, labels, distances = _closest(frame, centers, *tile[1:])
    return farthest_of(labels, distances, shipped, partial(_rows, z), centers.shape[0], count, eps)


def _rows(z: Array, index: Host) -> Host:
    return on_host(z)[index, :]


def _merge_farthest(count: int, eps: float, a: Farthest, b: Farthest) -> Farthest:
    labels, distances, weights, points = (np.concat(both) for both in list(zip(a, b, strict=True))[1:5])
    found = farthest_of(labels, distances, weights, lambda index: points[index, :], a.members.shape[0], count, eps)
    return found._replace(members=a.members + b.members)


def _ends(frame: Frame, centers: Host, _start: int, x: Array, weight: Array | None) -> tuple[Host, Host]:
    """The least and the largest integers (k, d) of each cluster; in empty clusters the least exceeds the largest."""
    _, shipped, labels, _ = _closest(frame, centers, x, weight)
    kept, given = shipped > 0, to_host(x)
    info = np.iinfo(given.dtype)
    low, high = (np.full((centers.shape[0], given.shape[1]), end, given.dtype) for end in (info.max, info.min))
    np.minimum.at(low, labels[kept], given[kept, :])
    np.maximum.at(high, labels[kept], given[kept, :])
    return low, high


def _merge_ends(a: tuple[Host, Host], b: tuple[Host, Host]) -> tuple[Host, Host]:
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


class _Far(NamedTuple):
    """Samples that may be drawn, and Σ w · distance over all samples read so far."""

    total: float
    uniform: Host
    potential: Host
    at: Host
    points: Host


def _far(frame: Frame, key: int, seeds: Drawn, rate: float, start: int, *tile: Any) -> _Far:
    z, shipped, _, distances = _closest(frame, seeds.points, *tile)
    potential = distances * shipped
    potential[_inside(seeds.at, start, potential.shape[0])] = 0.0
    uniform = uniforms(key, start, start + potential.shape[0])
    total = float(np.sum(potential))
    index = np.flatnonzero(uniform * total < rate * potential)
    return _Far(total, uniform[index], potential[index], start + index, _rows(z, index))


def _merge_far(rate: float, a: _Far, b: _Far) -> _Far:
    """Samples that may be drawn from both parts; fewer remain as the total grows."""
    total = a.total + b.total
    uniform, potential = np.concat([a.uniform, b.uniform]), np.concat([a.potential, b.potential])
    kept = uniform * total < rate * potential
    at, points = np.concat([a.at, b.at]), np.concat([a.points, b.points])
    return _Far(total, uniform[kept], potential[kept], at[kept], points[kept, :])


def _rest(frame: Frame, seeds: Drawn, count: int, start: int, x: Array, weight: Array | None) -> Drawn:
    _, z, shipped, _ = frame.samples(x, weight)
    rest = shipped > 0
    rest[_inside(seeds.at, start, rest.shape[0])] = False
    index = np.flatnonzero(rest)[:count]
    return Drawn(start + index, _rows(z, index))


def _merge_rest(count: int, a: Drawn, b: Drawn) -> Drawn:
    return Drawn(*(np.concat(both)[:count] for both in zip(a, b, strict=True)))


def _inside(index: Host, start: int, n: int) -> Host:
    """Positions within a tile of the samples that belong to it."""
    return index[(index >= start) & (index < start + n)] - start


def _weight_left(_frame: Frame, without: Host, start: int, x: Array, weight: Array | None) -> Host:
    shipped = weights_of(weight, x.shape[0])
    shipped[_inside(without, start, shipped.shape[0])] = 0.0
    return np.asarray([np.sum(shipped / _frame.unit)])


def _each(frame: Frame, mode: Mode, points: Host, z: Array) -> Host:
    return on_host(mode.run(to_each, from_host(mode.xp, points, z.dtype, z), z, metric=frame.metric))


def _lowered(
    frame: Frame, points: Host | None, new: Host, index: Host, candidates: Host, start: int, *tile: Any
) -> Host:
    mode, z, shipped, _ = frame.samples(*tile)
    found = _each(frame, mode, new, z)
    if points is not None:
        found = np.minimum(found, np.min(_each(frame, mode, points, z), axis=0))
    found[:, _inside(index, start, found.shape[1])] = 0.0  # rounding would let them be drawn again
    for row, candidate in enumerate(candidates.tolist()):
        found[row, _inside(np.asarray([candidate]), start, found.shape[1])] = 0.0
    return found @ shipped


def _pick(
    frame: Frame,
    points: Host | None,
    without: Host,
    wanted: dict[int, Host],
    starts: Host,
    x: Array,
    weight: Array | None,
) -> dict[int, tuple[Host, Host]]:
    """The samples of a chunk at which the cumulative sum of weights, or of w · distance, passes the wanted values."""
    parts, rows = [], []
    for start, own, of_own in _tiles(starts, x, weight):
        mode, z, potential, _ = frame.samples(own, of_own)
        if points is not None:
            potential = potential * np.min(_each(frame, mode, points, z), axis=0)
        potential[_inside(without, start, potential.shape[0])] = 0.0
        parts.append(potential)
    first, potential = int(starts[0]), np.concat(parts)
    reached = np.cumulative_sum(potential)
    index = np.minimum(np.searchsorted(reached, wanted[first], side="right"), np.flatnonzero(potential)[-1])
    for i in index.tolist():
        one = slice(i, i + 1)
        rows.append(on_host(frame.samples(x[one, ...], None if weight is None else weight[one])[1]))
    return {first: (first + index, np.concat(rows))}


def _labels(frame: Frame, centers: Host, returned: Host, x: Array, weight: Array | None = None) -> Array:
    """Labels of a chunk, including ignored samples; arbitrary for samples that are not finite."""
    parts = []
    for _, rows, own in _tiles(np.zeros(1, np.int64), x, weight):
        mode, z, shipped, _ = frame.samples(rows, own)
        labels = kmeans_assign(z, from_host(mode.xp, centers, z.dtype, z), metric=frame.metric).labels
        if not np.all(shipped > 0):
            xp = mode.xp
            finite = xp.where(xp.isfinite(rows), rows, xp.zeros_like(rows))
            found = kmeans_assign(finite, from_host(xp, returned, z.dtype, z), metric=frame.metric).labels
            labels = xp.where(beside(mode, shipped > 0, z), labels, found)
        parts.append(labels)
    xp = mode_of(x=x).xp
    return xp.concat(parts) if parts else xp.zeros(0, dtype=default_int(xp, x))

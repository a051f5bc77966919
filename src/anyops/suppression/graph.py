"""Rivals as a sparse graph: the pairs of boxes that overlap. For eager calls, in memory of the overlaps.

Boxes are numbered by rank, so that of each pair the one with the smaller number is the better.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from .._array.namespace import Array, DType, Namespace, chunk_size, device
from .._array.segments import mark, segment_max, segment_min, segment_sum
from .._array.selection import indices_of
from .edges import kept_of_edges
from .overlaps import Pairs, Scene, Strips, Sweep, acts, both_ways, overlapping, searches_within

# Up to this many boxes all are compared with all: that takes fewer calls.
SMALL = 256


@dataclass(frozen=True)
class Graph:
    """Pairs of rivals, and reductions over the better rivals of each box.

    `function` gives a value for each pair; it is called with this graph, which has the `overlap` of the pairs, and
    brings a value of each box to the pairs in which it is the `better` or the `worse` one.
    """

    xp: Namespace
    order: Array  # position of the box of each rank (N,)
    ranks: tuple[Array, Array]  # of the better and the worse box of each pair
    overlap: Array  # seen from the better box
    reverse: Array  # seen from the worse one

    @classmethod
    def of(cls, xp: Namespace, scene: Scene, order: Array, *, room: int) -> "Graph | None":
        """Return the graph of the boxes of a scene, each with positive sides, whose positions are in `order`.

        None if more than `room` pairs overlap.
        """
        strips = None if scene.size <= SMALL else Strips.of(xp, scene)
        if strips is not None and bool(strips.fits(xp)):
            sweep = Sweep.of(xp, strips, scene)
            # Which is the better box may change while scores do.
            either = scene.kind == "iof"
            parts = overlapping(xp, sweep.scene, sweep.scene, searches_within(xp, sweep), either=either)
        else:
            parts = _all_with_all(xp, scene)
        pairs = []
        for part in parts:
            pairs.append(part)
            room -= part[0].shape[0]
            if room < 0:
                return None
        nothing = scene.ranks[:0], scene.ranks[:0], scene.boxes.columns[0, :0]
        if scene.kind == "iof":
            better, worse, forth, back = join(xp, (*nothing, nothing[2]), pairs)
        else:
            better, worse, forth = join(xp, nothing, pairs)
            back = forth
        return cls(xp, order, (better, worse), forth, back)

    @classmethod
    def of_matrix(cls, xp: Namespace, overlaps: Array, order: Array, labels: Array | None, threshold: float) -> "Graph":
        """Return the graph of given overlaps (N, N), of the boxes at the positions `order`, by rank."""
        n = order.shape[0]
        ranks = xp.arange(n, dtype=order.dtype, device=device(order))
        labels = None if labels is None else xp.take(labels, order)

        def parts() -> Iterator[Pairs]:
            step = max(1, 4 * chunk_size(overlaps) // max(n, 1))
            for start in range(0, n, step):
                rows, columns = ranks[start : min(start + step, n)], ranks[start:]
                i, j = xp.take(order, rows), xp.take(order, columns)
                forth = xp.take(xp.take(overlaps, i, axis=0), j, axis=1)
                back = xp.matrix_transpose(xp.take(xp.take(overlaps, i, axis=1), j, axis=0))
                # One side of a pair may act while the other does not: what is not positive, NaN included, is 0.
                forth, back = (xp.where(x > 0, x, xp.zeros_like(x)) for x in (forth, back))
                hit = ((forth > threshold) | (back > threshold)) & (rows[:, None] < columns)
                if labels is not None:
                    hit = hit & (xp.take(labels, rows)[:, None] == xp.take(labels, columns))
                at = indices_of(xp, xp.reshape(hit, (-1,)))
                row, column = at // columns.shape[0], at % columns.shape[0]
                yield (
                    xp.take(rows, row),
                    xp.take(columns, column),
                    *(xp.take(xp.reshape(x, (-1,)), at) for x in (forth, back)),
                )

        nothing = ranks[:0], ranks[:0], *(xp.zeros((0,), dtype=overlaps.dtype, device=device(order)) for _ in range(2))
        better, worse, forth, back = join(xp, nothing, parts())
        return cls(xp, order, (better, worse), forth, back)

    @property
    def dtype(self) -> DType:
        """Dtype of the overlaps."""
        return self.overlap.dtype

    def better(self, x: Array) -> Array:
        """Return the value of the better box of each pair; boxes lie along the last axis."""
        return self.xp.take(x, self.ranks[0], axis=-1)

    def worse(self, x: Array) -> Array:
        """Return the value of the worse box of each pair."""
        return self.xp.take(x, self.ranks[1], axis=-1)

    def any(self, function: Callable[["Graph"], Array]) -> Array:
        """Whether `function` holds for some better rival of each box."""
        return mark(self.xp, self.xp.take(self.ranks[1], indices_of(self.xp, function(self))), self.order.shape[0])

    def max(self, function: Callable[["Graph"], Array], initial: Array) -> Array:
        """Largest of the values of the better rivals of each box and its initial one."""
        return segment_max(self.xp, function(self), self.ranks[1], initial)

    def min(self, function: Callable[["Graph"], Array], initial: Array) -> Array:
        """Smallest of the values of the better rivals of each box and its initial one."""
        return segment_min(self.xp, function(self), self.ranks[1], initial)

    def sum(self, function: Callable[["Graph"], Array]) -> Array:
        """Sum over the better rivals of each box."""
        return segment_sum(self.xp, function(self), self.ranks[1], self.order.shape[0])

    def sums_of_worse(self, function: Callable[["Graph"], Array], x: Array) -> Array:
        """Sum over the worse rivals of each box of their values x (K, N), weighted by `function`: (K, N)."""
        weights = function(self)
        some = indices_of(self.xp, weights != 0)
        weights, better, worse = (self.xp.take(v, some) for v in (weights, *self.ranks))
        rows = (
            segment_sum(self.xp, weights * self.xp.take(x[k, ...], worse), better, self.order.shape[0])
            for k in range(x.shape[0])
        )
        return self.xp.stack(list(rows))

    def kept(self, threshold: float) -> Array:
        """Whether greedy suppression keeps each box."""
        over = indices_of(self.xp, self.overlap > threshold)
        better, worse = (self.xp.take(rank, over) for rank in self.ranks)
        return kept_of_edges(self.xp, better, worse, self.order.shape[0])

    def at(self, index: Array) -> "Graph":
        """Return the graph of the pairs at some positions."""
        better, worse, forth, back = (self.xp.take(x, index) for x in (*self.ranks, self.overlap, self.reverse))
        return replace(self, ranks=(better, worse), overlap=forth, reverse=back)

    def turned(self, swap: Array) -> "Graph":
        """Return the graph with the better and the worse box of some pairs exchanged."""
        (better, worse), (forth, back) = (
            (self.xp.where(swap, b, a), self.xp.where(swap, a, b))
            for a, b in (self.ranks, (self.overlap, self.reverse))
        )
        return replace(self, ranks=(better, worse), overlap=forth, reverse=back)


def join(xp: Namespace, nothing: tuple[Array, ...], parts: Iterable[Pairs]) -> tuple[Array, ...]:
    """Return as many columns of all parts as `nothing` has, which is what they are where there are no parts."""
    return tuple(xp.concat(column) for column in zip(nothing, *(part[: len(nothing)] for part in parts), strict=True))


def _all_with_all(xp: Namespace, scene: Scene) -> Iterator[Pairs]:
    """Yield the pairs that overlap, by comparing each box with all that rank below it."""
    step = max(1, 2 * chunk_size(scene.ranks) // max(scene.size, 1))
    for start in range(0, scene.size, step):
        stop = min(start + step, scene.size)
        rows, columns = scene.map(lambda x: x[..., start:stop]), scene.map(lambda x: x[..., start:])  # noqa: B023
        a, b = rows.map(lambda x: x[..., :, None]), columns.map(lambda x: x[..., None, :])
        forth, back = both_ways(xp, a, b)
        hit = acts(a, b, forth if back is forth else xp.maximum(forth, back)) & (a.ranks < b.ranks)
        at = indices_of(xp, xp.reshape(hit, (-1,)))
        row, column = at // columns.size, at % columns.size
        forth, back = xp.reshape(forth, (-1,)), None if back is forth else xp.reshape(back, (-1,))
        over = xp.take(forth, at)
        yield (
            xp.take(rows.ranks, row),
            xp.take(columns.ranks, column),
            over,
            over if back is None else xp.take(back, at),
        )

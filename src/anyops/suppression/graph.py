"""Rivals as a sparse graph of the pairs of boxes that overlap, for eager calls; memory grows with these pairs.

Boxes are numbered by rank, so in each pair the box with the smaller number is the better one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .._array.mode import Mode
from .._array.namespace import Array, DType, Namespace, device
from .._array.pieces import tiles
from .._array.segments import mark, segment_max, segment_min, segment_sum
from .._array.selection import indices_of
from .edges import kept_of_edges
from .overlaps import Edges, Scene, Strips, Sweep, acts, both_ways, collected, overlapping_within

# Numbers of boxes, and of other regions, whose overlaps cost more, up to which comparing all pairs takes fewer calls.
ALL_COMPARED, FEW_COMPARED = 256, 64


@dataclass(frozen=True)
class Graph:
    """Pairs of rivals, and reductions over the better rivals of each box.

    The argument `function` maps a graph to a value for each pair. It reads the `overlap` of the pairs, and looks up the
    values of their `better` and `worse` boxes.
    """

    xp: Namespace
    order: Array  # position of the box of each rank (N,)
    edges: Edges

    @classmethod
    def of(cls, mode: Mode, scene: Scene, order: Array, *, room: int) -> "Graph | None":
        """Return the graph of a scene of boxes with positive sides; `order` holds the positions of the boxes by rank.

        None if more than `room` pairs overlap.
        """
        xp, few = mode.xp, ALL_COMPARED if scene.measure.geometry.along_axes else FEW_COMPARED
        strips = None if scene.size <= few else Strips.of(xp, scene)
        if strips is not None and bool(strips.fits(xp)):
            # Soft-NMS changes scores, and so may swap the better and the worse box of a pair.
            parts = overlapping_within(mode, Sweep.of(xp, strips, scene), either=scene.measure.kind == "iof")
        else:
            parts = all_with_all(mode, scene)
        found = collected(parts, room)
        return None if found is None else cls(xp, order, Edges.join(xp, scene, found))

    @classmethod
    def of_matrix(cls, mode: Mode, overlaps: Array, order: Array, labels: Array | None, threshold: float) -> "Graph":
        """Return the graph of given overlaps (N, N), of the boxes whose positions by rank are `order`."""
        xp, n = mode.xp, order.shape[0]
        ranks = xp.arange(n, dtype=order.dtype, device=device(order))
        labels = None if labels is None else xp.take(labels, order)

        def compared(rows: slice, _: slice) -> Edges:
            some, others = ranks[rows], ranks[rows.start :]
            i, j = order[rows], order[rows.start :]
            forth = xp.take(xp.take(overlaps, i, axis=0), j, axis=1)
            back = xp.matrix_transpose(xp.take(xp.take(overlaps, i, axis=1), j, axis=0))
            # A matrix may be asymmetric, so the overlap may count in one direction only; the other one is then 0.
            forth, back = (xp.where(x > 0, x, xp.zeros_like(x)) for x in (forth, back))
            hit = ((forth > threshold) | (back > threshold)) & (some[:, None] < others)
            if labels is not None:
                hit = hit & (labels[rows, None] == labels[rows.start :])
            return Edges.where(xp, hit, some, others, forth, back)

        parts = [compared(*rows) for rows in tiles((n, n), mode.chunk, (0,))]
        return cls(xp, order, Edges(*(xp.concat(column) for column in zip(*parts, strict=True))))

    @property
    def overlap(self) -> Array:
        """Overlap of each pair, with the better box as the first one."""
        return self.edges.forth

    @property
    def dtype(self) -> DType:
        """Dtype of the overlaps."""
        return self.overlap.dtype

    def better(self, x: Array) -> Array:
        """Return the value of the better box of each pair; boxes are along the last axis."""
        return self.xp.take(x, self.edges.better, axis=-1)

    def worse(self, x: Array) -> Array:
        """Return the value of the worse box of each pair."""
        return self.xp.take(x, self.edges.worse, axis=-1)

    def any(self, function: Callable[["Graph"], Array]) -> Array:
        """Whether `function` holds for some better rival of each box."""
        return mark(self.xp, self.xp.take(self.edges.worse, indices_of(self.xp, function(self))), self.order.shape[0])

    def max(self, function: Callable[["Graph"], Array], initial: Array) -> Array:
        """Largest value among the better rivals of each box, at least its initial value."""
        return segment_max(self.xp, function(self), self.edges.worse, initial)

    def min(self, function: Callable[["Graph"], Array], initial: Array) -> Array:
        """Smallest value among the better rivals of each box, at most its initial value."""
        return segment_min(self.xp, function(self), self.edges.worse, initial)

    def sum(self, function: Callable[["Graph"], Array]) -> Array:
        """Sum over the better rivals of each box."""
        return segment_sum(self.xp, function(self), self.edges.worse, self.order.shape[0])

    def sums_of_worse(self, function: Callable[["Graph"], Array], x: Array) -> Array:
        """Sums (K, N) over the worse rivals of each box: of their values x (K, N), weighted by `function`."""
        weights = function(self)
        some = indices_of(self.xp, weights != 0)
        weights, better, worse = (self.xp.take(v, some) for v in (weights, self.edges.better, self.edges.worse))
        rows = (
            segment_sum(self.xp, weights * self.xp.take(x[k, ...], worse), better, self.order.shape[0])
            for k in range(x.shape[0])
        )
        return self.xp.stack(list(rows))

    def kept(self, threshold: float) -> Array:
        """Whether greedy suppression keeps each box."""
        over = self.at(indices_of(self.xp, self.overlap > threshold)).edges
        return kept_of_edges(self.xp, over.better, over.worse, self.order.shape[0])

    def at(self, index: Array) -> "Graph":
        """Return the graph of the pairs at some positions."""
        return replace(self, edges=self.edges.map(lambda x: self.xp.take(x, index)))

    def turned(self, swap: Array) -> "Graph":
        """Return the graph with the better and the worse box of some pairs exchanged."""
        xp, (better, worse, forth, back) = self.xp, self.edges
        (better, worse), (forth, back) = (
            (xp.where(swap, b, a), xp.where(swap, a, b)) for a, b in ((better, worse), (forth, back))
        )
        return replace(self, edges=Edges(better, worse, forth, back))


def compared(xp: Namespace, rows: Scene, columns: Scene) -> Edges:
    """Return the overlapping pairs of a better box in `rows` and a worse one in `columns`, by comparing all pairs."""
    a, b = rows.map(lambda x: x[..., :, None]), columns.map(lambda x: x[..., None, :])
    forth, back = both_ways(xp, a, b)
    hit = acts(a, b, forth if back is forth else xp.maximum(forth, back)) & (a.ranks < b.ranks)
    return Edges.where(xp, hit, rows.ranks, columns.ranks, forth, back)


def all_with_all(mode: Mode, scene: Scene) -> Iterator[Edges]:
    """Yield the overlapping pairs, by comparing each box with all that rank below it."""
    chunk = mode.chunk // scene.measure.geometry.weight(scene.boxes, scene.boxes)
    for rows, _ in tiles((scene.size, scene.size), chunk, (0,)):
        yield compared(mode.xp, scene.part(rows.start, rows.stop), scene.part(rows.start, None))

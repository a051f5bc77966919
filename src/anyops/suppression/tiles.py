"""Rivals as dense tiles of some boxes against all, for fixed shapes; memory is the rows of a tile times N.

Boxes are numbered by rank, so in each pair the box with the smaller number is the better one. The rows of a tile are
better boxes; a reduction over the better rivals of each box loops over the tiles.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from .._array.loop import UNROLLED, for_each, while_loop
from .._array.mode import Mode
from .._array.namespace import Array, DType, Namespace, default_int, device, is_dynamic, stop_gradient, working
from .._array.order import descending
from .._array.segments import mark
from .._array.selection import insertion, take_along
from ..boxes.geometry import Regions, meet
from ..boxes.regions import Measure, overlap, ready, with_envelopes
from .detections import Detections

# Rows of a tile: enough work for a kernel launch. Fewer if there are many tiles or no launches, because the boxes of a
# tile are first decided among themselves.
ROWS, NARROW = 256, 128
# Least number of rows of a tile, even for polygons with many edges.
FEWEST = 8
# Overlaps of costly regions are computed for 1 / TO_ONE of a tile's pairs at a time.
TO_ONE = 64
# The true values of a mask are counted in blocks of this size, so that finding one searches only its block.
COUNTED_TOGETHER = 16
# Greedy suppression splits the ranks into this many parts, each compared only with boxes from its first rank on.
PARTS = 8


@dataclass(frozen=True)
class Pairs:
    """Pairs of some boxes with all boxes: their `overlap`, and lookups of the values of the better and worse boxes."""

    xp: Namespace
    start: Array | int  # rank of the first of some boxes; an array in a compiled loop; below 0 for padding
    ranks: Array  # (T,), of some boxes, which are the better ones
    overlap: Array = None  # (..., T, N)

    def of(self, x: Array) -> Array:
        """Return the values of these T boxes; boxes are along the last axis."""
        if isinstance(self.start, int):
            return x[..., self.start : self.start + self.ranks.shape[0]]
        return self.xp.take(x, self.ranks, axis=-1)

    def better(self, x: Array) -> Array:
        """Return the value of the better box of each pair."""
        return self.of(x)[..., :, None]

    def worse(self, x: Array) -> Array:
        """Return the value of the worse box of each pair."""
        return x[..., None, :]


Function = Callable[[Pairs], Array]


@dataclass(frozen=True)
class Tiles:
    """Reductions over the better rivals of each box: boxes of better rank, equal label and an overlap above 0."""

    xp: Namespace
    order: Array  # position of the box of each rank (..., N)
    boxes: Regions | None  # by rank, as labels and valid
    labels: Array | None
    valid: Array | None
    matrix: Array  # overlaps in the order of the arguments, used instead of boxes; or None
    measure: Measure

    @classmethod
    def of(cls, xp: Namespace, order: Array, detections: Detections, measure: Measure) -> "Tiles":
        """Return the tiles of detections whose positions by rank are `order`."""
        boxes, _, labels, _, valid = detections._replace(overlaps=None).take(xp, order)
        if detections.overlaps is not None:
            return cls(xp, order, None, labels, valid, working(xp, detections.overlaps), measure)
        return cls(xp, order, ready(xp, working(xp, boxes), measure), labels, valid, None, measure)

    @property
    def dtype(self) -> DType:
        """Dtype of the overlaps."""
        return (self.matrix if self.boxes is None else self.boxes.columns).dtype

    def map(self, function: Callable[[Array], Array]) -> "Tiles":
        """Return these tiles with a function applied to each array that is ordered by rank."""
        order, labels, valid = (None if x is None else function(x) for x in (self.order, self.labels, self.valid))
        boxes = None if self.boxes is None else self.boxes.map(function)
        return replace(self, order=order, boxes=boxes, labels=labels, valid=valid)

    def ranked_by(self, position: Array) -> "Tiles":
        """Return these tiles with the box that was at `position` at each rank."""
        return self.map(lambda x: _along(self.xp, x, position))

    def constant(self) -> "Tiles":
        """Return these tiles as constants for automatic differentiation."""
        boxes = None if self.boxes is None else self.boxes.map(stop_gradient)
        return replace(self, boxes=boxes, matrix=None if self.matrix is None else stop_gradient(self.matrix))

    def row(self, rank: Array) -> tuple[Array, Array]:
        """Overlaps (..., N) of the box at `rank` (..., 1) with all boxes, and which of these are its rivals."""
        xp = self.xp
        if self.boxes is None:
            at = take_along(xp, self.order, rank, axis=-1)[..., None]
            row = take_along(xp, self.matrix, xp.broadcast_to(at, (*at.shape[:-1], self.matrix.shape[-1])), axis=-2)
            over = take_along(xp, row[..., 0, :], self.order, axis=-1)
        else:
            over = overlap(xp, self.boxes.map(lambda x: _along(xp, x, rank)), self.boxes, self.measure)
        acts = over > 0
        return over, acts if self.labels is None else acts & (_along(xp, self.labels, rank) == self.labels)

    @property
    def _weight(self) -> int:
        """Memory for a pair of these regions, in pairs of axis-aligned boxes."""
        return 1 if self.boxes is None else self.measure.geometry.weight(self.boxes, self.boxes)

    @property
    def _costly(self) -> Regions | None:
        """Regions with costly overlaps, computed only if envelopes intersect; None if overlaps are cheap."""
        return None if self.measure.geometry.along_axes else self.boxes

    def _overlaps(self, rows: Pairs) -> Array:
        """Overlaps (..., T, N) of the boxes of T ranks with all boxes."""
        xp = self.xp
        if self.boxes is not None:
            return overlap(xp, self.boxes.map(rows.better), self.boxes.map(rows.worse), self.measure)
        ranked = rows.of(self.order)
        row = xp.broadcast_to(ranked[..., :, None], (*ranked.shape, self.matrix.shape[-1]))
        column = xp.broadcast_to(self.order[..., None, :], (*ranked.shape, self.order.shape[-1]))
        return take_along(xp, take_along(xp, self.matrix, row, axis=-2), column, axis=-1)

    def _exceeding(self, rows: Pairs, acts: Array, live: Array, threshold: Array | float) -> Array:
        """Which pairs (..., T, N) in `acts` overlap by more than a threshold; for costly overlaps, live pairs only."""
        xp, boxes, n = self.xp, self._costly, acts.shape[-1]
        if boxes is None:
            return acts & (self._overlaps(rows) > threshold)
        acts = acts & rows.better(live) & rows.worse(live) & meet(xp, boxes.map(rows.better), boxes.map(rows.worse))
        flat = boxes.map(lambda x: xp.reshape(x, (x.shape[0], -1)))  # concatenate the scenes of a batch

        def exceeds(at: Array) -> Array:
            row = at // n
            column = at - row * n
            first, rank = row // acts.shape[-2] * n, xp.take(rows.ranks, row % acts.shape[-2])
            a, b = (flat.map(lambda x: xp.take(x, i, axis=-1)) for i in (first + rank, first + column))  # noqa: B023
            return overlap(xp, a, b, self.measure) > threshold

        share = math.prod(acts.shape) // (TO_ONE * self._weight)
        # A sum instead of a maximum for dynamic sizes, which cannot be compared.
        return evaluated_where(xp, acts, exceeds, share + n if is_dynamic(xp, share) else max(share, n))

    def any(self, function: Function) -> Array:
        """Whether `function` holds for some better rival of each box."""
        xp, none = self.xp, self.xp.zeros_like(self.order, dtype=self.xp.bool)
        return self._reduce(lambda pairs, acts, out: out | xp.any(acts & function(pairs), axis=-2), none)

    def max(self, function: Function, initial: Array, *, rows: int | None = None) -> Array:
        """Largest value among the better rivals of each box, or the best `rows` boxes, at least its initial value."""
        xp = self.xp

        def add(pairs: Pairs, acts: Array, out: Array) -> Array:
            # `out` again, because the maximum over a tile's rows need not contain it.
            return xp.maximum(out, xp.max(xp.where(acts, function(pairs), pairs.worse(out)), axis=-2))

        return self._reduce(add, initial, rows)

    def min(self, function: Function, initial: Array, *, rows: int | None = None) -> Array:
        """Smallest value, see :meth:`max`."""
        return -self.max(lambda pairs: -function(pairs), -initial, rows=rows)

    def sum(self, function: Function) -> Array:
        """Sum over the better rivals of each box."""
        xp, zero = self.xp, self.xp.zeros_like(self.order, dtype=self.dtype)
        return self._reduce(lambda pairs, acts, out: out + xp.sum(xp.where(acts, function(pairs), 0.0), axis=-2), zero)

    def sums_of_worse(self, function: Function, x: Array) -> Array:
        """Sums (K, ..., N) over the worse rivals of each box: of their values x (K, ..., N), weighted by `function`."""
        xp = self.xp
        ranks = self._ranks()

        def add(pairs: Pairs, acts: Array, out: Array) -> Array:
            weight = function(pairs)
            if self.valid is not None:
                acts = acts & pairs.worse(self.valid)
            weight = xp.where(acts, weight, xp.zeros_like(weight))
            sums = xp.stack([xp.sum(weight * pairs.worse(x[k, ...]), axis=-1) for k in range(x.shape[0])])
            first, size = pairs.start, pairs.ranks.shape[0]
            inside = (ranks >= first) & (ranks < first + size)
            place = xp.where(inside, ranks - first, xp.zeros_like(ranks))
            return out + xp.where(inside, xp.take(sums, place, axis=-1), xp.zeros_like(out))

        return self._reduce(add, xp.zeros_like(x))

    def kept(self, threshold: Array | float, *, rows: int | None = None, tile: int = ROWS) -> Array:
        """Whether greedy suppression by the best `rows` boxes, or by all, keeps each box."""
        xp, n = self.xp, self.order.shape[-1]
        live = xp.ones_like(self.order, dtype=xp.bool) if self.valid is None else self.valid
        whole, costly = self, self._costly
        if costly is not None:
            whole = replace(self, boxes=with_envelopes(xp, costly, self.measure, threshold))

        def resolve(rest: Tiles, pairs: Pairs, acts: Array, live: Array) -> Array:
            over = rest._exceeding(pairs, acts, live, threshold)
            kept = fixed_point(xp, pairs.of(over), pairs.of(live))
            return live & ~xp.any(over & kept[..., :, None], axis=-2)

        # In parts of whole tiles, so that few comparisons are with boxes that rank above the part.
        if is_dynamic(xp, n):
            return whole._fold(partial(resolve, whole), live, tile=tile)
        rows = n if rows is None else min(rows, n)
        tile, parts = (tile, 1) if costly is not None else (tile if rows <= PARTS * ROWS else NARROW, PARTS)
        step = max(-(-rows // (parts * tile)), 1) * tile
        for first in range(0, rows, step):
            rest = whole.map(lambda x: x[..., first:])  # noqa: B023
            part = rest._fold(partial(resolve, rest), live[..., first:], rows=min(step, rows - first), tile=tile)
            live = part if first == 0 else xp.concat((live[..., :first], part), axis=-1)
        return live

    def _ranks(self) -> Array:
        return self.xp.arange(self.order.shape[-1], dtype=self.order.dtype, device=device(self.order))

    def _reduce(self, add: Callable[[Pairs, Array, Array], Array], out: Array, rows: int | None = None) -> Array:
        """Loop over the tiles as `_fold` does, with the overlaps of all pairs; only pairs that overlap act."""

        def add_all(pairs: Pairs, acts: Array, out: Array) -> Array:
            pairs = replace(pairs, overlap=self._overlaps(pairs))
            return add(pairs, acts & (pairs.overlap > 0), out)

        return self._fold(add_all, out, rows=rows, tile=max(ROWS // self._weight, FEWEST))

    def _fold(
        self,
        add: Callable[[Pairs, Array, Array], Array],
        out: Array,
        *,
        rows: int | None = None,
        tile: int,
    ) -> Array:
        """Loop over the tiles: ``out = add(pairs, which of them may act, out)``."""
        xp, n = self.xp, self.order.shape[-1]
        if 0 in self.order.shape:
            return out
        dynamic, ranks = is_dynamic(xp, n), self._ranks()
        size = tile if dynamic else min(n, tile)
        rows = n if rows is None else rows

        def step(k: Array | int, out: Array) -> tuple[Array]:
            # The last tile starts earlier, at rows already seen, to be as large as the others.
            first = k * size
            start = min(first, n - size) if isinstance(k, int) else xp.minimum(first, ranks[-1] - (size - 1))
            some = xp.arange(size, dtype=ranks.dtype, device=device(ranks)) + start
            unseen = some >= first
            if dynamic:
                some = xp.maximum(some, xp.zeros_like(some))
            pairs = Pairs(xp, start, some)
            acts = some[:, None] < ranks
            if dynamic or n % size:
                acts = acts & unseen[:, None]
            if self.labels is not None:
                acts = acts & (pairs.better(self.labels) == pairs.worse(self.labels))
            if self.valid is not None:
                acts = acts & pairs.better(self.valid)
            return (add(pairs, acts, out),)

        (out,) = for_each((rows + size - 1) // size, step, (out,), unrolled=UNROLLED if self._costly is None else 1)
        return out


def _along(xp: Namespace, x: Array, index: Array) -> Array:
    """Return the values of columns (K, ..., N) at an index (..., M)."""
    return take_along(xp, x, xp.broadcast_to(index, (*x.shape[:-1], index.shape[-1])), axis=-1)


def evaluated_where(xp: Namespace, mask: Array, function: Callable[[Array], Array], size: int) -> Array:
    """Return mask & function, evaluated only where the mask is true, on `size` flat positions at a time."""
    whole = math.prod(mask.shape)
    # At least one element of padding, so that there is a last block for a dynamic size.
    rest = xp.zeros(COUNTED_TOGETHER - whole % COUNTED_TOGETHER, dtype=xp.bool, device=device(mask))
    blocks = xp.reshape(xp.concat((xp.reshape(mask, (-1,)), rest)), (-1, COUNTED_TOGETHER))
    count = xp.sum(xp.astype(blocks, default_int(xp, mask)), axis=1)
    number = xp.cumulative_sum(count)
    slots = xp.arange(1, size + 1, dtype=number.dtype, device=device(mask))

    def remain(done: Array, _found: Array) -> Array:
        return done < number[-1]

    def evaluate(done: Array, found: Array) -> tuple[Array, Array]:
        # The block that contains the k-th true value, and its place within the block.
        block = insertion(xp, number, slots + done)
        real = block < number.shape[0]
        block = xp.where(real, block, 0)
        k = slots + done - xp.take(number - count, block)
        inside = xp.cumulative_sum(xp.astype(xp.take(blocks, block, axis=0), number.dtype), axis=1)
        at = block * COUNTED_TOGETHER + xp.sum(xp.astype(inside < k[:, None], number.dtype), axis=1)
        holds = real & function(xp.where(real, at, 0))
        return done + size, found | mark(xp, xp.where(holds, at, whole), whole + 1)[:whole]

    start = xp.zeros_like(number[-1]), xp.zeros_like(xp.reshape(mask, (-1,)))
    return xp.reshape(while_loop(remain, evaluate, start)[1], mask.shape)


def fixed_point(xp: Namespace, over: Array, live: Array | None = None) -> Array:
    """Solution of b_j = live_j and not any_i (b_i and X_ij) for a strictly triangular X (..., T, T)."""
    # By matrix products: the number of suppressors is exact, and no reduction of the libraries is faster.
    over = xp.astype(over, xp.float32)
    start = xp.ones_like(over[..., :1, :]) if live is None else xp.astype(live, xp.float32)[..., None, :]
    zero = xp.zeros_like(start)

    def unsettled(b: Array, before: Array) -> Array:
        return xp.any(b != before)

    def iterate(b: Array, _before: Array) -> tuple[Array, Array]:
        return xp.maximum(start - xp.matmul(b, over), zero), b

    return while_loop(unsettled, iterate, (start, -1 - start))[0][..., 0, :] > 0


def ranked_mask(
    mode: Mode, detections: Detections, threshold: Array | float, *, measure: Measure, rows: int | None = None
) -> tuple[Array, Array]:
    """Positions by rank, and whether greedy suppression by the best `rows` boxes keeps the box of each rank."""
    order = descending(mode.xp, detections.scores)
    tiles = Tiles.of(mode.xp, order, detections, measure)
    return order, tiles.kept(threshold, rows=rows, tile=NARROW if mode.fused else ROWS)

"""Pairs with a box kept by greedy suppression, for scenes in which nearly all boxes overlap."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import add

from .._array.mode import Mode
from .._array.namespace import Array, Namespace
from .._array.segments import mark
from .._array.selection import indices_of
from ..boxes.regions import Measure
from .detections import Detections
from .graph import Graph
from .overlaps import Edges, Strips, Sweep, gathered, overlapping_between, overlapping_within, scene_by_rank
from .select import ranked_above

# Largest number of pairs, in all or per box, for a graph of all pairs.
PAIRS, PAIRS_PER_BOX = 1 << 16, 16


def small_graph(
    mode: Mode, detections: Detections, threshold: float, least: float | None, measure: Measure
) -> tuple[Array, Graph | None]:
    """Return the positions by rank of boxes with scores above `least`, and the graph of pairs, None if too many."""
    xp, (boxes, scores, labels, *_) = mode.xp, detections
    order = ranked_above(xp, scores, least)
    scene, proper = scene_by_rank(xp, boxes, labels, order, measure, threshold)
    scene = scene if proper is None else scene.take(xp, indices_of(xp, proper))
    return order, Graph.of(mode, scene, order, room=max(PAIRS, PAIRS_PER_BOX * order.shape[0]))


def pairs_with_kept(
    mode: Mode,
    detections: Detections,
    kept: Array,
    threshold: float,
    least: float | None,
    measure: Measure,
    *,
    among: bool = False,
) -> tuple[Array, Array, Callable[[], Iterator[Edges]]] | None:
    """Return the positions by rank, whether each is kept, and the pairs of a box kept and a box dropped.

    `among` adds pairs among the boxes kept. Pairs come in parts, each of about as many pairs as there are boxes, so
    memory grows with boxes, and time with pairs. None for a scene that cannot be cut into strips.
    """
    xp, (boxes, scores, labels, *_) = mode.xp, detections
    order = ranked_above(xp, scores, least)
    is_kept = xp.take(mark(xp, kept, scores.shape[0]), order)
    scene, proper = scene_by_rank(xp, boxes, labels, order, measure, threshold)
    # A box that cannot overlap others is kept, and is in no pair.
    scene = scene if proper is None else scene.take(xp, indices_of(xp, proper))
    winner = xp.take(is_kept, scene.ranks)
    winners, others = (scene.take(xp, indices_of(xp, some)) for some in (winner, ~winner))
    sweeps = []
    if others.size or (among and winners.size):
        strips = Strips.of(xp, scene)
        if not bool(strips.fits(xp)):
            return None
        sweeps = [Sweep.of(xp, strips, some) for some in (winners, others) if some.size]

    def pairs() -> Iterator[Edges]:
        found = [overlapping_between(mode, *sweeps)] if len(sweeps) == 2 else []
        if among and sweeps:
            found.append(overlapping_within(mode, sweeps[0]))
        return gathered(xp, scene, chain(*found), order.shape[0])

    return order, is_kept, pairs


@dataclass(frozen=True)
class Winners:
    """Rivals if only boxes kept by greedy suppression have an effect: reductions over pairs with such a box, in parts.

    For functions that are 0 if the better box is not kept.
    """

    xp: Namespace
    order: Array  # position of the box of each rank (N,)
    is_kept: Array  # (N,), by rank
    pairs: Callable[[], Iterator[Edges]]

    def sum(self, function: Callable[[Graph], Array]) -> Array:
        """Sum over the better rivals of each box."""
        return self._added(lambda pair: pair.sum(function))

    def sums_of_worse(self, function: Callable[[Graph], Array], x: Array) -> Array:
        """Sums (K, N) over the worse rivals of each box: of their values x (K, N), weighted by `function`."""
        return self._added(lambda pair: pair.sums_of_worse(function, x))

    def kept(self, _threshold: float) -> Array:
        """Whether greedy suppression keeps each box."""
        return self.is_kept

    def _added(self, function: Callable[[Graph], Array]) -> Array:
        return reduce(add, (function(Graph(self.xp, self.order, edges)) for edges in self.pairs()))

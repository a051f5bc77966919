"""Scenes in which nearly all boxes overlap: only pairs with a box that greedy suppression keeps count."""

from collections.abc import Iterator

from .._array.mode import Mode
from .._array.namespace import Array
from .._array.segments import mark
from .._array.selection import indices_of
from ..boxes.regions import Measure
from .detections import Detections
from .graph import Graph
from .overlaps import Edges, Strips, Sweep, overlapping_between, scene_by_rank
from .select import ranked_above

# A graph of all pairs is built up to this many, in all or per box.
PAIRS, PAIRS_PER_BOX = 1 << 16, 16


def small_graph(
    mode: Mode, detections: Detections, threshold: float, least: float | None, measure: Measure
) -> tuple[Array, Graph | None]:
    """Return the positions by rank of the boxes that take part, and the graph of their pairs; None if they are many."""
    xp, (boxes, scores, labels, *_) = mode.xp, detections
    order = ranked_above(xp, scores, least)
    scene, proper = scene_by_rank(xp, boxes, labels, order, measure, threshold)
    scene = scene if proper is None else scene.take(xp, indices_of(xp, proper))
    return order, Graph.of(mode, scene, order, room=max(PAIRS, PAIRS_PER_BOX * order.shape[0]))


def pairs_with_kept(
    mode: Mode, detections: Detections, kept: Array, threshold: float, least: float | None, measure: Measure
) -> tuple[Array, Array, Iterator[Edges]] | None:
    """Return the positions by rank, whether each is kept, and the pairs of a box that is kept and one that is not.

    Pairs come a chunk at a time: memory follows the boxes. None for a scene that cannot be cut into strips.
    """
    xp, (boxes, scores, labels, *_) = mode.xp, detections
    order = ranked_above(xp, scores, least)
    stays = xp.take(mark(xp, kept, scores.shape[0]), order)
    scene, proper = scene_by_rank(xp, boxes, labels, order, measure, threshold)
    # A box that can overlap none is kept, and is in no pair.
    scene = scene if proper is None else scene.take(xp, indices_of(xp, proper))
    winner = xp.take(stays, scene.ranks)
    winners, others = (scene.take(xp, indices_of(xp, some)) for some in (winner, ~winner))
    if not others.size:
        return order, stays, iter(())
    strips = Strips.of(xp, scene)
    if not bool(strips.fits(xp)):
        return None
    return order, stays, overlapping_between(mode, *(Sweep.of(xp, strips, some) for some in (winners, others)))

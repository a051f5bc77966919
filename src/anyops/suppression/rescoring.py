"""The two contracts of a rescoring: new scores in place for fixed shapes, or the kept boxes, best first.

A variant of suppression is one function ``rescore(mode, rivals, boxes, scores, given, **options)`` of boxes by rank. It
returns their new scores, whether each stays, and its new box or None. Numbers that may change from call to call are in
`given`; options are compiled in. `rivals` are the overlapping higher-ranked boxes: a sparse `Graph` in an eager call,
dense `Tiles` in a fixed shape or if nearly everything overlaps. Both offer the same reductions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from .._array.backends import to_host
from .._array.mode import Mode
from .._array.namespace import Array, DType, Namespace, cast, compute_dtype, result_dtype, working
from .._array.order import descending
from .._array.padding import bucket, marked, pad
from .._array.selection import indices_of
from ..boxes.regions import Measure
from .arguments import Call, Parameters
from .detections import Detections, each_scene
from .graph import Graph
from .overlaps import scene_by_rank
from .select import as_floating, ranked_above
from .tiles import Pairs, Tiles


class RescoredBoxes(NamedTuple):
    """Boxes that stay, by descending new score: their positions, and those scores."""

    indices: Array
    scores: Array


# A graph is built up to this many pairs, in all or per box; beyond, tiles, whose memory follows the boxes.
PAIRS, PAIRS_PER_BOX = 1 << 20, 256

Rivals = Graph | Tiles
Pair = Graph | Pairs
Rescored = tuple[Array, Array, Array | None]
Rescore = Callable[..., Rescored]
# Thresholds of the scores before rescoring, and of the new scores.
Limits = tuple[float | None, float | None]


def in_place(call: Call, given: Parameters, *, floor: float, **options: Any) -> Rescored:
    """New scores (..., N), 0 for boxes that go, whether each stays, and its new box, in the order of the arguments.

    Only overlaps above `floor` act. `rescore` is among the options.
    """
    mode, detections, measure = call.mode, call.detections, call.measure
    xp, (boxes, scores, *_) = mode.xp, detections
    if not mode.host:
        return mode.run(_in_fixed_shape, detections, given, measure=measure, **options)
    new, stays = xp.zeros_like(as_floating(xp, scores)), xp.zeros(scores.shape, dtype=xp.bool)
    moved = None if boxes is None else boxes.copy()

    def work(scene: Detections, lane: tuple[int, ...], at: Array | None) -> None:
        order, score, stay, box = mode.run(_by_rank, scene, given, measure=measure, floor=floor, **options)
        at = order if at is None else xp.take(at, order)
        new[lane][at], stays[lane][at] = xp.where(stay, score, xp.zeros_like(score)), stay
        if moved is not None and box is not None:
            moved[lane][at] = box

    each_scene(mode, detections, work)
    return new, stays, moved


def best_first(
    call: Call, given: Parameters, *, floor: float, early: bool = True, late: bool = True, **options: Any
) -> Rescored:
    """Indices, new scores and new boxes of those that stay, by descending new score, ties to the lowest index.

    Only overlaps above `floor` act. Scores never rise, and a box acts only on those that rank below it, so the limit on
    new scores may be applied to the scores `early`; unless a box acts on better ones too. `late` is whether `rescore`
    leaves the limit to be applied to the new scores. `rescore` is among the options, and `unchanged` where scores are
    not changed: then boxes stay in the order of their ranks, in which integers are not rounded.
    """
    mode, detections, measure = call.mode, call.detections, call.measure
    limits = call.least if early else None, call.last if late else None
    if mode.padded:
        found = _padded(mode, detections, given, limits, measure=measure, **options)
    else:
        found = mode.run(_sorted, detections, given, limits, measure=measure, floor=floor, **options)
    index, new, moved = call.first(*found)
    return index, new, moved


def rivals_of(
    mode: Mode,
    detections: Detections,
    first: float | None = None,
    *,
    measure: Measure,
    floor: float = 0.0,
    dense: bool = False,
) -> Rivals:
    """The overlaps above `floor` of the boxes whose score is above `first`, by rank; of all boxes in `dense` tiles."""
    xp, (boxes, scores, labels, overlaps, _) = mode.xp, detections
    if dense:
        return Tiles.of(xp, descending(xp, scores), detections, measure)
    order = ranked_above(xp, scores, first)
    if overlaps is not None:
        return Graph.of_matrix(mode, working(xp, overlaps), order, labels, floor)
    scene, proper = scene_by_rank(xp, boxes, labels, order, measure, floor)
    scene = scene if proper is None else scene.take(xp, indices_of(xp, proper))
    graph = Graph.of(mode, scene, order, room=max(PAIRS, PAIRS_PER_BOX * order.shape[0]))
    return Tiles.of(xp, order, detections, measure) if graph is None else graph


def _by_rank(
    mode: Mode,
    detections: Detections,
    given: Parameters,
    first: float | None = None,
    *,
    rescore: Rescore,
    measure: Measure,
    floor: float = 0.0,
    dense: bool = False,
    some_rivals: Callable[..., Any] | None = None,
    **options: Any,
) -> tuple[Array, Array, Array, Array | None]:
    """Positions by rank of the boxes whose score is above `first`; their new scores, whether they stay, new boxes.

    By `some_rivals`, where there is a way to find those that act without the others.
    """
    xp, rivals = mode.xp, None
    if some_rivals is not None and not dense and detections.overlaps is None:
        rivals = some_rivals(mode, detections, given, first, measure=measure, floor=floor)
    if rivals is None:
        rivals = rivals_of(mode, detections, first, measure=measure, floor=floor, dense=dense)
    boxes, scores, _, _, valid = detections._replace(overlaps=None).take(xp, rivals.order)
    old = cast(xp, scores, _dtype(xp, detections))
    # Scores that are NaN, or padding, must not reach the gradient of other boxes, not even as 0 · ∞: 0 replaces them.
    number = ~xp.isnan(old) if valid is None else ~xp.isnan(old) & valid
    new, stays, moved = rescore(mode, rivals, boxes, xp.where(number, old, xp.zeros_like(old)), given, **options)
    new = cast(xp, xp.where(number, new, old), as_floating(xp, scores).dtype)
    return rivals.order, new, stays if valid is None else stays & valid, moved


def _sorted(
    mode: Mode, detections: Detections, given: Parameters, limits: Limits, *, unchanged: bool = False, **settings: Any
) -> Rescored:
    """Return what `best_first` does, without the limit on their number."""
    xp, (first, last) = mode.xp, limits
    order, new, stays, moved = _by_rank(mode, detections, given, first, **settings)
    rank = indices_of(xp, stays if last is None else stays & (new > last))
    if unchanged:
        return xp.take(order, rank), new, None
    # By index first, so that a stable sort by score puts the lowest index of equal scores first.
    rank = xp.take(rank, xp.argsort(xp.take(order, rank)))
    rank = xp.take(rank, descending(xp, xp.take(new, rank)))
    return xp.take(order, rank), xp.take(new, rank), None if moved is None else xp.take(moved, rank, axis=0)


def _in_fixed_shape(mode: Mode, detections: Detections, given: Parameters, **settings: Any) -> Rescored:
    """Return what `in_place` does, in a fixed shape."""
    xp = mode.xp
    order, new, stays, moved = _by_rank(mode, detections, given, dense=True, **settings)
    moved, new, _, _, stays = Detections(moved, new, valid=stays).take(xp, xp.argsort(order, axis=-1))
    return xp.where(stays, new, xp.zeros_like(new)), stays, moved


def _padded(
    mode: Mode, detections: Detections, given: Parameters, limits: Limits, **settings: Any
) -> tuple[Array | None, ...]:
    """Return what `_sorted` does, on the host, for a library that compiles for each shape: in bucketed ones."""
    detections = padded(mode, detections, bucket(detections.scores.shape[0]))
    stays, *found = mode.run(_sorted_in_fixed_shape, detections, given, limits, **settings)
    keep = to_host(stays)
    return tuple(None if x is None else to_host(x)[keep] for x in found)


def padded(mode: Mode, detections: Detections, size: int) -> Detections:
    """Return one scene with boxes that are not valid up to some size, ready to be given to a jitted kernel."""
    xp, overlaps, valid = mode.xp, detections.overlaps, marked(slice(detections.scores.shape[0]), size)
    some = detections._replace(overlaps=None).map(lambda x: pad(xp, x, size))
    overlaps = None if overlaps is None else pad(xp, overlaps, size, axes=2)
    return some._replace(overlaps=overlaps, valid=valid)


def _sorted_in_fixed_shape(
    mode: Mode, detections: Detections, given: Parameters, limits: Limits, *, unchanged: bool = False, **settings: Any
) -> tuple[Array | None, ...]:
    """Whether each box stays; positions, new scores and new boxes: all by descending new score."""
    xp, (first, last), valid = mode.xp, limits, detections.valid
    if first is not None:
        takes_part = detections.scores > first
        detections = detections._replace(valid=takes_part if valid is None else valid & takes_part)
    new, stays, moved = _in_fixed_shape(mode, detections, given, **settings)
    if last is not None:
        stays = stays & (new > last)
    index = descending(xp, detections.scores if unchanged else new)
    moved, new, _, _, stays = Detections(moved, new, valid=stays).take(xp, index)
    return stays, index, new, moved


def _dtype(xp: Namespace, detections: Detections) -> DType:
    """Return the dtype that scores are rescored in."""
    boxes, scores, _, overlaps, _ = detections
    given = {"scores": scores, **({"boxes": boxes} if overlaps is None else {"overlaps": overlaps})}
    return compute_dtype(xp, result_dtype(xp, **given))


def decayed(xp: Namespace, scores: Array, factor: Array) -> Array:
    """Scores times factors; 0 where the factor is 0, of an infinite score too."""
    factor = cast(xp, factor, scores.dtype)
    return xp.where((factor == 0) & xp.isinf(scores), xp.zeros_like(scores), scores) * factor

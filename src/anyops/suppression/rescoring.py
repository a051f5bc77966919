"""The two forms of rescoring: new scores in place in a fixed shape (static), or the boxes kept, best first (index).

Each suppression variant is a function ``rescore(mode, rivals, boxes, scores, given, **options)`` of boxes by rank. It
returns new scores, which boxes are kept, and new boxes or None. Numbers that may change from call to call are in
`given`; options are compiled in. `rivals` are the overlapping pairs of boxes: a sparse `Graph` in an eager call, dense
`Tiles` in a fixed shape or if nearly all boxes overlap. Both have the same reductions.
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
    """Positions and new scores of the boxes kept, by descending new score."""

    indices: Array
    scores: Array


# Largest number of pairs, in all or per box, for a graph; with more pairs, tiles, whose memory grows with the boxes.
PAIRS, PAIRS_PER_BOX = 1 << 20, 256

Rivals = Graph | Tiles
Pair = Graph | Pairs
Rescored = tuple[Array, Array, Array | None]
Rescore = Callable[..., Rescored]
# Thresholds of the scores before rescoring, and of the new scores.
Limits = tuple[float | None, float | None]


def in_place(call: Call, given: Parameters, *, floor: float, **options: Any) -> Rescored:
    """New scores (..., N), 0 for dropped boxes; which boxes are kept; and new boxes; in the order of the arguments.

    Overlaps up to `floor` are ignored. `rescore` is one of the options.
    """
    mode, detections, measure = call.mode, call.detections, call.measure
    xp, (boxes, scores, *_) = mode.xp, detections
    if not mode.host:
        return mode.run(_in_fixed_shape, detections, given, measure=measure, **options)
    new, kept = xp.zeros_like(as_floating(xp, scores)), xp.zeros(scores.shape, dtype=xp.bool)
    moved = None if boxes is None else boxes.copy()

    def work(scene: Detections, lane: tuple[int, ...], at: Array | None) -> None:
        order, score, keep, box = mode.run(_by_rank, scene, given, measure=measure, floor=floor, **options)
        at = order if at is None else xp.take(at, order)
        new[lane][at], kept[lane][at] = xp.where(keep, score, xp.zeros_like(score)), keep
        if moved is not None and box is not None:
            moved[lane][at] = box

    each_scene(mode, detections, work)
    return new, kept, moved


def best_first(
    call: Call, given: Parameters, *, floor: float, early: bool = True, late: bool = True, **options: Any
) -> Rescored:
    """Indices, new scores and new boxes of the boxes kept, by descending new score, ties to the lowest index.

    Overlaps up to `floor` are ignored. Scores never rise, and a box only affects boxes that rank below it, so the score
    threshold may already be applied to the given scores (`early`), unless a box also affects better ones. `late` tells
    whether it is applied to the new scores; False if `rescore` has done so. `rescore` is one of the options. So is
    `unchanged`: scores are not changed, and boxes stay in the order of their ranks, by integers that are not rounded.
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
    """The pairs with an overlap above `floor` of boxes with a score above `first`; tiles of all boxes if `dense`."""
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
    """Positions by rank of the boxes with a score above `first`; new scores; which of them are kept; and new boxes.

    `some_rivals` finds only the rivals that have an effect, without the others; it may return None.
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
    new, kept, moved = rescore(mode, rivals, boxes, xp.where(number, old, xp.zeros_like(old)), given, **options)
    new = cast(xp, xp.where(number, new, old), as_floating(xp, scores).dtype)
    return rivals.order, new, kept if valid is None else kept & valid, moved


def _sorted(
    mode: Mode, detections: Detections, given: Parameters, limits: Limits, *, unchanged: bool = False, **settings: Any
) -> Rescored:
    """Return the results of `best_first` without the limit on their number."""
    xp, (first, last) = mode.xp, limits
    order, new, kept, moved = _by_rank(mode, detections, given, first, **settings)
    rank = indices_of(xp, kept if last is None else kept & (new > last))
    if unchanged:
        return xp.take(order, rank), new, None
    # By index first, so that a stable sort by score puts the lowest index of equal scores first.
    rank = xp.take(rank, xp.argsort(xp.take(order, rank)))
    rank = xp.take(rank, descending(xp, xp.take(new, rank)))
    return xp.take(order, rank), xp.take(new, rank), None if moved is None else xp.take(moved, rank, axis=0)


def _in_fixed_shape(mode: Mode, detections: Detections, given: Parameters, **settings: Any) -> Rescored:
    """Return the results of `in_place`, in a fixed shape."""
    xp = mode.xp
    order, new, kept, moved = _by_rank(mode, detections, given, dense=True, **settings)
    moved, new, _, _, kept = Detections(moved, new, valid=kept).take(xp, xp.argsort(order, axis=-1))
    return xp.where(kept, new, xp.zeros_like(new)), kept, moved


def _padded(
    mode: Mode, detections: Detections, given: Parameters, limits: Limits, **settings: Any
) -> tuple[Array | None, ...]:
    """Return the results of `_sorted` on the host, in bucketed shapes, for a library that compiles for each shape."""
    detections = padded(mode, detections, bucket(detections.scores.shape[0]))
    kept, *found = mode.run(_sorted_in_fixed_shape, detections, given, limits, **settings)
    keep = to_host(kept)
    return tuple(None if x is None else to_host(x)[keep] for x in found)


def padded(mode: Mode, detections: Detections, size: int) -> Detections:
    """Return one scene padded to `size` with boxes that are not valid, for a jitted kernel."""
    xp, overlaps, valid = mode.xp, detections.overlaps, marked(slice(detections.scores.shape[0]), size)
    some = detections._replace(overlaps=None).map(lambda x: pad(xp, x, size))
    overlaps = None if overlaps is None else pad(xp, overlaps, size, axes=2)
    return some._replace(overlaps=overlaps, valid=valid)


def _sorted_in_fixed_shape(
    mode: Mode, detections: Detections, given: Parameters, limits: Limits, *, unchanged: bool = False, **settings: Any
) -> tuple[Array | None, ...]:
    """Which boxes are kept, positions, new scores and new boxes, all by descending new score."""
    xp, (first, last), valid = mode.xp, limits, detections.valid
    if first is not None:
        takes_part = detections.scores > first
        detections = detections._replace(valid=takes_part if valid is None else valid & takes_part)
    new, kept, moved = _in_fixed_shape(mode, detections, given, **settings)
    if last is not None:
        kept = kept & (new > last)
    index = descending(xp, detections.scores if unchanged else new)
    moved, new, _, _, kept = Detections(moved, new, valid=kept).take(xp, index)
    return kept, index, new, moved


def _dtype(xp: Namespace, detections: Detections) -> DType:
    """Return the dtype in which to compute new scores."""
    boxes, scores, _, overlaps, _ = detections
    given = {"scores": scores, **({"boxes": boxes} if overlaps is None else {"overlaps": overlaps})}
    return compute_dtype(xp, result_dtype(xp, **given))


def decayed(xp: Namespace, scores: Array, factor: Array) -> Array:
    """Scores times factors; 0 if the factor is 0, even for an infinite score."""
    factor = cast(xp, factor, scores.dtype)
    return xp.where((factor == 0) & xp.isinf(scores), xp.zeros_like(scores), scores) * factor

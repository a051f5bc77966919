"""The two contracts of a rescoring: new scores in place for fixed shapes, or the boxes that stay, best first.

A variant of suppression is one function ``rescore(xp, rivals, boxes, scores, given, **options)`` of boxes by rank,
which gives their new scores, whether each stays, and its new box or None. Numbers that may vary from call to call are
in `given`; options are compiled in. `rivals` are the overlapping boxes that rank better: a sparse `Graph` in an eager
call, dense `Tiles` in a fixed shape, and where nearly everything overlaps. Both offer the same reductions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from .._array.backends import to_host
from .._array.compiled import compiled
from .._array.namespace import (
    Array,
    Namespace,
    cast,
    compute_dtype,
    result_dtype,
    working,
)
from .._array.padding import bucket, pad, ship
from .._array.selection import indices_of
from .arguments import Call
from .graph import Graph
from .overlaps import scene_by_rank
from .scenes import each_scene
from .select import above, as_floating, ranked_above, ranking
from .tiles import Pairs, Tiles


class RescoredBoxes(NamedTuple):
    """Boxes that stay, by descending new score: their positions, and those scores."""

    indices: Array
    scores: Array


# Pairs up to which a graph is built, altogether or for each box: memory follows the boxes where all overlap all.
FEW, EACH = 1 << 20, 256

Rivals = Graph | Tiles
Pair = Graph | Pairs
Rescored = tuple[Array, Array, Array | None]
Rescore = Callable[..., Rescored]
Parameters = dict[str, float]


def in_place(call: Call, given: Parameters, *, rescore: Rescore, kind: str, floor: float, **options: Any) -> Rescored:
    """New scores (..., N), 0 for boxes that go, whether each stays, and its new box, in the order of the arguments.

    Only overlaps above `floor` act.
    """
    mode, boxes, scores, labels, overlaps, valid, _, _ = call
    settings = {"rescore": rescore, "kind": kind, **options}
    if not mode.host:
        return compiled(_by_tiles, mode.xp, boxes, scores, labels, valid, overlaps, given, **settings)
    xp = mode.xp
    new, stays = xp.zeros_like(as_floating(xp, scores)), xp.zeros(scores.shape, dtype=xp.bool)
    moved = None if boxes is None else boxes.copy()

    def work(scene: Call, lane: tuple[int, ...], at: Array | None) -> None:
        order, score, stay, box = compiled(_by_graph, xp, *scene[1:5], given, None, floor=floor, **settings)
        at = order if at is None else xp.take(at, order)
        new[lane][at], stays[lane][at] = xp.where(stay, score, xp.zeros_like(score)), stay
        if moved is not None and box is not None:
            moved[lane][at] = box

    each_scene(call, work)
    return new, stays, moved


def _by_tiles(
    xp: Namespace,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    valid: Array | None,
    overlaps: Array | None,
    given: Parameters,
    *,
    rescore: Rescore,
    kind: str,
    **options: Any,
) -> Rescored:
    """Return what `in_place` does, in a fixed shape."""
    order = ranking(xp, scores)
    rivals = Tiles.of(xp, order, boxes, labels, valid, overlaps, kind)
    # A product with what is no number, or is padding, must not reach the gradient of other boxes, not even as 0 · ∞.
    old = _old_scores(xp, scores, boxes, overlaps)
    number = ~xp.isnan(old) if valid is None else ~xp.isnan(old) & valid
    ranked = xp.take_along_axis(xp.where(number, old, xp.zeros_like(old)), order, axis=-1)
    if boxes is not None:
        boxes = xp.take_along_axis(boxes, xp.broadcast_to(order[..., None], boxes.shape), axis=-2)
    new, stays, moved = rescore(xp, rivals, boxes, ranked, given, **options)
    back = xp.argsort(order, axis=-1)
    new, stays = (xp.take_along_axis(x, back, axis=-1) for x in (new, stays))
    new = xp.where(number, new, old)
    if valid is not None:
        stays = stays & valid
    new = xp.where(stays, new, xp.zeros_like(new))
    if moved is not None:
        moved = xp.take_along_axis(moved, xp.broadcast_to(back[..., None], moved.shape), axis=-2)
    return cast(xp, new, as_floating(xp, scores).dtype), stays, moved


def best_first(
    call: Call,
    given: Parameters,
    *,
    rescore: Rescore,
    kind: str,
    floor: float,
    early: bool = True,
    late: bool = True,
    **options: Any,
) -> Rescored:
    """Indices, new scores and new boxes of those that stay, by descending new score, ties to the lowest index.

    Only overlaps above `floor` act. Scores never rise, and a box acts only on those that rank below it, so that the
    limit on new scores may be applied to the scores `early`; unless a box acts on better ones too. `late` is whether
    `rescore` leaves it to be applied to the new scores.
    """
    mode, boxes, scores, labels, overlaps, _, least, limit = call
    settings = {"rescore": rescore, "kind": kind, **options}
    arguments = boxes, scores, labels, overlaps, given, (least if early else None, least if late else None)
    if mode.padded:
        index, new, moved = _padded(mode.xp, *arguments, settings)
    else:
        index, new, moved = compiled(_sorted_by_graph, mode.xp, *arguments, floor=floor, **settings)
    if limit is not None and limit < index.shape[0]:
        index, new, moved = index[:limit], new[:limit], None if moved is None else moved[:limit, :]
    return index, new, moved


def rivals_of(
    xp: Namespace,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    overlaps: Array | None,
    *,
    kind: str,
    floor: float,
    first: float | None,
) -> Rivals:
    """The overlaps above `floor` of the boxes whose score is above `first`, by rank."""
    order = ranked_above(xp, scores, first)
    if overlaps is not None:
        return Graph.of_matrix(xp, working(xp, overlaps), order, labels, floor)
    scene, proper = scene_by_rank(xp, boxes, labels, order, kind, floor)
    scene = scene if proper is None else scene.take(xp, indices_of(xp, proper))
    graph = Graph.of(xp, scene, order, room=max(FEW, EACH * order.shape[0]))
    return Tiles.of(xp, order, boxes, labels, None, None, kind) if graph is None else graph


def _by_graph(
    xp: Namespace,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    overlaps: Array | None,
    given: Parameters,
    first: float | None,
    *,
    rescore: Rescore,
    kind: str,
    floor: float,
    **options: Any,
) -> tuple[Array, Array, Array, Array | None]:
    """Positions of the boxes that rank above a limit, by rank, and their new scores, whether they stay, new boxes."""
    rivals = rivals_of(xp, boxes, scores, labels, overlaps, kind=kind, floor=floor, first=first)
    order = rivals.order
    old = xp.take(_old_scores(xp, scores, boxes, overlaps), order)
    number = ~xp.isnan(old)
    ranked = xp.where(number, old, xp.zeros_like(old))
    boxes = None if boxes is None else xp.take(boxes, order, axis=0)
    new, stays, moved = rescore(xp, rivals, boxes, ranked, given, **options)
    return order, cast(xp, xp.where(number, new, old), as_floating(xp, scores).dtype), stays, moved


def _sorted_by_graph(
    xp: Namespace,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    overlaps: Array | None,
    given: Parameters,
    limits: tuple[float | None, float | None],
    **settings: Any,
) -> Rescored:
    first, last = limits
    order, new, stays, moved = _by_graph(xp, boxes, scores, labels, overlaps, given, first, **settings)
    rank = indices_of(xp, stays if last is None else stays & (new > last))
    # By index first, so that a stable sort by score leaves ties to the lowest.
    rank = xp.take(rank, xp.argsort(xp.take(order, rank)))
    rank = xp.take(rank, ranking(xp, xp.take(new, rank)))
    return xp.take(order, rank), xp.take(new, rank), None if moved is None else xp.take(moved, rank, axis=0)


def _padded(
    xp: Namespace,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    overlaps: Array | None,
    given: Parameters,
    limits: tuple[float | None, float | None],
    settings: dict[str, Any],
) -> Rescored:
    """Return what `best_first` does, for a library that compiles for each shape: in place, in bucketed ones."""
    n = scores.shape[0]
    valid = None
    home = scores
    if overlaps is None:  # a matrix is not copied to be padded
        size = bucket(n)
        boxes, scores, labels = (None if x is None else pad(xp, x, size) for x in (boxes, scores, labels))
        valid = xp.arange(size) < n
    index, new, stays, moved = compiled(
        _sorted_in_place, xp, boxes, scores, labels, valid, overlaps, given, limits, **settings
    )
    keep = to_host(stays)
    return (
        ship(to_host(index)[keep], home),
        ship(to_host(new)[keep], home),
        None if moved is None else ship(to_host(moved)[keep], home),
    )


def _sorted_in_place(
    xp: Namespace,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    valid: Array | None,
    overlaps: Array | None,
    given: Parameters,
    limits: tuple[Array | float | None, Array | float | None],
    **settings: Any,
) -> tuple[Array, Array, Array, Array | None]:
    first, last = limits
    if first is not None:
        takes_part = above(xp, scores, first)
        valid = takes_part if valid is None else valid & takes_part
    new, stays, moved = _by_tiles(xp, boxes, scores, labels, valid, overlaps, given, **settings)
    if last is not None:
        stays = stays & (new > last)
    index = ranking(xp, new)
    moved = None if moved is None else xp.take(moved, index, axis=0)
    return index, xp.take(new, index), xp.take(stays, index), moved


def _old_scores(xp: Namespace, scores: Array, boxes: Array | None, overlaps: Array | None) -> Array:
    """Return scores in the dtype they are rescored in."""
    given = {"scores": scores, **({"boxes": boxes} if overlaps is None else {"overlaps": overlaps})}
    return cast(xp, scores, compute_dtype(xp, result_dtype(xp, **given)))


def decayed(xp: Namespace, scores: Array, factor: Array) -> Array:
    """Scores times factors; 0 where the factor is, of an infinite score too."""
    factor = cast(xp, factor, scores.dtype)
    return xp.where((factor == 0) & xp.isinf(scores), xp.zeros_like(scores), scores) * factor

"""Greedy NMS in bucketed shapes, for a library that compiles each kernel for each shape.

The same two ways as the eager twin in `greedy`, with everything padded: the best boxes suppress among the rest, by
tiles, while that removes many; then the graph of overlapping pairs of those that are left. After each step the host
learns what is still live, and how much room the next step needs.
"""

import math

from .._array.backends import to_host
from .._array.compiled import compiled
from .._array.namespace import Array, Namespace, default_int, namespace, working
from .._array.padding import bucket, pad, pad_host, power_of_two, ship
from ..boxes.formats import columns_of
from ..boxes.iou import Boxes, canonical, overlaps_others
from .edges import kept_in_fixed_shape
from .overlaps import Scene, Strips, Sweep, acts, both_ways, searches_within
from .select import above, ranking
from .tiles import ranked_mask

# Boxes that suppress among the rest in one step.
HEAD = 1024
# Share of the rest that a step must suppress for another one to follow.
WORTHWHILE = 0.25
# Candidates up to which a graph is built; tiles need no memory for them.
CANDIDATES = 1 << 25


def kept_in_buckets(
    xp: Namespace,
    boxes: Array,
    scores: Array,
    labels: Array | None,
    threshold: float,
    *,
    kind: str,
    least: float | None,
) -> Array:
    """Indices kept, by descending score."""
    host = namespace(scores=to_host(scores[:0]))
    members = host.arange(scores.shape[0])  # of the scene, one for each box that is still live
    size = bucket(members.shape[0])
    arrays = tuple(None if x is None else pad(xp, x, size) for x in (boxes, scores, labels))
    valid = host.arange(size) < members.shape[0]
    if least is not None:
        valid = valid & to_host(compiled(above, xp, arrays[1], least))
    arrays = (*arrays, valid)
    kept = []
    while True:
        size = bucket(members.shape[0])
        rows = size if size <= 2 * HEAD else HEAD
        order, live = map(to_host, compiled(ranked_mask, xp, *arrays, None, threshold, kind=kind, rows=rows))
        kept.append(members[order[:rows][live[:rows]]])
        rest = order[rows:][live[rows:]]
        if rest.shape[0] == 0:
            break
        suppressed = 1 - rest.shape[0] / (members.shape[0] - rows)
        arrays = _part(xp, arrays, rest)
        members = members[rest]
        if suppressed < WORTHWHILE:
            kept.append(members[_kept_at_once(xp, arrays, threshold, kind)])
            break
    return ship(host.astype(host.concat(kept), default_int(xp, scores)), boxes if boxes.committed else scores)


def _part(xp: Namespace, arrays: tuple[Array | None, ...], index: Array) -> tuple[Array | None, ...]:
    """Return the items at a host index of padded arrays, the last of which tells padding from items."""
    *values, _ = arrays
    size = bucket(index.shape[0])
    valid = pad_host(index >= 0, size)
    return (*compiled(_take, xp, pad_host(index, size), *values), valid)


def _take(xp: Namespace, index: Array, *values: Array | None) -> tuple[Array | None, ...]:
    return tuple(None if x is None else xp.take(x, index, axis=0) for x in values)


def _kept_at_once(xp: Namespace, arrays: tuple[Array | None, ...], threshold: float, kind: str) -> Array:
    """Positions kept, on the host, by descending score: by the graph, or where that does not pay by all tiles."""
    # The strips are made for a lower threshold, one of few, so that they are not compiled for each.
    bound = math.floor(threshold * 20) / 20
    found = None
    if kind not in ("iof", "ios"):  # whose boxes may have infinite corners
        found = _kept_by_graph(xp, arrays, threshold, kind, bound)
    if found is None:
        order, live = map(to_host, compiled(ranked_mask, xp, *arrays, None, threshold, kind=kind))
        found = order[live]
    return found


def _kept_by_graph(
    xp: Namespace, arrays: tuple[Array | None, ...], threshold: float, kind: str, bound: float
) -> Array | None:
    """Positions kept, on the host, by descending score; None where tiles are the better way."""
    order, live, entries, searches, total, usable = compiled(_searches, xp, *arrays, kind=kind, bound=bound)
    if not bool(usable) or float(total) > CANDIDATES:
        return None
    capacity = power_of_two(int(xp.sum(searches[2])))
    hit, better, worse, found = compiled(_pairs, xp, *entries, *searches, threshold, capacity=capacity, kind=kind)
    kept, decided = compiled(_kept, xp, hit, better, worse, live, pairs=power_of_two(int(found)))
    return to_host(order)[to_host(kept)] if bool(decided) else None


def _searches(
    xp: Namespace,
    boxes: Array,
    scores: Array,
    labels: Array | None,
    valid: Array,
    *,
    kind: str,
    bound: float,
) -> tuple[Array, Array, tuple[Array | None, ...], tuple[Array, Array, Array], Array, Array]:
    """Rank and sort the boxes, and find the ranges of candidates of their entries."""
    n = scores.shape[0]
    order = ranking(xp, scores)
    live = xp.take(valid, order)
    boxes = xp.take(working(xp, boxes), order, axis=0)
    x1, y1, x2, y2 = columns_of(boxes)
    proper = live & overlaps_others(x1, y1, x2, y2, (x2 - x1) * (y2 - y1), kind)
    # Others take the place of one that can overlap, so that they do not stretch the scene, and are never searched.
    boxes = xp.where(proper[:, None], boxes, boxes[xp.argmax(proper), :])
    labels = None if labels is None else xp.take(labels, order)
    scene = Scene(canonical(xp, boxes, kind), xp.arange(n, dtype=order.dtype), labels, kind, bound)
    strips = Strips.of(xp, scene)
    # Boxes of the height of a strip on average reach into one more, and at most into two.
    sweep = Sweep.of(xp, strips, scene, proper, room=2 * n)
    found = searches_within(xp, sweep)
    query = xp.concat([xp.arange(len(start), dtype=start.dtype) + query for query, start, _ in found])
    start = xp.concat([start for _, start, _ in found])
    count = xp.concat([count for *_, count in found])
    count = xp.maximum(count, xp.zeros_like(count))
    total = xp.sum(xp.astype(count, boxes.dtype))  # nearly, but a float does not overflow
    entries = sweep.scene.boxes.columns, sweep.scene.boxes.given, sweep.scene.ranks, sweep.scene.labels
    return order, live, entries, (query, start, count), total, strips.fits(xp)


def _pairs(
    xp: Namespace,
    columns: Array,
    given: Array | None,
    ranks: Array,
    labels: Array | None,
    query: Array,
    start: Array,
    count: Array,
    threshold: Array,
    *,
    capacity: int,
    kind: str,
) -> tuple[Array, Array, Array, Array]:
    """Whether each candidate is a pair, its better and worse rank, padded to a capacity, and the number of pairs."""
    ends = xp.cumulative_sum(count)
    number = xp.arange(count.shape[0], dtype=ranks.dtype)
    of = xp.repeat(number, count, total_repeat_length=capacity)
    slot = xp.arange(capacity, dtype=ranks.dtype)
    real = slot < ends[-1]
    j = xp.where(real, slot + xp.take(start - (ends - count), of), xp.zeros_like(slot))
    scene = Scene(Boxes(columns, given), ranks, labels, kind, threshold)
    a, b = scene.take(xp, xp.take(query, of)), scene.take(xp, j)
    hit = real & acts(a, b, both_ways(xp, a, b)[0])
    return hit, xp.minimum(a.ranks, b.ranks), xp.maximum(a.ranks, b.ranks), xp.sum(xp.astype(hit, ranks.dtype))


def _kept(xp: Namespace, hit: Array, better: Array, worse: Array, live: Array, *, pairs: int) -> tuple[Array, Array]:
    """Whether each rank is kept, and whether all were decided."""
    n = live.shape[0]
    some = xp.nonzero(hit, size=pairs, fill_value=hit.shape[0])[0]
    real = some < hit.shape[0]
    some = xp.where(real, some, xp.zeros_like(some))
    worse = xp.where(real, xp.take(worse, some), xp.full_like(some, n))
    kept, decided = kept_in_fixed_shape(xp, xp.take(better, some), worse, n)
    return live & kept, decided

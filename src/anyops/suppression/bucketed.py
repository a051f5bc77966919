"""Greedy NMS in bucketed shapes, for a library that compiles each kernel for each shape.

The same two algorithms as the eager version in `greedy`, with padded arrays. First the best boxes suppress the others,
by tiles, as long as this removes many; then the graph of overlapping pairs decides the remaining boxes. After each step
the host reads which boxes are still live, and the sizes for the next step.
"""

import math

from .._array.backends import to_host
from .._array.mode import Mode
from .._array.namespace import Array, working
from .._array.order import descending
from .._array.padding import bucket, joined, pad, pad_host, power_of_two
from ..boxes.geometry import Regions
from ..boxes.regions import Measure, ready, with_envelopes
from .detections import Detections
from .edges import kept_in_fixed_shape
from .overlaps import Scene, Strips, Sweep, acts, both_ways, can_overlap, searches_within
from .tiles import ranked_mask

# Number of boxes that suppress the others in one step.
HEAD = 1024
# Fraction of the other boxes that a step must suppress for another step to follow.
LEAST_SUPPRESSED = 0.25
# Largest number of candidates for which a graph is built; tiles need no memory for candidates.
CANDIDATES_PADDED = 1 << 25


def kept_in_buckets(
    mode: Mode, detections: Detections, threshold: float, least: float | None, *, measure: Measure
) -> Array:
    """Indices of the boxes kept, by descending score, on the host."""
    n = detections.scores.shape[0]
    size = bucket(n)
    members = to_host(mode.xp.arange(size))
    valid = members < n
    members = members[:n]  # positions of the boxes that are still live
    live = detections.map(lambda x: pad(mode.xp, x, size))
    if least is not None:
        valid = valid & to_host(mode.run(_above, live.scores, least))
    live = live._replace(valid=valid)
    kept = []
    while True:
        size = bucket(members.shape[0])
        rows = size if size <= 2 * HEAD else HEAD
        order, survives = map(to_host, mode.run(ranked_mask, live, threshold, measure=measure, rows=rows))
        kept.append(members[order[:rows][survives[:rows]]])
        rest = order[rows:][survives[rows:]]
        if rest.shape[0] == 0:
            return joined(kept)
        suppressed = 1 - rest.shape[0] / (members.shape[0] - rows)
        live, members = _part(mode, live, rest), members[rest]
        if suppressed < LEAST_SUPPRESSED:
            return joined([*kept, members[_kept_at_once(mode, live, threshold, measure)]])


def _above(mode: Mode, scores: Array, least: Array) -> Array:
    return scores > least


def _part(mode: Mode, detections: Detections, index: Array) -> Detections:
    """Return the detections at `index`, an array on the host, padded."""
    size = bucket(index.shape[0])
    index, valid = pad_host(index, size), pad_host(index >= 0, size)
    return mode.run(_take, detections, index)._replace(valid=valid)


def _take(mode: Mode, detections: Detections, index: Array) -> Detections:
    return detections.take(mode.xp, index)


def _kept_at_once(mode: Mode, detections: Detections, threshold: float, measure: Measure) -> Array:
    """Positions kept, by descending score, on the host; from the graph, or from tiles if a graph would be too large."""
    # Boxes may have infinite corners for iof and ios, and the graph does not support that.
    found = None if measure.kind in ("iof", "ios") else _kept_by_graph(mode, detections, threshold, measure)
    if found is None:
        order, live = map(to_host, mode.run(ranked_mask, detections, threshold, measure=measure))
        found = order[live]
    return found


def _kept_by_graph(mode: Mode, detections: Detections, threshold: float, measure: Measure) -> Array | None:
    """Positions kept, by descending score, on the host; None if tiles are preferable."""
    # The threshold for the strips is rounded down to one of twenty, so that few kernels are compiled.
    bound = math.floor(threshold * 20) / 20
    order, live, entries, searches, total, usable = mode.run(_searches, detections, measure=measure, bound=bound)
    if not bool(usable) or float(total) > CANDIDATES_PADDED:
        return None
    capacity = power_of_two(int(mode.xp.sum(searches[2])))
    hit, better, worse, found = mode.run(_pairs, entries, searches, threshold, capacity=capacity, measure=measure)
    kept, decided = mode.run(_kept, hit, better, worse, live, pairs=power_of_two(int(found)))
    return to_host(order)[to_host(kept)] if bool(decided) else None


def _searches(
    mode: Mode, detections: Detections, *, measure: Measure, bound: float
) -> tuple[Array, Array, tuple[Array | None, ...], tuple[Array, Array, Array], Array, Array]:
    """Rank the boxes, sort them into strips, and find the range of candidates of each entry."""
    xp = mode.xp
    order = descending(xp, detections.scores)
    boxes, _, labels, _, live = detections.take(xp, order)
    regions = with_envelopes(xp, ready(xp, working(xp, boxes), measure), measure, bound)
    proper = live & can_overlap(xp, regions)
    # Boxes that cannot overlap become copies of one that can. They do not extend the scene, and are never searched.
    first, n = xp.argmax(proper), order.shape[0]
    regions = regions.map(lambda x: xp.where(proper, x, xp.take(x, first[None], axis=-1)))
    scene = Scene(regions, xp.arange(n, dtype=order.dtype), labels, measure, bound)
    strips = Strips.of(xp, scene)
    # On average a box has fewer than two entries in further strips, so room for 2n suffices.
    sweep = Sweep.of(xp, strips, scene, proper, room=2 * n)
    found = searches_within(xp, sweep)
    query = xp.concat([xp.arange(len(start), dtype=start.dtype) + query for query, start, _ in found])
    start = xp.concat([start for _, start, _ in found])
    count = xp.concat([count for *_, count in found])
    count = xp.maximum(count, xp.zeros_like(count))
    total = xp.sum(xp.astype(count, regions.columns.dtype))  # a float, which is rounded but does not overflow
    entries = *sweep.scene.boxes, sweep.scene.ranks, sweep.scene.labels
    return order, live, entries, (query, start, count), total, strips.fits(xp)


def _pairs(
    mode: Mode,
    entries: tuple[Array, ...],
    searches: tuple[Array, ...],
    threshold: Array,
    *,
    capacity: int,
    measure: Measure,
) -> tuple[Array, Array, Array, Array]:
    """Which candidates are pairs, their better and worse ranks, all padded to a capacity, and the number of pairs."""
    xp, (columns, shape, ranks, labels), (query, start, count) = mode.xp, entries, searches
    ends = xp.cumulative_sum(count)
    number = xp.arange(count.shape[0], dtype=ranks.dtype)
    of = xp.repeat(number, count, total_repeat_length=capacity)
    slot = xp.arange(capacity, dtype=ranks.dtype)
    real = slot < ends[-1]
    j = xp.where(real, slot + xp.take(start - (ends - count), of), xp.zeros_like(slot))
    scene = Scene(Regions(columns, shape), ranks, labels, measure, threshold)
    a, b = scene.take(xp, xp.take(query, of)), scene.take(xp, j)
    hit = real & acts(a, b, both_ways(xp, a, b)[0])
    return hit, xp.minimum(a.ranks, b.ranks), xp.maximum(a.ranks, b.ranks), xp.sum(xp.astype(hit, ranks.dtype))


def _kept(mode: Mode, hit: Array, better: Array, worse: Array, live: Array, *, pairs: int) -> tuple[Array, Array]:
    """Which ranks are kept, and whether all ranks were decided."""
    xp, n = mode.xp, live.shape[0]
    some = xp.nonzero(hit, size=pairs, fill_value=hit.shape[0])[0]
    real = some < hit.shape[0]
    some = xp.where(real, some, xp.zeros_like(some))
    worse = xp.where(real, xp.take(worse, some), xp.full_like(some, n))
    kept, decided = kept_in_fixed_shape(xp, xp.take(better, some), worse, n)
    return live & kept, decided

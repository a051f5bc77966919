"""Non-maximum merge: each box that greedy NMS keeps becomes the union box of itself and the boxes that it drops.

With boxes numbered by rank and X_ij = [same label, overlap(i, j) > t] for i < j, box j joins the group of

    the best kept box i with X_ij, or itself if it is kept             by default
    the best box that it is connected with by pairs of X               `transitive`

Connected groups are found without comparing all pairs. The pairs of kept boxes with others come first. If a remaining
pair connects two groups, each of its boxes overlaps the union box of the other's group. So only boxes that overlap the
union box of another group enough are compared with each other; first, a sample of them is compared with all of them.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from .._array.backends import to_host
from .._array.mode import Mode, mode_of
from .._array.namespace import Array, Namespace, cast, device, namespace, rows_of, working
from .._array.order import descending
from .._array.segments import mark, segment_max, segment_min, segment_sum
from .._array.selection import indices_of
from .._array.support import SHAPES_BY_VALUE, Kind, op
from ..boxes.aligned import BoxKind, columns_of, from_corners
from ..boxes.geometry import Regions
from ..boxes.regions import PLANE, Measure, PlaneFormat
from .arguments import Call, check_threshold, index_call
from .detections import Detections
from .graph import all_with_all
from .greedy import kept_of_scene
from .groups import nms_groups
from .overlaps import SLACK, Edges, Scene, Strips, Sweep, overlapping_between, overlapping_within, scene_by_rank
from .winners import pairs_with_kept, small_graph

# First every SAMPLE-th box is compared with all, which joins groups that are connected by many pairs.
SAMPLE = 64


class MergedBoxes(NamedTuple):
    """Merged boxes by descending score, their scores and labels, and the row of them that each given box went into."""

    boxes: Array
    scores: Array
    labels: Array | None
    groups: Array


@op(Kind.SELECTION, SHAPES_BY_VALUE, static="nms_mask")
def non_max_merge(
    boxes: Array,
    scores: Array,
    *,
    overlap_threshold: float | Array = 0.5,
    kind: BoxKind = "iou",
    labels: Array | None = None,
    scenes: Array | None = None,
    fmt: PlaneFormat = "xyxy",
    transitive: bool = False,
) -> MergedBoxes:
    """Merge each box that greedy NMS keeps with the boxes that it drops: the smallest box around them, the best score.

    For images that are searched in slices: an object on the border of two slices is found in parts, which become one
    box.

    Parameters
    ----------
    boxes : array (N, 4)
        xyxy, or as `fmt` says; floating or integer.
    scores : array (N,)
        NaN ranks below every number.
    overlap_threshold : float in [0, 1]
        Strict: a pair that overlaps by exactly this much is not merged.
    kind : {"iou", "iof", "ios", "giou", "diou", "ciou"}
        Kind of overlap, see :func:`box_iou`; for "iof", the first box is the higher-ranked one. "ios" merges a part
        with the whole.
    labels : array (N,), optional
        Boxes of different labels are not merged. Integers of any size and sign.
    scenes : integer array (N,), optional
        Scene of each box. Boxes of different scenes are not merged, whatever their labels.
    fmt : {"xyxy", "xywh", "cxcywh", "yxyx"}
        Format of `boxes` and of the merged boxes, see :func:`box_convert`.
    transitive : bool
        Whether to merge all boxes that are connected by overlapping pairs, dropped boxes included: a chain becomes one
        box.

    Returns
    -------
    boxes : array (K, 4)
        By descending score, ties to the lower index. In the floating dtype of `boxes`. A box that is merged with no
        other is unchanged; so is a box without area or with a NaN coordinate.
    scores : array (K,)
        The best score of each group, in the floating dtype of `scores`.
    labels : array (K,) or None
        In the dtype of `labels`.
    groups : array (N,)
        The row of the result that each given box was merged into, in the namespace's index dtype: the boxes of row k
        are ``groups == k``.

    Raises
    ------
    TypeError, ValueError
        As :func:`nms`; for other formats, because the union of their regions is not in the same format; for batches and
        under a transform (``jax.jit``, ...): use :func:`nms_mask`.

    Notes
    -----
    One pass over the given boxes: merged boxes may overlap each other. Call again with the results to merge those.

    Memory grows with the number of boxes, never with N². Time grows with the number of pairs of a kept box with
    others; for `transitive`, where groups lie close to each other without being connected, also with the pairs of boxes
    that each overlap the union box of the other's group by more than the threshold.

    The choice of boxes to merge has no gradient; merged boxes and scores have one, on torch.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> boxes = np.asarray([[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0], [4.0, 0.0, 14.0, 10.0]])
    >>> scores = np.asarray([0.9, 0.8, 0.7])
    >>> merged = anyops.non_max_merge(boxes, scores)
    >>> merged.boxes.tolist(), merged.scores.tolist(), merged.groups.tolist()
    ([[0.0, 0.0, 12.0, 10.0], [4.0, 0.0, 14.0, 10.0]], [0.9, 0.7], [0, 0, 1])
    >>> anyops.non_max_merge(boxes, scores, transitive=True).boxes.tolist()
    [[0.0, 0.0, 14.0, 10.0]]
    """
    threshold = check_threshold("overlap_threshold", overlap_threshold, largest=1.0)
    if not isinstance(fmt, str) or fmt not in PLANE:
        raise ValueError(
            f"fmt must be one of {', '.join(PLANE)}, because other regions have no union in their format, got {fmt!r}; "
            "nms_groups gives their groups"
        )
    if not isinstance(transitive, bool):
        raise TypeError(f"transitive must be a bool, got {type(transitive).__name__}")
    given, measure = Detections(boxes, scores, labels), Measure(kind, fmt)
    call = index_call("non_max_merge", given, measure, None, scenes=scenes)
    if transitive:
        best = _best_connected(given, scenes, measure, threshold)
    else:
        best = nms_groups(boxes, scores, threshold, labels=labels, scenes=scenes, kind=kind, fmt=fmt)
    if call.mode.host or call.mode.padded:
        best, given = to_host(best), given.map(to_host)
    if fmt == "yxyx" and call.origin is not None:
        call = call._replace(origin=call.mode.xp.flip(call.origin, axis=-1))
    mode, detections = _here(call)
    merged, best_scores, kept, groups = mode.run(_merged, detections, best, given.boxes, fmt=fmt)
    _, best_scores, merged = call.back(None, best_scores, merged)
    return MergedBoxes(
        _in_dtype_of(boxes, merged),
        _in_dtype_of(scores, best_scores),
        None if labels is None else call.mode.back(mode.xp.take(given.labels, kept)),
        call.mode.back(groups),
    )


def _here(call: Call) -> tuple[Mode, Detections]:
    """Return the mode and the arrays of a call; on the host if the library would compile for each length."""
    mode, detections = call.mode, call.detections
    if not mode.padded:
        return mode, detections
    xp = mode.xp
    # NumPy has no arithmetic for JAX's bfloat16.
    detections = detections.map(lambda x: to_host(working(xp, x) if xp.isdtype(x.dtype, "real floating") else x))
    return mode_of(scores=detections.scores), detections


def _in_dtype_of(given: Array, x: Array) -> Array:
    """Return a result in the dtype of the given array, if that is floating."""
    xp = namespace(given=given)
    return cast(xp, x, given.dtype) if xp.isdtype(given.dtype, "real floating") else x


def _merged(
    mode: Mode, detections: Detections, best: Array, given: Array, *, fmt: str
) -> tuple[Array, Array, Array, Array]:
    """Union boxes and scores of the groups, by rank; the positions of their best boxes; and the group of each box.

    `best` is the position of the best box in each box's group; `given` are the boxes in their format `fmt`.
    """
    xp, (boxes, scores, *_) = mode.xp, detections
    leads = best == xp.arange(best.shape[0], dtype=best.dtype, device=device(best))
    kept, number = indices_of(xp, leads), xp.cumulative_sum(xp.astype(leads, best.dtype)) - 1
    order = descending(xp, xp.take(scores, kept))
    kept, groups = xp.take(kept, order), xp.take(xp.argsort(order), xp.take(number, best))
    columns = columns_of(working(xp, boxes))
    alone = segment_sum(xp, xp.ones_like(columns[0]), groups, kept.shape[0]) == 1
    # A box with a NaN is alone in its group. NaN is replaced because it would spoil the derivative of the maximum.
    x1, y1, x2, y2 = (xp.where(xp.isnan(x), 0.0, x) for x in columns)
    low = (segment_min(xp, x, groups, xp.take(x, kept)) for x in (x1, y1))
    high = (segment_max(xp, x, groups, xp.take(x, kept)) for x in (x2, y2))
    corners = (xp.where(alone, xp.take(x, kept), end) for x, end in zip(columns, (*low, *high), strict=True))
    merged = xp.stack(from_corners(tuple(corners), fmt, None), axis=-1)
    if fmt in ("xywh", "cxcywh"):  # unmerged boxes keep their exact sides, not differences of rounded corners
        merged = xp.where(alone[:, None], cast(xp, xp.take(given, kept, axis=0), merged.dtype), merged)
    return merged, xp.take(scores, kept), kept, groups


def _best_connected(given: Detections, scenes: Array | None, measure: Measure, threshold: float) -> Array:
    """Position of the best box that each box is connected with, which may be itself."""
    call = index_call("non_max_merge", given, measure, None, scenes=scenes, differentiable=False)
    mode, detections = _here(call)
    back, call = call.mode.back, call._replace(mode=mode, detections=detections)
    xp, measure = mode.xp, call.measure
    order, graph = mode.run(small_graph, detections, threshold, None, measure)
    if graph is None:
        kept = kept_of_scene(call, threshold)
        root = mode.run(_roots_of_many, detections, kept, threshold, measure)
    else:
        root = _joined(xp, _each_its_own(xp, order), [graph.edges], threshold)
    return back(xp.take(xp.take(order, root), xp.argsort(order)))


def _each_its_own(xp: Namespace, order: Array) -> Array:
    return xp.arange(order.shape[0], dtype=order.dtype, device=device(order))


def _roots_of_many(mode: Mode, detections: Detections, kept: Array, threshold: float, measure: Measure) -> Array:
    """Lowest rank in the group of each rank, if there are many pairs: see the module docstring."""
    xp, (boxes, scores, labels, *_) = mode.xp, detections
    order = descending(xp, scores)
    scene, proper = scene_by_rank(xp, boxes, labels, order, measure, threshold)
    scene = scene if proper is None else scene.take(xp, indices_of(xp, proper))
    root = _each_its_own(xp, order)
    found = pairs_with_kept(mode, detections, kept, threshold, None, measure)
    if found is None:  # the scene cannot be cut into strips
        return _joined(xp, root, all_with_all(mode, scene), threshold)
    root, strips = _joined(xp, root, found[2](), threshold), Strips.of(xp, scene)
    for step in (SAMPLE, 1):
        scene = scene.take(xp, indices_of(xp, _may_meet_others(mode, scene, root)))
        if scene.size == 0:
            break
        sampled = _each_its_own(xp, scene.ranks) % step == 0
        parts = [scene.take(xp, indices_of(xp, some)) for some in (sampled, ~sampled)]
        sweeps = [Sweep.of(xp, strips, part) for part in parts if part.size]
        root = _joined(xp, root, overlapping_within(mode, sweeps[0]), threshold)
        if len(sweeps) > 1:
            root = _joined(xp, root, overlapping_between(mode, *sweeps), threshold)
    return root


def _may_meet_others(mode: Mode, scene: Scene, root: Array) -> Array:
    """Whether each box of a scene may overlap a box of another group, from its intersection with that union box.

    Its intersection with a box of that group is at most as large, and that box is at least as large as the smallest.
    """
    xp, n = mode.xp, scene.size
    lead = xp.take(root, scene.ranks)
    number = xp.cumulative_sum(xp.astype(mark(xp, lead, root.shape[0]), root.dtype)) - 1
    group, many = xp.take(number, lead), int(number[-1]) + 1
    x1, y1, x2, y2, size = rows_of(scene.boxes.columns)
    last = xp.full_like(x1, math.inf)[:many]
    low = (segment_min(xp, x, group, last) for x in (x1, y1))
    high = (segment_max(xp, x, group, -last) for x in (x2, y2))
    smallest = segment_min(xp, size, group, last)
    place = _each_its_own(xp, scene.ranks)
    labels = scene.labels
    if labels is not None:
        member = segment_max(xp, place, group, xp.zeros_like(place)[:many])
        labels = xp.concat((labels, xp.take(labels, member)))
    # With size 1, iof is the area of the intersection.
    one = xp.ones_like(size)
    both = Scene(
        Regions(xp.concat((xp.stack((x1, y1, x2, y2, one)), xp.stack((*low, *high, one[:many]))), axis=1)),
        xp.arange(n + many, dtype=root.dtype, device=device(root)),
        labels,
        Measure("iof"),
        0.0,
    )
    strips, found = Strips.of(xp, both), xp.zeros_like(place, dtype=xp.bool)
    if not bool(strips.fits(xp)):
        return ~found
    boxes, unions = (Sweep.of(xp, strips, part) for part in (both.part(None, n), both.part(n, None)))
    for edges in overlapping_between(mode, boxes, unions):
        other = edges.worse - n
        some = indices_of(xp, xp.take(group, edges.better) != other)
        box, other, shared = xp.take(edges.better, some), xp.take(other, some), xp.take(edges.forth, some)
        one, least = xp.take(size, box), xp.take(smallest, other)
        whole = xp.minimum(one, least) if scene.measure.kind in ("iof", "ios") else one + (least - shared)
        found = found | mark(xp, xp.take(box, indices_of(xp, shared > scene.threshold * SLACK * whole)), n)
    return found


def _joined(xp: Namespace, root: Array, pairs: Iterable[Edges], threshold: float) -> Array:
    """Lowest rank in the group of each rank, after joining the groups of the boxes of each pair."""
    waiting, many = [], 0
    for edges in pairs:
        one, other = xp.take(root, edges.better), xp.take(root, edges.worse)
        some = indices_of(xp, (one != other) & (edges.forth > threshold))
        waiting.append((xp.take(one, some), xp.take(other, some)))
        many += some.shape[0]
        if many >= root.shape[0]:  # batches of as many pairs as boxes: memory grows with boxes, time with pairs
            root, waiting, many = _hooked(xp, root, waiting), [], 0
    return _hooked(xp, root, waiting) if waiting else root


def _hooked(xp: Namespace, root: Array, pairs: list[tuple[Array, Array]]) -> Array:
    """Roots after joining the roots of each pair: in rounds, each root becomes the lowest root it is paired with."""
    one, other = (xp.concat(ranks) for ranks in zip(*pairs, strict=True))
    while one.shape[0]:
        root = segment_min(xp, xp.minimum(one, other), xp.maximum(one, other), root)
        above = xp.take(root, root)
        while bool(xp.any(above != root)):
            root, above = above, xp.take(above, above)
        one, other = xp.take(root, one), xp.take(root, other)
        some = indices_of(xp, one != other)
        one, other = xp.take(one, some), xp.take(other, some)
    return root

"""Greedy NMS in a fixed shape: the matrix X of `greedy`, tile by tile, in memory of a tile times N."""

from collections.abc import Callable

from .._array.loop import for_each, while_loop
from .._array.namespace import Array, Namespace, cast, compute_dtype, default_int, device, result_dtype
from ..boxes.iou import canonical
from .overlaps import Scene, tile
from .select import ranking

# Rows of a tile: enough work for a step.
TILE = 256


def comparable(xp: Namespace, labels: Array) -> Array:
    """Return integer labels in the index dtype; small and unsigned ones lack operations, and equal ones stay equal."""
    return labels if xp.isdtype(labels.dtype, "real floating") else cast(xp, labels, default_int(xp, labels))


def mask(xp: Namespace, *arguments: Array | float | None, kind: str) -> Array:
    """Whether each box is kept, in the order of the arguments: see `ranked_mask`."""
    order, live = ranked_mask(xp, *arguments, kind=kind)
    return xp.take_along_axis(live, xp.argsort(order, axis=-1), axis=-1)


def ranked_mask(
    xp: Namespace,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    valid: Array | None,
    overlaps: Array | None,
    threshold: Array | float,
    *,
    kind: str,
    rows: int | None = None,
) -> tuple[Array, Array]:
    """Order of the boxes, and whether the box of each rank is kept, as far as the best `rows` of them decide it."""
    n = scores.shape[-1]
    order = ranking(xp, scores)
    live = xp.ones_like(order, dtype=xp.bool) if valid is None else xp.take_along_axis(valid, order, axis=-1)
    if n == 0:
        return order, live
    rows_of = _matrix_rows if overlaps is not None else _box_rows
    over_rows = rows_of(xp, order, boxes, labels, overlaps, threshold, kind)
    size = min(n, TILE)

    def resolve_tile(start: Array | int, live: Array) -> tuple[Array]:
        rows = xp.arange(size, dtype=order.dtype, device=device(order)) + start
        over = over_rows(rows)
        stays = fixed_point(xp, xp.take(over, rows, axis=-1), xp.take(live, rows, axis=-1))
        return (live & ~xp.any(over & stays[..., :, None], axis=-2),)

    # The last tile reaches back over rows that are decided; deciding them again changes nothing.
    starts = [min(start, n - size) for start in range(0, n if rows is None else rows, size)]
    (live,) = for_each(starts, resolve_tile, (live,))
    return order, live


def _box_rows(
    xp: Namespace, order: Array, boxes: Array, labels: Array | None, _: None, threshold: Array | float, kind: str
) -> Callable[[Array], Array]:
    """Return the function from T ranks to those rows of X: bool (..., T, N)."""
    boxes = cast(xp, boxes, compute_dtype(xp, result_dtype(xp, boxes=boxes)))
    boxes = xp.take_along_axis(boxes, xp.broadcast_to(order[..., None], boxes.shape), axis=-2)
    labels = None if labels is None else xp.take_along_axis(labels, order, axis=-1)
    ranks = xp.arange(order.shape[-1], dtype=order.dtype, device=device(order))
    scene = Scene(canonical(xp, boxes, kind), ranks, labels, kind, threshold)
    return lambda rows: tile(xp, scene.take(xp, rows), scene) & (rows[:, None] < ranks)


def _matrix_rows(
    xp: Namespace,
    order: Array,
    _boxes: Array,
    labels: Array | None,
    overlaps: Array,
    threshold: Array | float,
    _kind: str,
) -> Callable[[Array], Array]:
    over = cast(xp, overlaps, result_dtype(xp, overlaps=overlaps)) > threshold
    if labels is not None:
        over = over & (labels[..., :, None] == labels[..., None, :])
    position = xp.arange(order.shape[-1], dtype=order.dtype, device=device(order))

    def rows_of(rows: Array) -> Array:
        ranked = xp.take(order, rows, axis=-1)
        x = xp.take_along_axis(over, xp.broadcast_to(ranked[..., :, None], (*ranked.shape, order.shape[-1])), axis=-2)
        x = xp.take_along_axis(x, xp.broadcast_to(order[..., None, :], x.shape), axis=-1)
        return x & (rows[:, None] < position)

    return rows_of


def fixed_point(xp: Namespace, over: Array, live: Array | None = None) -> Array:
    """Solution of b_j = live_j and not any_i (b_i and X_ij) for a strictly triangular X (..., T, T)."""
    # As a product of matrices: the number of suppressors is exact, and no reduction of the libraries is faster.
    over = xp.astype(over, xp.float32)
    start = xp.ones_like(over[..., :1, :]) if live is None else xp.astype(live, xp.float32)[..., None, :]
    zero = xp.zeros_like(start)

    def unsettled(b: Array, before: Array) -> Array:
        return xp.any(b != before)

    def iterate(b: Array, before: Array) -> tuple[Array, Array]:
        return xp.maximum(start - xp.matmul(b, over), zero), b

    return while_loop(unsettled, iterate, (start, -1 - start))[0][..., 0, :] > 0

"""The building blocks of k-means, in fixed shapes: closest centres, sums that merge, one step of Lloyd's iteration."""

import math
from typing import Any, NamedTuple

from .._array.backends import to_host
from .._array.chunked import is_chunked, over_rows, reduce_chunks
from .._array.compiled import compiled
from .._array.host import from_host, writable
from .._array.namespace import (
    Array,
    DType,
    Namespace,
    cast,
    check_dtype,
    compute_dtype,
    device,
    is_at_hand,
    is_eager_jax,
    may_be_differentiated,
    namespace,
    result_dtype,
)
from .._array.nearest import across, counting, less, lowest, put, row_dot, rows_at
from .._array.rows import is_sharded, rows_in_cache, scan_rows
from .._array.selection import indices_of, items
from .._array.support import Kind, op
from .._array.threads import in_parts, workers

METRICS = ("euclidean", "cosine", "iou")
# Squared distances of less than this share of the squares they are a difference of are computed explicitly.
CANCELLED = 1 / 16


class KMeansAssignment(NamedTuple):
    """The closest centre of each sample, and the distance to it."""

    labels: Array
    distances: Array


class KMeansPartial(NamedTuple):
    """Of the samples of each centre Σ w x and Σ w; of all samples Σ w · distance."""

    sums: Array
    counts: Array
    inertia: Array


class KMeansStep(NamedTuple):
    """Centres after a step; labels and inertia by the centres before it; Σ ‖Δc‖²."""

    centers: Array
    labels: Array
    inertia: Array
    shift: Array


@op(Kind.VALUES)
def kmeans_assign(x: Array, centers: Array, *, metric: str = "euclidean") -> KMeansAssignment:
    """argmin_j d(x_i, c_j), ties to the lowest j, and that distance.

    Parameters
    ----------
    x : array (..., n, d)
        Samples. A dask array, chunked along samples, gives dask arrays.
    centers : array (..., k, d)
        With the same leading dimensions.
    metric : {"euclidean", "cosine", "iou"}
        Squared Euclidean distance; 1 − cos, which is 1 where either is 0; 1 − IoU of co-centred boxes, x being widths
        and heights (d = 2), negative ones read as 0.

    Returns
    -------
    labels : array (..., n)
        In the index dtype of the namespace; arbitrary where the sample is not finite.
    distances : array (..., n)
        In the dtype of `x`: infinite or 0 where that cannot hold a square. Labels do not depend on the unit of `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, or `metric` is unknown.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> labels, distances = anyops.kmeans_assign(np.asarray([[0.0], [1.0], [5.0]]), np.asarray([[0.0], [4.0]]))
    >>> labels, distances
    (array([0, 0, 1]), array([0., 1., 1.]))
    """
    check_metric(metric)
    if is_chunked(namespace(x=x)):
        return _assign_chunks(x, centers, metric)
    xp, dtype = _check(x, centers, None, metric)
    rows = _rows(xp, x, centers)
    return KMeansAssignment(*compiled(_assignment, xp, x, centers, metric=metric, dtype=dtype, rows=rows))


@op(Kind.VALUES)
def kmeans_partial(
    x: Array, centers: Array, *, sample_weight: Array | None = None, metric: str = "euclidean"
) -> KMeansPartial:
    """Σ w x and Σ w over the samples closest to each centre, and Σ w · distance.

    Parameters
    ----------
    x : array (..., n, d)
    centers : array (..., k, d)
    sample_weight : array (..., n), optional
        Numbers ≥ 0. A sample of weight 0 is ignored, even if it holds NaN.
    metric : {"euclidean", "cosine", "iou"}
        For "cosine" the sums are those of x / ‖x‖.

    Returns
    -------
    sums : array (..., k, d)
    counts : array (..., k)
    inertia : array (...)
        float32 at least, and no narrower than the weights. NumPy arrays for a dask array, which is read once, chunk by
        chunk.

    Raises
    ------
    TypeError, ValueError
        As :func:`kmeans_assign`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> part = anyops.kmeans_partial(np.asarray([[0.0], [1.0], [5.0]]), np.asarray([[0.0], [4.0]]))
    >>> part.sums[:, 0], part.counts, float(part.inertia)
    (array([1., 5.]), array([2., 1.]), 2.0)
    """
    check_metric(metric)
    return partial_sums(x, centers, sample_weight, metric, around=True)


def partial_sums(x: Array, centers: Array, sample_weight: Array | None, metric: str, *, around: bool) -> KMeansPartial:
    """The sums of :func:`kmeans_partial`; `around` the centres, which keeps rounding small, wherever the samples lie.

    Samples (n, d) that lie around 0 do without: sums depend on the labels alone then, to the last bit, and where labels
    repeat the centres do.
    """
    if is_chunked(namespace(x=x)):
        at = to_host(centers)
        return reduce_chunks(
            lambda part, weight: partial_sums(part, at, weight, metric, around=around),
            kmeans_merge,
            1,
            x,
            sample_weight,
        )
    xp, dtype = _check(x, centers, sample_weight, metric)
    options = {"metric": metric, "dtype": dtype, "around": around, "rows": _rows(xp, x, centers)}
    return KMeansPartial(*compiled(_totals, xp, x, centers, sample_weight, **options))


@op(Kind.VALUES)
def kmeans_merge(a: KMeansPartial, b: KMeansPartial) -> KMeansPartial:
    """Sums of two parts of the samples together.

    Parameters
    ----------
    a, b : KMeansPartial
        By the same centres.

    Returns
    -------
    KMeansPartial
        Associative to rounding.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x, c = np.asarray([[0.0], [1.0], [5.0]]), np.asarray([[0.0], [4.0]])
    >>> anyops.kmeans_merge(anyops.kmeans_partial(x[:1], c), anyops.kmeans_partial(x[1:], c)).counts
    array([2., 1.])
    """
    return KMeansPartial(*(p + q for p, q in zip(a, b, strict=True)))


@op(Kind.VALUES)
def kmeans_step(
    x: Array, centers: Array, *, sample_weight: Array | None = None, metric: str = "euclidean"
) -> KMeansStep:
    """One step of Lloyd's iteration: c_j ← Σ w x / Σ w over the samples closest to c_j [1]_.

    Parameters
    ----------
    x : array (..., n, d)
    centers : array (..., k, d)
    sample_weight : array (..., n), optional
        In any unit.
    metric : {"euclidean", "cosine", "iou"}
        "cosine" scales the new centres to unit length.

    Returns
    -------
    centers : array (..., k, d)
        A centre without samples stays where it is: only :func:`kmeans` relocates.
    labels : array (..., n)
    inertia : array (...)
        Both by the old centres.
    shift : array (...)
        Σ ‖Δc‖².

    Raises
    ------
    TypeError, ValueError
        As :func:`kmeans_assign`.

    References
    ----------
    .. [1] Lloyd, Least squares quantization in PCM, IEEE Transactions on Information Theory 28 (1982).

    Examples
    --------
    >>> import numpy as np, anyops
    >>> step = anyops.kmeans_step(np.asarray([[0.0], [1.0], [5.0]]), np.asarray([[0.0], [4.0]]))
    >>> step.centers[:, 0], step.labels, float(step.shift)
    (array([0.5, 5. ]), array([0, 0, 1]), 1.25)
    """
    check_metric(metric)
    xp, dtype = _check(x, centers, sample_weight, metric)
    rows = _rows(xp, x, centers)
    return KMeansStep(*compiled(_step, xp, x, centers, sample_weight, metric=metric, dtype=dtype, rows=rows))


def check_metric(metric: str) -> None:
    """Raise ValueError for a metric that does not exist."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")


def _check(x: Array, centers: Array, weight: Array | None, metric: str) -> tuple[Namespace, DType]:
    arrays = {"x": x, "centers": centers, **({} if weight is None else {"sample_weight": weight})}
    xp = namespace(**arrays)
    for name in ("x", "centers"):
        check_dtype(xp, name, arrays[name], "real floating", "integral")
    shape, other = tuple(x.shape), tuple(centers.shape)
    if len(shape) < 2 or shape[-1] < 1:
        raise ValueError(f"x must have shape (..., n, d), d ≥ 1, got {shape}")
    if len(other) != len(shape) or other[:-2] != shape[:-2] or other[-1] != shape[-1] or other[-2] < 1:
        raise ValueError(f"centers must have shape (..., k, d) beside x of shape {shape}, k ≥ 1, got {other}")
    if metric == "iou" and shape[-1] != 2:
        raise ValueError(f"x must hold widths and heights, (..., n, 2), for metric 'iou', got {shape}")
    if weight is not None:
        check_dtype(xp, "sample_weight", weight, "real floating", "integral", "bool")
        if tuple(weight.shape) != shape[:-1]:
            raise ValueError(f"sample_weight must have shape {shape[:-1]} beside x, got {tuple(weight.shape)}")
    return xp, result_dtype(xp, x=x, centers=centers)


def _rows(xp: Namespace, x: Array, centers: Array) -> int:
    """Samples whose scores are computed at once; 0 for all, where a loop would move them between devices."""
    return 0 if is_sharded(x) else rows_in_cache(xp, x, math.prod(x.shape[:-2]) * centers.shape[-2])


# --- distances -------------------------------------------------------------------------------------------------------

WIDE = 2.0**50  # beyond which, and below its inverse, squares of float32 leave their range


def unit(xp: Namespace, x: Array) -> Array:
    """x / ‖x‖ along the last axis, zeros where x is 0; scaled first, so that squares do not overflow."""
    largest = xp.max(xp.abs(x), axis=-1, keepdims=True)
    some = largest > 0
    one = xp.ones_like(largest)
    x = x / xp.where(some, largest, one)
    norm = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    return x / xp.where(some, norm, one)


def _inverse_scale(xp: Namespace, largest: Array) -> Array:
    """1, or 1 / largest where squares could overflow or vanish."""
    far = (largest > WIDE) | ((largest < 1 / WIDE) & (largest > 0))
    info = xp.finfo(largest.dtype)
    one = xp.ones_like(largest)
    # No inverse is infinite, or subnormal, which some processors take for 0.
    bounded = xp.minimum(xp.maximum(largest, 4 * float(info.smallest_normal) * one), float(info.max) / 8 * one)
    return xp.where(far, one / bounded, one)


def _iou(xp: Namespace, a: Array, b: Array) -> Array:
    a, b = xp.maximum(a, xp.zeros_like(a)), xp.maximum(b, xp.zeros_like(b))
    (a0, a1), (b0, b1) = ((side[..., 0], side[..., 1]) for side in (a, b))
    inter = xp.minimum(a0, b0) * xp.minimum(a1, b1)
    union = a0 * a1 + b0 * b1 - inter
    there = union > 0
    return xp.where(there, inter / xp.where(there, union, xp.ones_like(union)), xp.zeros_like(inter))


def to_each(xp: Namespace, centers: Array, x: Array, metric: str) -> Array:
    """(k, n): the distance of each sample from each centre; both around 0, or of unit length."""
    if metric == "iou":
        return 1 - _iou(xp, centers[:, None, :], x[None, :, :])
    found = xp.matmul(-2.0 * centers, xp.matrix_transpose(x))
    found = found + row_dot(xp, centers, centers)[:, None]
    found = found + row_dot(xp, x, x)
    found = xp.maximum(found, xp.zeros_like(found))
    return found if metric == "euclidean" else _of_directions(xp, found, centers[:, None, :], x[None, :, :])


def distances(xp: Namespace, x: Array, closest: Array, metric: str) -> Array:
    """The distance of each sample from a centre of its own, explicitly: no difference of large squares."""
    if metric == "iou":
        return 1 - _iou(xp, x, closest)
    difference = x - closest
    return xp.sum(difference * difference, axis=-1)


def _of_directions(xp: Namespace, squared: Array, x: Array, y: Array) -> Array:
    """1 − cos from the squared distance of unit vectors; zeros are at a right angle to everything."""
    zero = _is_zero(xp, x) | _is_zero(xp, y)
    return xp.where(zero, xp.ones_like(squared), squared / 2)


def _is_zero(xp: Namespace, x: Array) -> Array:
    return xp.max(xp.abs(x), axis=-1) == 0


class _Centers(NamedTuple):
    """Centres (..., k, d) as they are compared with samples, and what is done to the samples first."""

    at: Array  # around the middle
    factors: Array  # −2 c, in a unit of which products do not leave the range of the dtype
    squares: Array  # ‖c‖² in that unit
    middle: Array | None  # taken off the samples
    whole: Array | None  # the middle in the integers of the samples, if those are not exact in the floating dtype
    scale: Array | None  # what widths and heights are multiplied with
    zero: Array | None  # which centres have no direction


def _ready(xp: Namespace, x: Array, given: Array, metric: str, wide: DType, *, around: bool) -> _Centers:
    centers = cast(xp, given, wide)
    if metric == "iou":
        scale = _inverse_scale(xp, xp.max(xp.abs(centers), axis=-2, keepdims=True))
        return _Centers(centers * scale, centers, centers, None, None, scale, None)
    middle = whole = zero = None
    if metric == "cosine":
        centers, zero = unit(xp, centers), _is_zero(xp, centers)
    if around or metric == "cosine":
        # Around the centre in the middle squares are small, and so is their rounding; whole numbers stay whole, and
        # equal distances equal, as they would not around a mean.
        away = centers - xp.mean(centers, axis=-2, keepdims=True)
        index = lowest(xp, xp.sum(away * away, axis=-1), -1)[..., None]
        middle = rows_at(xp, centers, index)
        if around and metric == "euclidean" and xp.isdtype(x.dtype, "integral") and xp.iinfo(x.dtype).bits > 16:
            whole, middle, centers = _around_integers(xp, x, given, index, wide)
        else:
            centers = centers - middle
    inverse = _inverse_scale(xp, xp.max(xp.abs(centers), axis=(-2, -1), keepdims=True))
    scaled = centers * inverse
    squares = xp.sum(centers * scaled, axis=-1)
    if zero is not None:
        squares = squares + xp.astype(zero, squares.dtype)  # as far as at a right angle
    return _Centers(centers, -2.0 * scaled, squares, middle, whole, None, zero)


def _around_integers(xp: Namespace, x: Array, given: Array, index: Array, wide: DType) -> tuple[Array, Array, Array]:
    """A whole number near the middle in the dtype of `x`, the same as a floating one, and the centres around it."""
    info = xp.iinfo(x.dtype)
    middle = rows_at(xp, given, index)
    if given.dtype == x.dtype:
        return middle, cast(xp, middle, wide), less(xp, given, middle, wide)
    given, middle = cast(xp, given, wide), cast(xp, middle, wide)
    # The largest float below 2^31 or 2^63 and not 2^31 itself, which no integer of the dtype is.
    most = float(info.max) * (1 - float(xp.finfo(wide).eps))
    inside = xp.where(xp.isfinite(middle), xp.round(middle), xp.zeros_like(middle))
    inside = xp.minimum(xp.maximum(inside, xp.full_like(inside, float(info.min))), xp.full_like(inside, most))
    return xp.astype(inside, x.dtype), inside, given - inside


def _pass(
    xp: Namespace,
    x: Array,
    centers: Array,
    weight: Array | None,
    *,
    metric: str,
    dtype: DType,
    rows: int,
    around: bool = True,
    sums: bool = True,
) -> tuple[tuple[Array, ...], tuple[Array, ...], _Centers]:
    """(labels, distances) and, if asked for, sums around the middle, by a loop that JAX does not unroll."""
    wide = compute_dtype(xp, dtype)
    parts = 1 if may_be_differentiated(x, centers, weight) or not is_at_hand(x) else workers(x)
    ready = _ready(xp, x, centers, metric, wide, around=around)

    def tile(x: Array, weight: Array | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        blank = _is_zero(xp, x) if metric == "cosine" else None
        x = _around(xp, x, ready, metric, wide)
        compared = x if ready.scale is None else x * ready.scale
        labels = _closest(xp, compared, ready, metric)
        if blank is not None:
            labels = xp.where(blank, xp.zeros_like(labels), labels)
        found = distances(xp, compared, rows_at(xp, ready.at, labels), metric)
        if blank is not None:
            straight = rows_at(xp, xp.astype(ready.zero, found.dtype)[..., None], labels)[..., 0] > 0
            found = xp.where(blank | straight, xp.ones_like(found), found / 2)
        if not sums:
            return (labels, found), ()
        w = None if weight is None else cast(xp, weight, wide)
        return (labels, found), _sums(xp, x, labels, found, w, ready.at, blank)

    (labels, found), totals = scan_rows(xp, tile, _added, rows, len(x.shape) - 2, x, weight, parts=parts)
    return (labels, cast(xp, found, dtype)), totals, ready


def _around(xp: Namespace, x: Array, ready: _Centers, metric: str, wide: DType) -> Array:
    """Samples, or their directions, around the middle of the centres."""
    if ready.whole is not None:
        return less(xp, x, ready.whole, wide)
    x = cast(xp, x, wide)
    if metric == "cosine":
        x = unit(xp, x)
    return x if ready.middle is None else x - ready.middle


def _assignment(xp: Namespace, x: Array, centers: Array, **options: Any) -> tuple[Array, ...]:
    return _pass(xp, x, centers, None, sums=False, **options)[0]


def _totals(xp: Namespace, x: Array, centers: Array, weight: Array | None, **options: Any) -> tuple[Array, ...]:
    weight, inverse = _in_unit(xp, weight, compute_dtype(xp, options["dtype"]))
    _, (sums, counts, inertia, *directions), ready = _pass(xp, x, centers, weight, **options)
    if ready.middle is not None:
        sums = sums + (directions[0] if directions else counts)[..., None] * ready.middle
    if inverse is None:
        return sums, counts, inertia
    return (
        _out_of_unit(xp, sums, inverse[..., None]),
        _out_of_unit(xp, counts, inverse),
        _out_of_unit(xp, inertia, inverse[..., 0]),
    )


def _in_unit(xp: Namespace, weight: Array | None, wide: DType) -> tuple[Array | None, Array | None]:
    """Weights (..., n) in a unit of their own, so that neither they nor their sums leave a dtype, and its inverse."""
    if weight is None or weight.shape[-1] == 0:
        return weight, None
    floating = xp.isdtype(weight.dtype, "real floating")
    weight = cast(xp, weight, compute_dtype(xp, weight.dtype) if floating else wide)
    inverse = _inverse_scale(xp, xp.max(weight, axis=-1, keepdims=True))
    return weight * inverse, inverse


def _out_of_unit(xp: Namespace, total: Array, inverse: Array) -> Array:
    """Sums in the unit of the weights as they were given, in a dtype that holds those."""
    dtype = xp.result_type(total.dtype, inverse.dtype)
    return cast(xp, total, dtype) / cast(xp, inverse, dtype)


def _added(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(p + q for p, q in zip(a, b, strict=True))


def _closest(xp: Namespace, x: Array, ready: _Centers, metric: str) -> Array:
    """The number of the closest centre of each sample."""
    if metric == "iou":
        return lowest(xp, 1 - _iou(xp, x[..., :, None, :], ready.at[..., None, :, :]), -1)
    if across(xp):
        product = xp.matmul(ready.factors, xp.matrix_transpose(x))
        return lowest(xp, product + ready.squares[..., :, None], -2)
    product = xp.matmul(x, xp.matrix_transpose(ready.factors))
    return lowest(xp, product + ready.squares[..., None, :], -1)


def _sums(
    xp: Namespace, x: Array, labels: Array, found: Array, weight: Array | None, centers: Array, blank: Array | None
) -> tuple[Array, ...]:
    """Σ w x and Σ w over the samples of each centre, and Σ w · distance, of one tile.

    Of directions also Σ w over those samples that have one: `blank` ones add nothing to the sums.
    """
    mine = xp.astype(labels[..., None, :] == counting(xp, centers, -2), x.dtype)
    if weight is not None:
        there = weight > 0
        x = xp.where(there[..., None], x, xp.zeros_like(x))
        found = xp.where(there, found, xp.zeros_like(found)) * weight
        mine = mine * weight[..., None, :]
    counts, inertia = xp.sum(mine, axis=-1), xp.sum(found, axis=-1)
    if blank is None:
        return xp.matmul(mine, x), counts, inertia
    x = xp.where(blank[..., None], xp.zeros_like(x), x)
    directed = mine * xp.astype(~blank, mine.dtype)[..., None, :]
    return xp.matmul(mine, x), counts, inertia, xp.sum(directed, axis=-1)


def _step(
    xp: Namespace, x: Array, centers: Array, weight: Array | None, *, metric: str, dtype: DType, rows: int
) -> tuple[Array, ...]:
    wide = compute_dtype(xp, dtype)
    weight, inverse = _in_unit(xp, weight, wide)
    (labels, _), (sums, counts, inertia, *directions), ready = _pass(
        xp, x, centers, weight, metric=metric, dtype=dtype, rows=rows
    )
    if inverse is not None:
        inertia = _out_of_unit(xp, inertia, inverse[..., 0])
    there = counts[..., None] > 0
    new = sums / xp.where(there, counts[..., None], xp.ones_like(counts[..., None]))
    if metric == "cosine":
        old = unit(xp, cast(xp, centers, wide))
        share = directions[0] / xp.where(counts > 0, counts, xp.ones_like(counts))
        new = unit(xp, new + share[..., None] * ready.middle)
        there = there & ~_is_zero(xp, new)[..., None]
        new = xp.where(there, new, old)
        shift = xp.sum((new - old) ** 2, axis=(-2, -1))
    else:
        # `at` of metric "iou" is in a unit of its own.
        old = ready.at if ready.scale is None else cast(xp, centers, wide)
        new = xp.where(there, new, old)
        shift = xp.sum((new - old) ** 2, axis=(-2, -1))
        new = new if ready.middle is None else xp.where(there, new + ready.middle, cast(xp, centers, wide))
    return cast(xp, new, dtype), labels, inertia, shift


def all_distances(x: Array, centers: Array, metric: str) -> Array:
    """Return the distances (n, k) of each sample from each centre, Euclidean ones and not their squares, in one pass.

    As if each were computed from the difference: those that a product spoils are.
    """
    xp, dtype = _check(x, centers, None, metric)
    home, like, wide = xp, x, compute_dtype(xp, dtype)
    if not xp.isdtype(x.dtype, "integral"):
        x = cast(xp, x, wide)
    xp, x, centers = writable(xp, x, cast(xp, centers, wide))
    if is_eager_jax(x):  # on a device, where arrays cannot be written to
        columns = [kmeans_assign(x, centers[j : j + 1, :], metric=metric).distances for j in range(centers.shape[0])]
        found = xp.stack(columns, axis=1)
        return cast(xp, xp.sqrt(found) if metric == "euclidean" else found, dtype)
    whole = compiled(_each_distance, xp, x, centers, metric=metric)
    return cast(xp, whole, dtype) if home is xp else from_host(home, whole, dtype, like)


def _each_distance(xp: Namespace, x: Array, centers: Array, *, metric: str) -> Array:
    """:func:`all_distances` in the dtype of the centres, in an array that can be written to."""
    wide = centers.dtype
    ready = _ready(xp, x, centers, metric, wide, around=True)
    largest = xp.max(xp.abs(ready.at))
    inverse = _inverse_scale(xp, largest)  # 1 for "iou", whose centres are scaled already
    at = ready.at * inverse
    squares = xp.sum(at * at, axis=-1)
    whole = xp.empty((x.shape[0], at.shape[0]), dtype=wide, device=device(x))
    step = _rows(xp, x, centers) or x.shape[0]
    tiles = [slice(start, min(start + step, x.shape[0])) for start in range(0, x.shape[0], step)]
    parts = max(1, min(workers(x) if is_at_hand(x) else 1, len(tiles)))

    def share(part: int) -> None:
        for tile in tiles[part::parts]:
            rows = _around(xp, x[tile, :], ready, metric, wide)
            if metric == "iou":
                whole[tile, :] = 1 - _iou(xp, (rows * ready.scale)[:, None, :], at[None, :, :])
                continue
            # Samples far beyond the centres have a unit of their own, a fraction of that of the centres.
            own_unit = _inverse_scale(xp, xp.maximum(xp.max(xp.abs(rows), axis=1, keepdims=True), largest))
            fraction = own_unit / inverse
            scaled = rows * own_unit
            own = row_dot(xp, scaled, scaled)[:, None] + squares * (fraction * fraction)
            found = own - 2.0 * xp.matmul(scaled * fraction, xp.matrix_transpose(at))
            flat = xp.reshape(found, (-1,))
            near = indices_of(xp, xp.reshape(~(found >= CANCELLED * own), (-1,)))
            if near.shape[0]:
                sample, center = near // at.shape[0], near % at.shape[0]
                if metric == "euclidean" and ready.whole is None:  # before anything is rounded
                    difference = items(xp, x[tile, :], sample) - items(xp, centers, center)
                else:
                    difference = items(xp, rows, sample) - items(xp, ready.at, center)
                difference = difference * items(xp, own_unit, sample)
                put(xp, flat, near, row_dot(xp, difference, difference))
            found = xp.reshape(flat, found.shape)
            if metric == "euclidean":
                whole[tile, :] = xp.sqrt(found) / own_unit
            else:
                zero = _is_zero(xp, x[tile, :])[:, None] | ready.zero
                whole[tile, :] = xp.where(zero, xp.ones_like(found), found / (2 * own_unit * own_unit))

    in_parts(x, share, parts)
    return whole


def _assign_chunks(x: Array, centers: Array, metric: str) -> KMeansAssignment:
    at = to_host(centers)
    sample = kmeans_assign(x._meta.reshape(0, x.shape[1]), at, metric=metric)

    def part_of(i: int) -> Array:
        return over_rows(lambda part: kmeans_assign(part, at, metric=metric)[i], x, None, sample[i].dtype)

    return KMeansAssignment(part_of(0), part_of(1))

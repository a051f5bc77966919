"""The building blocks of k-means, in fixed shapes: closest centres, sums that merge, one step of Lloyd's iteration."""

import math
from typing import Any, NamedTuple

from .._array.backends import to_host
from .._array.chunked import is_chunked, over_rows, reduce_chunks
from .._array.compiled import compiled
from .._array.host import HOST, from_host, writable
from .._array.namespace import (
    Array,
    DType,
    Namespace,
    cast,
    check_dtype,
    compute_dtype,
    is_at_hand,
    is_traced,
    may_be_differentiated,
    namespace,
    result_dtype,
)
from .._array.nearest import across, counting, lowest, row_dot, rows_at
from .._array.rows import is_sharded, rows_in_cache, scan_rows
from .._array.threads import workers

METRICS = ("euclidean", "cosine", "iou")
# By bits: bounds of centres whose squares, and sums of them, the dtype holds; the power of 2 for centres beyond.
LEVELS = {
    32: ((2.0**-40, 2.0**60), (2.0**-90, 2.0**100), (2.0**40, 2.0**-60), (2.0**90, 2.0**-100)),
    64: ((2.0**-300, 2.0**400), (2.0**-700, 2.0**800), (2.0**300, 2.0**-400), (2.0**700, 2.0**-800)),
}


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
        In the index dtype of the namespace; some label where the sample is not a number, or squares overflow or vanish.
    distances : array (..., n)

    Raises
    ------
    TypeError, ValueError
        If an argument is no array, of the wrong shape, or `metric` unknown.

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


def kmeans_partial(
    x: Array, centers: Array, *, sample_weight: Array | None = None, metric: str = "euclidean"
) -> KMeansPartial:
    """Σ w x and Σ w over the samples closest to each centre, and Σ w · distance.

    Parameters
    ----------
    x : array (..., n, d)
    centers : array (..., k, d)
    sample_weight : array (..., n), optional
        Numbers ≥ 0. Weight 0 means that the sample is not there, even if it holds NaN.
    metric : {"euclidean", "cosine", "iou"}
        For "cosine" the sums are those of x / ‖x‖.

    Returns
    -------
    sums : array (..., k, d)
    counts : array (..., k)
    inertia : array (...)
        float32 at least. NumPy arrays for a dask array, which is read once, chunk by chunk.

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


def kmeans_step(
    x: Array, centers: Array, *, sample_weight: Array | None = None, metric: str = "euclidean"
) -> KMeansStep:
    """One step of Lloyd's iteration: c_j ← Σ w x / Σ w over the samples closest to c_j [1]_.

    Parameters
    ----------
    x : array (..., n, d)
    centers : array (..., k, d)
    sample_weight : array (..., n), optional
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
    if len(shape) < 2:
        raise ValueError(f"x must have shape (..., n, d), got {shape}")
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


def unit(xp: Namespace, x: Array) -> Array:
    """x / ‖x‖ along the last axis, zeros where x is 0; scaled first, so that squares do not overflow."""
    largest = xp.max(xp.abs(x), axis=-1, keepdims=True)
    some = largest > 0
    one = xp.ones_like(largest)
    x = x / xp.where(some, largest, one)
    norm = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    return x / xp.where(some, norm, one)


def scores(xp: Namespace, a: Array, b: Array, metric: str, *, of: int = -1, extra: Array | None = None) -> Array:
    """(..., n, m): the distance of each sample to each centre, up to a term of the sample; `of` is the centres' axis.

    For "cosine" samples and centres are of unit length, less a point near them; `extra` is 1 for a centre of 0.
    """
    if metric == "iou":
        return 1 - _iou(xp, a[..., :, None, :], b[..., None, :, :])
    product = xp.matmul(a, xp.matrix_transpose(b))
    centers = b if of == -1 else a
    squares = xp.sum(centers * centers, axis=-1)
    if extra is not None:
        squares = squares + extra
    return (squares[..., None, :] if of == -1 else squares[..., :, None]) - 2.0 * product


def _iou(xp: Namespace, a: Array, b: Array) -> Array:
    a, b = xp.maximum(a, xp.zeros_like(a)), xp.maximum(b, xp.zeros_like(b))
    (a0, a1), (b0, b1) = ((side[..., 0], side[..., 1]) for side in (a, b))
    inter = xp.minimum(a0, b0) * xp.minimum(a1, b1)
    union = a0 * a1 + b0 * b1 - inter
    there = union > 0
    return xp.where(there, inter / xp.where(there, union, xp.ones_like(union)), xp.zeros_like(inter))


def to_each(xp: Namespace, centers: Array, x: Array, metric: str) -> Array:
    """(k, n): the distance from each centre of each sample; both around 0, or of unit length."""
    if metric == "iou":
        return scores(xp, centers, x, metric, of=-2)
    if metric == "euclidean":
        found = scores(xp, centers, x, metric, of=-2) + row_dot(xp, x, x)
        return xp.maximum(found, xp.zeros_like(found))
    # Half the squares of differences: 1 − cos of nearly parallel rows would be rounding.
    middle, zero = centers[:1, :], _is_zero(xp, centers)[:, None] | _is_zero(xp, x)[None, :]
    away = x - middle
    found = scores(xp, centers - middle, away, metric, of=-2) + row_dot(xp, away, away)
    return xp.where(zero, xp.ones_like(found), xp.maximum(found, xp.zeros_like(found)) / 2)


def distances_to_each(x: Array, centers: Array, metric: str) -> Array:
    """(n, k): the distance of each sample from each centre, itself and not its square for "euclidean"."""
    xp, dtype = _check(x, centers, None, metric)
    home, near, at = writable(xp, x, centers)
    rows = rows_in_cache(home, near, 2 * centers.shape[0])
    wide = HOST.float64 if home is HOST else compute_dtype(home, dtype)
    found = compiled(_each, home, near, at, metric=metric, dtype=wide, rows=rows)
    return from_host(xp, found, dtype, x) if home is not xp else cast(xp, found, dtype)


def _each(xp: Namespace, x: Array, centers: Array, *, metric: str, dtype: DType, rows: int) -> Array:
    centers = cast(xp, centers, dtype)
    middle = xp.mean(centers, axis=0, keepdims=True) if metric == "euclidean" else xp.zeros_like(centers[:1, :])
    centers = unit(xp, centers) if metric == "cosine" else centers - middle

    def tile(x: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        x = cast(xp, x, dtype)
        found = to_each(xp, centers, unit(xp, x) if metric == "cosine" else x - middle, metric)
        return (xp.sqrt(found).T if metric == "euclidean" else found.T,), ()

    return scan_rows(xp, tile, _added, rows, 0, x)[0][0]


def _is_zero(xp: Namespace, x: Array) -> Array:
    """Whether a vector is 0, along the last axis."""
    return xp.max(xp.abs(x), axis=-1) == 0


def distances(xp: Namespace, x: Array, closest: Array, metric: str) -> Array:
    """The distance of each sample from a centre of its own, explicitly: no difference of large squares."""
    if metric == "iou":
        return 1 - _iou(xp, x, closest)
    difference = x - closest
    squared = xp.sum(difference * difference, axis=-1)
    if metric == "euclidean":
        return squared
    # What has no direction is at a right angle to all.
    zero = _is_zero(xp, x) | _is_zero(xp, closest)
    return xp.where(zero, xp.ones_like(squared), squared / 2)


class _Compared(NamedTuple):
    """Centres as they are compared with samples: (c − middle) · factor; of unit length for "cosine" before that."""

    centers: Array
    middle: Array | None
    factor: Array | None  # a power of 2
    extra: Array | None  # 1 for a centre of "cosine" that is 0


def _compared(xp: Namespace, centers: Array, metric: str, *, around: bool) -> _Compared:
    extra = None
    if metric == "cosine":
        centers = unit(xp, centers)
        extra = cast(xp, _is_zero(xp, centers), centers.dtype)
    middle = None
    if metric == "cosine" or (metric == "euclidean" and around):
        # Around the centre in the middle squares are small, and so is their rounding; whole numbers stay whole, and
        # equal distances equal, as they would not around a mean.
        away = centers - xp.mean(centers, axis=-2, keepdims=True)
        middle = rows_at(xp, centers, lowest(xp, xp.sum(away * away, axis=-1), -1)[..., None])
        centers = centers - middle
    factor = None if metric == "cosine" else _factor(xp, centers)
    return _Compared(centers if factor is None else centers * factor, middle, factor, extra)


def _factor(xp: Namespace, centers: Array) -> Array | None:
    """A power of 2 by which the squares of very small or large numbers stay in their dtype; None if known to be 1."""
    size = xp.max(xp.abs(centers), axis=(-2, -1), keepdims=True)
    one = xp.ones_like(size)
    factor = one
    for bound, power in LEVELS[max(32, xp.finfo(centers.dtype).bits)]:
        beyond = (size < bound) & (size > 0) if bound < 1 else size > bound
        factor = xp.where(beyond, power * one, factor)
    if is_at_hand(centers) and not is_traced(centers) and bool(xp.all(factor == 1)):
        return None
    return factor


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
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """(labels, distances) and, if asked for, (Σ w x, Σ w, Σ w · distance), by a loop that JAX does not unroll."""
    wide = compute_dtype(xp, dtype)
    parts = 1 if may_be_differentiated(x, centers, weight) or not is_at_hand(x) else workers(x)
    centers = cast(xp, centers, wide)
    heavy = None if weight is None or xp.isdtype(weight.dtype, "bool") else _weight_factor(xp, weight)
    if heavy is not None:
        weight = weight * heavy[..., 0]
    to = _compared(xp, centers, metric, around=around)
    own = unit(xp, centers) if metric == "cosine" else to.centers

    def tile(x: Array, weight: Array | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        x = cast(xp, x, wide)
        if metric == "cosine":
            x = unit(xp, x)
            labels = _closest(xp, x - to.middle, to.centers, metric, to.extra)
            labels = xp.where(_is_zero(xp, x), xp.zeros_like(labels), labels)
        else:
            x = x if to.middle is None else x - to.middle
            x = x if to.factor is None else x * to.factor
            labels = _closest(xp, x, to.centers, metric, None)
        found = distances(xp, x, rows_at(xp, own, labels), metric)
        w = None if weight is None else cast(xp, weight, wide)
        return (labels, found), _sums(xp, x, labels, found, w, centers) if sums else ()

    (labels, found), totals = scan_rows(xp, tile, _added, rows, len(x.shape) - 2, x, weight, parts=parts)
    if to.factor is not None and metric == "euclidean":
        back = 1.0 / to.factor[..., 0]
        found = found * back * back
    if not sums:
        return (labels, cast(xp, found, dtype)), ()
    return (labels, cast(xp, found, dtype)), (*_moved_back(totals, to, metric), heavy)


def _weight_factor(xp: Namespace, weight: Array) -> Array | None:
    """A power of 2 that keeps sums of very large or small weights in their dtype; None if it is known to be 1."""
    if xp.isdtype(weight.dtype, "integral"):
        return None
    return _factor(xp, weight[..., None])


def _assignment(xp: Namespace, x: Array, centers: Array, **options: Any) -> tuple[Array, ...]:
    return _pass(xp, x, centers, None, sums=False, **options)[0]


def _totals(xp: Namespace, x: Array, centers: Array, weight: Array | None, **options: Any) -> tuple[Array, ...]:
    *totals, heavy = _pass(xp, x, centers, weight, **options)[1]
    if heavy is None:
        return tuple(totals)
    back = cast(xp, 1.0 / heavy, totals[0].dtype)
    return totals[0] * back, totals[1] * back[..., 0], totals[2] * back[..., 0, 0]


def _added(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(p + q for p, q in zip(a, b, strict=True))


def _moved_back(totals: tuple[Array, ...], to: _Compared, metric: str) -> tuple[Array, ...]:
    """Sums of the samples themselves, from those of the samples as they were compared."""
    sums, counts, inertia = totals
    if to.factor is not None:
        back = 1.0 / to.factor
        sums = sums * back
        if metric == "euclidean":
            inertia = inertia * back[..., 0, 0] * back[..., 0, 0]
    if to.middle is not None and metric == "euclidean":
        sums = sums + counts[..., None] * to.middle
    return sums, counts, inertia


def _closest(xp: Namespace, x: Array, centers: Array, metric: str, extra: Array | None) -> Array:
    """The number of the closest centre of each sample."""
    if across(xp):
        return lowest(xp, scores(xp, centers, x, metric, of=-2, extra=extra), -2)
    return lowest(xp, scores(xp, x, centers, metric, extra=extra), -1)


def _sums(
    xp: Namespace, x: Array, labels: Array, found: Array, weight: Array | None, centers: Array
) -> tuple[Array, ...]:
    """Σ w x and Σ w over the samples of each centre, and Σ w · distance, of one tile."""
    mine = xp.astype(labels[..., None, :] == counting(xp, centers, -2), x.dtype)
    if weight is not None:
        there = weight > 0
        x = xp.where(there[..., None], x, xp.zeros_like(x))
        found = xp.where(there, found, xp.zeros_like(found)) * weight
        mine = mine * weight[..., None, :]
    return xp.matmul(mine, x), xp.sum(mine, axis=-1), xp.sum(found, axis=-1)


def _step(
    xp: Namespace, x: Array, centers: Array, weight: Array | None, *, metric: str, dtype: DType, rows: int
) -> tuple[Array, ...]:
    (labels, _), totals = _pass(xp, x, centers, weight, metric=metric, dtype=dtype, rows=rows)
    sums, counts, inertia, heavy = totals
    if heavy is not None:
        inertia = inertia * cast(xp, 1.0 / heavy[..., 0, 0], inertia.dtype)
    old = cast(xp, centers, sums.dtype)
    there = counts[..., None] > 0
    new = sums / xp.where(there, counts[..., None], xp.ones_like(counts[..., None]))
    if metric == "cosine":
        old, new = unit(xp, old), unit(xp, new)
        there = there & (xp.max(xp.abs(new), axis=-1, keepdims=True) > 0)
    new = xp.where(there, new, old)
    shift = xp.sum((new - old) ** 2, axis=(-2, -1))
    return cast(xp, new, dtype), labels, inertia, shift


def _assign_chunks(x: Array, centers: Array, metric: str) -> KMeansAssignment:
    at = to_host(centers)
    sample = kmeans_assign(x._meta.reshape(0, x.shape[1]), at, metric=metric)

    def part_of(i: int) -> Array:
        return over_rows(lambda part: kmeans_assign(part, at, metric=metric)[i], x, None, sample[i].dtype)

    return KMeansAssignment(part_of(0), part_of(1))

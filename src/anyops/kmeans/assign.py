"""The building blocks of k-means, in fixed shapes: closest centres, sums that merge, one step of Lloyd's iteration."""

import math
from typing import Any, NamedTuple

from .._array.backends import to_host
from .._array.chunked import is_chunked, over_rows, reduce_chunks
from .._array.compiled import compiled
from .._array.namespace import (
    Array,
    DType,
    Namespace,
    cast,
    check_dtype,
    compute_dtype,
    is_at_hand,
    may_be_differentiated,
    namespace,
    result_dtype,
)
from .._array.nearest import across, counting, lowest, row_dot, rows_at
from .._array.rows import is_sharded, rows_in_cache, scan_rows
from .._array.threads import workers

METRICS = ("euclidean", "cosine", "iou")


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


def scores(xp: Namespace, a: Array, b: Array, metric: str, *, of: int = -1) -> Array:
    """(..., n, m): what orders centres by their distance from each sample; which of the axes is that of the centres."""
    if metric == "iou":
        return 1 - _iou(xp, a[..., :, None, :], b[..., None, :, :])
    product = xp.matmul(a, xp.matrix_transpose(b))
    if metric == "cosine":
        return -product
    centers = b if of == -1 else a
    squares = xp.sum(centers * centers, axis=-1)
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
    found = scores(xp, centers, x, metric, of=-2)
    if metric == "iou":
        return found
    found = found + (1.0 if metric == "cosine" else row_dot(xp, x, x))
    return xp.maximum(found, xp.zeros_like(found))


def distances(xp: Namespace, x: Array, closest: Array, metric: str) -> Array:
    """The distance of each sample from a centre of its own, explicitly: no difference of large squares."""
    if metric == "iou":
        return 1 - _iou(xp, x, closest)
    difference = x - closest
    squared = xp.sum(difference * difference, axis=-1)
    if metric == "euclidean":
        return squared
    # What has no direction is at a right angle to all.
    zero = (xp.max(xp.abs(x), axis=-1) == 0) | (xp.max(xp.abs(closest), axis=-1) == 0)
    return xp.where(zero, xp.ones_like(squared), squared / 2)


def _around(xp: Namespace, centers: Array, metric: str, *, around: bool) -> tuple[Array, Array | None]:
    """Centres as they are compared with samples, and what is taken off the samples first."""
    if metric == "cosine":
        return unit(xp, centers), None
    if not around or metric != "euclidean":
        return centers, None
    # Around the centre in the middle squares are small, and so is their rounding; whole numbers stay whole, and equal
    # distances equal, as they would not around a mean.
    away = centers - xp.mean(centers, axis=-2, keepdims=True)
    middle = rows_at(xp, centers, lowest(xp, xp.sum(away * away, axis=-1), -1)[..., None])
    return centers - middle, middle


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
    centers, middle = _around(xp, cast(xp, centers, wide), metric, around=around)

    def tile(x: Array, weight: Array | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        x = cast(xp, x, wide)
        if middle is not None:
            x = x - middle
        elif metric == "cosine":
            x = unit(xp, x)
        labels = _closest(xp, x, centers, metric)
        found = distances(xp, x, rows_at(xp, centers, labels), metric)
        w = None if weight is None else cast(xp, weight, wide)
        return (labels, found), _sums(xp, x, labels, found, w, centers) if sums else ()

    (labels, found), totals = scan_rows(xp, tile, _added, rows, len(x.shape) - 2, x, weight, parts=parts)
    return (labels, cast(xp, found, dtype)), _moved_back(totals, middle) if sums else ()


def _assignment(xp: Namespace, x: Array, centers: Array, **options: Any) -> tuple[Array, ...]:
    return _pass(xp, x, centers, None, sums=False, **options)[0]


def _totals(xp: Namespace, x: Array, centers: Array, weight: Array | None, **options: Any) -> tuple[Array, ...]:
    return _pass(xp, x, centers, weight, **options)[1]


def _added(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(p + q for p, q in zip(a, b, strict=True))


def _moved_back(totals: tuple[Array, ...], middle: Array | None) -> tuple[Array, ...]:
    """Sums of the samples themselves, from those around the middle."""
    sums, counts, inertia = totals
    return sums if middle is None else sums + counts[..., None] * middle, counts, inertia


def _closest(xp: Namespace, x: Array, centers: Array, metric: str) -> Array:
    """The number of the closest centre of each sample."""
    if across(xp):
        return lowest(xp, scores(xp, centers, x, metric, of=-2), -2)
    return lowest(xp, scores(xp, x, centers, metric), -1)


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
    (labels, _), (sums, counts, inertia) = _pass(xp, x, centers, weight, metric=metric, dtype=dtype, rows=rows)
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

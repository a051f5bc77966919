"""Building blocks of k-means with static shapes: closest centres, mergeable sums, one step of Lloyd's iteration."""

import math
from functools import partial
from typing import Any, NamedTuple

from .._array.arguments import check_parts
from .._array.backends import to_host
from .._array.chunked import empty_rows, over_rows, reduce_chunks
from .._array.host import from_host, on_host
from .._array.integers import check_held, may_be_rounded
from .._array.mode import Mode, enter, mode_of, sized_mode_of
from .._array.namespace import (
    Array,
    DType,
    Namespace,
    as_numbers,
    cast,
    check_dtype,
    compute_dtype,
    is_kind,
    namespace,
    result_dtype,
)
from .._array.nearest import counting, rows_at
from .._array.rows import rows_in_cache, scan_rows
from .._array.support import Kind, op
from .._host.cluster.distances import each_distance as each_distance_of_host
from .._host.cluster.rounding import are_copies, check_rounding, means_of
from .._math import in_unit, inverse_scale, out_of_unit, quotient
from .distances import Metric, Ready, check_metric, explicit, is_zero, ready, unit


class KMeansAssignment(NamedTuple):
    """The closest centre of each sample, and the distance to it."""

    labels: Array
    distances: Array


class KMeansPartial(NamedTuple):
    """Σ w x and Σ w over the samples of each centre, and Σ w · d over all samples, with squares for "euclidean"."""

    sums: Array
    counts: Array
    inertia: Array


class KMeansStep(NamedTuple):
    """Centres after a step, labels and inertia by the centres before it, and Σ ‖Δc‖²."""

    centers: Array
    labels: Array
    inertia: Array
    shift: Array


@op(Kind.VALUES)
def kmeans_assign(x: Array, centers: Array, *, metric: Metric = "euclidean") -> KMeansAssignment:
    """argmin_j d(x_i, c_j), ties to the lowest j, and that distance: squared for "euclidean".

    Parameters
    ----------
    x : array (..., n, d)
        Samples, floating, integer or bool. A dask array, chunked along samples, gives dask arrays.
    centers : array (..., k, d)
        With the same leading dimensions.
    metric : {"euclidean", "cosine", "iou"}
        Squared Euclidean distance; 1 − cos, which is 1 if either vector is 0; 1 − IoU of co-centred boxes, where x
        holds widths and heights (d = 2) and negative numbers are read as 0.

    Returns
    -------
    labels : array (..., n)
        In the index dtype of the namespace; arbitrary where the sample is not finite.
    distances : array (..., n)
        Squares for "euclidean". In the dtype of `x`: infinite or 0 if it cannot represent a square; not finite where
        the sample is not. Labels do not depend on the scale of `x`.

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
    x, centers = as_numbers("x", x), as_numbers("centers", centers)
    if mode_of(x=x).lazy:
        return _assign_chunks(x, centers, metric)
    mode, options = _check(x, centers, None, metric)
    return KMeansAssignment(*mode.run(_assignment, x, centers, **options))


@op(Kind.VALUES)
def kmeans_partial(
    x: Array, centers: Array, *, sample_weight: Array | None = None, metric: Metric = "euclidean"
) -> KMeansPartial:
    """Σ w x and Σ w over the samples closest to each centre, and Σ w · d with the d of :func:`kmeans_assign`.

    Parameters
    ----------
    x : array (..., n, d)
    centers : array (..., k, d)
    sample_weight : array (..., n), optional
        Numbers ≥ 0. A sample of weight 0 is ignored, even if it holds NaN.
    metric : {"euclidean", "cosine", "iou"}
        For "cosine", x / ‖x‖ is summed instead of x.

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
        As :func:`kmeans_assign`, and for integers as :func:`kmeans_step`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> part = anyops.kmeans_partial(np.asarray([[0.0], [1.0], [5.0]]), np.asarray([[0.0], [4.0]]))
    >>> part.sums[:, 0], part.counts, float(part.inertia)
    (array([1., 5.]), array([2., 1.]), 2.0)
    """
    check_metric(metric)
    x, centers = as_numbers("x", x), as_numbers("centers", centers)
    found = partial_sums(x, centers, sample_weight, metric, recenter=True)
    if metric == "euclidean" and x.shape[-2] and may_be_rounded(namespace(x=x), x, found.sums.dtype):
        mode = mode_of(x=x)
        if mode.lazy or mode_of(x=x, centers=centers, sums=found.sums).known:
            means = means_of(found.sums, found.counts)
            check_rounding(
                mode.xp, x, means, found.inertia, sample_weight, found.sums.dtype,
                lambda: are_copies(x, centers, kmeans_assign(x, centers).labels),
            )  # fmt: skip
    return found


def partial_sums(
    x: Array, centers: Array, sample_weight: Array | None, metric: Metric, *, recenter: bool
) -> KMeansPartial:
    """Return the sums of :func:`kmeans_partial`; with `recenter`, rounding is small even far from 0.

    Fits leave it off, because their samples (n, d) are near 0. The sums then depend on the labels only, bit for bit, so
    centres repeat when labels do.
    """
    if mode_of(x=x).lazy:
        at = to_host(centers)
        if sample_weight is not None:
            sized_mode_of(x=x, sample_weight=sample_weight)
            _check_beside(x, sample_weight)
        return reduce_chunks(
            lambda part, weight: partial_sums(part, at, weight, metric, recenter=recenter),
            kmeans_merge,
            1,
            x,
            sample_weight,
        )
    mode, options = _check(x, centers, sample_weight, metric)
    return KMeansPartial(*mode.run(_totals, x, centers, sample_weight, recenter=recenter, **options))


@op(Kind.VALUES)
def kmeans_merge(a: KMeansPartial, b: KMeansPartial) -> KMeansPartial:
    """Add the sums of two parts of the samples.

    Parameters
    ----------
    a, b : KMeansPartial
        By the same centres.

    Returns
    -------
    KMeansPartial
        Associative up to rounding.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x, c = np.asarray([[0.0], [1.0], [5.0]]), np.asarray([[0.0], [4.0]])
    >>> anyops.kmeans_merge(anyops.kmeans_partial(x[:1], c), anyops.kmeans_partial(x[1:], c)).counts
    array([2., 1.])
    """
    check_parts(KMeansPartial, a=a, b=b)
    return KMeansPartial(*(p + q for p, q in zip(a, b, strict=True)))


@op(Kind.VALUES)
def kmeans_step(
    x: Array, centers: Array, *, sample_weight: Array | None = None, metric: Metric = "euclidean"
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
        A centre without samples is not moved; only :func:`kmeans` moves it.
    labels : array (..., n)
    inertia : array (...)
        Both by the old centres.
    shift : array (...)
        Σ ‖Δc‖².

    Raises
    ------
    TypeError, ValueError
        As :func:`kmeans_assign`. Also, except under a transform: if rounding moves centres of integers by more than the
        distance of the samples from them, or if integers are so far apart that their distances are mostly rounding
        error.

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
    x, centers = as_numbers("x", x), as_numbers("centers", centers)
    mode, options = _check(x, centers, sample_weight, metric)
    found = KMeansStep(*mode.run(_step, x, centers, sample_weight, **options))
    if mode.known and metric == "euclidean" and x.shape[-2] and may_be_rounded(mode.xp, x, found.centers.dtype):
        copies = partial(are_copies, x, centers, found.labels)
        check_rounding(mode.xp, x, on_host(found.centers), found.inertia, sample_weight, found.centers.dtype, copies)
    return found


def _check(x: Array, centers: Array, weight: Array | None, metric: Metric) -> tuple[Mode, dict[str, Any]]:
    """Return the mode and the kernel options; raise unless shapes and dtypes are compatible."""
    arrays = {"x": x, "centers": centers, **({} if weight is None else {"sample_weight": weight})}
    mode = sized_mode_of(**arrays)
    xp = mode.xp
    for name in ("x", "centers"):
        check_dtype(xp, name, arrays[name], "real floating", "integral")
    shape, other = tuple(x.shape), tuple(centers.shape)
    if len(shape) < 2 or shape[-1] < 1:
        raise ValueError(f"x must have shape (..., n, d), d ≥ 1, got {shape}")
    if len(other) != len(shape) or other[:-2] != shape[:-2] or other[-1] != shape[-1] or other[-2] < 1:
        raise ValueError(f"centers must have shape (..., k, d) for x of shape {shape}, k ≥ 1, got {other}")
    if metric == "iou" and shape[-1] != 2:
        raise ValueError(f"x must hold widths and heights, (..., n, 2), for metric 'iou', got {shape}")
    if weight is not None:
        check_dtype(xp, "sample_weight", weight, "real floating", "integral", "bool")
        _check_beside(x, weight)
    dtype = result_dtype(xp, x=x, centers=centers)
    if x.dtype != centers.dtype and is_kind(xp, x, "integral") and is_kind(xp, centers, "integral"):
        # Integers of one dtype are subtracted before they are rounded; integers of two dtypes are converted first.
        for name, beside in (("x", "centers"), ("centers", "x")):
            check_held(mode, name, arrays[name], compute_dtype(xp, dtype), f" if {beside} has another dtype")
    # Number of samples scored at once; 0 for all, because a loop would move sharded rows between devices.
    rows = 0 if mode.sharded else rows_in_cache(xp, x, math.prod(shape[:-2]) * other[-2])
    return mode, {"metric": metric, "dtype": dtype, "rows": rows}


def _check_beside(x: Array, weight: Array) -> None:
    if tuple(weight.shape) != tuple(x.shape[:-1]):
        raise ValueError(f"sample_weight must have shape {tuple(x.shape[:-1])} to match x, got {tuple(weight.shape)}")


# --- kernels ---------------------------------------------------------------------------------------------------------


def _assignment(mode: Mode, x: Array, centers: Array, **options: Any) -> tuple[Array, ...]:
    return _pass(mode, x, centers, None, sums=False, **options)[0]


def _totals(mode: Mode, x: Array, centers: Array, weight: Array | None, **options: Any) -> tuple[Array, ...]:
    xp = mode.xp
    weight, inverse = in_unit(mode, weight, compute_dtype(xp, options["dtype"]))
    _, (sums, counts, inertia, *directions), found = _pass(mode, x, centers, weight, **options)
    if found.middle is not None:
        sums = sums + (directions[0] if directions else counts)[..., None] * found.middle
    if inverse is None:
        return sums, counts, inertia
    return (
        out_of_unit(xp, sums, inverse[..., None]),
        out_of_unit(xp, counts, inverse),
        out_of_unit(xp, inertia, inverse[..., 0]),
    )


def _step(
    mode: Mode, x: Array, centers: Array, weight: Array | None, *, metric: Metric, dtype: DType, rows: int
) -> tuple[Array, ...]:
    xp, wide = mode.xp, compute_dtype(mode.xp, dtype)
    weight, inverse = in_unit(mode, weight, wide)
    (labels, _), (sums, counts, inertia, *directions), found = _pass(
        mode, x, centers, weight, metric=metric, dtype=dtype, rows=rows
    )
    if inverse is not None:
        inertia = out_of_unit(xp, inertia, inverse[..., 0])
    kept = counts[..., None] > 0
    new = quotient(xp, sums, counts[..., None])
    if metric == "cosine":
        old = unit(xp, cast(xp, centers, wide))
        share = quotient(xp, directions[0], counts)
        new = unit(xp, new + share[..., None] * found.middle)
        kept = kept & ~is_zero(xp, new)[..., None]
        new = xp.where(kept, new, old)
        return cast(xp, new, dtype), labels, inertia, xp.sum((new - old) ** 2, axis=(-2, -1))
    # For "iou", `found.at` is scaled.
    old = found.at if found.scale is None else cast(xp, centers, wide)
    new = xp.where(kept, new, old)
    shift = xp.sum((new - old) ** 2, axis=(-2, -1))
    new = new if found.middle is None else xp.where(kept, new + found.middle, cast(xp, centers, wide))
    return cast(xp, new, dtype), labels, inertia, shift


def _pass(
    mode: Mode,
    x: Array,
    centers: Array,
    weight: Array | None,
    *,
    metric: Metric,
    dtype: DType,
    rows: int,
    recenter: bool = True,
    sums: bool = True,
) -> tuple[tuple[Array, ...], tuple[Array, ...], Ready]:
    """Return (labels, distances), with `sums` the sums relative to `middle`, and the prepared centres."""
    xp, wide = mode.xp, compute_dtype(mode.xp, dtype)
    table = ready(xp, x, centers, metric, wide, recenter=recenter)

    def tile(x: Array, weight: Array | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        blank = is_zero(xp, x) if metric == "cosine" else None
        x = table.transformed(xp, x, metric, wide)
        compared = x if table.scale is None else x * table.scale
        # XLA vectorises a minimum along the first axis; `argmin` of NumPy and torch is faster along the last.
        labels = table.closest(xp, compared, metric, down=mode.fused)
        if blank is not None:
            labels = xp.where(blank, xp.zeros_like(labels), labels)
        found = explicit(xp, compared, rows_at(xp, table.at, labels), metric)
        if blank is not None:
            orthogonal = rows_at(xp, xp.astype(table.zero, found.dtype)[..., None], labels)[..., 0] > 0
            found = xp.where(blank | orthogonal, 1.0, found / 2)
        if not sums:
            return (labels, found), ()
        w = None if weight is None else cast(xp, weight, wide)
        return (labels, found), _sums(xp, x, labels, found, w, table.at, blank)

    (labels, found), totals = scan_rows(mode, tile, _added, rows, len(x.shape) - 2, x, weight)
    return (labels, cast(xp, found, dtype)), totals, table


def _sums(
    xp: Namespace, x: Array, labels: Array, found: Array, weight: Array | None, centers: Array, blank: Array | None
) -> tuple[Array, ...]:
    """For one tile, Σ w x and Σ w over the samples of each centre, and Σ w · distance.

    For "cosine" also Σ w over nonzero samples. Zero samples (`blank`) add nothing to Σ w x.
    """
    mine = xp.astype(labels[..., None, :] == counting(xp, centers, -2), x.dtype)
    if weight is not None:
        kept = weight > 0
        x = xp.where(kept[..., None], x, 0.0)
        found = xp.where(kept, found, 0.0) * weight
        mine = mine * weight[..., None, :]
    counts, inertia = xp.sum(mine, axis=-1), xp.sum(found, axis=-1)
    if blank is None:
        return xp.matmul(mine, x), counts, inertia
    x = xp.where(blank[..., None], 0.0, x)
    directed = mine * xp.astype(~blank, mine.dtype)[..., None, :]
    return xp.matmul(mine, x), counts, inertia, xp.sum(directed, axis=-1)


def _added(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(p + q for p, q in zip(a, b, strict=True))


# --- pairwise distances ----------------------------------------------------------------------------------------------


def all_distances(x: Array, centers: Array, metric: Metric) -> Array:
    """Return the distances (n, k) of each sample from each centre; "euclidean" ones are not squared."""
    mode, options = _check(x, centers, None, metric)
    xp, dtype = mode.xp, options["dtype"]
    wide = compute_dtype(xp, dtype)
    like, centers = x, cast(xp, centers, wide)
    if not xp.isdtype(x.dtype, "integral"):
        x = cast(xp, x, wide)
    host, views = enter(xp, x, centers, differentiable=True)
    if host.host:
        return cast(xp, from_host(xp, host.run(each_distance_of_host, *views, metric=metric), wide, like), dtype)
    rows = options["rows"] and rows_in_cache(xp, x, math.prod(centers.shape))
    return cast(xp, mode.run(each_distance, x, centers, metric=metric, rows=rows), dtype)


def each_distance(mode: Mode, x: Array, centers: Array, *, metric: Metric, rows: int = 0) -> Array:
    """Distances (n, k) in the dtype of the centres, each computed from the difference x − c."""
    xp, wide = mode.xp, centers.dtype
    table = ready(xp, x, centers, metric, wide)

    def tile(x: Array) -> tuple[tuple[Array], tuple[()]]:
        if metric == "euclidean":
            # Integers are recentred before they are rounded; floats are not, which would round once more.
            own, at = (
                (cast(xp, x, wide), centers)
                if table.whole is None
                else (table.transformed(xp, x, metric, wide), table.at)
            )
            difference = own[:, None, :] - at
            inverse = inverse_scale(xp, xp.max(xp.abs(difference), axis=-1, keepdims=True))
            scaled = difference * inverse
            return (xp.sqrt(xp.sum(scaled * scaled, axis=-1)) / inverse[..., 0],), ()
        own = table.transformed(xp, x, metric, wide)
        own = own if table.scale is None else own * table.scale
        found = explicit(xp, own[:, None, :], table.at, metric)
        if metric == "cosine":
            found = xp.where(is_zero(xp, x)[:, None] | table.zero, 1.0, found / 2)
        return (found,), ()

    (found,), _ = scan_rows(mode, tile, _added, rows, 0, x)
    return found


def _assign_chunks(x: Array, centers: Array, metric: Metric) -> KMeansAssignment:
    at = to_host(centers)
    sample = kmeans_assign(empty_rows(x), at, metric=metric)

    def part_of(i: int) -> Array:
        return over_rows(lambda part: kmeans_assign(part, at, metric=metric)[i], x, None, sample[i].dtype)

    return KMeansAssignment(part_of(0), part_of(1))

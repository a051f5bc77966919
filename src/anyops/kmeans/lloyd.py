"""k-means by Lloyd's iteration, from a start to the fixed point."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .._array.arguments import check_integer, check_number
from .._array.backends import Host, host, to_host
from .._array.chunked import is_chunked
from .._array.namespace import Array, Namespace, device, is_at_hand, is_traced, namespace, result_dtype, stop_gradient
from .._array.random import Seed, generator
from .assign import check_metric, kmeans_assign, kmeans_partial, unit
from .bounds import Bounded, Sums
from .init import around_mean, check_samples, parallel, plusplus, rows, ship

INITS = ("k-means++", "k-means||", "random")


class KMeansResult(NamedTuple):
    """Centres, the closest one of each sample, Σ w · distance, and how the iteration ended."""

    centers: Array
    labels: Array
    inertia: float
    n_iter: int
    converged: bool


def kmeans(
    x: Array,
    k: int,
    *,
    init: str | Array = "k-means++",
    n_init: int | str = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Array | None = None,
    metric: str = "euclidean",
    center: str = "mean",
    seed: Seed = None,
    callback: Callable[[int, float, float], None] | None = None,
) -> KMeansResult:
    """Minimise Σ w · d(x, c of its label) over k centres by Lloyd's iteration [1]_, as scikit-learn does.

    Parameters
    ----------
    x : array (n, d)
        Finite samples; those of weight 0 may hold anything. A dask array, chunked along samples, is read chunk by
        chunk, once an iteration.
    k : int in [1, n]
    init : {"k-means++", "k-means||", "random"} or array (k, d)
        The centres to start from, or how to draw them from the samples. For a dask array use "k-means||" or an array.
    n_init : int or "auto"
        Number of starts, of which the best is returned; "auto" is 10 for "random" and 1 otherwise.
    max_iter : int ≥ 1
    tol : float ≥ 0
        Stop when Σ ‖Δc‖² ≤ tol · the mean over features of the variance of `x`, or when no label changes.
    sample_weight : array (n,), optional
        Numbers ≥ 0; weight 0 means that the sample is not there, in the variance and for empty clusters too.
    metric : {"euclidean", "cosine", "iou"}
        As in :func:`kmeans_assign`; centres of "cosine" have unit length.
    center : {"mean", "median"}
        The median of each coordinate is taken on the host.
    seed : int, numpy.random.Generator or None
        Draws are made on the host: the same on every library.
    callback : callable, optional
        Called with iteration, inertia by the centres of that iteration, and Σ ‖Δc‖².

    Returns
    -------
    centers : array (k, d)
        In the dtype of `x`, the default float for integers; a NumPy array for a dask one.
    labels : array (n,)
        The closest of `centers`, ties to the lowest number; a dask array for a dask one.
    inertia : float
    n_iter : int
    converged : bool
        False if `max_iter` ended it.

    Raises
    ------
    TypeError, ValueError
        If an argument is no array or of the wrong shape, values are not finite, or an option is out of its range; under
        ``jax.jit`` and the like, where :func:`kmeans_step` is to be used.

    Notes
    -----
    A centre that loses all samples moves to one of those farthest from their centres, as long as they are not on them.
    On NumPy and torch CPU arrays, samples whose bounds prove that they cannot change their centre are not looked at.

    References
    ----------
    .. [1] Lloyd, Least squares quantization in PCM, IEEE Transactions on Information Theory 28 (1982).

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x = np.asarray([[0.0], [1.0], [8.0], [9.0]])
    >>> result = anyops.kmeans(x, 2, init=np.asarray([[0.0], [9.0]]))
    >>> result.centers[:, 0], result.labels, result.inertia
    (array([0.5, 8.5]), array([0, 0, 1, 1]), 1.0)
    """
    xp = namespace(x=x)
    check_metric(metric)
    if is_traced(x) and not is_chunked(xp):
        raise TypeError("kmeans needs the values of x, got a traced array; use kmeans_step inside jit and vmap")
    if center not in ("mean", "median"):
        raise ValueError(f"center must be mean or median, got {center!r}")
    weight = check_samples(xp, x, k, sample_weight)
    if metric == "iou" and x.shape[1] != 2:
        raise ValueError(f"x must hold widths and heights, (n, 2), for metric 'iou', got {tuple(x.shape)}")
    tol = check_number("tol", tol, least=0)
    if check_integer("max_iter", max_iter) < 1:
        raise ValueError(f"max_iter must be at least 1, got {max_iter}")
    if is_chunked(xp) and center == "median":
        raise ValueError("center must be 'mean' for a dask array: a median needs all samples at once")
    starts = _starts(xp, x, k, init, n_init)
    rng = generator(seed)
    samples = _Samples(
        xp, stop_gradient(x), weight, None if sample_weight is None else sample_weight, k, metric, center
    )
    best: KMeansResult | None = None
    for _ in range(starts):
        found = samples.fit(samples.start(init, rng), max_iter, tol, callback)
        if best is None or found.inertia < best.inertia:
            best = found
    assert best is not None
    return best


def _starts(xp: Namespace, x: Array, k: int, init: str | Array, n_init: int | str) -> int:
    if isinstance(init, str):
        if init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)} or an array, got {init!r}")
    else:
        if not is_chunked(xp):
            namespace(x=x, init=init)
        shape = tuple(getattr(init, "shape", ()))
        if shape != (k, x.shape[1]):
            raise ValueError(f"init must have shape ({k}, {x.shape[1]}), got {shape}")
        if not bool(host.all(host.isfinite(host.asarray(to_host(init))))):
            raise ValueError("init must be finite, got NaN or infinity")
    if n_init == "auto":
        return 10 if isinstance(init, str) and init == "random" else 1
    if check_integer("n_init", n_init) < 1:
        raise ValueError(f"n_init must be at least 1 or 'auto', got {n_init}")
    return 1 if not isinstance(init, str) else int(n_init)


class _Samples:
    """Samples as they are iterated over: around their mean, or of unit length, or widths and heights as they are."""

    def __init__(self, xp: Namespace, x: Array, weight: Host, given: Array | None, k: int, metric: str, center: str):
        self.xp, self.k, self.metric, self.center, self.weight = xp, k, metric, center, weight
        self.dtype = result_dtype(xp, x=x)
        z, mean = around_mean(xp, x, weight)
        there = float(host.count_nonzero(weight))
        self.mean = host.zeros(x.shape[1])
        if metric == "euclidean":
            self.mean = host.astype(to_host(mean), host.float64)
        else:
            z = z + mean
            if metric == "cosine":
                z = z.map_blocks(lambda part: unit(namespace(x=part), part)) if is_chunked(xp) else unit(xp, z)
            if given is not None:
                z = xp.where(ship(xp, weight > 0, z)[:, None], z, xp.zeros_like(z))
        self.z = z
        first, second = xp.sum(z, axis=0), xp.sum(z * z, axis=0)
        first, second = (host.astype(to_host(a), host.float64) / there for a in (first, second))
        self.variance = max(0.0, float(host.mean(second - first * first)))
        self.eps = float(xp.finfo(z.dtype).eps)
        self.given = None if given is None else xp.astype(given, z.dtype, copy=False)

    def start(self, init: str | Array, rng: Any) -> Host:
        """Centres (k, d) on the host."""
        xp, z = self.xp, self.z
        if not isinstance(init, str):
            centers = host.astype(host.asarray(to_host(init)), host.float64)
            return self._settled(centers - self.mean, centers - self.mean)
        if init == "k-means||":
            return parallel(xp, z, self.weight, self.k, rng)
        if init == "random":
            there = host.nonzero(self.weight)[0]
            share = self.weight[there] / float(host.sum(self.weight))
            index = rng.choice(there, self.k, replace=False, p=share)
        else:
            index = plusplus(xp, z, self.weight, self.k, rng, 2 + int(math.log(self.k)))
        return host.astype(to_host(rows(xp, z, index)), host.float64)

    def fit(
        self, centers: Host, max_iter: int, tol: float, callback: Callable[[int, float, float], None] | None
    ) -> KMeansResult:
        bounded = None
        if is_at_hand(self.z) and self.metric != "iou" and self.center == "mean":
            bounded = Bounded(self.xp, lambda tile: self.z[tile, :], self.z, self.given, self.k)
        converged, n_iter = False, 0
        while n_iter < max_iter and not converged:
            n_iter += 1
            changed, inertia = -1, None
            if bounded is not None:
                sums, changed = bounded.update(centers)
            else:
                sums, inertia = self._sums(centers)
            new = self._update(sums, centers)
            shift = float(host.sum((new - centers) ** 2))
            if callback is not None:
                callback(n_iter, self._inertia(centers) if inertia is None else inertia, shift)
            # Sums made anew differ by rounding although no label changed.
            spread = self.variance * centers.shape[0] * centers.shape[1]
            rounding = (32 * self.eps) ** 2 * (float(host.sum(centers * centers)) + spread)
            centers, converged = new, changed == 0 or shift <= max(tol * self.variance, rounding)
        # The labels are those of the centres as they are returned, in the dtype of x.
        returned = self.xp.asarray(centers + self.mean, dtype=self.dtype, **self._place())
        centers = host.astype(to_host(self.xp.astype(returned, self.z.dtype)), host.float64) - self.mean
        if bounded is not None:
            bounded.update(centers)
            labels = bounded.labels
        else:
            labels = kmeans_assign(self.z, self._ship(centers), metric=self.metric).labels
        if is_chunked(self.xp):
            returned = to_host(returned)
        return KMeansResult(returned, labels, self._inertia(centers), n_iter, converged)

    def _place(self) -> dict[str, Any]:
        return {} if is_chunked(self.xp) else {"device": device(self.z)}

    def _ship(self, centers: Host) -> Array:
        if is_chunked(self.xp):
            return host.astype(centers, self.z.dtype)
        return self.xp.asarray(centers, dtype=self.z.dtype, **self._place())

    def _inertia(self, centers: Host) -> float:
        part = kmeans_partial(self.z, self._ship(centers), sample_weight=self.given, metric=self.metric)
        return float(part.inertia)

    def _sums(self, centers: Host) -> tuple[Sums, float]:
        part = kmeans_partial(self.z, self._ship(centers), sample_weight=self.given, metric=self.metric)
        sums, counts = (host.astype(to_host(a), host.float64) for a in (part.sums, part.counts))
        return Sums(sums, counts, counts), float(part.inertia)

    def _update(self, found: Sums, centers: Host) -> Host:
        """Centres of the sums; a centre without samples moves to one of those farthest from their own."""
        sums, counts = found.sums * 1.0, found.weights * 1.0
        empty = host.nonzero(counts == 0)[0]
        taken: list[tuple[int, int]] = []
        labels: Any = None
        if empty.shape[0] or self.center == "median":
            labels, distance = kmeans_assign(self.z, self._ship(centers), metric=self.metric)
            labels = to_host(labels)
        if empty.shape[0]:
            distance = host.where(self.weight > 0, to_host(distance), host.asarray(0.0))
            farthest = host.argsort(-distance, stable=True)[: empty.shape[0]]
            points = host.astype(to_host(rows(self.xp, self.z, farthest)), host.float64)
            for j, i, point in zip(empty.tolist(), farthest.tolist(), points, strict=True):
                if distance[i] > 0:
                    old, w = int(labels[i]), float(self.weight[i])
                    sums[old] -= w * point
                    counts[old] -= w
                    sums[j], counts[j] = w * point, w
                    taken.append((i, j))
        if self.center == "median":
            for i, j in taken:
                labels[i] = j
            return self._settled(self._medians(labels, centers), centers)
        there = counts > 1e-12 * found.weights
        new = host.where(there[:, None], sums / host.where(there, counts, host.asarray(1.0))[:, None], centers)
        return self._settled(new, centers)

    def _settled(self, new: Host, old: Host) -> Host:
        """Centres of the metric: of unit length for cosine, the old one where there is no direction."""
        if self.metric != "cosine":
            return new
        new = unit(host, new)
        return host.where(host.max(host.abs(new), axis=1, keepdims=True) > 0, new, old)

    def _medians(self, labels: Host, centers: Host) -> Host:
        """The weighted median of each coordinate; half of the weight on either side."""
        z, new = host.astype(to_host(self.z), host.float64), centers * 1.0
        for j in range(self.k):
            mine = host.nonzero((labels == j) & (self.weight > 0))[0]
            for axis in range(z.shape[1] if mine.shape[0] else 0):
                order = mine[host.argsort(z[mine, axis], stable=True)]
                reached = host.cumulative_sum(self.weight[order])
                half = reached[-1] / 2
                low = int(host.searchsorted(reached, half, side="left"))
                high = min(int(host.searchsorted(reached, half, side="right")), order.shape[0] - 1)
                new[j, axis] = (z[order[low], axis] + z[order[high], axis]) / 2
        return new

"""k-means by Lloyd's iteration, from a start to the fixed point."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .._array.arguments import check_integer, check_number
from .._array.backends import to_host
from .._array.chunked import is_chunked
from .._array.host import HOST, Host, from_host, on_host, writable
from .._array.namespace import (
    Array,
    Namespace,
    check_dtype,
    default_int,
    is_at_hand,
    namespace,
    result_dtype,
    stop_gradient,
    working,
)
from .._array.random import Seed, generator
from .assign import KMeansAssignment, check_metric, kmeans_assign, partial_sums, unit
from .bounds import Bounded, Sums, with_one
from .init import beside, check_samples, default_trials, parallel, plusplus, prepared, rows

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
        Stop when Σ ‖Δc‖² ≤ tol · the mean over features of the variance of `x`, or when no label changes. Medians, and
        means under "iou", may raise the inertia: then the best centres seen are returned; with tol = 0 the last ones,
        the fixed point, as published anchors are.
    sample_weight : array (n,), optional
        Numbers ≥ 0; weight 0 means that the sample is not there, in the variance and for empty clusters too.
    metric : {"euclidean", "cosine", "iou"}
        As in :func:`kmeans_assign`; centres of "cosine" have unit length.
    center : {"mean", "median"}
        The median of each coordinate is taken on the HOST.
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
    In the memory of the host, samples whose bounds prove that they cannot change their centre are not looked at; arrays
    of torch and JAX that lie there are iterated over as the NumPy arrays that they are.

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
    if center not in ("mean", "median"):
        raise ValueError(f"center must be mean or median, got {center!r}")
    weight = check_samples(xp, x, k, sample_weight)
    if metric == "iou":
        check_sides(xp, "x", x, weight)
    tol = check_number("tol", tol, least=0)
    if check_integer("max_iter", max_iter) < 1:
        raise ValueError(f"max_iter must be at least 1, got {max_iter}")
    if is_chunked(xp) and center == "median":
        raise ValueError("center must be 'mean' for a dask array: a median needs all samples at once")
    check_init(xp, "x", x, k, init)
    starts = _starts(init, n_init)
    rng = generator(seed)
    samples = Samples(xp, stop_gradient(x), weight, sample_weight, k, metric, center)
    results = (samples.fit(samples.start(init, rng), max_iter, tol, callback) for _ in range(starts))
    return min(results, key=lambda result: result.inertia)


def check_sides(xp: Namespace, name: str, x: Array, weight: Host) -> None:
    """Raise ValueError unless samples are widths and heights."""
    if x.shape[1] != 2:
        raise ValueError(f"{name} must hold widths and heights, (n, 2), for metric 'iou', got {tuple(x.shape)}")
    if bool(xp.any((x < 0) & beside(xp, weight > 0, x)[:, None])):
        raise ValueError(f"{name} must hold widths and heights of at least 0 for metric 'iou', got a negative one")


def _starts(init: str | Array, n_init: int | str) -> int:
    """How often to start; raise unless there is a way to."""
    drawn = isinstance(init, str)
    if n_init == "auto":
        return 10 if drawn and init == "random" else 1
    if check_integer("n_init", n_init) < 1:
        raise ValueError(f"n_init must be at least 1 or 'auto', got {n_init}")
    return int(n_init) if drawn else 1


def check_init(xp: Namespace, name: str, x: Array, k: int, init: str | Array) -> None:
    """Raise unless `init` names a way to draw centres, or holds k of them."""
    if isinstance(init, str):
        if init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)} or an array, got {init!r}")
        return
    if not is_chunked(xp):
        namespace(**{name: x, "init": init})
    if tuple(getattr(init, "shape", ())) != (k, x.shape[1]):
        raise ValueError(f"init must have shape ({k}, {x.shape[1]}), got {tuple(getattr(init, 'shape', ()))}")
    check_dtype(namespace(init=init), "init", init, "real floating", "integral")
    if not bool(HOST.all(HOST.isfinite(on_host(init)))):
        raise ValueError("init must be finite, got NaN or infinity")


class Samples:
    """Samples as they are iterated over, and the passes over them."""

    def __init__(self, xp: Namespace, x: Array, weight: Host, given: Array | None, k: int, metric: str, center: str):
        self.k, self.metric, self.center = k, metric, center
        # Weights that the dtype of the samples may not hold, or their sums, are counted in a unit of their own.
        largest = float(HOST.max(weight))
        self.unit = 1.0 if 2.0**-60 < largest < 2.0**60 else 2.0 ** math.floor(math.log2(largest))
        self.weight = weight / self.unit
        self.dtype = result_dtype(xp, x=x)
        self.home, self.like, self.xp, x = xp, x, xp, working(xp, x)
        if center == "mean" and metric != "iou":  # which bounds can be kept for
            self.xp, x, given = writable(xp, x, given)
        self.z, self.shift, self.scale, self.variance = prepared(self.xp, x, weight, metric)
        # Of samples of weight 0, which z does not have, the label alone is asked for.
        self.absent = None if bool(HOST.all(weight > 0)) else x
        self.given = None
        if given is not None:
            if self.unit != 1:
                lazy = is_chunked(self.xp)
                given = beside(self.xp, self.weight, self.z) if lazy else self._ship(self.weight)
            self.given = self.xp.astype(given, self.z.dtype, copy=False)
        self.inertia_unit = self.unit * (self.scale**2 if metric == "euclidean" else 1.0)
        self.middle = HOST.zeros(x.shape[1])  # what is taken off directions, once bounds are kept
        self._rows: Array = None  # z with a one behind each, once bounds are kept
        self._orders: list[Host] | None = None  # of the samples by each coordinate, once a median is asked for

    def start(self, init: str | Array, rng: Any) -> Host:
        """Centres (k, d) on the host."""
        if not isinstance(init, str):
            centers = (on_host(init) - self.shift) / self.scale
            return settled(self.metric, centers, centers)
        if init == "k-means||":
            return parallel(self.xp, self.z, self.weight, self.given, self.k, rng, self.metric)
        if init == "random":
            there = HOST.nonzero(self.weight)[0]
            share = self.weight[there] / float(HOST.sum(self.weight))
            index = rng.choice(there, self.k, replace=False, p=share)
        else:
            index = plusplus(self.xp, self.z, self.weight, self.k, rng, default_trials(self.k), self.metric)
        return on_host(rows(self.xp, self.z, index))

    def fit(
        self, centers: Host, max_iter: int, tol: float, callback: Callable[[int, float, float], None] | None
    ) -> KMeansResult:
        """Iterate from some centres."""
        bounded = None
        if self._has_bounds(centers):
            if self._rows is None:
                self._direct()
            bounded = Bounded(self.xp, self._rows, self.given, self.k)
        converged, n_iter = False, 0
        best, least = centers, math.inf  # a median, or a mean of boxes, may make it worse
        while n_iter < max_iter and not converged:
            n_iter += 1
            if bounded is not None:
                sums, changed = bounded.update(centers - self.middle)
                sums = sums._replace(sums=sums.sums + sums.weights[:, None] * self.middle)
                repeats, inertia, closest = changed == 0, None, None
            elif self.center == "median":
                closest = kmeans_assign(self.z, self._ship(centers), metric=self.metric)
                counts = HOST.bincount(to_host(closest.labels), weights=self.weight, minlength=self.k)
                lost = HOST.where(self.weight > 0, on_host(closest.distances), HOST.asarray(0.0)) * self.weight
                sums, repeats, inertia = Sums(HOST.zeros(centers.shape), counts, counts), False, float(HOST.sum(lost))
            else:
                # Where labels repeat, so do the sums and the centres, and the shift is 0.
                part = partial_sums(self.z, self._ship(centers), self.given, self.metric, around=False)
                counts = on_host(part.counts)
                sums, inertia, repeats = Sums(on_host(part.sums), counts, counts), float(part.inertia), False
                closest = None
            if inertia is not None and inertia < least:
                best, least = centers, inertia
            new = self._update(sums, centers, closest)
            shift = float(HOST.sum((new - centers) ** 2))
            if callback is not None:
                lost = self._inertia(centers) if inertia is None else inertia * self.inertia_unit
                callback(n_iter, lost, shift * self.scale**2)
            centers, converged = new, repeats or shift <= tol * self.variance
        if tol > 0 and self._may_rise and least * self.inertia_unit < self._inertia(centers):
            centers = best
        # The labels are those of the centres as they are returned, in the dtype of x.
        returned = from_host(self.home, centers * self.scale + self.shift, self.dtype, self.like)
        kept = on_host(returned)
        centers = on_host(self._ship((kept - self.shift) / self.scale))
        if bounded is not None:
            bounded.update(centers - self.middle)
            labels = bounded.labels
        else:
            labels = kmeans_assign(self.z, self._ship(centers), metric=self.metric).labels
        if self.absent is not None:
            labels = self._with_absent(labels, self._ship(kept))
        if self.home is not self.xp:
            labels = from_host(self.home, labels, default_int(self.home, self.like), self.like)
        return KMeansResult(returned, labels, self._inertia(centers), n_iter, converged)

    def _with_absent(self, labels: Array, centers: Array) -> Array:
        """The closest centres of samples of weight 0 too; of one that is not finite, some centre."""
        xp, x = self.xp, self.absent
        found = kmeans_assign(xp.where(xp.isfinite(x), x, xp.zeros_like(x)), centers, metric=self.metric).labels
        return xp.where(beside(xp, self.weight > 0, x), labels, found)

    @property
    def _may_rise(self) -> bool:
        """Whether an iteration may make the inertia larger: the centres do not minimise it."""
        return self.metric == "iou" or self.center == "median"

    def _has_bounds(self, centers: Host) -> bool:
        """Whether distances are Euclidean, of samples at hand; what is 0 is at no such distance from a direction."""
        if self.metric == "iou" or self.center == "median" or not is_at_hand(self.z):
            return False
        return self.metric == "euclidean" or not (
            bool(HOST.any(HOST.max(HOST.abs(centers), axis=1) == 0))
            or bool(self.xp.any(self.xp.max(self.xp.abs(self.z), axis=1) == 0))
        )

    def _ship(self, centers: Host) -> Array:
        return from_host(self.xp, centers, self.z.dtype, self.z)

    def _inertia(self, centers: Host) -> float:
        part = partial_sums(self.z, self._ship(centers), self.given, self.metric, around=False)
        return float(part.inertia) * self.inertia_unit

    def _direct(self) -> None:
        """Put a one behind each sample; directions around one of them, where differences of near ones have digits."""
        z = self.z
        if self.metric == "cosine":
            self.middle = on_host(rows(self.xp, z, HOST.asarray([int(HOST.argmax(self.weight))])))[0, :]
            z = z - self._ship(self.middle)
        self._rows = with_one(self.xp, z)
        if self.metric == "euclidean":
            self.z = self._rows[:, :-1]  # and not a second time

    def _update(self, found: Sums, centers: Host, closest: KMeansAssignment | None) -> Host:
        """Centres of the sums; a centre without samples moves to one of those farthest from their own."""
        sums, counts = found.sums * 1.0, found.weights * 1.0
        empty = HOST.nonzero(counts == 0)[0]
        taken: list[tuple[int, int]] = []
        labels: Any = None
        if empty.shape[0] or self.center == "median":
            labels, distance = closest or kmeans_assign(self.z, self._ship(centers), metric=self.metric)
            labels = to_host(labels).copy()
        there = counts > 0
        if empty.shape[0]:
            members = HOST.bincount(labels[self.weight > 0], minlength=self.k)
            distance = HOST.where(self.weight > 0, to_host(distance), HOST.asarray(0.0))
            farthest = HOST.argsort(-distance, stable=True)[: empty.shape[0]]
            points = on_host(rows(self.xp, self.z, farthest))
            for j, i, point in zip(empty.tolist(), farthest.tolist(), points, strict=True):
                if distance[i] > 0:
                    old, w = int(labels[i]), float(self.weight[i])
                    sums[old] -= w * point
                    counts[old] -= w
                    sums[j], counts[j] = w * point, w
                    members[old], members[j] = members[old] - 1, 1
                    taken.append((i, j))
            # What is left of a centre that lost nearly all of its weight is rounding.
            share = 64 * float(self.xp.finfo(self.z.dtype).eps)
            there = (members > 0) & (counts > share * found.weights)
        if self.center == "median":
            for i, j in taken:
                labels[i] = j
            return settled(self.metric, self._medians(labels, centers), centers)
        new = HOST.where(there[:, None], sums / HOST.where(there, counts, HOST.asarray(1.0))[:, None], centers)
        return settled(self.metric, new, centers)

    def _medians(self, labels: Host, centers: Host) -> Host:
        """The weighted median of each coordinate; half of the weight on either side."""
        z, new = on_host(self.z), centers * 1.0
        if self._orders is None:
            self._orders = [HOST.argsort(z[:, axis], stable=True) for axis in range(z.shape[1])]
        of = HOST.where(self.weight > 0, labels, HOST.asarray(self.k))  # samples that are not there come last
        of = of.astype(HOST.uint16 if self.k < 1 << 16 else HOST.int64)  # 16 bits are sorted by counting
        ends = HOST.cumulative_sum(HOST.bincount(of, minlength=self.k + 1)).tolist()
        for axis, order in enumerate(self._orders):
            grouped = order[HOST.argsort(of[order], stable=True)]
            weight = self.weight[grouped]
            for j in range(self.k):
                start, stop = ends[j - 1] if j else 0, ends[j]
                if start < stop:
                    reached = HOST.cumulative_sum(weight[start:stop])
                    half = reached[-1] / 2
                    low = start + int(HOST.searchsorted(reached, half, side="left"))
                    high = min(start + int(HOST.searchsorted(reached, half, side="right")), stop - 1)
                    new[j, axis] = (z[grouped[low], axis] + z[grouped[high], axis]) / 2
        return new


def settled(metric: str, new: Host, old: Host) -> Host:
    """Centres of the metric: of unit length for cosine, the old one where there is no direction."""
    if metric != "cosine":
        return new
    new = unit(HOST, new)
    return HOST.where(HOST.max(HOST.abs(new), axis=1, keepdims=True) > 0, new, old)

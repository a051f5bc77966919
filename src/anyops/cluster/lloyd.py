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
from .._array.support import SAMPLES_BY_VALUE, Kind, op
from .assign import KMeansAssignment, check_metric, kmeans_assign, partial_sums, unit
from .bounds import Bounded, Sums
from .init import beside, check_rows, check_samples, default_trials, parallel, plusplus, power_of_two, prepared, rows

WORSE = 1e-6  # of the inertia, a difference that is not rounding
TIED = 256  # roundings by which distances may differ that are equal
INITS = ("k-means++", "k-means||", "random")


class KMeansResult(NamedTuple):
    """Centres, the closest one of each sample, Σ w · distance, and how the iteration ended."""

    centers: Array
    labels: Array
    inertia: float
    n_iter: int
    converged: bool


@op(Kind.FIT, SAMPLES_BY_VALUE, static="kmeans_step")
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
        Numbers ≥ 0; a sample of weight 0 is ignored, in the variance and for empty clusters too.
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
        If an argument is not an array or has the wrong shape, values are not finite, or an option is out of its range;
        under ``jax.jit`` and the like, where :func:`kmeans_step` is to be used.

    Notes
    -----
    A centre that loses all samples moves to one of those farthest from their centres, as long as they are not on them.
    A step can make medians, and centres of "iou", worse: the best seen are returned, but with ``tol=0`` the last, the
    fixed point, as published anchors are. The unit of samples and weights does not matter. The labels and the inertia
    of integers that the dtype of the centres cannot hold are those of exact centres; it is a ValueError if rounding
    them changes labels.
    In host memory, samples whose bounds prove that they cannot change their centre are skipped once few samples change;
    arrays of torch and JAX that lie there are iterated over as NumPy arrays.

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
    samples = Samples(xp, stop_gradient(x), weight, sample_weight, k, metric, center, init)
    # By the inertia in the unit of the samples, which a float may not hold in that of x.
    fits = (samples.fit(samples.start(rng), max_iter, tol, callback) for _ in range(starts))
    return min(fits, key=lambda found: found[0])[1]


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

    def __init__(
        self,
        xp: Namespace,
        x: Array,
        weight: Host,
        given: Array | None,
        k: int,
        metric: str,
        center: str,
        init: str | Array,
    ):
        self.k, self.metric, self.center, self.init = k, metric, center, init
        # Weights that the dtype of the samples may not hold, or their sums, are counted in a unit of their own.
        self.unit = power_of_two(float(HOST.max(weight)))
        self.weight = weight / self.unit
        self.dtype = result_dtype(xp, x=x)
        self.home, self.like, self.xp = xp, x, xp
        # Integers of more bits go as they are to NumPy, which has float64 for them; it has no bfloat16.
        self.integral = xp.isdtype(x.dtype, "integral") and xp.iinfo(x.dtype).bits > 16
        if not self.integral:
            x = working(xp, x)
        if center == "mean" and metric != "iou":  # which bounds can be kept for
            self.xp, x, given = writable(xp, x, given)
        # A start may be no direction, which is at a right angle to all.
        shifts = is_at_hand(x) and (isinstance(init, str) or bool(HOST.all(HOST.any(on_host(init) != 0, axis=1))))
        found = prepared(self.xp, x, weight, metric, shifts_directions=shifts, with_one=center == "mean")
        self.z, self.place, self.variance, self.compare, self.rows = found
        self.halved = 0.5 if metric == "cosine" and self.compare == "euclidean" else 1.0
        # Of samples of weight 0, which z does not have, the label alone is asked for.
        self.absent = None if bool(HOST.all(weight > 0)) else x
        self.given = None
        if given is not None:
            given = given if self.unit == 1 else beside(self.xp, self.weight, self.z)
            self.given = self.xp.astype(given, self.z.dtype, copy=False)
        self._orders: list[Host] | None = None  # of the samples by each coordinate, once a median is asked for

    def start(self, rng: Any) -> Host:
        """Centres (k, d) on the host."""
        init = self.init
        if not isinstance(init, str):
            centers = on_host(init)
            return self.place.centers_in(settled(self.metric, centers, centers))
        if init == "k-means||":
            return parallel(self.xp, self.z, self.weight, self.given, self.k, rng, self.compare)
        if init == "random":
            there = HOST.nonzero(self.weight)[0]
            share = self.weight[there] / float(HOST.sum(self.weight))
            index = rng.choice(there, self.k, replace=False, p=share)
        else:
            index = plusplus(self.xp, self.z, self.weight, self.k, rng, default_trials(self.k), self.compare)
        return on_host(rows(self.xp, self.z, index))

    def fit(
        self, centers: Host, max_iter: int, tol: float, callback: Callable[[int, float, float], None] | None
    ) -> tuple[float, KMeansResult]:
        """Iterate from some centres; return the inertia in the unit of the samples beside the result."""
        bounded = self._bounds()
        descends = self.center == "mean" and self.metric != "iou"
        best: tuple[float, Host] | None = None
        converged, n_iter = False, 0
        while n_iter < max_iter and not converged:
            n_iter += 1
            sums, inertia, closest, repeats = self._assign_and_sum(centers, bounded)
            new = self._update(sums, centers, closest)
            shift = float(HOST.sum((new - centers) ** 2))
            if not descends and inertia is not None and (best is None or inertia < best[0]):
                best = inertia, centers
            if callback is not None:
                moved = (new - centers) / self.place.scale
                inertia = self._inertia(centers) if inertia is None else inertia
                callback(n_iter, self.inertia_out(inertia), float(HOST.sum(moved * moved)))
            least = max(tol * self.variance, self._rounding() ** 2 * self._size(centers))
            centers, converged = new, repeats or shift <= least
        found = self._result(centers, bounded, n_iter, converged)
        if tol > 0 and best is not None and best[0] < (1.0 - WORSE) * found[0]:
            found = min(found, self._result(best[1], bounded, n_iter, converged), key=lambda one: one[0])
        return found

    def _bounds(self) -> Bounded | None:
        """Bounds on the distances, which are Euclidean ones of samples at hand."""
        return None if self.rows is None else Bounded(self.xp, self.rows, self.given, self.k)

    def _assign_and_sum(
        self, centers: Host, bounded: Bounded | None
    ) -> tuple[Sums, float | None, KMeansAssignment | None, bool]:
        """The sums of the samples closest to each centre; if at no cost, the inertia; whether all labels repeat."""
        if bounded is not None:
            sums, changed = bounded.update(centers)
            return sums, None, None, changed == 0
        if self.center == "median":
            closest = kmeans_assign(self.z, self._ship(centers), metric=self.compare)
            counts = HOST.bincount(to_host(closest.labels), weights=self.weight, minlength=self.k)
            lost = HOST.where(self.weight > 0, on_host(closest.distances), HOST.asarray(0.0)) * self.weight
            return Sums(HOST.zeros(centers.shape), counts, counts), float(HOST.sum(lost)), closest, False
        # Where labels repeat, so do the sums and the centres, and the shift is 0.
        part = partial_sums(self.z, self._ship(centers), self.given, self.compare, around=False)
        counts = on_host(part.counts)
        return Sums(on_host(part.sums), counts, counts), float(part.inertia), None, False

    def _result(
        self, centers: Host, bounded: Bounded | None, n_iter: int, converged: bool
    ) -> tuple[float, KMeansResult]:
        """The labels are those of the centres as they are returned, in the dtype of x."""
        returned = from_host(self.home, self.place.centers_out(centers), self.dtype, self.like)
        kept = on_host(returned)
        exact, centers = centers, on_host(self._ship(self.place.centers_in(settled(self.metric, kept, kept))))
        labels = self._labels(centers, bounded)
        own = self.integral and float(HOST.max(HOST.abs(kept))) * float(self.home.finfo(self.dtype).eps) > 1
        if own:
            # Integers that the dtype of the centres does not hold were told apart all the same.
            before = to_host(labels).copy()
            differ = int(HOST.count_nonzero(before != to_host(self._labels(exact, bounded))))
            if differ > before.shape[0] / 1000:
                raise ValueError(
                    f"x must hold integers whose centres {self.dtype} can tell apart, got numbers up to "
                    f"{float(HOST.max(HOST.abs(self.place.centers_out(exact)))):.10g}; subtract an offset, or convert "
                    "x to float64"
                )
            labels, centers = before, exact
        if self.absent is not None:
            labels = self._with_absent(labels, self._ship(kept))
        if self.home is not self.xp or own:
            labels = from_host(self.home, labels, default_int(self.home, self.like), self.like)
        inertia = self._inertia(centers) if bounded is None else bounded.inertia()
        return inertia, KMeansResult(returned, labels, self.inertia_out(inertia), n_iter, converged)

    def _labels(self, centers: Host, bounded: Bounded | None) -> Array:
        if bounded is None:
            return kmeans_assign(self.z, self._ship(centers), metric=self.compare).labels
        bounded.update(centers, last=True)
        return bounded.labels

    def _with_absent(self, labels: Array, centers: Array) -> Array:
        """The closest centres of samples of weight 0 too; of one that is not finite, some centre."""
        xp, x = self.xp, self.absent
        found = kmeans_assign(xp.where(xp.isfinite(x), x, xp.zeros_like(x)), centers, metric=self.metric).labels
        return xp.where(beside(xp, self.weight > 0, x), labels, found)

    def _ship(self, centers: Host) -> Array:
        return from_host(self.xp, centers, self.z.dtype, self.z)

    def _inertia(self, centers: Host) -> float:
        return float(partial_sums(self.z, self._ship(centers), self.given, self.compare, around=False).inertia)

    def inertia_out(self, inertia: float) -> float:
        """Σ w · distance as it is of the samples and the weights as they were given."""
        scale = float(self.place.scale[0]) if self.metric == "euclidean" else 1.0
        return in_range(inertia * self.halved, self.unit, 1 / scale, 1 / scale)

    def _update(self, found: Sums, centers: Host, closest: KMeansAssignment | None) -> Host:
        """Centres of the sums; a centre without samples moves to one of those farthest from their own."""
        sums, counts = found.sums * 1.0, found.weights * 1.0
        empty = HOST.nonzero(counts == 0)[0]
        taken: list[tuple[int, int]] = []
        labels: Any = None
        if empty.shape[0] or self.center == "median":
            labels, distance = closest or kmeans_assign(self.z, self._ship(centers), metric=self.compare)
            labels = to_host(labels).copy()
        there = counts > 0
        if empty.shape[0]:
            members = HOST.bincount(labels[self.weight > 0], minlength=self.k)
            distance = HOST.where(self.weight > 0, to_host(distance), HOST.asarray(0.0))
            farthest, points = self._farthest(distance, empty.shape[0])
            # A sample that is its own centre but for rounding, as a copy of others is, stays: to move it would repeat.
            rounding = 64 * self._rounding()
            for j, i, point in zip(empty.tolist(), farthest.tolist(), points, strict=False):
                if distance[i] > (rounding if self.metric == "iou" else rounding**2 * self._size(point)):
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
            return self._settled(self._medians(labels, centers), centers)
        new = HOST.where(there[:, None], sums / HOST.where(there, counts, HOST.asarray(1.0))[:, None], centers)
        return self._settled(new, centers)

    def _farthest(self, distance: Host, count: int) -> tuple[Host, Host]:
        """The samples at the largest distances, and where they are; of equal ones, the first by their coordinates.

        Not by their numbers: what a fit finds must not depend on the order of the samples. Distances are equal if
        rounding, which depends on it, may have told them apart.
        """
        least = float(HOST.sort(distance)[-count]) * (1 - TIED * self._rounding())
        found = HOST.nonzero((distance >= least) & (distance > 0))[0]
        found = found[HOST.argsort(-distance[found], stable=True)]
        sorted_, points = distance[found], on_host(rows(self.xp, self.z, found))
        falls = sorted_[1:] < sorted_[:-1] * (1 - TIED * self._rounding())
        rank = HOST.concat([HOST.zeros(min(1, found.shape[0])), HOST.cumulative_sum(HOST.astype(falls, HOST.float64))])
        keys = [self.weight[found], *(points[:, axis] for axis in range(points.shape[1] - 1, -1, -1)), rank]
        order = HOST.lexsort(keys)[:count]
        return found[order], points[order, :]

    def _rounding(self) -> float:
        return float(self.xp.finfo(self.z.dtype).eps)

    def _size(self, points: Host) -> float:
        """The sum of squares of what was rounded to get some points, or centres."""
        at = points + self.place.shift if self.metric == "cosine" else points
        return float(HOST.sum(at * at))

    def _settled(self, new: Host, old: Host) -> Host:
        if self.metric != "cosine":
            return new
        shift = self.place.shift
        return settled(self.metric, new + shift, old + shift) - shift

    def _medians(self, labels: Host, centers: Host) -> Host:
        """The weighted median of each coordinate; half of the weight on either side."""
        z, new = on_host(self.z), centers * 1.0
        if self._orders is None:
            self._orders = [HOST.argsort(z[:, axis], stable=True) for axis in range(z.shape[1])]
        of = HOST.where(self.weight > 0, labels, HOST.asarray(self.k))  # ignored samples come last
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


def in_range(value: float, *factors: float) -> float:
    """Return a product of positive numbers that is 0 or infinite only if it as a whole leaves the range of a float."""
    exponent = 0
    for factor in factors:
        fraction, power = math.frexp(factor)
        value, exponent = value * fraction, exponent + power
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def inertia_of(x: Array, centers: Array, sample_weight: Array | None, metric: str) -> float:
    """Return Σ w · distance of samples from the closest of some centres, whatever the unit of either."""
    xp = namespace(x=x)
    weight = check_rows(xp, "X", x, sample_weight)
    if not bool(HOST.any(weight > 0)):
        return 0.0
    samples = Samples(xp, stop_gradient(x), weight, sample_weight, centers.shape[0], metric, "mean", centers)
    return samples.inertia_out(samples._inertia(samples.start(None)))

"""k-means of data that come in batches, each looked at once: a stream, or files larger than memory."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .._array.arguments import check_integer, check_number
from .._array.backends import to_host
from .._array.chunked import is_chunked
from .._array.host import HOST, Host, from_host, on_host, writable
from .._array.namespace import Array, Namespace, namespace, result_dtype, stop_gradient
from .._array.random import Seed, generator
from .._array.support import Kind, op
from .assign import check_metric, partial_sums
from .init import Place, beside, check_rows, power_of_two, rows
from .lloyd import KMeansResult, Samples, check_init, check_sides, in_range, settled

# The start is drawn from FIRST_BATCHES batches, from more while they hold fewer than FIRST_SAMPLES a centre.
FIRST_BATCHES, FIRST_SAMPLES = 3, 3
# Centres below LEAST_SHARE of the largest weight are drawn anew, each time that PATIENCE samples a centre were seen.
LEAST_SHARE, PATIENCE = 0.01, 10


@op(Kind.FIT, static="kmeans_step")
def minibatch_kmeans(
    batches: Iterable[Array | tuple[Array, Array]],
    k: int,
    *,
    init: str | Array = "k-means++",
    seed: Seed = None,
    metric: str = "euclidean",
    tol: float = 0.0,
    max_no_improvement: int | None = 10,
) -> KMeansResult:
    """Make each centre the mean of all samples that were closest to it when their batch came [1]_.

    Parameters
    ----------
    batches : iterable of arrays (n_b, d), or of pairs of such an array and weights (n_b,)
        A list or tuple of one array, as a ``DataLoader`` of a ``TensorDataset`` gives, is that array. Weights are
        floating, in any unit; integers and bools are refused, for they may be labels. All batches are of one
        library, device and dtype; each is asked for once, in turn, and let go. Each should be a fair draw of the data:
        shuffle what is sorted. A dask array is computed batch by batch.
    k : int ≥ 1
    init : {"k-means++", "k-means||", "random"} or array (k, d)
        The centres to start from, or how to draw them from the first three batches, from more of them while they hold
        fewer than 3 k samples.
    seed : int, numpy.random.Generator or None
        Draws are made on the host: the same on every library.
    metric : {"euclidean", "cosine", "iou"}
        As in :func:`kmeans_assign`.
    tol : float ≥ 0
        Stop when a batch changes the centres by Σ ‖Δc‖² ≤ tol · the mean over features of the variance in the batches
        that the start came from; 0 never stops.
    max_no_improvement : int ≥ 1 or None
        Stop after this many batches in a row without a new minimum of the smoothed distance per weight; None reads all.

    Returns
    -------
    centers : array (k, d)
        In the dtype of the batches, the default float for integers; a NumPy array for dask arrays.
    labels : None
        No batch is kept; :func:`kmeans_assign` gives the labels of one.
    inertia : float
        Σ w · distance over the batches, each by the centres as they were before they learned from it.
    n_iter : int
        Number of batches that were used.
    converged : bool
        True if `tol` or `max_no_improvement` ended it; False if the batches did.

    Raises
    ------
    TypeError, ValueError
        If there is no sample, or fewer than k; if a batch is not an array, or of another width, library, device or
        dtype than the first one, or not finite; if weights are negative; if an option is out of its range.

    Notes
    -----
    As scikit-learn's ``MiniBatchKMeans``: c ← (c W + Σ w x) / (W + Σ w), W ← W + Σ w over the samples of the batch that
    are closest to c, W = 0 at first. The distance per weight is smoothed with α = 2 w / (w + W), w the weight of the
    batch and W that of all so far, for the length of the stream is not known; the first batch is left out. Every 10 k
    samples, and at each batch while a centre has none, centres with less than 1 % of the largest weight move to samples
    drawn from the next batch.

    References
    ----------
    .. [1] Sculley, Web-Scale K-Means Clustering, WWW 2010.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x = np.random.default_rng(0).integers(0, 2, (4_000, 1)) * 8.0
    >>> result = anyops.minibatch_kmeans((x[i : i + 100] for i in range(0, 4_000, 100)), 2, seed=0)
    >>> sorted(result.centers[:, 0].tolist()), result.labels, result.inertia
    ([0.0, 8.0], None, 0.0)
    """
    check_metric(metric)
    if check_integer("k", k) < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    tol = check_number("tol", tol, least=0)
    if max_no_improvement is not None and check_integer("max_no_improvement", max_no_improvement) < 1:
        raise ValueError(f"max_no_improvement must be at least 1 or None, got {max_no_improvement}")
    rng = generator(seed)
    stream = _checked(batches, metric)
    first = _first(stream, k, drawn=isinstance(init, str))
    centers = _Centers(first, k, init, metric, rng)
    stop = _Stop(tol * centers.variance, max_no_improvement)
    inertia, n_iter, seen, converged = 0.0, 0, 0, False
    for batch in _all_of(first, stream):
        n_iter, seen = n_iter + 1, seen + int(HOST.count_nonzero(batch.weight))
        lost, shift = centers.learn(batch)
        inertia += lost
        if converged := stop.after(lost, float(HOST.sum(batch.weight / centers.unit)), shift):
            break
    if seen < k:
        raise ValueError(f"k must be at most the number of samples, {seen} in all batches, got {k}")
    return KMeansResult(centers.result(batch.xp, batch.x), None, centers.inertia_out(inertia), n_iter, converged)


class _Batch(NamedTuple):
    name: str
    xp: Namespace
    x: Array
    weight: Host
    weighted: bool


def _checked(batches: Any, metric: str) -> Iterator[_Batch]:
    """Yield the batches that hold something; raise at the first that is not like the others."""
    try:
        iterator = iter(batches)
    except TypeError:
        raise TypeError(f"batches must be an iterable of arrays (n, d), got {type(batches).__name__}") from None
    like = None
    for number, given in enumerate(iterator):
        name = f"batch {number}"
        x, sample_weight = _parts(name, given)
        xp = namespace(**{name: x})
        if is_chunked(xp):
            x = to_host(x)
            sample_weight = None if sample_weight is None else to_host(sample_weight)
            xp = HOST
        if sample_weight is not None:
            namespace(**{name: x, f"weights of {name}": sample_weight})
            if xp.isdtype(sample_weight.dtype, ("integral", "bool")):
                raise TypeError(
                    f"{name} must be an array or a pair of an array and floating weights, got {sample_weight.dtype} "
                    "beside the array: leave out labels, or convert weights to a floating dtype"
                )
        weight = check_rows(xp, name, x, sample_weight)
        if like is None:
            # No batch is kept to compare others with, which would keep its memory.
            like, first = from_host(xp, HOST.zeros((0, x.shape[1])), x.dtype, x), name
        namespace(**{first: like, name: x})
        for what, expected, got in (("dtype", like.dtype, x.dtype), ("width", like.shape[1], x.shape[1])):
            if expected != got:
                raise ValueError(f"{name} must have the {what} of {first}, {expected}, got {got}")
        if metric == "iou":
            check_sides(xp, name, x, weight)
        x = stop_gradient(x)
        if bool(HOST.any(weight > 0)):
            if x.dtype == getattr(xp, "float64", None):  # whose squares no float could tell
                _check_squares(xp, name, x, weight, "float64")
            yield _Batch(name, xp, x, weight, sample_weight is not None)


def _parts(name: str, given: Any) -> tuple[Array, Array | None]:
    """Samples and weights of a batch, from an array, or a tuple or list of one or two."""
    if not isinstance(given, tuple | list):
        return given, None
    if len(given) == 1:
        return given[0], None
    if len(given) == 2 and all(hasattr(part, "shape") for part in given):
        return given[0], given[1]
    raise TypeError(
        f"{name} must be an array (n, d), or a pair of one and weights (n,), got a {type(given).__name__} of "
        f"{', '.join(type(part).__name__ for part in given[:4])}"
    )


def _first(stream: Iterator[_Batch], k: int, *, drawn: bool) -> list[_Batch]:
    """Take the batches that the start is drawn from, or that tell where the samples lie."""
    first: list[_Batch] = []
    there = 0
    for batch in stream:
        first.append(batch)
        there += int(HOST.count_nonzero(batch.weight))
        if not drawn or (len(first) >= FIRST_BATCHES and there >= FIRST_SAMPLES * k):
            return first
    if not first:
        raise ValueError("batches must hold samples, got none of positive weight")
    if k > there:
        raise ValueError(f"k must be at most the number of samples, {there} in all batches, got {k}")
    return first


def _all_of(first: list[_Batch], stream: Iterator[_Batch]) -> Iterator[_Batch]:
    while first:
        yield first.pop(0)
    yield from stream


class _Centers:
    """Centres in float64 on the host: where they are, and Σ w x and Σ w of what they learned from."""

    def __init__(self, first: list[_Batch], k: int, init: str | Array, metric: str, rng: Any):
        xp, parts = first[0].xp, [batch.x for batch in first]
        x = xp.concat(parts, axis=0) if len(parts) > 1 else parts[0]
        weight = HOST.concat([batch.weight for batch in first])
        check_init(xp, "batch 0", x, k, init)
        self._dtype = result_dtype(xp, x=x)
        self.unit = power_of_two(float(HOST.max(weight)))
        weight = weight / self.unit
        given = from_host(xp, weight, self._dtype, x) if any(batch.weighted for batch in first) else None
        samples = Samples(xp, x, weight, given, k, metric, "mean", init)
        self.variance, self._place = samples.variance, samples.place
        self._at = samples.start(rng)
        if metric == "cosine":  # of which later batches may hold samples without a direction
            self._at = self._at + self._place.shift
            self._place = Place(None, HOST.ones(x.shape[1]), HOST.zeros(x.shape[1]))
        self._sums, self._weights = HOST.zeros(self._at.shape), HOST.zeros(k)
        self._metric, self._rng, self._since = metric, rng, 0

    def learn(self, batch: _Batch) -> tuple[float, float]:
        """Take in a batch; return Σ w · distance by the centres as they were, and Σ ‖Δc‖²."""
        xp, x, old = batch.xp, batch.x, self._at
        if xp.isdtype(x.dtype, "integral"):  # as the start was: NumPy has float64 for them
            xp, x = writable(xp, x)
        z = self._place.enter(xp, x)
        weight = batch.weight / self.unit
        unit = power_of_two(float(HOST.max(weight)))
        weight = weight / unit
        if self._metric == "euclidean":
            _check_squares(xp, batch.name, z, weight, f"{z.dtype} in the unit of the first batches")
        given = from_host(xp, weight, z.dtype, z) if batch.weighted else None
        there = int(HOST.count_nonzero(weight))
        if bool(HOST.any(self._weights > 0)) and (
            bool(HOST.any(self._weights == 0)) or self._since >= PATIENCE * old.shape[0]
        ):
            # Before a batch, not after it as scikit-learn does: no centre is returned that no sample was held to.
            self._reassign(xp, z, weight, there // 2)
            self._since = 0
        self._since += there
        part = partial_sums(z, from_host(xp, self._at, z.dtype, z), given, self._metric, around=False)
        self._sums = self._sums + unit * on_host(part.sums)
        self._weights = self._weights + unit * on_host(part.counts)
        some = self._weights > 0
        mean = self._sums / HOST.where(some, self._weights, HOST.asarray(1.0))[:, None]
        self._at = settled(self._metric, HOST.where(some[:, None], mean, self._at), self._at)
        return float(part.inertia) * unit, float(HOST.sum((self._at - old) ** 2))

    def inertia_out(self, inertia: float) -> float:
        """Σ w · distance as it is of the samples and the weights as they were given."""
        scale = float(self._place.scale[0]) if self._metric == "euclidean" else 1.0
        return in_range(inertia, self.unit, 1 / scale, 1 / scale)

    def _reassign(self, xp: Namespace, z: Array, weight: Host, most: int) -> None:
        """Move the centres that have next to nothing, at most so many of them, to samples of a batch."""
        few = HOST.nonzero(self._weights < LEAST_SHARE * HOST.max(self._weights))[0]
        few = few[HOST.argsort(self._weights[few], stable=True)][:most]
        if few.shape[0]:
            index = self._rng.choice(weight.shape[0], few.shape[0], replace=False, p=weight / float(HOST.sum(weight)))
            points = on_host(rows(xp, z, index))
            self._at = self._at * 1.0
            self._at[few, :] = settled(self._metric, points, self._at[few, :])
            rest = HOST.ones(self._weights.shape[0], dtype=HOST.bool)
            rest[few] = False
            # With the least weight of the others they are neither drawn again at once nor carried off by one sample.
            self._weights[few] = HOST.min(self._weights[rest])
            self._sums[few, :] = self._at[few, :] * self._weights[few][:, None]

    def result(self, xp: Namespace, like: Array) -> Array:
        """The centres (k, d) where the samples were, in their dtype and library."""
        exact = self._place.centers_out(self._at)
        returned = from_host(xp, exact, self._dtype, like)
        if xp.isdtype(like.dtype, "integral"):
            off, apart = HOST.sum((on_host(returned) - exact) ** 2, axis=1), _apart(self._at / self._place.scale)
            if bool(HOST.any((apart > 0) & (apart < 16 * off))):
                raise ValueError(
                    f"batches must hold integers whose centres {self._dtype} can tell apart, got numbers up to "
                    f"{float(HOST.max(HOST.abs(exact))):.10g}; subtract an offset, or convert them to float64"
                )
        return returned


def _check_squares(xp: Namespace, name: str, z: Array, weight: Host, where: str) -> None:
    there = beside(xp, weight > 0, z)[:, None]
    largest = float(xp.max(xp.abs(xp.where(there, z, xp.zeros_like(z)))))
    if not largest < (float(xp.finfo(z.dtype).max) / (64 * z.shape[0] * z.shape[1])) ** 0.5:
        raise ValueError(f"{name} must hold numbers whose squares can be summed in {where}, got larger ones")


def _apart(centers: Host) -> Host:
    """The squared distance of each centre from the closest other one."""
    apart = HOST.full(centers.shape[0], float("inf"))
    for j in range(centers.shape[0]):
        squared = HOST.sum((centers - centers[j, :]) ** 2, axis=1)
        squared[j] = float("inf")
        apart[j] = HOST.min(squared)
    return apart


class _Stop:
    """When to stop: a batch changes next to nothing, or the smoothed distance has had no new minimum for long."""

    def __init__(self, least: float, patience: int | None):
        self._least, self._patience = least, patience
        self._weight, self._smooth, self._minimum, self._since = 0.0, 0.0, float("inf"), 0

    def after(self, lost: float, weight: float, shift: float) -> bool:
        """Tell it of a batch: Σ w · distance, Σ w and Σ ‖Δc‖²."""
        begun = self._weight > 0
        self._weight += weight
        if not begun:  # by centres that have learned nothing yet
            return False
        share = 1.0 if self._minimum == float("inf") else 2 * weight / (weight + self._weight)
        self._smooth += share * (lost / weight - self._smooth)
        self._since = 0 if self._smooth < self._minimum else self._since + 1
        self._minimum = min(self._minimum, self._smooth)
        if self._least > 0 and shift <= self._least:
            return True
        return self._patience is not None and self._since >= self._patience

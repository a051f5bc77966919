"""k-means of a stream of batches, each read once, for data larger than memory."""

from collections.abc import Iterable, Iterator
from typing import Any

from .._array.arguments import check_integer, check_number
from .._array.backends import to_host
from .._array.host import without_rows
from .._array.mode import mode_of
from .._array.namespace import Array, as_numbers, describe, namespace, stop_gradient
from .._array.random import Seed, generator
from .._array.support import Kind, op
from .._host.cluster.lazy import Extent
from .._host.cluster.minibatch import Batch, Learned, Stop
from .arguments import Init, check_init, check_rows, check_sides
from .distances import Metric, check_metric
from .lloyd import KMeansResult

# Initial centres are drawn from FIRST_BATCHES batches, or more if these hold fewer than FIRST_SAMPLES per centre.
FIRST_BATCHES, FIRST_SAMPLES = 3, 3


@op(Kind.FIT, static="kmeans_step")
def minibatch_kmeans(
    batches: Iterable[Array | tuple[Array, Array]],
    k: int,
    *,
    init: Init | Array = "k-means++",
    seed: Seed = None,
    metric: Metric = "euclidean",
    tol: float = 0.0,
    max_no_improvement: int | None = 10,
) -> KMeansResult:
    """k-means of a stream: a centre is the mean of all samples that were closest to it when their batch was read [1]_.

    Parameters
    ----------
    batches : iterable of arrays (n_b, d), or of pairs of such an array and weights (n_b,)
        A list or tuple of one array, as a ``DataLoader`` of a ``TensorDataset`` gives, is read as that array. Weights
        are floating, in any unit; integers and bools are refused, because they may be labels. All batches have one
        library, device and dtype. Each is requested once, in order, and not kept. Each should be a random sample of the
        data: shuffle sorted data. Batches that are dask arrays are computed one by one; of one dask array pass
        ``x.blocks``.
    k : int ≥ 1
        Number of clusters.
    init : {"k-means++", "k-means||", "random"} or array (k, d)
        The centres to start from, or how to draw them from the first three batches, or from more if these hold fewer
        than 3 k samples.
    seed : int, numpy.random.Generator or None
        Random numbers are drawn on the host, so they are the same on every library.
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
        Σ w · d over the batches, with the d of :func:`kmeans_assign`, to the centres before they learned from it.
    n_iter : int
        Number of batches that were used.
    converged : bool
        True if `tol` or `max_no_improvement` ended the fit; False if there were no more batches.

    Raises
    ------
    TypeError, ValueError
        If there is no sample, or fewer than k; if a batch is not an array, or of another width, library, device or
        dtype than the first one, or not finite; if weights are negative; if an option is out of its range.

    Notes
    -----
    As scikit-learn's ``MiniBatchKMeans``: c ← (c W + Σ w x) / (W + Σ w), W ← W + Σ w over the samples of the batch that
    are closest to c, W = 0 at first. The distance per weight is smoothed with α = 2 w / (w + W), w being the weight of
    the batch and W the weight of all batches so far, because the length of the stream is unknown. The first batch is
    not included. Every 10 k samples, and at each batch while a centre has no weight, centres with less than 1 % of the
    largest weight move to samples drawn from the next batch.

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
    k = check_integer("k", k)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    tol = check_number("tol", tol, least=0)
    if max_no_improvement is not None:
        max_no_improvement = check_integer("max_no_improvement", max_no_improvement)
    if max_no_improvement is not None and max_no_improvement < 1:
        raise ValueError(f"max_no_improvement must be at least 1 or None, got {max_no_improvement}")
    rng = generator(seed)
    stream = _checked(batches, metric)
    if not isinstance(init, str) and mode_of(init=init).lazy:  # dask batches are computed too
        init = to_host(init)
    first = _first(stream, k, drawn=isinstance(init, str))
    init = check_init(first[0].mode, "batch 0", first[0].x, k, init)
    centers = Learned(first, k, init, metric, rng)
    stop = Stop(tol * centers.variance, max_no_improvement)
    inertia, n_iter, seen, converged = 0.0, 0, 0, False
    for batch in _all_of(first, stream):
        n_iter, seen = n_iter + 1, seen + batch.positive
        lost, shift = centers.learn(batch)
        inertia += lost
        if converged := stop.after(lost, float(batch.weight.sum()) / centers.unit, shift):
            break
    if seen < k:
        raise ValueError(f"k must be at most the number of samples, {seen} in all batches, got {k}")
    return KMeansResult(centers.result(batch.x), None, centers.inertia_out(inertia, batch.x), n_iter, converged)


def _checked(batches: Any, metric: Metric) -> Iterator[Batch]:
    """Yield the batches with samples of positive weight; raise for one that does not match the first."""
    if hasattr(batches, "to_numpy"):  # a data frame: iteration gives columns or their names
        raise TypeError(
            f"batches must be an iterable of arrays (n, d), got {describe(batches)}; pass .to_numpy(float) of some "
            "rows at a time"
        )
    if getattr(batches, "ndim", None) == 2:  # iteration gives rows
        raise ValueError(
            f"batches must be an iterable of arrays (n, d), got one {describe(batches)} of shape "
            f"{tuple(batches.shape)}; pass [x], or x.blocks of a dask array"
        )
    try:
        iterator = iter(batches)
    except TypeError:
        raise TypeError(f"batches must be an iterable of arrays (n, d), got {type(batches).__name__}") from None
    like = None
    for number, given in enumerate(iterator):
        name = f"batch {number}"
        x, sample_weight = _parts(name, given)
        x = as_numbers(name, x)
        if mode_of(**{name: x}).lazy:
            x, sample_weight = to_host(x), None if sample_weight is None else to_host(sample_weight)
        if sample_weight is not None:
            xp = namespace(**{name: x, f"weights of {name}": sample_weight})
            if xp.isdtype(sample_weight.dtype, ("integral", "bool")):
                raise TypeError(
                    f"{name} must be an array or a pair of an array and floating weights, got weights of "
                    f"{sample_weight.dtype}: remove labels, or convert weights to a floating dtype"
                )
        mode, weight = check_rows(name, x, sample_weight)
        assert not isinstance(weight, Extent)
        if like is None:
            # Only an empty slice is kept for comparison, so that the batch can be freed.
            like, first = without_rows(mode.xp, x), name
        namespace(**{first: like, name: x})
        for what, expected, got in (("dtype", like.dtype, x.dtype), ("width", like.shape[1], x.shape[1])):
            if expected != got:
                raise ValueError(f"{name} must have the {what} of {first}, {expected}, got {got}")
        if metric == "iou":
            check_sides(mode, name, x, weight)
        batch = Batch(name, mode, stop_gradient(x), weight, sample_weight is not None)
        if batch.positive:
            if x.dtype == getattr(mode.xp, "float64", None):  # no wider dtype holds its squares
                batch.check_squares(mode, batch.x, "float64")
            yield batch


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


def _first(stream: Iterator[Batch], k: int, *, drawn: bool) -> list[Batch]:
    """Return the batches for drawing initial centres, or one if they are given; they also set shift and scale."""
    first: list[Batch] = []
    positive = 0
    for batch in stream:
        first.append(batch)
        positive += batch.positive
        if not drawn or (len(first) >= FIRST_BATCHES and positive >= FIRST_SAMPLES * k):
            return first
    if not first:
        raise ValueError("batches must hold samples, got none of positive weight")
    if k > positive:
        raise ValueError(f"k must be at most the number of samples, {positive} in all batches, got {k}")
    return first


def _all_of(first: list[Batch], stream: Iterator[Batch]) -> Iterator[Batch]:
    while first:
        yield first.pop(0)
    yield from stream

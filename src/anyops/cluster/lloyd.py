"""k-means by Lloyd's iteration, from initial centres to a fixed point."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from .._array.arguments import check_integer, check_number
from .._array.host import Host, on_host
from .._array.mode import Mode
from .._array.namespace import Array, as_numbers
from .._array.random import Seed, generator
from .._array.support import Kind, op
from .._host.cluster.lazy import Chunks, Extent
from .._host.cluster.lloyd import lloyd
from .._host.cluster.samples import Samples
from .arguments import CENTERS, Center, Init, check_init, check_rows, check_samples, check_sides
from .distances import Metric, check_metric


class KMeansResult(NamedTuple):
    """Centres, the closest one of each sample, Σ w · d, and how the iteration ended."""

    centers: Array
    labels: Array
    inertia: float
    n_iter: int
    converged: bool


@op(Kind.FIT, static="kmeans_step")
def kmeans(
    x: Array,
    k: int,
    *,
    init: Init | Array = "k-means++",
    n_init: int | Literal["auto"] = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Array | None = None,
    metric: Metric = "euclidean",
    center: Center = "mean",
    seed: Seed = None,
    callback: Callable[[int, float, float], None] | None = None,
) -> KMeansResult:
    """Minimise Σ w · d(x, c of its label) over k centres by Lloyd's iteration [1]_, as scikit-learn does.

    Parameters
    ----------
    x : array (n, d)
        Finite samples, floating, integer or bool; samples of weight 0 may hold anything. A dask array, chunked along
        samples, is read chunk by chunk, once per iteration.
    k : int in [1, n]
        Number of clusters.
    init : {"k-means++", "k-means||", "random"} or array (k, d)
        The centres to start from, or how to draw them from the samples. For a dask array use "k-means||" or an array.
    n_init : int or "auto"
        Number of starts; the best fit is returned. "auto" is 10 for "random" and 1 otherwise.
    max_iter : int ≥ 1
        Largest number of iterations of a start.
    tol : float ≥ 0
        Stop when Σ ‖Δc‖² ≤ tol · the mean over features of the variance of `x`, or when no label changes.
    sample_weight : array (n,), optional
        Numbers ≥ 0; a sample of weight 0 is ignored, in the variance and for empty clusters too.
    metric : {"euclidean", "cosine", "iou"}
        As in :func:`kmeans_assign`; centres of "cosine" have unit length.
    center : {"mean", "median"}
        The median of each coordinate is taken on the host.
    seed : int, numpy.random.Generator or None
        Random numbers are drawn on the host, so they are the same on every library.
    callback : callable, optional
        Called with iteration, inertia by the centres of that iteration, and Σ ‖Δc‖².

    Returns
    -------
    centers : array (k, d)
        In the dtype of `x`, the default float for integers; a NumPy array for a dask one.
    labels : array (n,)
        The closest of `centers`, ties to the lowest number; a dask array for a dask one.
    inertia : float
        Σ w · d of the samples, with d as in :func:`kmeans_assign`: the squared distance for "euclidean".
    n_iter : int
        Number of iterations of the best start.
    converged : bool
        False if `max_iter` ended the fit.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, values are not finite, or an option is out of its range;
        under a transform (``jax.jit``, ...), where :func:`kmeans_step` works.

    Notes
    -----
    A centre that loses all samples moves to one of the samples farthest from their centres, unless all samples coincide
    with their centres. With medians, or the metric "iou", a step can increase the inertia: the best centres seen are
    returned. With ``tol=0`` the last ones are returned, a fixed point, as for published anchors.

    The unit of samples and weights does not matter. Integers may be larger than the dtype of the centres can represent:
    labels and inertia are then computed with exact centres. A ValueError is raised if rounding would change labels, or
    if integers are so far apart that distances within a cluster are mostly rounding error.

    In host memory, samples are skipped while bounds prove that their label cannot change; torch and JAX arrays in host
    memory are read as NumPy arrays.

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
    check_metric(metric)
    if center not in CENTERS:
        raise ValueError(f"center must be {' or '.join(CENTERS)}, got {center!r}")
    k, max_iter = check_integer("k", k), check_integer("max_iter", max_iter)
    x = as_numbers("x", x)
    mode, weight = check_samples(x, k, sample_weight)
    if metric == "iou":
        check_sides(mode, "x", x, weight)
    tol = check_number("tol", tol, least=0)
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1, got {max_iter}")
    if mode.lazy and center == "median":
        raise ValueError("center must be 'mean' for a dask array: a median needs all samples at once")
    init = check_init(mode, "x", x, k, init)
    starts = _check_starts(init, n_init)
    rng = generator(seed)
    samples = _samples(mode, x, weight, sample_weight, k, metric, center, init)
    fits = (lloyd(samples, samples.start(rng), max_iter, tol, callback) for _ in range(starts))
    return KMeansResult(*min(fits, key=lambda fit: fit.in_unit)[1:])


def _samples(
    mode: Mode,
    x: Array,
    weight: Host | Extent,
    sample_weight: Array | None,
    k: int,
    metric: Metric,
    center: str,
    init: str | Array,
) -> Samples | Chunks:
    """Return the samples of a fit, in memory or in chunks."""
    if isinstance(weight, Extent):
        return Chunks(mode, x, weight, sample_weight, k, metric, init)
    return Samples(mode, x, weight, sample_weight, k, metric, center, init)


def _check_starts(init: str | Array, n_init: int | str) -> int:
    """Number of restarts; raise ValueError if `n_init` is invalid."""
    drawn = isinstance(init, str)
    if isinstance(n_init, str) and n_init == "auto":
        return 10 if drawn and init == "random" else 1
    if check_integer("n_init", n_init) < 1:
        raise ValueError(f"n_init must be at least 1 or 'auto', got {n_init}")
    return int(n_init) if drawn else 1


def inertia_of(x: Array, centers: Array, sample_weight: Array | None, metric: Metric) -> float:
    """Return Σ w · distance of each sample to its closest centre; any unit of samples and weights works."""
    mode, weight = check_rows("X", x, sample_weight)
    if not (weight.positive if isinstance(weight, Extent) else bool((weight > 0).any())):
        return 0.0
    samples = _samples(mode, x, weight, sample_weight, centers.shape[0], metric, "mean", centers)
    passes = samples.passes()
    labels = passes.assign(samples.start(None))
    inertia = passes.inertia()
    samples.check_centers("X", on_host(centers), inertia)
    samples.check_resolved("X", inertia, labels)
    return samples.inertia_out(inertia)

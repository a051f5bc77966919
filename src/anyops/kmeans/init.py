"""The centres that k-means starts from. Draws are made on the host, so that a seed means the same everywhere."""

import math
from typing import Any, NamedTuple

from .._array.arguments import check_integer
from .._array.backends import Host, host, to_host
from .._array.chunked import is_chunked
from .._array.namespace import Array, Namespace, check_dtype, default_int, device, namespace, working
from .._array.random import Seed, generator
from .assign import kmeans_assign

ROUNDS = 5  # of k-means||


class KMeansSeeds(NamedTuple):
    """Samples to start from, and where they are."""

    centers: Array
    indices: Array


def kmeans_plusplus(
    x: Array,
    k: int,
    *,
    seed: Seed = None,
    sample_weight: Array | None = None,
    n_local_trials: int | None = None,
) -> KMeansSeeds:
    """Draw k samples one by one, each with a probability ∝ w · squared distance to those drawn before [1]_.

    Parameters
    ----------
    x : array (n, d)
    k : int in [1, n]
    seed : int, numpy.random.Generator or None
    sample_weight : array (n,), optional
        Numbers ≥ 0; weight 0 means that the sample is not there.
    n_local_trials : int, optional
        Candidates drawn for each centre, of which the best is taken; 2 + ⌊ln k⌋ if not given.

    Returns
    -------
    centers : array (k, d)
    indices : array (k,)

    Raises
    ------
    TypeError, ValueError
        If an argument is no array or of the wrong shape, `x` is not finite, weights are negative or all zero, or fewer
        than k samples are there.

    References
    ----------
    .. [1] Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x = np.asarray([[0.0], [0.1], [9.0]])
    >>> sorted(anyops.kmeans_plusplus(x, 2, seed=0).centers[:, 0].round().tolist())
    [0.0, 9.0]
    """
    xp = namespace(x=x)
    if is_chunked(xp):
        raise TypeError("kmeans_plusplus reads x k times; compute the dask array, or use kmeans with init='k-means||'")
    weight = check_samples(xp, x, k, sample_weight)
    trials = 2 + int(math.log(k)) if n_local_trials is None else check_integer("n_local_trials", n_local_trials)
    if trials < 1:
        raise ValueError(f"n_local_trials must be at least 1, got {trials}")
    z = centred(xp, x, weight)
    index = plusplus(xp, z, weight, k, generator(seed), trials)
    index = xp.asarray(index, dtype=default_int(xp, z), device=device(z))
    return KMeansSeeds(xp.take(x, index, axis=0), index)


def check_samples(xp: Namespace, x: Array, k: int, sample_weight: Array | None) -> Host:
    """Return the weights on the host; raise unless there are k finite samples to choose from."""
    check_dtype(xp, "x", x, "real floating", "integral")
    shape = tuple(x.shape)
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(f"x must have shape (n, d), got {shape}")
    if any(math.isnan(size) for size in shape):
        raise ValueError(f"x must have chunks of known sizes, got shape {shape}; call x.compute_chunk_sizes()")
    if not 1 <= check_integer("k", k) <= shape[0]:
        raise ValueError(f"k must be in [1, {shape[0]}] for {shape[0]} samples, got {k}")
    if sample_weight is None:
        weight = host.ones(shape[0])
        finite = xp.all(xp.isfinite(x))
    else:
        namespace(x=x, sample_weight=sample_weight)
        check_dtype(xp, "sample_weight", sample_weight, "real floating", "integral", "bool")
        if tuple(sample_weight.shape) != shape[:1]:
            raise ValueError(f"sample_weight must have shape {shape[:1]} beside x, got {tuple(sample_weight.shape)}")
        weight = host.astype(to_host(sample_weight), host.float64)
        if not bool(host.all(host.isfinite(weight) & (weight >= 0))):
            raise ValueError("sample_weight must be finite and not negative, got a value that is not")
        if not bool(host.any(weight > 0)):
            raise ValueError("sample_weight must not be zero for all samples")
        finite = xp.all(xp.isfinite(x) | (sample_weight <= 0)[:, None])
    if not bool(finite):
        raise ValueError("x must be finite, got NaN or infinity")
    there = int(host.count_nonzero(weight))
    if k > there:
        raise ValueError(f"k must be at most the number of samples of positive weight, {there}, got {k}")
    return weight


def centred(xp: Namespace, x: Array, weight: Host) -> Array:
    """x around the mean of the samples that are there; zeros for the others."""
    z, _ = around_mean(xp, x, weight)
    return z


def around_mean(xp: Namespace, x: Array, weight: Host) -> tuple[Array, Array]:
    """Return x − μ, zeros for samples that are not there, and μ."""
    z = working(xp, x)
    if not bool(host.all(weight > 0)):
        there = ship(xp, weight > 0, z)[:, None]
        z = xp.where(there, z, xp.zeros_like(z))
    mean = xp.sum(z, axis=0) / float(host.count_nonzero(weight))
    # Once more: the first mean carries the rounding of large numbers.
    rest = z - mean
    if not bool(host.all(weight > 0)):
        rest = xp.where(there, rest, xp.zeros_like(rest))
    return rest, mean


def ship(xp: Namespace, values: Any, like: Array) -> Array:
    """Return host values beside an array, in its chunks if it has some."""
    if is_chunked(xp):
        return xp.asarray(values).rechunk((like.chunks[0],))
    return xp.asarray(values, device=device(like))


def _squares(xp: Namespace, z: Array, centers: Array) -> Host:
    """(n,) on the host: the squared distance to the closest of some centres."""
    return host.astype(to_host(kmeans_assign(z, centers).distances), host.float64)


def _draw(weights: Host, uniforms: Host) -> Host:
    """Positions drawn with probabilities ∝ weights."""
    reached = host.cumulative_sum(weights)
    found = host.searchsorted(reached, uniforms * reached[-1], side="right")
    last = int(host.nonzero(weights)[0][-1]) if bool(host.any(weights > 0)) else weights.shape[0] - 1
    return host.minimum(found, host.asarray(last))


def plusplus(xp: Namespace, z: Array, weight: Host, k: int, rng: Any, trials: int) -> Host:
    """Indices (k,) of the samples drawn."""

    def at(position: int) -> Array:
        return z[position : position + 1, :]

    chosen = [int(_draw(weight, rng.random(1))[0])]
    nearest = _squares(xp, z, at(chosen[0]))
    while len(chosen) < k:
        potential = nearest * weight
        if float(host.sum(potential)) > 0:
            candidates = _draw(potential, rng.random(trials))
        else:  # only copies of the chosen are left
            free = host.astype(weight > 0, host.float64)
            free[host.asarray(chosen)] = 0.0
            candidates = _draw(free, rng.random(trials))
        best, least, squares = -1, math.inf, nearest
        for candidate in dict.fromkeys(candidates.tolist()):
            trial = host.minimum(nearest, _squares(xp, z, at(candidate)))
            total = float(host.sum(trial * weight))
            if total < least:
                best, least, squares = candidate, total, trial
        chosen.append(best)
        nearest = squares
    return host.asarray(chosen)


def parallel(xp: Namespace, z: Array, weight: Host, k: int, rng: Any) -> Host:
    """Centres (k, d) on the host by k-means|| (Bahmani et al., Scalable K-Means++, VLDB 2012): few passes, any k."""
    chosen = _draw(weight, rng.random(1))
    for _ in range(ROUNDS):
        potential = _squares(xp, z, rows(xp, z, chosen)) * weight
        total = float(host.sum(potential))
        uniforms = rng.random(weight.shape[0])
        if total > 0:
            drawn = host.nonzero(uniforms * total < 2 * k * potential)[0]
            chosen = host.unique_values(host.concat([chosen, drawn]))
    if chosen.shape[0] < k:  # copies, or bad luck: fill up with samples that are there
        rest = weight > 0
        rest[chosen] = False
        chosen = host.concat([chosen, host.nonzero(rest)[0][: k - chosen.shape[0]]])
    found = rows(xp, z, chosen)
    labels = to_host(kmeans_assign(z, found).labels)
    size = chosen.shape[0]
    share = host.sum(
        host.where(labels[None, :] == host.arange(size)[:, None], weight[None, :], host.asarray(0.0)), axis=1
    )
    points = host.astype(to_host(found), host.float64)
    share = host.where(share > 0, share, host.asarray(1e-12 * float(host.max(share))))
    return points[plusplus(host, points, share, k, rng, 2 + int(math.log(k)))]


def rows(xp: Namespace, z: Array, index: Host) -> Array:
    """The samples at some positions; of a dask array on the host."""
    if is_chunked(xp):
        return to_host(z[index])
    return xp.take(z, xp.asarray(index, dtype=default_int(xp, z), device=device(z)), axis=0)

"""The centres that k-means starts from. Draws are made on the host, so that a seed means the same everywhere."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from .._array.arguments import check_integer
from .._array.backends import to_host
from .._array.chunked import check_known_chunks, chunks_like, is_chunked, over_rows
from .._array.compiled import compiled
from .._array.host import HOST, Host, from_host, on_host
from .._array.namespace import (
    Array,
    Namespace,
    cast,
    check_dtype,
    default_int,
    device,
    hides_values,
    is_at_hand,
    namespace,
    working,
)
from .._array.nearest import less
from .._array.random import Seed, generator
from .._array.rows import rows_in_cache
from .._array.support import READS_OFTEN, Kind, op
from .._array.threads import in_parts, workers
from ..norm import batch_stats
from .assign import kmeans_assign, kmeans_partial, to_each, unit

LARGE = 1 << 20  # numbers in an array of which each core reads a share
ROUNDS, OVERSAMPLING = 5, 2  # of k-means||: passes, and samples drawn in each, in multiples of k

T = TypeVar("T")


class KMeansSeeds(NamedTuple):
    """Samples to start from, and where they are."""

    centers: Array
    indices: Array


@op(Kind.SEEDS, READS_OFTEN)
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
        Numbers ≥ 0; a sample of weight 0 is ignored.
    n_local_trials : int, optional
        Candidates drawn for each centre, of which the best is taken; 2 + ⌊ln k⌋ if not given.

    Returns
    -------
    centers : array (k, d)
    indices : array (k,)

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, `x` is not finite, weights are negative or all zero, or
        fewer than k samples have a positive weight.

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
    trials = default_trials(k) if n_local_trials is None else check_integer("n_local_trials", n_local_trials)
    if trials < 1:
        raise ValueError(f"n_local_trials must be at least 1, got {trials}")
    z = prepared(xp, x, weight, "euclidean").z
    weight = weight / power_of_two(float(HOST.max(weight)))
    index = plusplus(xp, z, weight, k, generator(seed), trials, "euclidean")
    index = xp.asarray(index, dtype=default_int(xp, z), device=device(z))
    return KMeansSeeds(xp.take(x, index, axis=0), index)


# --- samples ---------------------------------------------------------------------------------------------------------


def check_samples(xp: Namespace, x: Array, k: int, sample_weight: Array | None) -> Host:
    """Return the weights on the host; raise unless there are k finite samples to choose from."""
    weight = check_rows(xp, "x", x, sample_weight)
    if not 1 <= check_integer("k", k) <= weight.shape[0]:
        raise ValueError(f"k must be in [1, {weight.shape[0]}] for {weight.shape[0]} samples, got {k}")
    there = int(HOST.count_nonzero(weight))
    if there == 0:
        raise ValueError("sample_weight must not be zero for all samples")
    if k > there:
        raise ValueError(f"k must be at most the number of samples of positive weight, {there}, got {k}")
    return weight


def check_rows(xp: Namespace, name: str, x: Array, sample_weight: Array | None) -> Host:
    """Return the weights on the host, ones if there are none; raise unless they and the samples (n, d) are in order."""
    check_dtype(xp, name, x, "real floating", "integral")
    if not is_chunked(xp) and hides_values(x):
        raise TypeError(f"k-means decides by values, which a traced {name} has not; kmeans_step runs in jit and vmap")
    shape = tuple(x.shape)
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(f"{name} must have shape (n, d), d ≥ 1, got {shape}")
    check_known_chunks(xp, name, x)
    if sample_weight is None:
        weight = HOST.ones(shape[0])
        finite = all(_shares(x, lambda part: bool(xp.all(xp.isfinite(part)))))
    else:
        namespace(**{name: x, "sample_weight": sample_weight})
        if not is_chunked(xp) and hides_values(sample_weight):
            raise TypeError("k-means decides by values, which a traced sample_weight has not; kmeans_step does not")
        check_dtype(xp, "sample_weight", sample_weight, "real floating", "integral", "bool")
        if tuple(sample_weight.shape) != shape[:1]:
            raise ValueError(
                f"sample_weight must have shape {shape[:1]} beside {name}, got {tuple(sample_weight.shape)}"
            )
        weight = on_host(sample_weight)
        if not bool(HOST.all(HOST.isfinite(weight) & (weight >= 0))):
            raise ValueError("sample_weight must be finite and not negative, got a value that is not")
        finite = xp.all(xp.isfinite(x) | ~beside(xp, weight > 0, x)[:, None])
    if not bool(finite):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return weight


WIDE = 2.0**30  # numbers beyond which, and below its inverse, are counted in a unit of their own


def power_of_two(largest: float) -> float:
    """Return 1, or a power of two close to a number that is far from 1."""
    return 1.0 if largest == 0 or 1 / WIDE < largest < WIDE else 2.0 ** math.floor(math.log2(largest))


class Place(NamedTuple):
    """Where samples are moved to before they are compared: (x − offset) · scale − shift, exactly or nearly so."""

    offset: Host | None  # (d,) whole numbers, taken off integers before they are rounded to floating ones
    scale: Host  # (d,) powers of two: the same one of all columns, except for metric "iou"
    shift: Host  # (d,)

    def enter(self, xp: Namespace, x: Array) -> Array:
        """Samples of any chunk or batch as they are compared."""
        dtype = working(xp, x[:0, ...]).dtype
        z = cast(xp, x, dtype) if self.offset is None else less(xp, x, from_host(xp, self.offset, x.dtype, x), dtype)
        if bool(HOST.any(self.scale != 1)):
            z = z * from_host(xp, self.scale, dtype, x)
        return z - from_host(xp, self.shift, dtype, x) if bool(HOST.any(self.shift != 0)) else z

    def centers_in(self, centers: Host) -> Host:
        """Centres among the samples as they are compared."""
        return (centers if self.offset is None else centers - self.offset) * self.scale - self.shift

    def centers_out(self, centers: Host) -> Host:
        """Centres among the samples as they were given."""
        centers = (centers + self.shift) / self.scale
        return centers if self.offset is None else centers + self.offset


class Prepared(NamedTuple):
    """Samples as they are iterated over, where they were moved, and the mean over features of their variance there."""

    z: Array  # (n, d) around 0, of unit length, or widths and heights; zeros where the weight is 0
    place: Place
    variance: float
    metric: str  # what compares them: the squared Euclidean distance of directions is twice 1 − cos
    rows: Array | None  # (n, d + 1) z with a one behind each, of which z is a view


def prepared(
    xp: Namespace, x: Array, weight: Host, metric: str, *, shifts_directions: bool = False, with_one: bool = False
) -> Prepared:
    """Bring the samples of positive weight close to 0 for "euclidean", to unit length for "cosine".

    With `shifts_directions` those of unit length are moved close to 0 as well, if each has a direction. With `with_one`
    samples at hand that are moved close to 0 get a one behind each.
    """
    d, lazy, there, rows = x.shape[1], is_chunked(xp), None, None
    if not bool(HOST.all(weight > 0)):
        there = beside(xp, weight > 0, x)
        x = xp.where(there[:, None], x, xp.zeros_like(x))
    place = Place(_offset(xp, x, there, metric), HOST.ones(d), HOST.zeros(d))
    z = place.enter(xp, x)
    if metric == "cosine":
        z = over_rows(lambda part: unit(namespace(x=part), part), z, d, z.dtype) if lazy else unit(xp, z)
    else:
        place = place._replace(scale=_scale(xp, z, metric))
        z = Place(None, place.scale, place.shift).enter(xp, z)
    z = _kept(xp, z, there)
    stats = batch_stats(z, axis=1, sample_weight=there)
    mean, m2 = on_host(stats.mean), on_host(stats.m2)
    variance = m2 / float(HOST.count_nonzero(weight))
    if metric == "cosine" and shifts_directions:
        blank = xp.max(xp.abs(z), axis=1) == 0
        if not bool(xp.any(blank if there is None else blank & there)):
            metric = "euclidean"
    if metric == "euclidean":
        # Squared distances between samples are at most four times Σ m2.
        with HOST.errstate(over="ignore"):
            total = float(HOST.sum(m2 / place.scale / place.scale))
        if not total < float(HOST.finfo(HOST.float64).max) / 16:
            raise ValueError("x must hold numbers whose squares can be summed in float64, got larger ones")
        # Off by less than the deviation, and with so few digits that whole numbers stay whole: their ties stay ties.
        some = variance > 0
        grid = HOST.exp2(HOST.floor(HOST.log2(HOST.where(some, variance, HOST.ones_like(variance))) / 2))
        taken = from_host(xp, HOST.where(some, HOST.round(mean / grid) * grid, mean), z.dtype, z)
        place = place._replace(shift=on_host(taken))
        if with_one and is_at_hand(z):
            rows = _rows_with_one(xp, z, taken)
            z = rows[:, :d]
            if there is not None:
                rows[:, :d] = _kept(xp, z, there)
        else:
            z = _kept(xp, z - taken, there)
    return Prepared(z, place, float(HOST.mean(variance)), metric, rows)


def _rows_with_one(xp: Namespace, z: Array, shift: Array) -> Array:
    """(n, d + 1): z − shift, with a one behind each."""
    n, d = z.shape
    rows = xp.empty((n, d + 1), dtype=z.dtype, device=device(z))
    step = rows_in_cache(xp, z, d)
    parts = min(workers(z), -(-n // step))

    def fill(part: int) -> None:
        for start in range(n * part // parts, n * (part + 1) // parts, step):
            tile = slice(start, min(start + step, n * (part + 1) // parts))
            rows[tile, :d] = z[tile, :] - shift
            rows[tile, d] = 1.0

    in_parts(z, fill, parts)
    return rows


def _shares(x: Array, work: Callable[[Array], T]) -> list[T]:
    """What `work` makes of a share of the samples for each core, of all of them where they are few or not at hand."""
    n = x.shape[0]
    few = is_chunked(namespace(x=x)) or n * x.shape[1] < LARGE or not is_at_hand(x)
    parts = 1 if few else workers(x)
    if parts == 1:
        return [work(x)]
    return in_parts(x, lambda part: work(x[n * part // parts : n * (part + 1) // parts, ...]), parts)


def _kept(xp: Namespace, z: Array, there: Array | None) -> Array:
    """Samples, zeros where the weight is 0."""
    return z if there is None else xp.where(there[:, None], z, xp.zeros_like(z))


def _offset(xp: Namespace, x: Array, there: Array | None, metric: str) -> Host | None:
    """Whole numbers to take off integers that the floating dtype could not tell apart; None where it can."""
    if metric != "euclidean" or not xp.isdtype(x.dtype, "integral") or xp.iinfo(x.dtype).bits <= 16:
        return None
    exact = 2 / float(xp.finfo(working(xp, x[:0, ...]).dtype).eps)
    low, high = (on_host(f(x, axis=0)) for f in (xp.min, xp.max))
    if float(HOST.max(HOST.maximum(-low, high))) <= exact:
        return None
    if there is not None:  # zeros stand where the weight is 0
        first = int(HOST.nonzero(to_host(there))[0][0])
        return on_host(x[first, :])
    return HOST.round(low / 2 + high / 2)


def _scale(xp: Namespace, z: Array, metric: str) -> Host:
    """Powers of two (d,), by which samples are multiplied so that their squares neither overflow nor vanish."""
    axis = 0 if metric == "iou" else None  # which does not depend on the unit of either side
    # Together, so that a dask array is computed once.
    ends = _shares(z, lambda part: on_host(xp.stack([xp.max(part, axis=axis), -xp.min(part, axis=axis)])))
    largest = HOST.max(HOST.max(HOST.stack(ends), axis=0), axis=0)
    limit = 120 if xp.finfo(z.dtype).bits < 64 else 1000
    units = [power_of_two(float(end)) for end in HOST.reshape(largest, (-1,))]
    scale = [2.0 ** -min(max(math.log2(one), -limit), limit) for one in units]
    return HOST.asarray(scale) * HOST.ones(z.shape[1])


def beside(xp: Namespace, values: Host, like: Array) -> Array:
    """Return host values, one a sample, beside the samples, in their chunks if they have some."""
    return chunks_like(values, like) if is_chunked(xp) else xp.asarray(values, device=device(like))


# --- draws -----------------------------------------------------------------------------------------------------------


def default_trials(k: int) -> int:
    """2 + ⌊ln k⌋ candidates for each centre, as scikit-learn takes."""
    return 2 + int(math.log(k))


def plusplus(xp: Namespace, z: Array, weight: Host, k: int, rng: Any, trials: int, metric: str) -> Host:
    """Indices (k,) of the samples drawn."""
    chosen = [int(_draw(weight, rng.random(1))[0])]
    nearest = HOST.full(weight.shape[0], math.inf)
    found = HOST.empty((trials, weight.shape[0]))  # once: to map its memory anew costs more than a pass
    _lower(xp, z, weight, nearest, chosen, metric, found[:1, :])
    nearest[...] = found[0, :]
    while len(chosen) < k:
        nearest[chosen] = 0.0  # rounding would let them be drawn again
        potential = nearest * weight
        if not float(HOST.sum(potential)) > 0:  # only copies of the chosen are left
            potential = weight * 1.0
            potential[chosen] = 0.0
        candidates = _draw(potential, rng.random(trials)).tolist()
        best = int(HOST.argmin(_lower(xp, z, weight, nearest, candidates, metric, found)))
        chosen.append(candidates[best])
        nearest[...] = found[best, :]
    return HOST.asarray(chosen)


def parallel(xp: Namespace, z: Array, weight: Host, given: Array | None, k: int, rng: Any, metric: str) -> Host:
    """Centres (k, d) on the host by k-means|| [Bahmani et al., Scalable K-Means++, VLDB 2012]: few passes for any k."""
    chosen = _draw(weight, rng.random(1))
    for _ in range(ROUNDS):
        potential = on_host(kmeans_assign(z, rows(xp, z, chosen), metric=metric).distances) * weight
        potential[chosen] = 0.0
        uniforms = rng.random(weight.shape[0])
        drawn = HOST.nonzero(uniforms * float(HOST.sum(potential)) < OVERSAMPLING * k * potential)[0]
        chosen = HOST.unique_values(HOST.concat([chosen, drawn]))
    if chosen.shape[0] < k:  # copies, or bad luck: fill up with samples of positive weight
        rest = weight > 0
        rest[chosen] = False
        chosen = HOST.concat([chosen, HOST.nonzero(rest)[0][: k - chosen.shape[0]]])
    found = rows(xp, z, chosen)
    share = on_host(kmeans_partial(z, found, sample_weight=given, metric=metric).counts)
    share = HOST.where(share > 0, share, HOST.asarray(1e-12 * float(HOST.max(share))))  # a copy has no samples
    points = on_host(found)
    return points[plusplus(HOST, points, share, k, rng, default_trials(k), metric), :]


def _draw(weights: Host, uniforms: Host) -> Host:
    """Positions drawn with probabilities ∝ weights, some of which are positive."""
    reached = HOST.cumulative_sum(weights)
    found = HOST.searchsorted(reached, uniforms * reached[-1], side="right")
    return HOST.minimum(found, HOST.nonzero(weights)[0][-1])


def _lower(xp: Namespace, z: Array, weight: Host, nearest: Host, candidates: list[int], metric: str, out: Host) -> Host:
    """Write the distances (candidates, n) to the closest centre with each of some candidates; return Σ w · distance."""
    n, centers = weight.shape[0], rows(xp, z, HOST.asarray(candidates))
    step = rows_in_cache(xp, z, z.shape[1] + 2 * len(candidates)) if is_at_hand(z) else n
    tiles = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    totals = HOST.zeros((len(tiles), len(candidates)))

    parts = min(workers(z), len(tiles)) if is_at_hand(z) else 1

    def lower(part: int) -> None:
        for at in range(part, len(tiles), parts):
            tile = tiles[at]
            distances = _distances(xp, z if len(tiles) == 1 else z[tile, :], centers, metric)
            out[:, tile] = HOST.minimum(nearest[tile], distances)
            totals[at, :] = HOST.matmul(out[:, tile], weight[tile])

    in_parts(z, lower, parts)
    return HOST.sum(totals, axis=0)


def _distances(xp: Namespace, z: Array, centers: Array, metric: str) -> Host:
    """(k, n) on the host."""
    if not is_chunked(xp):
        return to_host(compiled(to_each, xp, centers, z, metric=metric))

    def rows_of_chunk(x: Array) -> Array:
        return to_each(namespace(x=x), centers, x, metric).T

    return to_host(over_rows(rows_of_chunk, z, centers.shape[0], z.dtype)).T


def rows(xp: Namespace, z: Array, index: Host) -> Array:
    """The samples at some positions; of a dask array on the host."""
    if is_chunked(xp):
        return to_host(z[index])
    return xp.take(z, xp.asarray(index, dtype=default_int(xp, z), device=device(z)), axis=0)

"""Initial centres of k-means: samples drawn far from each other."""

from typing import NamedTuple

from .._array.arguments import check_integer
from .._array.host import from_host
from .._array.mode import mode_of
from .._array.namespace import Array, as_numbers, default_int
from .._array.nearest import taken
from .._array.random import Seed, generator
from .._array.support import READS_OFTEN, Kind, op
from .._host.cluster.lazy import Extent
from .._host.cluster.seeding import default_trials, draw
from .arguments import check_samples


class KMeansSeeds(NamedTuple):
    """Initial centres, and their indices in `x`."""

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
        Number of centres.
    seed : int, numpy.random.Generator or None
    sample_weight : array (n,), optional
        Numbers ≥ 0; a sample of weight 0 is ignored.
    n_local_trials : int, optional
        Number of candidates drawn for each centre; the best is taken. 2 + ⌊ln k⌋ if not given.

    Returns
    -------
    centers : array (k, d)
        In the dtype of `x`; 0 and 1 for bools.
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
    if mode_of(x=x).lazy:
        raise TypeError("kmeans_plusplus reads x k times; compute the dask array, or use kmeans with init='k-means||'")
    k, x = check_integer("k", k), as_numbers("x", x)
    mode, weight = check_samples(x, k, sample_weight)
    assert not isinstance(weight, Extent)
    trials = default_trials(k) if n_local_trials is None else check_integer("n_local_trials", n_local_trials)
    if trials < 1:
        raise ValueError(f"n_local_trials must be at least 1, got {trials}")
    xp = mode.xp
    index = from_host(xp, draw(mode, x, weight, k, generator(seed), trials), default_int(xp, x), x)
    return KMeansSeeds(taken(mode, x, index), index)

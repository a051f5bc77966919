"""Initial centres of k-means, drawn on the host: a seed gives the same samples on every library."""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..._array.backends import to_host
from ..._array.host import Host, from_host
from ..._array.mode import Mode, mode_of
from ..._array.namespace import Array, default_int
from ..._array.nearest import taken
from ..._array.rows import rows_in_cache
from ..._array.threads import in_parts, workers
from ...cluster.distances import Metric, to_each
from .place import entered, prepared
from .weights import unit_of

DRAWS, OVERSAMPLING = 5, 2  # of k-means||: number of rounds, and samples drawn in each, in multiples of k


def default_trials(k: int) -> int:
    """2 + ⌊ln k⌋ candidates for each centre, as scikit-learn takes."""
    return 2 + int(math.log(k))


def draw(home: Mode, x: Array, weight: Host, k: int, rng: Any, trials: int) -> Host:
    """Indices (k,) of samples drawn by :func:`plusplus` after a transform."""
    mode, x = entered(home.xp, x)
    z = prepared(mode, x, weight, "euclidean").z
    return plusplus(mode, z, weight / unit_of(float(np.max(weight))), k, rng, trials, "euclidean")


def plusplus(mode: Mode, z: Array, weight: Host, k: int, rng: Any, trials: int, metric: Metric) -> Host:
    """Indices (k,) of samples drawn by k-means++."""
    chosen = [int(positions(weight, rng.random(1))[0][0])]
    nearest = np.full(weight.shape[0], math.inf)
    found = np.empty((trials, weight.shape[0]))  # allocated once: mapping new memory costs more than a pass
    _lower(mode, z, weight, nearest, chosen, metric, found[:1, :])
    nearest[...] = found[0, :]
    while len(chosen) < k:
        nearest[chosen] = 0.0  # rounding would let them be drawn again
        potential = nearest * weight
        if not np.sum(potential) > 0:  # only copies of the chosen are left
            potential = weight.copy()
            potential[chosen] = 0.0
        candidates = positions(potential, rng.random(trials))[0].tolist()
        best = int(np.argmin(_lower(mode, z, weight, nearest, candidates, metric, found)))
        chosen.append(candidates[best])
        nearest[...] = found[best, :]
    return np.asarray(chosen)


class Drawn(NamedTuple):
    """Indices of samples, and the transformed samples, on the host."""

    at: Host
    points: Host


class Source(Protocol):
    """Samples that k-means|| draws from, in memory or in chunks."""

    def drawn(self, numbers: Host) -> Drawn:
        """Return samples drawn with probabilities ∝ weights, one for each uniform number."""

    def drawn_far(self, key: int, seeds: Drawn, rate: float) -> Drawn:
        """Draw each sample independently with probability `rate` · w · distance / Σ w · distance."""

    def rest(self, seeds: Drawn, count: int) -> Drawn:
        """Return the first samples of positive weight that are not among the seeds."""

    def counts(self, points: Host) -> Host:
        """Return the total weight of the samples closest to each point."""


def parallel(source: Source, k: int, rng: Any, metric: Metric) -> Host:
    """Centres (k, d) by k-means|| [Bahmani et al., Scalable K-Means++, VLDB 2012]: few passes for any k."""
    seeds = source.drawn(rng.random(1))
    for _ in range(DRAWS):
        seeds = _joined(seeds, source.drawn_far(int(rng.integers(1 << 63)), seeds, OVERSAMPLING * k))
    if (missing := k - seeds.at.shape[0]) > 0:  # copies, or bad luck: fill up with samples of positive weight
        seeds = Drawn(*(np.concat(both) for both in zip(seeds, source.rest(seeds, missing), strict=True)))
    points, share = seeds.points, source.counts(seeds.points)
    share = np.where(share > 0, share, 1e-12 * np.max(share))  # a copy has no samples
    return points[plusplus(mode_of(points=points), points, share, k, rng, default_trials(k), metric), :]


def _joined(a: Drawn, b: Drawn) -> Drawn:
    """Merge two draws, in the order of the samples."""
    index, points = (np.concat(both) for both in zip(a, b, strict=True))
    order = np.argsort(index)
    return Drawn(index[order], points[order, :])


def positions(weights: Host, numbers: Host) -> tuple[Host, Host]:
    """Return positions drawn with probabilities ∝ weights, and how far into its weight each draw falls."""
    reached = np.cumulative_sum(weights)
    at = numbers * reached[-1]
    found = np.minimum(np.searchsorted(reached, at, side="right"), np.flatnonzero(weights)[-1])
    return found, at - (reached[found] - weights[found])


def _lower(mode: Mode, z: Array, weight: Host, nearest: Host, candidates: list[int], metric: Metric, out: Host) -> Host:
    """Write to `out` the distances to the closest centre if each candidate were added; return Σ w · distance."""
    n, centers = weight.shape[0], rows_of(mode, z, np.asarray(candidates))
    step = rows_in_cache(mode.xp, z, z.shape[1] + 2 * len(candidates)) if mode.at_hand else n
    tiles = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    totals = np.zeros((len(tiles), len(candidates)))
    parts = min(workers(z), len(tiles)) if mode.at_hand else 1

    def lower(part: int) -> None:
        for at in range(part, len(tiles), parts):
            tile = tiles[at]
            rows = z if len(tiles) == 1 else z[tile, :]
            distances = to_host(mode.run(to_each, centers, rows, metric=metric))
            out[:, tile] = np.minimum(nearest[tile], distances)
            totals[at, :] = out[:, tile] @ weight[tile]

    in_parts(z, lower, parts)
    return np.sum(totals, axis=0)


def rows_of(mode: Mode, z: Array, index: Host) -> Array:
    """The samples at some positions."""
    return taken(mode, z, from_host(mode.xp, index, default_int(mode.xp, z), z))

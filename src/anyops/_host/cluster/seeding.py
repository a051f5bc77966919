"""The samples that k-means starts from. Draws are made on the host: a seed means the same on every library."""

import math
from typing import Any

import numpy as np

from ..._array.backends import to_host
from ..._array.chunked import over_rows
from ..._array.host import Host, on_host
from ..._array.mode import Mode, mode_of
from ..._array.namespace import Array, default_int, device
from ..._array.rows import rows_in_cache
from ..._array.threads import in_parts, workers
from ...cluster.assign import kmeans_assign, kmeans_partial
from ...cluster.distances import to_each
from .place import entered, prepared
from .weights import unit_of

DRAWS, OVERSAMPLING = 5, 2  # of k-means||: how often samples are drawn, and how many each time, in multiples of k


def default_trials(k: int) -> int:
    """2 + ⌊ln k⌋ candidates for each centre, as scikit-learn takes."""
    return 2 + int(math.log(k))


def draw(home: Mode, x: Array, weight: Host, k: int, rng: Any, trials: int) -> Host:
    """Indices (k,) of samples as they were given, drawn by :func:`plusplus`."""
    mode, x = entered(home.xp, x)
    z = prepared(mode, x, weight, "euclidean").z
    return plusplus(mode, z, weight / unit_of(float(np.max(weight))), k, rng, trials, "euclidean")


def plusplus(mode: Mode, z: Array, weight: Host, k: int, rng: Any, trials: int, metric: str) -> Host:
    """Indices (k,) of the samples drawn."""
    chosen = [int(_draw(weight, rng.random(1))[0])]
    nearest = np.full(weight.shape[0], math.inf)
    found = np.empty((trials, weight.shape[0]))  # once: to map its memory anew costs more than a pass
    _lower(mode, z, weight, nearest, chosen, metric, found[:1, :])
    nearest[...] = found[0, :]
    while len(chosen) < k:
        nearest[chosen] = 0.0  # rounding would let them be drawn again
        potential = nearest * weight
        if not np.sum(potential) > 0:  # only copies of the chosen are left
            potential = weight.copy()
            potential[chosen] = 0.0
        candidates = _draw(potential, rng.random(trials)).tolist()
        best = int(np.argmin(_lower(mode, z, weight, nearest, candidates, metric, found)))
        chosen.append(candidates[best])
        nearest[...] = found[best, :]
    return np.asarray(chosen)


def parallel(mode: Mode, z: Array, weight: Host, given: Array | None, k: int, rng: Any, metric: str) -> Host:
    """Centres (k, d) by k-means|| [Bahmani et al., Scalable K-Means++, VLDB 2012]: few passes for any k."""
    chosen = _draw(weight, rng.random(1))
    for _ in range(DRAWS):
        potential = on_host(kmeans_assign(z, rows_of(mode, z, chosen), metric=metric).distances) * weight
        potential[chosen] = 0.0
        uniforms = rng.random(weight.shape[0])
        drawn = np.flatnonzero(uniforms * np.sum(potential) < OVERSAMPLING * k * potential)
        chosen = np.union1d(chosen, drawn)
    if chosen.shape[0] < k:  # copies, or bad luck: fill up with samples of positive weight
        rest = weight > 0
        rest[chosen] = False
        chosen = np.concat([chosen, np.flatnonzero(rest)[: k - chosen.shape[0]]])
    found = rows_of(mode, z, chosen)
    share = on_host(kmeans_partial(z, found, sample_weight=given, metric=metric).counts)
    share = np.where(share > 0, share, 1e-12 * np.max(share))  # a copy has no samples
    points = on_host(found)
    return points[plusplus(mode_of(points=points), points, share, k, rng, default_trials(k), metric), :]


def _draw(weights: Host, uniforms: Host) -> Host:
    """Positions drawn with probabilities ∝ weights, some of which are positive."""
    reached = np.cumulative_sum(weights)
    found = np.searchsorted(reached, uniforms * reached[-1], side="right")
    return np.minimum(found, np.flatnonzero(weights)[-1])


def _lower(mode: Mode, z: Array, weight: Host, nearest: Host, candidates: list[int], metric: str, out: Host) -> Host:
    """Write the distances (candidates, n) to the closest centre with each of some candidates; return Σ w · distance."""
    n, centers = weight.shape[0], rows_of(mode, z, np.asarray(candidates))
    step = rows_in_cache(mode.xp, z, z.shape[1] + 2 * len(candidates)) if mode.at_hand else n
    tiles = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    totals = np.zeros((len(tiles), len(candidates)))
    parts = min(workers(z), len(tiles)) if mode.at_hand else 1

    def lower(part: int) -> None:
        for at in range(part, len(tiles), parts):
            tile = tiles[at]
            distances = _distances(mode, z if len(tiles) == 1 else z[tile, :], centers, metric)
            out[:, tile] = np.minimum(nearest[tile], distances)
            totals[at, :] = out[:, tile] @ weight[tile]

    in_parts(z, lower, parts)
    return np.sum(totals, axis=0)


def _distances(mode: Mode, z: Array, centers: Array, metric: str) -> Host:
    """(k, n) on the host."""
    if not mode.lazy:
        return to_host(mode.run(to_each, centers, z, metric=metric))

    def of_chunk(x: Array) -> Array:
        return mode_of(x=x).run(to_each, centers, x, metric=metric).T

    return to_host(over_rows(of_chunk, z, centers.shape[0], z.dtype)).T


def rows_of(mode: Mode, z: Array, index: Host) -> Array:
    """The samples at some positions; of a lazy array on the host."""
    if mode.lazy:
        return to_host(z[index])
    return mode.xp.take(z, mode.xp.asarray(index, dtype=default_int(mode.xp, z), device=device(z)), axis=0)

"""The samples of a fit: as given, and transformed."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..._array.backends import to_host
from ..._array.host import Host, beside, from_host, on_host
from ..._array.mode import Mode
from ..._array.namespace import Array, cast, default_int, result_dtype
from ..._array.random import uniforms
from ...cluster.assign import KMeansAssignment, kmeans_assign, partial_sums
from ...cluster.distances import Metric, unit
from .bounds import Bounded
from .passes import Compared
from .place import Place, entered, prepared
from .rounding import is_blurred, rounds_centers, too_large, too_wide
from .seeding import Drawn, default_trials, parallel, plusplus, positions, rows_of
from .weights import unit_of

TIED = 256  # rounding errors by which equal distances may differ


class Farthest(NamedTuple):
    """Samples farthest from their centres, the farthest first, and how many samples each centre has."""

    members: Host  # (k,)
    labels: Host
    distances: Host
    weights: Host
    points: Host
    at: Host


def farthest_of(
    labels: Host, distances: Host, weight: Host, points_at: Callable[[Host], Host], k: int, count: int, eps: float
) -> Farthest:
    """Return at most `count` samples of positive weight; ties in distance are broken by coordinates.

    Breaking ties by index would make a fit depend on the order of the samples. Distances that may differ only by
    rounding count as equal.
    """
    kept, tie = weight > 0, 1 - TIED * eps
    members = np.bincount(labels[kept], minlength=k)
    distances = np.where(kept, distances, 0.0)
    least = np.sort(distances)[-min(count, distances.shape[0]) :][:1]
    found = np.flatnonzero((distances >= least * tie) & (distances > 0))
    found = found[np.argsort(-distances[found], stable=True)]
    falling, points = distances[found], points_at(found)
    rank = np.concat([np.zeros(min(1, found.shape[0])), np.cumsum(falling[1:] < falling[:-1] * tie)])
    keys = [weight[found], *(points[:, axis] for axis in range(points.shape[1] - 1, -1, -1)), rank]
    order = np.lexsort(keys)[:count]
    index = found[order]
    return Farthest(members, labels[index], distances[index], weight[index], points[order, :], index)


class Fitted(ABC):
    """The samples of a fit, in memory or in chunks: options, transform of centres and checks that both share."""

    variance: float
    place: Place
    eps: float
    rounded: float  # squared rounding error of a sample of integers in z, in the unit of x
    mode: Mode  # of the transformed samples
    z: Array  # the transformed samples, or an empty slice of them

    def __init__(self, home: Mode, x: Array, k: int, metric: Metric, center: str, init: Any, unit: float):
        """Take samples and the mode of their library, and the unit of their weights."""
        self.home, self.like, self.dtype = home, x, result_dtype(home.xp, x=x)
        self.k, self.metric, self.center, self.init, self.unit = k, metric, center, init, unit
        self.integral = home.xp.isdtype(x.dtype, "integral")
        self.halved = 1.0

    def size(self, points: Host) -> float:
        """Σ ‖p‖² of points or centres as they were rounded: before the shift for "cosine"."""
        at = points + self.place.shift if self.metric == "cosine" else points
        return float(np.sum(at * at))

    def settled(self, new: Host, old: Host) -> Host:
        """New centres, of unit length for "cosine"."""
        shift = self.place.shift
        return new if self.metric != "cosine" else settled(self.metric, new + shift, old + shift) - shift

    def inertia_out(self, inertia: float) -> float:
        """Σ w · distance in the units of the given samples and weights."""
        return in_given_units(inertia * self.halved, self.unit, self.place, self.metric)

    def given_start(self) -> Host:
        """Return the given initial centres, transformed."""
        centers, offset = on_host(self.init), self.place.offset
        given = to_host(self.init)
        if offset is not None and given.dtype.kind in "iu":  # float64 may not hold them, Python's integers do
            near = given.astype(object) - np.asarray([int(one) for one in offset], object)
            return self.place._replace(offset=None).centers_in(near.astype(np.float64))
        return self.place.centers_in(settled(self.metric, centers, centers))

    def returned(self, centers: Host) -> Array:
        """Centres in the units of the given samples, in their library and dtype."""
        return from_host(self.home.xp, self.place.centers_out(centers), self.dtype, self.like)

    def among(self, returned: Host) -> Host:
        """Transform returned centres, rounded to the dtype of the transformed samples."""
        centers = self.place.centers_in(settled(self.metric, returned, returned))
        return on_host(from_host(self.mode.xp, centers, self.z.dtype, self.z))

    def rounds_integers(self, returned: Host) -> bool:
        """Whether the dtype of the centres rounds integers as large as the returned centres."""
        return self.integral and float(np.max(np.abs(returned))) * float(self.home.xp.finfo(self.dtype).eps) > 1

    # --- integers that floats round ---

    @abstractmethod
    def mass(self) -> float:
        """Σ w in the unit of the weights."""

    @abstractmethod
    def are_copies(self, labels: Array) -> bool:
        """Whether the integers of each cluster are known to be equal, so that its inertia is 0."""

    def check_centers(self, name: str, centers: Host, inertia: float) -> None:
        """Raise ValueError if rounding moves centres of integers by more than the RMS distance of samples from them."""
        if not self.integral or self.metric != "euclidean":
            return
        mass = self.mass() * float(self.place.scale[0]) ** 2
        if rounds_centers(self.home.xp, centers, inertia, mass, self.dtype):
            raise too_large(self.home.xp, name, self.like, centers, self.dtype)

    def check_resolved(self, name: str, inertia: float, labels: Array) -> None:
        """Raise ValueError for integers so far apart that the rounding in z is not small beside the inertia."""
        if not self.rounded:
            return
        rounded = self.rounded * float(self.place.scale[0]) ** 2
        if is_blurred(inertia, self.mass(), rounded) and not self.are_copies(labels):
            raise too_wide(self.home.xp, name, self.like, self.z.dtype)


class Samples(Fitted):
    """Samples shifted near 0, and scaled weights; NumPy arrays if they are in host memory."""

    def __init__(
        self, home: Mode, x: Array, weight: Host, given: Array | None, k: int, metric: Metric, center: str, init: Any
    ):
        """Take samples and the mode of their library, their weights on the host, and the weights as given."""
        # Weights are scaled so that they and their sums fit the dtype of the samples.
        super().__init__(home, x, k, metric, center, init, unit_of(float(np.max(weight))))
        self.weight = weight / self.unit
        self.mode, x = entered(home.xp, x)
        # A zero centre has distance 1 from all samples, which does not hold for shifted samples.
        shifts = self.mode.at_hand and (isinstance(init, str) or bool(np.all(np.any(on_host(init) != 0, axis=1))))
        with_one = center == "mean" and metric != "iou"
        found = prepared(self.mode, x, weight, metric, shifts_directions=shifts, with_one=with_one)
        self.z, self.place, self.variance, self.compare, self.rows, self.rounded = found
        self.eps = float(self.mode.xp.finfo(self.z.dtype).eps)
        self.halved = 0.5 if metric == "cosine" and self.compare == "euclidean" else 1.0
        # Samples of weight 0 are zeros in z; their labels are computed from x at the end.
        self.ignored = None if np.all(weight > 0) else x
        self.given = None
        if given is not None:
            ship = self.unit != 1 or self.mode.host
            given = beside(self.mode, self.weight, self.z, self.z.dtype) if ship else given
            self.given = cast(self.mode.xp, given, self.z.dtype)

    def passes(self) -> Bounded | Compared:
        """Passes of one fit: by bounds if NumPy computes means, else by comparing all samples."""
        compared = Compared(self.mode, self.z, self.weight, self.given, self.compare, self.center)
        return compared if self.rows is None else Bounded(self.rows, self.given, self.k)

    def start(self, rng: Any) -> Host:
        """Return initial centres (k, d)."""
        if not isinstance(self.init, str):
            return self.given_start()
        if self.init == "k-means||":
            return parallel(self, self.k, rng, self.compare)
        if self.init == "random":
            kept = np.flatnonzero(self.weight)
            index = rng.choice(kept, self.k, replace=False, p=self.weight[kept] / np.sum(self.weight))
        else:
            trials = default_trials(self.k)
            index = plusplus(self.mode, self.z, self.weight, self.k, rng, trials, self.compare)
        return self.points(index)

    def points(self, index: Host) -> Host:
        """The transformed samples at some positions."""
        if not index.size:  # JAX has no results without elements on explicit axes of a mesh
            return np.empty((0, self.z.shape[1]))
        return on_host(rows_of(self.mode, self.z, index))

    def closest(self, centers: Host) -> KMeansAssignment:
        """The closest centre of each sample, and the distance to it."""
        return kmeans_assign(self.z, from_host(self.mode.xp, centers, self.z.dtype, self.z), metric=self.compare)

    def farthest(self, centers: Host, closest: tuple[Array, Array] | None, count: int) -> Farthest:
        """Return the samples farthest from their centres, and how many samples each centre has."""
        labels, distances = map(to_host, closest or self.closest(centers))
        return farthest_of(labels, distances, self.weight, self.points, self.k, count, self.eps)

    def mass(self) -> float:
        """Σ w in the unit of the weights."""
        return float(np.sum(self.weight))

    def are_copies(self, labels: Array) -> bool:
        """Whether the integers of each cluster are equal, so that its inertia is 0."""
        kept = self.weight > 0
        x, label = to_host(self.like)[kept, :], to_host(labels)[kept]
        order = np.argsort(label, stable=True)
        same = label[order[1:]] == label[order[:-1]]
        return bool(np.all((x[order[1:], :] == x[order[:-1], :]) | ~same[:, None]))

    # --- draws ---

    def drawn(self, numbers: Host) -> Drawn:
        """Return samples drawn with probabilities ∝ weights, one for each uniform number."""
        return self._at(positions(self.weight, numbers)[0])

    def drawn_far(self, key: int, seeds: Drawn, rate: float) -> Drawn:
        """Draw each sample independently with probability `rate` · w · distance / Σ w · distance."""
        potential = on_host(self.closest(seeds.points).distances) * self.weight
        potential[seeds.at] = 0.0
        numbers = uniforms(key, 0, potential.shape[0])
        return self._at(np.flatnonzero(numbers * np.sum(potential) < rate * potential))

    def rest(self, seeds: Drawn, count: int) -> Drawn:
        """Return the first samples of positive weight that are not among the seeds."""
        rest = self.weight > 0
        rest[seeds.at] = False
        return self._at(np.flatnonzero(rest)[:count])

    def counts(self, points: Host) -> Host:
        """Return the total weight of the samples closest to each point."""
        points = from_host(self.mode.xp, points, self.z.dtype, self.z)
        return on_host(partial_sums(self.z, points, self.given, self.compare, recenter=True).counts)

    def _at(self, index: Host) -> Drawn:
        return Drawn(index, self.points(index))

    # --- results ---

    def detached(self, labels: Array) -> Host:
        """Return labels that a later pass does not overwrite."""
        return to_host(labels).copy()

    def differ(self, a: Array, b: Array) -> int:
        """Return how many labels differ."""
        return int(np.count_nonzero(a != to_host(b)))

    def labels_out(self, labels: Array, returned: Host, *, from_host_memory: bool) -> Array:
        """Labels in the library of the given samples, including samples of weight 0."""
        if self.ignored is not None:
            labels = self._with_ignored(labels, returned)
        if self.mode.xp is self.home.xp and not from_host_memory:
            return labels
        return from_host(self.home.xp, labels, default_int(self.home.xp, self.like), self.like)

    def _with_ignored(self, labels: Array, returned: Host) -> Array:
        """Labels of all samples; arbitrary for samples of weight 0 that are not finite."""
        xp, x = self.mode.xp, self.ignored
        centers = from_host(xp, returned, self.z.dtype, self.z)
        found = kmeans_assign(xp.where(xp.isfinite(x), x, xp.zeros_like(x)), centers, metric=self.metric).labels
        return xp.where(beside(self.mode, self.weight > 0, x), labels, found)


def settled(metric: Metric, new: Host, old: Host) -> Host:
    """Return new centres, of unit length for "cosine"; the old one where the new one has no direction."""
    if metric != "cosine":
        return new
    new = unit(np, new)
    return np.where(np.max(np.abs(new), axis=1, keepdims=True) > 0, new, old)


def in_given_units(inertia: float, unit: float, place: Place, metric: Metric) -> float:
    """Convert Σ w · distance of scaled weights and transformed samples to the units of the given ones."""
    scale = float(place.scale[0]) if metric == "euclidean" else 1.0
    return _in_range(inertia, unit, 1 / scale, 1 / scale)


def _in_range(value: float, *factors: float) -> float:
    """Return a product of positive numbers, 0 or infinite only if the product itself leaves the range of a float."""
    exponent = 0
    for factor in factors:
        fraction, power = math.frexp(factor)
        value, exponent = value * fraction, exponent + power
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf

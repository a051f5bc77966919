"""The samples of a fit: as they were given, and as they are compared."""

import math
from typing import Any

import numpy as np

from ..._array.backends import to_host
from ..._array.host import Host, beside, from_host, on_host
from ..._array.mode import Mode
from ..._array.namespace import Array, cast, default_int, result_dtype
from ..._array.nearest import less
from ...cluster.assign import KMeansAssignment, kmeans_assign
from ...cluster.distances import unit
from .bounds import Bounded
from .passes import Compared
from .place import Place, entered, prepared
from .rounding import is_blurred, rounds_centers, too_large, too_wide
from .seeding import default_trials, parallel, plusplus, rows_of
from .weights import unit_of


class Samples:
    """Samples moved close to 0, their weights in a unit of their own; NumPy arrays where they lie in host memory."""

    def __init__(
        self, home: Mode, x: Array, weight: Host, given: Array | None, k: int, metric: str, center: str, init: Any
    ):
        """Take samples and the mode of their library, their weights on the host, and these as they were given."""
        self.k, self.metric, self.center, self.init = k, metric, center, init
        # In a unit in which the dtype of the samples holds the weights and their sums.
        self.unit = unit_of(float(np.max(weight)))
        self.weight = weight / self.unit
        self.home, self.like, self.dtype = home, x, result_dtype(home.xp, x=x)
        self.mode, x = entered(home.xp, x)
        self.integral = self.mode.xp.isdtype(x.dtype, "integral")
        # A centre may have no direction: it is at a right angle to all samples, wherever those are moved.
        shifts = self.mode.at_hand and (isinstance(init, str) or bool(np.all(np.any(on_host(init) != 0, axis=1))))
        with_one = center == "mean" and metric != "iou"
        found = prepared(self.mode, x, weight, metric, shifts_directions=shifts, with_one=with_one)
        self.z, self.place, self.variance, self.compare, self.rows, self.rounded = found
        self.eps = float(self.mode.xp.finfo(self.z.dtype).eps)
        self.halved = 0.5 if metric == "cosine" and self.compare == "euclidean" else 1.0
        # Samples of weight 0 are zeros in z; they get a label in the end.
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
        """Centres (k, d) to start from."""
        if not isinstance(self.init, str):
            centers, offset = on_host(self.init), self.place.offset
            if offset is not None and self.init.dtype == self.like.dtype:  # integers that float64 may not hold
                given = to_host(self.init)
                near = less(np, given, offset.astype(given.dtype), np.float64)
                return self.place._replace(offset=None).centers_in(near)
            return self.place.centers_in(settled(self.metric, centers, centers))
        if self.init == "k-means||":
            return parallel(self.mode, self.z, self.weight, self.given, self.k, rng, self.compare)
        if self.init == "random":
            kept = np.flatnonzero(self.weight)
            index = rng.choice(kept, self.k, replace=False, p=self.weight[kept] / np.sum(self.weight))
        else:
            trials = default_trials(self.k)
            index = plusplus(self.mode, self.z, self.weight, self.k, rng, trials, self.compare)
        return self.points(index)

    def points(self, index: Host) -> Host:
        """The samples at some positions, as they are compared."""
        return on_host(rows_of(self.mode, self.z, index))

    def closest(self, centers: Host) -> KMeansAssignment:
        """The closest centre of each sample, and the distance to it."""
        return kmeans_assign(self.z, from_host(self.mode.xp, centers, self.z.dtype, self.z), metric=self.compare)

    def size(self, points: Host) -> float:
        """Σ ‖p‖² of points, or centres, where they were rounded."""
        at = points + self.place.shift if self.metric == "cosine" else points
        return float(np.sum(at * at))

    def settled(self, new: Host, old: Host) -> Host:
        """New centres, of unit length for "cosine"."""
        shift = self.place.shift
        return new if self.metric != "cosine" else settled(self.metric, new + shift, old + shift) - shift

    def check_centers(self, name: str, centers: Host, inertia: float) -> None:
        """Raise ValueError for integers closer to given centres than these are rounded."""
        xp, mass = self.home.xp, float(np.sum(self.weight)) * float(self.place.scale[0]) ** 2
        if self.integral and self.metric == "euclidean" and rounds_centers(xp, centers, inertia, mass, self.dtype):
            raise too_large(xp, name, self.like, centers, self.dtype)

    def check_resolved(self, name: str, inertia: float, labels: Array) -> None:
        """Raise ValueError for integers so far apart that what z rounds is no longer small beside the inertia."""
        if not self.rounded:
            return
        rounded = self.rounded * float(self.place.scale[0]) ** 2
        if is_blurred(inertia, float(np.sum(self.weight)), rounded) and not self._are_copies(labels):
            raise too_wide(self.home.xp, name, self.like, self.z.dtype)

    def _are_copies(self, labels: Array) -> bool:
        """Whether the integers of each cluster are equal, so that its inertia is 0."""
        if self.mode.lazy:
            return False
        kept = self.weight > 0
        x, label = to_host(self.like)[kept, :], to_host(labels)[kept]
        order = np.argsort(label, stable=True)
        same = label[order[1:]] == label[order[:-1]]
        return bool(np.all((x[order[1:], :] == x[order[:-1], :]) | ~same[:, None]))

    def inertia_out(self, inertia: float) -> float:
        """Σ w · distance in the units of the given samples and weights."""
        return in_given_units(inertia * self.halved, self.unit, self.place, self.metric)

    # --- results ---

    def returned(self, centers: Host) -> Array:
        """Centres among the given samples, in their library and dtype."""
        return from_host(self.home.xp, self.place.centers_out(centers), self.dtype, self.like)

    def among(self, returned: Host) -> Host:
        """Returned centres among the samples as they are compared, in the dtype of these."""
        centers = self.place.centers_in(settled(self.metric, returned, returned))
        return on_host(from_host(self.mode.xp, centers, self.z.dtype, self.z))

    def labels_out(self, labels: Array, returned: Host, *, from_host_memory: bool) -> Array:
        """Labels in the library of the given samples, also of those of weight 0."""
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

    def rounds_integers(self, returned: Host) -> bool:
        """Whether the dtype of the centres rounds integers as large as the samples."""
        return self.integral and float(np.max(np.abs(returned))) * float(self.home.xp.finfo(self.dtype).eps) > 1


def settled(metric: str, new: Host, old: Host) -> Host:
    """Return new centres, of unit length for "cosine"; the old one where the new one has no direction."""
    if metric != "cosine":
        return new
    new = unit(np, new)
    return np.where(np.max(np.abs(new), axis=1, keepdims=True) > 0, new, old)


def in_given_units(inertia: float, unit: float, place: Place, metric: str) -> float:
    """Return Σ w · distance for weights in a unit and samples at a place, in the units in which both were given."""
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

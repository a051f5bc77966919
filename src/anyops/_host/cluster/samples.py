"""Samples as a fit compares them, beside the samples as they were given."""

import math
from typing import Any

import numpy as np

from ..._array.host import Host, beside, from_host, on_host
from ..._array.mode import mode_of
from ..._array.namespace import Array, cast, default_int, result_dtype
from ...cluster.assign import KMeansAssignment, kmeans_assign
from ...cluster.distances import unit
from .bounds import Bounded
from .passes import Compared
from .place import entered, prepared
from .seeding import default_trials, parallel, plusplus, rows_of
from .weights import unit_of


class Samples:
    """Samples as they are compared: near 0, weights in a unit of their own, in NumPy where they lie in host memory."""

    def __init__(
        self, x: Array, weight: Host, given: Array | None, k: int, metric: str, center: str, init: str | Array
    ):
        self.k, self.metric, self.center, self.init = k, metric, center, init
        # Weights that the dtype of the samples may not hold, or their sums, are counted in a unit of their own.
        self.unit = unit_of(float(np.max(weight)))
        self.weight = weight / self.unit
        self.like, self.home = x, mode_of(x=x)
        self.dtype = result_dtype(self.home.xp, x=x)
        self.mode, x = entered(x)
        self.integral = self.mode.xp.isdtype(x.dtype, "integral")
        # A start may be no direction, which is at a right angle to all.
        shifts = self.mode.at_hand and (isinstance(init, str) or bool(np.all(np.any(on_host(init) != 0, axis=1))))
        with_one = center == "mean" and metric != "iou"
        found = prepared(self.mode, x, weight, metric, shifts_directions=shifts, with_one=with_one)
        self.z, self.place, self.variance, self.compare, self.rows = found
        self.eps = float(self.mode.xp.finfo(self.z.dtype).eps)
        self.halved = 0.5 if metric == "cosine" and self.compare == "euclidean" else 1.0
        # Of samples of weight 0, which z does not have, the label alone is asked for.
        self.ignored = None if np.all(weight > 0) else x
        self.given = None
        if given is not None:
            ship = self.unit != 1 or self.mode.host
            given = beside(self.mode, self.weight, self.z, self.z.dtype) if ship else given
            self.given = cast(self.mode.xp, given, self.z.dtype)

    def passes(self) -> Bounded | Compared:
        """What passes over the samples, from a start on: by bounds where NumPy keeps them, which means have."""
        if self.rows is not None:
            return Bounded(self.rows, self.given, self.k)
        return Compared(self.mode, self.z, self.weight, self.given, self.compare, self.center)

    def start(self, rng: Any) -> Host:
        """Centres (k, d) to start from."""
        if not isinstance(self.init, str):
            centers = on_host(self.init)
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
        """The sum of squares of the numbers that were rounded to get some points, or centres."""
        at = points + self.place.shift if self.metric == "cosine" else points
        return float(np.sum(at * at))

    def settled(self, new: Host, old: Host) -> Host:
        """New centres as the metric has them."""
        shift = self.place.shift
        return new if self.metric != "cosine" else settled(self.metric, new + shift, old + shift) - shift

    def inertia_out(self, inertia: float) -> float:
        """Σ w · distance as it is of the samples and the weights as they were given."""
        scale = float(self.place.scale[0]) if self.metric == "euclidean" else 1.0
        return in_range(inertia * self.halved, self.unit, 1 / scale, 1 / scale)

    # --- results ---

    def returned(self, centers: Host) -> Array:
        """Centres in the library and dtype of the samples as they were given."""
        return from_host(self.home.xp, self.place.centers_out(centers), self.dtype, self.like)

    def among(self, returned: Host) -> Host:
        """Centres as they were returned, among the samples as they are compared, in the dtype of these."""
        centers = self.place.centers_in(settled(self.metric, returned, returned))
        return on_host(from_host(self.mode.xp, centers, self.z.dtype, self.z))

    def labels_out(self, labels: Array, returned: Host, *, on_host: bool) -> Array:
        """Labels in the library of the samples as they were given, those of samples of weight 0 among them."""
        if self.ignored is not None:
            labels = self._with_ignored(labels, returned)
        if self.mode.xp is self.home.xp and not on_host:
            return labels
        return from_host(self.home.xp, labels, default_int(self.home.xp, self.like), self.like)

    def _with_ignored(self, labels: Array, returned: Host) -> Array:
        """The closest centres of samples of weight 0 too; of one that is not finite, some centre."""
        xp, x = self.mode.xp, self.ignored
        centers = from_host(xp, returned, self.z.dtype, self.z)
        found = kmeans_assign(xp.where(xp.isfinite(x), x, xp.zeros_like(x)), centers, metric=self.metric).labels
        return xp.where(beside(self.mode, self.weight > 0, x), labels, found)

    def rounds_integers(self, returned: Host) -> bool:
        """Whether the samples are integers that the dtype of the centres does not hold."""
        return self.integral and float(np.max(np.abs(returned))) * float(self.home.xp.finfo(self.dtype).eps) > 1


def settled(metric: str, new: Host, old: Host) -> Host:
    """Centres of the metric: of unit length for cosine, the old one where there is no direction."""
    if metric != "cosine":
        return new
    new = unit(np, new)
    return np.where(np.max(np.abs(new), axis=1, keepdims=True) > 0, new, old)


def in_range(value: float, *factors: float) -> float:
    """Return a product of positive numbers that is 0 or infinite only if it as a whole leaves the range of a float."""
    exponent = 0
    for factor in factors:
        fraction, power = math.frexp(factor)
        value, exponent = value * fraction, exponent + power
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf

"""Centres updated batch by batch."""

import math
from typing import Any, NamedTuple

import numpy as np

from ..._array.host import Host, beside, from_host, on_host
from ..._array.integers import largest_exact, may_be_rounded
from ..._array.mode import Mode, mode_of
from ..._array.namespace import Array, result_dtype
from ...cluster.assign import partial_sums
from ...cluster.distances import Metric
from .place import entered, unmoved
from .rounding import is_blurred, too_large, too_wide
from .samples import Samples, in_given_units, settled
from .seeding import rows_of
from .weights import unit_of

# Centres below LEAST_SHARE of the largest weight are redrawn after every PATIENCE · k samples.
LEAST_SHARE, PATIENCE = 0.01, 10


class Batch(NamedTuple):
    """Samples (n, d) and their weights on the host, ones if none were given."""

    name: str
    mode: Mode
    x: Array
    weight: Host
    weighted: bool

    @property
    def positive(self) -> int:
        """How many samples have a positive weight."""
        return int(np.count_nonzero(self.weight))

    def check_squares(self, mode: Mode, z: Array, where: str) -> None:
        """Raise ValueError if the squares of transformed samples overflow when summed."""
        xp = mode.xp
        largest = float(xp.max(xp.abs(xp.where(beside(mode, self.weight > 0, z)[:, None], z, 0.0))))
        if not largest < (float(xp.finfo(z.dtype).max) / (64 * z.shape[0] * z.shape[1])) ** 0.5:
            raise ValueError(f"{self.name} must hold numbers whose squares can be summed in {where}, got larger ones")


class Learned:
    """Centres in float64, with Σ w x and Σ w of the samples they have learned from."""

    def __init__(self, first: list[Batch], k: int, init: str | Array, metric: Metric, rng: Any):
        xp, parts = first[0].mode.xp, [batch.x for batch in first]
        x = xp.concat(parts, axis=0) if len(parts) > 1 else parts[0]
        weight = np.concat([batch.weight for batch in first])
        self._dtype = result_dtype(xp, x=x)
        self.unit = unit_of(float(np.max(weight)))
        weight = weight / self.unit
        given = from_host(xp, weight, self._dtype, x) if any(batch.weighted for batch in first) else None
        samples = Samples(first[0].mode, x, weight, given, k, metric, "mean", init)
        self.variance, self._place = samples.variance, samples.place
        self._at = samples.start(rng)
        if metric == "cosine":  # later batches may hold zero samples, which must not be shifted
            self._at = self._at + self._place.shift
            self._place = unmoved(x.shape[1])
        self._sums, self._weights = np.zeros(self._at.shape), np.zeros(k)
        self._metric, self._rng, self._since = metric, rng, 0
        self._mass, self._rounded = 0.0, 0.0

    def learn(self, batch: Batch) -> tuple[float, float]:
        """Update the centres with a batch; return Σ w · distance by the old centres, and Σ ‖Δc‖²."""
        old, (mode, x) = self._at, entered(batch.mode.xp, batch.x)
        z = self._place.enter(mode.xp, x)
        weight = batch.weight / self.unit
        unit = unit_of(float(np.max(weight)))
        weight = weight / unit
        if self._metric == "euclidean":
            batch.check_squares(mode, z, f"{z.dtype} in the unit of the first batches")
            self._rounded = max(self._rounded, self._unresolved(mode, x, z))
        self._mass += unit * float(np.sum(weight))
        given = from_host(mode.xp, weight, z.dtype, z) if batch.weighted else None
        if np.any(self._weights > 0) and (np.any(self._weights == 0) or self._since >= PATIENCE * old.shape[0]):
            # Before a batch, not after it as in scikit-learn: every moved centre learns from a batch before it is
            # returned.
            self._reassign(mode, z, weight, batch.positive // 2)
            self._since = 0
        self._since += batch.positive
        part = partial_sums(z, from_host(mode.xp, self._at, z.dtype, z), given, self._metric, recenter=False)
        self._sums = self._sums + unit * on_host(part.sums)
        self._weights = self._weights + unit * on_host(part.counts)
        some = self._weights > 0
        mean = self._sums / np.where(some, self._weights, 1.0)[:, None]
        self._at = settled(self._metric, np.where(some[:, None], mean, self._at), self._at)
        return float(part.inertia) * unit, float(np.sum((self._at - old) ** 2))

    def _unresolved(self, mode: Mode, x: Array, z: Array) -> float:
        """Squared rounding error of integer samples far from the middle; 0 if z represents them exactly."""
        xp, largest = mode.xp, largest_exact(mode.xp, z.dtype)
        if self._place.offset is None or not may_be_rounded(xp, x, z.dtype):
            return 0.0
        far = float(xp.max(xp.abs(z)))
        return z.shape[1] * (2.0 * far / largest) ** 2 if far > largest * float(self._place.scale[0]) else 0.0

    def inertia_out(self, inertia: float, like: Array) -> float:
        """Σ w · distance in the units of the given samples and weights."""
        if is_blurred(inertia, self._mass, self._rounded):
            raise too_wide(mode_of(like=like).xp, "batches", like, self._dtype)
        return in_given_units(inertia, self.unit, self._place, self._metric)

    def _reassign(self, mode: Mode, z: Array, weight: Host, most: int) -> None:
        """Move the centres of least weight, at most `most`, to samples of a batch."""
        few = np.flatnonzero(self._weights < LEAST_SHARE * np.max(self._weights))
        few = few[np.argsort(self._weights[few], stable=True)][:most]
        if few.shape[0]:
            index = self._rng.choice(weight.shape[0], few.shape[0], replace=False, p=weight / np.sum(weight))
            points = on_host(rows_of(mode, z, index))
            self._at = self._at.copy()
            self._at[few, :] = settled(self._metric, points, self._at[few, :])
            rest = np.ones(self._weights.shape[0], dtype=np.bool)
            rest[few] = False
            # With the least weight of the others, they are not redrawn at once, nor moved far by one sample.
            self._weights[few] = np.min(self._weights[rest])
            self._sums[few, :] = self._at[few, :] * self._weights[few][:, None]

    def result(self, like: Array) -> Array:
        """The centres (k, d) in the library and dtype of the samples."""
        exact, xp = self._place.centers_out(self._at), mode_of(like=like).xp
        returned = from_host(xp, exact, self._dtype, like)
        if xp.isdtype(like.dtype, "integral"):
            moved = self._place.centers_in(on_host(returned)) - self._at
            off, apart = np.sum((moved / self._place.scale) ** 2, axis=1), _apart(self._at / self._place.scale)
            if np.any((apart > 0) & (apart < 16 * off)):
                raise too_large(xp, "batches", like, exact, self._dtype)
        return returned


def _apart(centers: Host) -> Host:
    """The squared distance of each centre from the closest other centre."""
    apart = np.full(centers.shape[0], math.inf)
    for j in range(centers.shape[0]):
        squared = np.sum((centers - centers[j, :]) ** 2, axis=1)
        squared[j] = math.inf
        apart[j] = np.min(squared)
    return apart


class Stop:
    """Stopping rule: centres barely move, or the smoothed distance has had no new minimum for `patience` batches."""

    def __init__(self, least: float, patience: int | None):
        self._least, self._patience = least, patience
        self._weight, self._smooth, self._minimum, self._since = 0.0, 0.0, math.inf, 0

    def after(self, lost: float, weight: float, shift: float) -> bool:
        """Record Σ w · distance, Σ w and Σ ‖Δc‖² of a batch; return whether to stop."""
        begun = self._weight > 0
        self._weight += weight
        if not begun:  # the first loss is by centres that have learned nothing yet
            return False
        share = 1.0 if self._minimum == math.inf else 2 * weight / (weight + self._weight)
        self._smooth += share * (lost / weight - self._smooth)
        self._since = 0 if self._smooth < self._minimum else self._since + 1
        self._minimum = min(self._minimum, self._smooth)
        if self._least > 0 and shift <= self._least:
            return True
        return self._patience is not None and self._since >= self._patience

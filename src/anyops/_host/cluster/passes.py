"""A pass that compares all samples with all centres, in the library of the samples."""

import numpy as np

from ..._array.backends import to_host
from ..._array.host import Host, from_host, on_host
from ..._array.mode import Mode
from ..._array.namespace import Array
from ...cluster.assign import kmeans_assign, partial_sums
from ...cluster.distances import Metric
from .sums import Totals


class Compared:
    """The closest centres of samples (n, d), and sums per centre."""

    def __init__(self, mode: Mode, z: Array, weight: Host, given: Array | None, metric: Metric, center: str):
        self.mode, self.z, self.weight, self.given, self.metric, self.center = mode, z, weight, given, metric, center
        self.at = np.zeros(())  # the centres of the last pass

    def assign_and_sum(self, centers: Host) -> Totals:
        """Return the sums over the samples closest to each of (k, d) centres."""
        at = self._ship(centers)
        if self.center == "median":
            closest = kmeans_assign(self.z, at, metric=self.metric)
            counts = np.bincount(to_host(closest.labels), self.weight, centers.shape[0])
            lost = np.where(self.weight > 0, on_host(closest.distances), 0.0) * self.weight
            return Totals(np.zeros(centers.shape), counts, float(np.sum(lost)), closest=closest)
        # If labels repeat, sums and centres do too, and the shift is 0.
        found = partial_sums(self.z, at, self.given, self.metric, recenter=False)
        return Totals(on_host(found.sums), on_host(found.counts), float(found.inertia))

    def assign(self, centers: Host) -> Array:
        """Return the index of the closest centre of each sample."""
        self.at = centers
        return kmeans_assign(self.z, self._ship(centers), metric=self.metric).labels

    def inertia(self) -> float:
        """Σ w · distance by the centres of the last :meth:`assign`."""
        return float(partial_sums(self.z, self._ship(self.at), self.given, self.metric, recenter=False).inertia)

    def _ship(self, centers: Host) -> Array:
        return from_host(self.mode.xp, centers, self.z.dtype, self.z)

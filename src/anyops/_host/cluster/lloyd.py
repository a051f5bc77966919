"""Lloyd's iteration, from initial centres to a fixed point."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..._array.backends import to_host
from ..._array.host import Host, on_host
from ..._array.namespace import Array
from .bounds import Bounded
from .lazy import Chunks
from .passes import Compared
from .rounding import too_large
from .samples import Samples
from .sums import Totals

Callback = Callable[[int, float, float], None]

WORSE = 1e-6  # relative difference of inertia that is more than rounding
LOST = 64  # a centre counts as empty below this many rounding errors of its former weight


class Fit(NamedTuple):
    """How the iteration ended."""

    in_unit: float  # the inertia of the scaled samples; in the units of x it may overflow
    centers: Array
    labels: Array
    inertia: float
    n_iter: int
    converged: bool


def lloyd(samples: Samples | Chunks, centers: Host, max_iter: int, tol: float, callback: Callback | None) -> Fit:
    """Iterate from (k, d) centres."""
    passes = samples.passes()
    medians = _Medians(samples) if isinstance(samples, Samples) and samples.center == "median" else None
    descends = medians is None and samples.metric != "iou"
    best: tuple[float, Host] | None = None
    converged, n_iter = False, 0
    while n_iter < max_iter and not converged:
        n_iter += 1
        totals = passes.assign_and_sum(centers)
        new = _update(samples, totals, centers, medians)
        shift = float(np.sum((new - centers) ** 2))
        if not descends and totals.inertia is not None and (best is None or totals.inertia < best[0]):
            best = totals.inertia, centers
        if callback is not None:
            _report(callback, n_iter, samples, totals, centers, new)
        least = max(tol * samples.variance, samples.eps**2 * samples.size(centers))
        centers, converged = new, totals.repeats or shift <= least
    found = _fit(samples, passes, centers, n_iter, converged)
    if tol > 0 and best is not None and best[0] < (1 - WORSE) * found.in_unit:
        found = min(found, _fit(samples, passes, best[1], n_iter, converged), key=lambda one: one.in_unit)
    return found


def _report(
    callback: Callback, n_iter: int, samples: Samples | Chunks, totals: Totals, centers: Host, new: Host
) -> None:
    inertia = totals.inertia
    if inertia is None and isinstance(samples, Samples):
        inertia = float(np.sum(on_host(samples.closest(centers).distances) * samples.weight))
    assert inertia is not None
    moved = (new - centers) / samples.place.scale
    callback(n_iter, samples.inertia_out(inertia), float(np.sum(moved * moved)))


def _fit(
    samples: Samples | Chunks, passes: Bounded | Compared | Chunks, centers: Host, n_iter: int, converged: bool
) -> Fit:
    """Return the result, with labels by the returned centres, which are rounded to the dtype of x."""
    returned = samples.returned(centers)
    kept = on_host(returned)
    labels = passes.assign(samples.among(kept))
    rounded = samples.rounds_integers(kept)
    if rounded:
        # The fit used exact centres. Rounded ones may change a few labels at most.
        labels = samples.detached(labels)
        if samples.differ(labels, passes.assign(centers)) > labels.shape[0] / 1000:
            raise too_large(samples.home.xp, "x", samples.like, samples.place.centers_out(centers), samples.dtype)
    inertia = passes.inertia()
    samples.check_resolved("x", inertia, labels)
    labels = samples.labels_out(labels, kept, from_host_memory=rounded)
    return Fit(inertia, returned, labels, samples.inertia_out(inertia), n_iter, converged)


# --- new centres -----------------------------------------------------------------------------------------------------


def _update(samples: Samples | Chunks, found: Totals, centers: Host, medians: "_Medians | None") -> Host:
    """Means or medians; a centre without samples moves to one of the samples farthest from their centres."""
    sums, weights = found.sums.copy(), found.weights.copy()
    some = weights > 0
    labels: Any = None if medians is None or found.closest is None else to_host(found.closest[0]).copy()
    empty = np.flatnonzero(~some)
    if empty.shape[0]:
        far = samples.farthest(centers, found.closest, empty.shape[0])
        members = far.members.copy()
        # Skip samples that coincide with their centre up to rounding: moving centres there would repeat for ever.
        rounding = LOST * samples.eps
        for i, j in enumerate(empty.tolist()[: far.at.shape[0]]):
            point = far.points[i, :]
            if far.distances[i] > (rounding if samples.metric == "iou" else rounding**2 * samples.size(point)):
                old, w = int(far.labels[i]), float(far.weights[i])
                sums[old] -= w * point
                weights[old] -= w
                sums[j], weights[j] = w * point, w
                members[old], members[j] = members[old] - 1, 1
                if medians is not None:
                    labels[far.at[i]] = j
        # If a centre lost nearly all of its weight, the rest is rounding.
        some = (members > 0) & (weights > rounding * found.weights)
    if medians is not None:
        return samples.settled(medians.of(labels, centers), centers)
    new = np.where(some[:, None], sums / np.where(some, weights, 1.0)[:, None], centers)
    return samples.settled(new, centers)


class _Medians:
    """The weighted median of each coordinate: half of the weight lies on either side."""

    def __init__(self, samples: Samples):
        self.weight, self.z = samples.weight, on_host(samples.z)
        self.orders = [np.argsort(column, stable=True) for column in self.z.T]

    def of(self, labels: Host, centers: Host) -> Host:
        """Return the medians of the samples of each label; a centre without samples stays."""
        k, new = centers.shape[0], centers.copy()
        label = np.where(self.weight > 0, labels, k)  # ignored samples come last
        label = label.astype(np.uint16 if k < 1 << 16 else np.int64)  # 16 bits are sorted by counting
        ends = np.cumsum(np.bincount(label, minlength=k + 1)).tolist()
        for axis, order in enumerate(self.orders):
            grouped = order[np.argsort(label[order], stable=True)]
            weight = self.weight[grouped]
            for j in range(k):
                start, stop = ends[j - 1] if j else 0, ends[j]
                if start < stop:
                    reached = np.cumsum(weight[start:stop])
                    half = reached[-1] / 2
                    low = start + int(np.searchsorted(reached, half, side="left"))
                    high = min(start + int(np.searchsorted(reached, half, side="right")), stop - 1)
                    new[j, axis] = (self.z[grouped[low], axis] + self.z[grouped[high], axis]) / 2
        return new

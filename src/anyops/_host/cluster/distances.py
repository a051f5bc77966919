"""The distances of all samples from all centres by matrix products: the NumPy twin of `each_distance`."""

import numpy as np

from ..._array.host import Host
from ..._array.mode import Mode
from ..._array.nearest import row_dot
from ..._array.rows import rows_in_cache
from ..._array.threads import in_parts, workers
from ..._math import inverse_scale
from ...cluster.distances import Metric, explicit, is_zero, ready

# Squared distances below this share of ‖x‖² + ‖c‖² have lost digits to cancellation, and are computed from x − c.
CANCELLED = 1 / 8


def each_distance(mode: Mode, x: Host, centers: Host, *, metric: Metric) -> Host:
    """Return the distances (n, k) of samples from centres, in the dtype of the centres."""
    n, k, wide = x.shape[0], centers.shape[0], centers.dtype
    table = ready(np, x, centers, metric, wide)
    largest = np.max(np.abs(table.at))
    inverse = inverse_scale(np, largest)  # 1 for "iou", whose centres are scaled already
    at = table.at * inverse
    squares = row_dot(np, at, at)
    whole = np.empty((n, k), wide)
    step = rows_in_cache(np, x, k)
    tiles = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    parts = max(1, min(workers(x), len(tiles)))

    def share(part: int) -> None:
        for tile in tiles[part::parts]:
            rows = table.transformed(np, x[tile, :], metric, wide)
            if metric == "iou":
                whole[tile, :] = explicit(np, (rows * table.scale)[:, None, :], at, metric)
                continue
            # Samples larger than all centres get a smaller scale: `fraction` of the centres' scale.
            unit = inverse_scale(np, np.maximum(np.max(np.abs(rows), axis=1, keepdims=True), largest))
            fraction = unit / inverse
            scaled = rows * unit
            own = row_dot(np, scaled, scaled)[:, None] + squares * (fraction * fraction)
            found = own - 2.0 * ((scaled * fraction) @ at.T)
            near = np.flatnonzero(~(found >= CANCELLED * own))
            if near.shape[0]:
                sample, center = near // k, near % k
                if metric == "euclidean" and table.whole is None:  # before anything is rounded
                    difference = x[tile, :][sample, :] - centers[center, :]
                else:
                    difference = rows[sample, :] - table.at[center, :]
                difference = difference * unit[sample, :]
                found.reshape(-1)[near] = row_dot(np, difference, difference)
            if metric == "euclidean":
                whole[tile, :] = np.sqrt(found) / unit
            else:
                zero = is_zero(np, x[tile, :])[:, None] | table.zero
                whole[tile, :] = np.where(zero, 1.0, found / (2 * unit * unit))

    in_parts(x, share, parts)
    return whole

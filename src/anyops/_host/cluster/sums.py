"""Sums over the samples of each centre, in float64."""

import functools
import operator
from typing import NamedTuple

import numpy as np

from ..._array.host import Host
from ..._array.namespace import Array

# Up to this many columns, one `bincount` per column takes less time than sorting the rows by label.
FEW_COLUMNS = 6
# Numbers per centre above which products with ones take less time than `reduceat`, and rows per product: few, because a
# product rounds to the dtype of the rows.
WORTH_PRODUCTS, RUN = 3072, 128


class CenterSums(NamedTuple):
    """Sums over the samples of each centre."""

    sums: Host  # (k, d) Σ w x
    weights: Host  # (k,) Σ w
    members: Host  # (k,) number of samples of positive weight


class Totals(NamedTuple):
    """The result of a pass over all samples."""

    sums: Host  # (k, d) Σ w x
    weights: Host  # (k,) Σ w
    inertia: float | None = None  # Σ w · distance, if it costs nothing
    repeats: bool = False  # whether each sample has the label of the last pass
    closest: tuple[Array, Array] | None = None  # labels and distances, if they are computed anyway


def no_sums(k: int, d: int) -> CenterSums:
    """Return the sums of no samples."""
    return CenterSums(np.zeros((k, d)), np.zeros(k), np.zeros(k))


def added(parts: list[CenterSums]) -> CenterSums:
    """Add the sums of several parts of the samples."""
    return CenterSums(*(functools.reduce(operator.add, same) for same in zip(*parts, strict=True)))


def without_remainder(found: CenterSums) -> CenterSums:
    """Set the sums of empty clusters to 0, where differences leave rounding errors."""
    empty = found.members == 0
    return found._replace(sums=np.where(empty[:, None], 0.0, found.sums), weights=np.where(empty, 0.0, found.weights))


def sum_by_label(rows: Host, labels: Host, k: int) -> Host:
    """Return (k, d): the sum of the rows (m, d) of each label."""
    m, d = rows.shape
    if d <= FEW_COLUMNS:
        return np.stack([np.bincount(labels, rows[:, axis], k) for axis in range(d)], axis=1)
    # NumPy uses radix sort for 16-bit integers.
    order = np.argsort(labels.astype(np.int16) if k < 1 << 15 else labels, kind="stable")
    rows = rows.take(order, axis=0)
    ends = np.cumsum(np.bincount(labels, minlength=k))
    starts = np.concat([[0], ends[:-1]])
    out = np.zeros((k, d))
    if m * d < WORTH_PRODUCTS * k:
        some = ends > starts
        if m:
            out[some] = np.add.reduceat(rows, starts[some], axis=0, dtype=np.float64)
        return out
    ones = np.ones(RUN, rows.dtype)
    for label, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        cut = end - (end - start) % RUN
        runs = ones @ rows[start:cut].reshape(-1, RUN, d)
        out[label] = np.add.reduce(runs, axis=0, dtype=np.float64) + ones[: end - cut] @ rows[cut:end]
    return out

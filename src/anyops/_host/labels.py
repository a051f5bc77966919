"""Labels as small integers, in NumPy."""

import numpy as np

from .._array.host import Host
from .order import ascending_below


def numbered(labels: Host) -> Host:
    """Small integers from 0 on for labels, equal for equal labels; each NaN is a separate label."""
    if labels.dtype.kind != "f" and labels.shape[0]:
        lowest, highest = int(labels.min()), int(labels.max())
        if highest - lowest <= 4 * labels.shape[0] + 1024:
            return labels - labels.dtype.type(lowest)
    return np.unique(labels, return_inverse=True, equal_nan=False)[1]


def paired(first: Host, second: Host) -> Host:
    """Small integers for pairs of labels: the host version of `suppression.scenes._paired`."""
    first, second = numbered(first), numbered(second)
    return numbered(first * (second.max(initial=0) + 1) + second)


def first_of_each(labels: Host, limit: int) -> Host | None:
    """Positions of the first `limit` items of each label, ascending; None if these are all items."""
    labels = numbered(labels)
    counts = np.bincount(labels)
    if counts.max(initial=0) <= limit:
        return None
    order = ascending_below(labels, counts.shape[0])
    place = np.arange(order.shape[0]) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[place < limit])

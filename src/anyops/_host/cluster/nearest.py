"""The closest centre by the lowest score ‖c‖² − 2x·c: matrix products and their minima."""

import math

import numpy as np

from ..._array.host import Host

# Up to this many centres, scores have shape (centres, samples): elementwise minima are fast, while `argmin` takes 50 ns
# a row, however short. With more centres, the product is slower in this layout.
FEW_CENTERS = 128


class Scratch:
    """Memory reused by large products: mapping new memory for each costs more."""

    def __init__(self, dtype: np.dtype, size: int):
        self._memory = np.empty(size, dtype)

    def product(self, a: Host, b: Host) -> Host:
        """Return a @ b, which is valid until the next product."""
        rows, columns = a.shape[0], b.shape[1]
        return np.matmul(a, b, out=self._memory[: rows * columns].reshape(rows, columns))


def closest(rows: Host, table: Host, scratch: Scratch) -> Host:
    """Return the index of the closest centre of each row (m, d + 1), ties to the lowest, by a table (k, d + 1)."""
    if table.shape[0] <= FEW_CENTERS:
        return lowest_down(scratch.product(table, rows.T))[0]
    return np.argmin(scratch.product(rows, table.T), axis=1)


def two_closest(rows: Host, table: Host, scratch: Scratch) -> tuple[Host, Host, Host]:
    """Return the index of the closest centre of each row, ties to the lowest, its score, and the next score."""
    if table.shape[0] <= FEW_CENTERS:
        return two_lowest_down(scratch.product(table, rows.T))
    return two_lowest(scratch.product(rows, table.T))


def lowest_down(scores: Host) -> tuple[Host, Host]:
    """Return the index of the least score in each column of (k, m), k < 255, ties to the lowest, and the score."""
    least = np.minimum.reduce(scores, axis=0)
    number = np.greater(scores, least).view(np.uint8)
    np.negative(number, out=number)  # 255 where the score is not the least, 0 elsewhere
    np.bitwise_or(number, np.arange(scores.shape[0], dtype=np.uint8)[:, None], out=number)
    return np.minimum.reduce(number, axis=0).astype(np.int64), least


def two_lowest_down(scores: Host) -> tuple[Host, Host, Host]:
    """As :func:`lowest_down`, and the next score. The scores are overwritten."""
    labels, least = lowest_down(scores)
    scores.reshape(-1)[labels * scores.shape[1] + np.arange(scores.shape[1])] = math.inf
    return labels, least, np.minimum.reduce(scores, axis=0)


def two_lowest(scores: Host) -> tuple[Host, Host, Host]:
    """As :func:`two_lowest_down`, of each row of (m, k)."""
    labels = np.argmin(scores, axis=1)
    flat, start = scores.reshape(-1), np.arange(labels.shape[0]) * scores.shape[1]
    at = start + labels
    least = flat.take(at)
    flat[at] = math.inf
    return labels, least, flat.take(np.add(start, np.argmin(scores, axis=1), out=start))

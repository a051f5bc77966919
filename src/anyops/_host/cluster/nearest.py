"""The closest centre by the lowest score ‖c‖² − 2x·c: matrix products and their minima."""

import math

import numpy as np

from ..._array.host import Host

# With at most so many centres, scores are laid out (centres, samples): minima of vectors are fast, and `argmin` takes
# 50 ns a row, however short. With more of them the product takes longer that way round.
FEW_CENTERS = 128


class Scratch:
    """Memory for one large product after another: mapping it anew costs more."""

    def __init__(self, dtype: np.dtype, size: int):
        self._memory = np.empty(size, dtype)

    def product(self, a: Host, b: Host) -> Host:
        """Return a @ b, which is valid until the next product."""
        rows, columns = a.shape[0], b.shape[1]
        return np.matmul(a, b, out=self._memory[: rows * columns].reshape(rows, columns))


def closest(rows: Host, table: Host, scratch: Scratch) -> Host:
    """Return the closest centre of each row (m, d + 1), ties to the lowest number, by a table (k, d + 1)."""
    if table.shape[0] <= FEW_CENTERS:
        return lowest_down(scratch.product(table, rows.T))[0]
    return np.argmin(scratch.product(rows, table.T), axis=1)


def two_closest(rows: Host, table: Host, scratch: Scratch) -> tuple[Host, Host, Host]:
    """Return the closest centre of each row, ties to the lowest number, its score, and the next score."""
    if table.shape[0] <= FEW_CENTERS:
        return two_lowest_down(scratch.product(table, rows.T))
    return two_lowest(scratch.product(rows, table.T))


def lowest_down(scores: Host) -> tuple[Host, Host]:
    """Return of each column of (k, m), k < 255, where its least score is, the first of equal ones, and that score."""
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

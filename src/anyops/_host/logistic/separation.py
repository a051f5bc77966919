"""Whether a plane separates the classes, in NumPy on the host: a direction that worsens no row and improves some.

A row and a class k other than its own make a vector a: (z, 1) for the coefficients of its own class, −(z, 1) for class
k. A direction d with a·d ≥ 0 for all rows, and > 0 for some, raises the likelihood without limit [1]_. By Stiemke's
theorem there is such a direction, or there are positive weights λ of all rows with Σ λ a = 0. One problem decides: the
minimum of ‖Σ λ a‖² over λ ≥ 1, a nonnegative least squares problem, where d = Σ λ a. If d = 0 there is no direction.

References
----------
.. [1] Albert and Anderson, On the existence of maximum likelihood estimates in logistic regression models, Biometrika
   71 (1984).
"""

import numpy as np

from ..._array.namespace import Array
from .dataset import Closest, Dataset

ROWS_EACH = 20  # rows per coefficient to begin with: the rows with the smallest margins
ADDITIONS = 20  # rounds in which rows that contradict a direction are added
MOST_NUMBERS = 30_000_000  # the most numbers in the rows that are compared
TOUCHING = 1e-9  # margins below this multiple of the length of a row count as 0
VANISHING = 1e-9  # sums below this multiple of their terms count as 0
FEW_COLUMNS, FEW_NUMBERS = 20, 10_000_000  # in x, up to which columns are dropped one by one
SAME = 1e-12  # singular values below this multiple of the largest count as 0


def separates(data: Dataset, theta: Array, fit_intercept: bool) -> bool:
    """Whether a direction worsens no row, and improves some; rows with the smallest margins at `theta` come first.

    Also False if there are too many coefficients to decide.
    """
    size = data.coefficients
    many = min(ROWS_EACH * size + 100, MOST_NUMBERS // size)
    if many < size:
        return False
    free = np.arange(size)
    if not fit_intercept:
        free = np.reshape(np.reshape(free, theta.shape)[:, :-1], (-1,))
    rows = _vectors(data.closest(theta, many), data.lines)[:, free]
    aim = np.reshape(theta, (-1,))[free]
    space = _differences(data.lines, len(free) // data.lines)  # a basis of the remaining directions
    for _ in range(ADDITIONS + len(free)):
        direction = recession(rows @ space)
        if direction is None:  # no direction improves these rows: keep those that do not change them
            space = space @ _null_space(rows @ space)
            if not space.shape[1]:
                return False
            direction = space.T @ aim
            direction = direction if np.any(direction != 0) else np.ones(space.shape[1])
        direction = space @ direction
        direction = direction / np.linalg.vector_norm(direction)
        lines = np.zeros(size)
        lines[free] = direction
        found = data.closest(np.reshape(lines, theta.shape), many)
        vectors = _vectors(found, data.lines)[:, free]
        if found.largest <= TOUCHING * data.columns.radius:  # this direction changes no row
            space = space @ _null_space((direction @ space)[None, :])
            if not space.shape[1]:
                return False
            continue
        against = found.margin < -TOUCHING * np.linalg.vector_norm(vectors, axis=1)
        if not np.any(against):
            return True
        rows = np.concat([rows, vectors[against, :]])
        if rows.size > MOST_NUMBERS:
            return False
    return False


def separating(given: Dataset, data: Dataset, theta: Array, fit_intercept: bool) -> tuple[tuple[int, ...], ...]:
    """The columns that each separate the classes, or else the smallest set found that separates them together.

    `given` are the rows before scaling, `data` after it. Columns are dropped one by one, the smallest coefficients in
    `theta` first, while the others still separate; empty if there are too many columns for that.
    """
    alone = _separates_alone(given.ranges(), fit_intercept)
    if np.any(alone):
        return tuple((int(j),) for j in np.nonzero(alone)[0])
    n, p = data.x.shape
    if data.mode.lazy or p > FEW_COLUMNS or n * p > FEW_NUMBERS:
        return ()
    kept = np.arange(p)
    for j in np.argsort(np.max(np.abs(theta[:, :-1]), axis=0), stable=True):
        fewer = kept[kept != j]
        if len(fewer) and separates(data.of_columns(fewer), theta[:, [*fewer, -1]], fit_intercept):
            kept = fewer
    return (tuple(kept.tolist()),)


def _separates_alone(ranges: Array, fit_intercept: bool) -> Array:
    """Mask of the columns with a threshold that splits no class; values may equal it, but not all of them."""
    low, high = ranges[0], -ranges[1]
    order = np.lexsort((high, low), axis=0)
    low, high = (np.take_along_axis(a, order, axis=0) for a in (low, high))
    below, above = np.maximum.accumulate(high, axis=0)[:-1], low[1:]
    parted = below <= above
    if not fit_intercept:  # the cut is at 0
        parted &= (below <= 0) & (above >= 0)
    return np.any(parted, axis=0) & (low[0] < np.max(high, axis=0))


def recession(rows: Array) -> Array | None:
    """Return a direction d with a·d ≥ 0 for all rows a, and > 0 for some; None if it does not exist [1]_.

    Minimises ‖Σ λ a‖, λ ≥ 1, with an active set: the row that d worsens most joins the rows whose λ is free.

    References
    ----------
    .. [1] Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
    """
    norms = np.linalg.vector_norm(rows, axis=1)
    kept = norms > TOUCHING * np.max(norms, initial=0.0)
    rows = np.unique(rows[kept, :] / norms[kept][:, None], axis=0)
    if not len(rows):
        return None
    fixed = np.sum(rows, axis=0)
    size = np.linalg.vector_norm(fixed)
    extra = np.zeros(len(rows))
    free: list[int] = []
    direction = fixed
    for _ in range(10 * rows.shape[1] + 100):
        length = np.linalg.vector_norm(direction)
        if length <= VANISHING * (size + np.sum(extra)):
            return None
        change = rows @ direction
        change[free] = 0.0
        worst = int(np.argmin(change))
        if change[worst] >= -0.5 * TOUCHING * length:
            return direction / length
        free.append(worst)
        while free:
            part = rows[free, :]
            aim = np.linalg.lstsq(part.T, -fixed, rcond=1e-12)[0]
            low = aim <= 0
            if not np.any(low):
                extra[free] = aim
                break
            now = extra[free]
            ratio = np.where(low, now / np.where(low, now - aim, 1.0), 1.0)
            step = np.min(ratio)
            moved = now + step * (aim - now)
            extra[free] = np.where(ratio <= step, 0.0, moved)
            free = [j for j, stays in zip(free, (ratio > step).tolist(), strict=True) if stays]
        direction = fixed + extra @ rows
        if free:  # remove the part along these rows that rounding has left
            along = np.linalg.qr(rows[free, :].T)[0]
            for _ in range(2):
                direction = direction - along @ (along.T @ direction)
    return None


def _null_space(rows: Array) -> Array:
    """An orthonormal basis of the directions that are orthogonal to all rows."""
    norms = np.linalg.vector_norm(rows, axis=1, keepdims=True)
    rows = rows[norms[:, 0] > TOUCHING * np.max(norms, initial=0.0), :]
    if not len(rows):
        return np.eye(rows.shape[1])
    rows = rows / np.linalg.vector_norm(rows, axis=1, keepdims=True)
    rank = rows.shape[1]
    _, values, vectors = np.linalg.svd(np.linalg.qr(rows)[1] if len(rows) > rank else rows)
    known = np.concat([values, np.zeros(rank - len(values))])
    return vectors[known <= SAME * known[0], :].T


def _differences(lines: int, size: int) -> Array:
    """An orthonormal basis of the directions that sum to 0 over the classes; the others change no margin."""
    if lines == 1:
        return np.eye(size)
    _, _, right = np.linalg.svd(np.ones((1, lines)))
    return np.kron(right[1:, :].T, np.eye(size))


def _vectors(found: Closest, lines: int) -> Array:
    """The vectors a of rows and the classes they are compared with, as (m, D)."""
    if lines == 1:
        return found.rows * (2.0 * found.own - 1.0)[:, None]
    each = np.arange(lines)
    sign = 1.0 * (found.own[:, None] == each) - 1.0 * (found.rival[:, None] == each)
    return np.reshape(sign[:, :, None] * found.rows[:, None, :], (len(found.rows), -1))

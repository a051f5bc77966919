"""Whether a plane separates the classes: whether some direction worsens no row and improves some.

Each row, with a class k that it is compared with, is a vector a: (z, 1) in the coefficients of its own class, −(z, 1) in
those of k. A direction d with a·d ≥ 0 for all rows, and > 0 for some, raises the likelihood without end [1]_. By
Stiemke's theorem there is one, or positive weights λ of all rows with Σ λ a = 0. Both are found at once: the minimum of
‖Σ λ a‖² over λ ≥ 1 is a nonnegative least squares problem, and d = Σ λ a there; if it is 0 there is no such direction.

References
----------
.. [1] Albert and Anderson, On the existence of maximum likelihood estimates in logistic regression models, Biometrika
   71 (1984).
"""

from .._array.host import HOST
from .._array.namespace import Array
from .samples import Closest, Samples

ROWS = 20  # a coefficient, among the rows with the smallest margins, to begin with
ROUNDS = 20  # in which rows that contradict a direction are added
LARGEST = 30_000_000  # numbers in the rows that are compared
TOUCHING = 1e-9  # of the largest, a margin that counts as 0
NOTHING = 1e-9  # of its parts, a sum that counts as 0


def separates(samples: Samples, theta: Array, fit_intercept: bool) -> bool:
    """Whether a direction worsens no row, and improves some; `theta` says which rows to look at first.

    False also where there are too many coefficients to tell.
    """
    size = samples.coefficients
    many = min(ROWS * size + 100, LARGEST // size)
    if many < size:
        return False
    found = samples.closest(theta, many)
    rows = _vectors(found, samples.lines, fit_intercept)
    for _ in range(ROUNDS):
        direction = recession(rows)
        if direction is None:
            return False
        lines = HOST.reshape(direction, (samples.lines, -1))
        if not fit_intercept:
            lines = HOST.concat([lines, HOST.zeros((len(lines), 1))], axis=1)
        found = samples.closest(lines, many)
        norms = HOST.linalg.norm(_vectors(found, samples.lines, fit_intercept), axis=1)
        against = found.margin < -TOUCHING * found.largest
        against = against | (found.margin < -TOUCHING * norms * HOST.linalg.norm(direction))
        if not HOST.any(against):
            return found.largest > 0
        worst = Closest(*(part[against] for part in found[:4]), found.largest)
        rows = HOST.concat([rows, _vectors(worst, samples.lines, fit_intercept)])
        if rows.size > LARGEST:
            return False
    return False


def recession(rows: Array) -> Array | None:
    """A direction d with a·d ≥ 0 for all rows a, > 0 for some; None if there is none [1]_.

    The minimum of ‖Σ λ a‖, λ ≥ 1, by adding the row that d worsens most to those whose λ is free.

    References
    ----------
    .. [1] Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
    """
    norms = HOST.linalg.norm(rows, axis=1)
    rows = rows[norms > 0, :] / norms[norms > 0][:, None]
    rows = HOST.unique(rows, axis=0)
    if not len(rows):
        return None
    fixed = HOST.sum(rows, axis=0)
    size = HOST.linalg.norm(fixed)
    extra = HOST.zeros(len(rows))
    free: list[int] = []
    direction = fixed
    for _ in range(10 * rows.shape[1] + 100):
        length = HOST.linalg.norm(direction)
        if length <= NOTHING * (size + HOST.sum(extra)):
            return None
        change = rows @ direction
        change[free] = 0.0
        worst = int(HOST.argmin(change))
        if change[worst] >= -TOUCHING * length:
            return direction / length
        free.append(worst)
        while free:
            part = rows[free, :]
            aim = HOST.linalg.lstsq(part.T, -fixed, rcond=1e-12)[0]
            low = aim <= 0
            if not HOST.any(low):
                extra[free] = aim
                break
            now = extra[free]
            ratio = HOST.where(low, now / HOST.where(low, now - aim, 1.0), 1.0)
            step = HOST.min(ratio)
            moved = now + step * (aim - now)
            extra[free] = HOST.where(ratio <= step, 0.0, moved)
            free = [j for j, stays in zip(free, (ratio > step).tolist(), strict=True) if stays]
        direction = fixed + extra @ rows
    return None


def _vectors(found: Closest, lines: int, fit_intercept: bool) -> Array:
    """a of rows and the classes they are compared with, as (m, D)."""
    rows = found.rows if fit_intercept else found.rows[:, :-1]
    if lines == 1:
        return rows * (2.0 * found.own - 1.0)[:, None]
    each = HOST.arange(lines)
    sign = 1.0 * (found.own[:, None] == each) - 1.0 * (found.rival[:, None] == each)
    return HOST.reshape(sign[:, :, None] * rows[:, None, :], (len(rows), -1))

"""Quadratics with an l1 penalty, in NumPy on the host: g·x + x·hx / 2 + Σ bound |x|, h positive semidefinite.

At the minimum the slope g + hx is −bound · sign(x) where x is not 0, and within ±bound where x is 0. Both solvers find
the signs by a cheap first-order method, and then minimise on the face of the nonzero coefficients, which is a linear
system [1]_. A line search towards the minimum of the face passes changes of sign as long as the objective falls, and
sets the coefficient at which it stops to 0. At the minimum of a face, only coefficients that violate the conditions can
lower the objective, and each face is left for a lower one, so the search terminates.

References
----------
.. [1] Lee, Battle, Raina and Ng, Efficient sparse coding algorithms, Advances in Neural Information Processing
   Systems 19 (2006), algorithm 1.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from ..._array.namespace import Array

EPS = float(np.finfo(np.float64).eps)
ALTERNATIONS = 500
RAISED = (0.0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)  # multiples of the diagonal to add if rounding made h indefinite
DAMPING = 1e-10  # multiple of the diagonal to add on rank-deficient faces
SWEEPS = 30  # of coordinate descent before a face is solved
GRADIENTS = 30  # proximal gradients before a face is solved
EXACT = 1e-13  # slopes below this multiple of the gradient plus the bound count as 0
QUIET = 3  # rounds in a row that gain no more than rounding, after which the search ends


def lasso(h: Array, g: Array, bound: Array, start: Array) -> Array:
    """Return the minimum of g·x + x·hx / 2 + Σ bound |x|, or `start` if rounding finds nothing lower.

    Coordinate descent finds the signs. Coefficients whose row of h is 0 become 0 if |g| ≤ bound > 0, else stay. If
    rounding has made h indefinite, a multiple of its diagonal is added around `start`, so that the slope at `start`,
    and with it the fixed point of repeated models, does not change.
    """
    diagonal = np.linalg.diagonal(h)
    live = diagonal > 0
    scale = np.where(live, 1.0 / np.sqrt(np.where(live, diagonal, 1.0)), 0.0)
    x = np.where(live | (bound == 0) | (np.abs(g) > bound), start, 0.0)
    try:
        return _by_coordinates(h, g, bound, start, x, scale, checked=False)
    except _IndefiniteError:
        more = _lacking(h * scale[:, None] * scale[None, :]) * diagonal
        higher = h + np.eye(len(h)) * more
        return _by_coordinates(higher, g - more * start, bound, start, x, scale, checked=True)


class _IndefiniteError(Exception):
    """The Hessian of the working set is not positive semidefinite."""


def _by_coordinates(h: Array, g: Array, bound: Array, start: Array, x: Array, scale: Array, *, checked: bool) -> Array:
    """The minimum, with coordinate descent between faces; raise unless h is `checked` to be semidefinite or is."""

    def product(v: Array) -> Array:
        return h @ v

    def approach(x: Array, slope: Array, work: Array) -> Array:
        # Only the working set is checked, which is small unless the bounds are.
        if not checked and _lacking(h[work, :][:, work] * scale[work, None] * scale[None, work]) > 0:
            raise _IndefiniteError
        return _sweeps(h, bound, x, slope, work)

    return _lowest(product, partial(_Faces, h, scale), approach, g, bound, start, x, scale)


def _lacking(scaled: Array) -> float:
    """Ten times the least of RAISED that makes a matrix of unit diagonal positive semidefinite; 0 if it is already."""
    damped = scaled.copy()
    one = np.arange(len(scaled))
    for raised in RAISED:
        damped[one, one] = scaled[one, one] + raised + 10.0 * len(scaled) * EPS
        try:
            np.linalg.cholesky(damped)
        except np.linalg.LinAlgError:
            continue
        break
    return 10.0 * raised


class _Faces:
    """Solve (h + δ) x = g on shrinking faces: the inverse is computed once, and downdated when coefficients leave.

    δ, in units of the diagonal, is 0 if h has full rank on the face.
    """

    def __init__(self, h: Array, scale: Array):
        self.h, self.scale = h, scale
        self.face = np.zeros(0, dtype=np.int64)
        self.inverse = np.zeros((0, 0))

    def __call__(self, face: Array, g: Array) -> Array:
        kept = np.isin(self.face, face)
        if len(self.face) == 0 or int(np.sum(kept)) < len(face):
            s = self.scale[face]
            self.inverse = _inverse(self.h[face, :][:, face] * s[:, None] * s[None, :])
        elif len(face) < len(self.face):
            left, gone = np.nonzero(kept)[0], np.nonzero(~kept)[0]
            beside = self.inverse[left, :][:, gone]
            corner = self.inverse[gone, :][:, gone]
            self.inverse = self.inverse[left, :][:, left] - beside @ np.linalg.inv(corner) @ beside.T
        self.face = face
        s = self.scale[face]
        return s * (self.inverse @ (s * g))


def lasso_by_products(base: Array, thin: Array, core: Array, g: Array, bound: Array, start: Array) -> Array:
    """Return the minimum of g·d + d·Bd / 2 + Σ bound |x|, d = x − start, B = diag(base) − thin core thinᵀ.

    Accelerated proximal gradients in the metric of `base`, with adaptive restarts [2]_, find the signs; a face is
    solved by Woodbury's formula.

    References
    ----------
    .. [2] O'Donoghue and Candès, Adaptive restart for accelerated gradient schemes, Foundations of Computational
       Mathematics 15 (2015).
    """
    largest = 1.0
    if thin.shape[1]:
        small = np.linalg.eigvals(core @ (thin.T @ (thin / base[:, None])))
        largest = max(1.0, 1.0 - float(np.min(np.real(small))))
    curvature = 1.01 * largest * base

    def product(v: Array) -> Array:
        return base * v - thin @ (core @ (thin.T @ v))

    def solved(face: Array, slope: Array) -> Array:
        some, over = thin[face, :], 1.0 / base[face]
        found = over * slope
        if some.shape[1] == 0:
            return found
        inner = np.eye(some.shape[1]) - core @ (some.T @ (over[:, None] * some))
        return found + over * (some @ np.linalg.solve(inner, core @ (some.T @ found)))

    def approach(x: Array, slope: Array, _: Array) -> Array:
        return _gradients(base, thin, core, curvature, bound, x, slope)

    # In terms of x, the linear term is g − B start.
    shifted = g - product(start)
    return _lowest(product, lambda: solved, approach, shifted, bound, start, start, 1.0 / np.sqrt(base))


def _lowest(
    product: Callable[[Array], Array],
    faces: Callable[[], Callable[[Array, Array], Array]],
    approach: Callable[[Array, Array, Array], Array],
    g: Array,
    bound: Array,
    start: Array,
    x: Array,
    scale: Array,
) -> Array:
    """Alternate between first-order steps, which find the signs, and the minimum for these signs."""
    free = (bound == 0) & (scale > 0)
    first = g + product(start)
    slope = g + product(x)
    best, least, quiet = (x, slope), np.inf, 0
    for _ in range(ALTERNATIONS):
        excess = _excess(x, slope, bound, scale)
        # Rounding of h x, by Cauchy and Schwarz: |h_jk| ≤ √(h_jj h_kk).
        rounding = 4.0 * EPS * float(np.sum(np.where(scale > 0, np.abs(x) / _positive(scale), 0.0)))
        wrong = excess > EXACT * scale * (np.abs(g) + bound) + rounding
        worst = float(np.max(excess, initial=0.0))
        if quiet == 0 or worst < least:
            best, least = (x, slope), worst
        if quiet == QUIET or not np.any(wrong):
            break
        before, x_before = slope, x
        face = (x != 0) & (scale > 0) | free
        outside = np.nonzero(wrong & ~face)[0]
        if len(outside) > (most := max(10, int(np.sum(face)))):
            outside = outside[np.argsort(-excess[outside], stable=True)[:most]]
        face[outside] = True
        x = approach(x, slope, np.nonzero(face)[0])
        slope = g + product(x)
        x, slope = _on_face(product, faces, g, bound, x, slope, scale, free)
        size = float(np.sum((np.abs(g) + bound) * np.abs(x)))
        quiet = quiet + 1 if _gain(before, slope, bound, x_before, x) <= EPS * size else 0
    x, slope = best
    return x if _gain(first, slope, bound, start, x) >= 0 else start


def _on_face(
    product: Callable[[Array], Array],
    faces: Callable[[], Callable[[Array, Array], Array]],
    g: Array,
    bound: Array,
    x: Array,
    slope: Array,
    scale: Array,
    free: Array,
) -> tuple[Array, Array]:
    """Search along lines to the minima of faces until one is reached without a change of sign."""
    solve, fresh = faces(), True
    for _ in range(2 * len(x) + 10):
        face = np.nonzero((x != 0) & (scale > 0) | free)[0]
        signed = (slope + bound * np.sign(x))[face]
        move = np.zeros_like(x)
        try:
            move[face] = -solve(face, signed)
        except np.linalg.LinAlgError:
            break
        if not np.all(np.isfinite(move)):
            break
        bent = product(move)
        length, turned = _along_line(x, move, float(np.sum(signed * move[face])), float(np.sum(move * bent)), bound)
        new = x + length * move
        if turned is not None:
            new[turned] = 0.0
        after = slope + length * bent
        if not _gain(slope, after, bound, x, new) > 0:
            if fresh:
                break
            # Rounding may have accumulated in the downdated inverse and in the slope.
            solve, fresh, slope = faces(), True, g + product(x)
            continue
        changed = np.any((np.sign(new) != np.sign(x))[bound > 0])
        x, slope, fresh = new, after, False
        if not changed:
            break
    return x, g + product(x)  # without the rounding that line searches have accumulated


def _along_line(x: Array, move: Array, slope: float, bend: float, bound: Array) -> tuple[float, Array | None]:
    """The t ≥ 0 that minimises the objective at x + t move, and the coefficient that becomes 0 there, if one does.

    The objective is a quadratic whose slope rises by 2 bound |move| where a coefficient changes its sign.
    """
    turning = np.nonzero((bound > 0) & (x * move < 0))[0]
    at = -x[turning] / move[turning]
    order = np.argsort(at, stable=True)
    turning, at = turning[order], at[order]
    rises = np.cumulative_sum(2.0 * bound[turning] * np.abs(move[turning]), include_initial=True)
    bend = max(bend, 0.0)
    late = np.nonzero(slope + bend * at + rises[1:] >= 0)[0]
    k = int(late[0]) if len(late) else len(at)
    if k < len(at) and slope + bend * float(at[k]) + float(rises[k]) < 0:
        return float(at[k]), turning[k]
    rest = slope + float(rises[k])
    if bend > 0 and -rest / bend < np.inf:
        return max(-rest / bend, 0.0), None
    # Without curvature, and not limited by a bound: no minimum along this line.
    return (float(at[-1]), turning[-1]) if len(at) else (1.0, None)


def _excess(x: Array, slope: Array, bound: Array, scale: Array) -> Array:
    """The violation of each coefficient's optimality condition, in coordinates in which h has a unit diagonal."""
    off = np.where(x != 0, np.abs(slope + bound * np.sign(x)), np.maximum(np.abs(slope) - bound, 0.0))
    return off * scale


def _gain(before: Array, after: Array, bound: Array, x: Array, new: Array) -> float:
    """How much lower the objective is at `new`, from the slopes of its quadratic part at both."""
    step = new - x
    return -float(np.sum(0.5 * (before + after) * step + bound * (np.abs(new) - np.abs(x))))


def _sweeps(h: Array, bound: Array, x: Array, slope: Array, work: Array) -> Array:
    """A few sweeps of coordinate descent; fewer if no sign changes."""
    x, slope = x.copy(), slope.copy()
    diagonal = np.linalg.diagonal(h)
    for _ in range(SWEEPS):
        signs = np.sign(x[work])
        for j in work.tolist():
            old, curvature, limit = float(x[j]), float(diagonal[j]), float(bound[j])
            aim = old * curvature - float(slope[j])
            new = (aim - limit if aim > limit else aim + limit if aim < -limit else 0.0) / curvature
            if new != old:
                slope += (new - old) * h[j, :]
                x[j] = new
        if np.all(np.sign(x[work]) == signs):
            break
    return x


def _gradients(
    base: Array, thin: Array, core: Array, curvature: Array, bound: Array, start: Array, slope: Array
) -> Array:
    """Accelerated proximal gradients from `start`, where the slope is `slope`; fewer steps if no sign changes."""
    least = bound / curvature
    x = ahead = start
    pace, same = 1.0, 0
    for _ in range(GRADIENTS):
        moved = ahead - start
        aim = ahead - (slope + base * moved - thin @ (core @ (thin.T @ moved))) / curvature
        new = np.sign(aim) * np.maximum(np.abs(aim) - least, 0.0)
        step = new - x
        same = same + 1 if np.all(np.sign(new) == np.sign(x)) else 0
        if np.sum(curvature * (ahead - new) * step) > 0:
            pace = 1.0
        following = (1.0 + (1.0 + 4.0 * pace**2) ** 0.5) / 2.0
        ahead = new + (pace - 1.0) / following * step
        x, pace = new, following
        if same == 3:
            break
    return x


def _inverse(scaled: Array) -> Array:
    """(h + δ)⁻¹ for an h of unit diagonal."""
    if len(scaled) == 0:
        return scaled
    try:
        factor = np.linalg.cholesky(scaled)
        if np.min(np.linalg.diagonal(factor)) ** 2 > len(scaled) * EPS:
            return np.linalg.inv(scaled)
    except np.linalg.LinAlgError:
        pass
    return np.linalg.inv(scaled + DAMPING * np.eye(len(scaled)))


def _positive(scale: Array) -> Array:
    return np.where(scale > 0, scale, 1.0)

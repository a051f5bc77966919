"""Newton's method in NumPy on the host; for this loss it is iteratively reweighted least squares."""

import numpy as np

from ..._array.namespace import Array
from ...logistic.objective import shared_shift
from ..linalg import solve_damped
from .columns import NEARLY
from .descent import NOISE, Move, Objective, Point

SUSPECT = 1e-3  # the largest share of rounding in the variance of a column that other columns do not explain
STEADY = {False: 1e-4, True: 1e-2}  # by narrow dtype: relative change of the Hessian that standard errors tolerate
AHEAD = 1e3  # one step may reach the goal from a squared decrement of this multiple of the goal
NEAR = 0.05  # a Newton decrement, times the largest norm of a row, below which the Hessian is nearly constant


class Newton:
    """−H⁻¹g."""

    curvature = "full"
    patience = 12

    def __init__(self, objective: Objective):
        self.objective = objective
        # Standard errors of a fit without a penalty need the Hessian at the end itself.
        self.ahead = AHEAD if objective.penalised else 1.0

    def move(self, at: Point) -> Move:
        """Solve on the host, in float64."""
        return newton_move(self.objective, at.grad, at.curvature)

    def learn(self, before: Point, after: Point) -> None:
        """Do nothing: each pass computes the Hessian."""

    def certify(self, at: Point, move: Move, goal: float) -> float | None:
        """The square of Newton's decrement λ, if it is a bound; before the last step, a bound on λ² after it.

        If the step changes no logit by more than s, the decrement after it is at most ½ s eˢ λ: the Hessian changes by
        a factor of at most eˢ on the way.
        """
        if move.slope <= goal:
            return newton_gap(self.objective, at.curvature, move.slope, goal)
        inverse = inverse_hessian(self.objective, at.curvature)
        if inverse is None:
            return None
        s = float(move.slope) ** 0.5 * row_norm(self.objective, inverse)
        if s > NEAR:
            return None
        gap = (0.5 * s * np.exp(s)) ** 2 * move.slope + (NOISE * self.objective.eps) ** 2 * at.value
        return float(gap) if gap <= goal else None


def newton_move(objective: Objective, grad: Array, hessian: Array) -> Move:
    """−H⁻¹g, which is 0 in directions that no row determines."""
    free = free_coefficients(objective)
    grad, full = free_gradient(objective, grad), regular_hessian(objective, hessian)
    delta = np.zeros_like(grad)
    delta[free] = -solve_damped(full[free, :][:, free], grad[free], eps=objective.eps)
    return Move(delta, -float(np.sum(grad * delta)))


def newton_gap(objective: Objective, hessian: Array, slope: float, goal: float) -> float | None:
    """λ² = gᵀH⁻¹g, which bounds f − min f if λ ‖a‖ is small for all rows a, in the norm of H⁻¹ [1]_; else None.

    The loss is self-concordant in a generalised sense: its third derivative along a line is at most its second times
    the largest change of a logit. By the same argument there is a minimum, so the classes are not separated.

    References
    ----------
    .. [1] Bach, Self-concordant analysis for logistic regression, Electronic Journal of Statistics 4 (2010),
       proposition 2.
    """
    if not slope <= goal:
        return None
    inverse = inverse_hessian(objective, hessian)
    if inverse is None:
        return None
    data, most = objective.data, NEAR / max(slope, 1e-300) ** 0.5
    near = row_norm(objective, inverse) <= most
    return slope if near or data.largest_norm(inverse) <= most else None


def row_norm(objective: Objective, inverse: Array) -> float:
    """A bound on √(aᵀ inverse a) over all rows a, without a pass."""
    lines, columns = objective.data.lines, objective.data.columns
    roots = np.sqrt(np.clip(np.linalg.diagonal(inverse), 0.0, None))
    largest = float(np.max(np.sum(np.abs(inverse), axis=1), initial=0.0))  # at least its largest eigenvalue
    return min(columns.change(np.reshape(roots, (lines, -1))), columns.radius * (largest * min(lines, 2)) ** 0.5)


def free_coefficients(objective: Objective) -> Array:
    """The indices of the fitted coefficients: all, or all but the intercepts."""
    size = objective.data.coefficients
    return np.arange(size) if objective.fit_intercept else np.nonzero(objective.coef)[0]


def regular_hessian(objective: Objective, hessian: Array) -> Array:
    """The Hessian, regularised in the null direction of the softmax."""
    lines = objective.data.lines
    return hessian + shared_shift(np, hessian, lines) if lines > 1 else hessian


def free_gradient(objective: Objective, grad: Array) -> Array:
    """The gradient, 0 for intercepts that are not fitted."""
    return grad if objective.fit_intercept else grad * objective.coef


def inverse_hessian(objective: Objective, hessian: Array) -> Array | None:
    """The inverse of the regularised Hessian, 0 for intercepts that are not fitted; None if singular up to rounding."""
    free = free_coefficients(objective)
    full = regular_hessian(objective, hessian)[free, :][:, free]
    diagonal = np.linalg.diagonal(full)
    if not np.all(diagonal > 0):
        return None
    root = np.sqrt(diagonal)
    scaled = full / root[:, None] / root[None, :]
    try:
        np.linalg.cholesky(scaled)
        inverse = np.linalg.inv(scaled)
    except np.linalg.LinAlgError:
        return None
    inflation = np.linalg.diagonal(inverse)  # at least 1, but for rounding
    if not (np.all(inflation > 0.5) and np.max(inflation, initial=1.0) * NOISE * len(free) * objective.eps < 1.0):
        return None
    found = np.zeros_like(hessian)
    found[free[:, None], free[None, :]] = inverse / root[:, None] / root[None, :]
    return found


def nearly_collinear(objective: Objective, hessian: Array, inverse: Array | None) -> bool:
    """Whether columns may be linearly dependent, or so nearly that the Hessian has lost too many digits.

    `inverse` is None if it has lost all digits.

    Decided by variance inflation factors [1]_: in a dependence blurred by rounding, they are about the inverse square
    of the relative rounding of a column.

    References
    ----------
    .. [1] Belsley, Kuh and Welsch, Regression Diagnostics (1980), section 3.2.
    """
    if inverse is None:
        return True
    inflation = np.linalg.diagonal(inverse) * np.linalg.diagonal(regular_hessian(objective, hessian))
    noise = np.tile(np.concat([objective.data.columns.noise, np.zeros(1)]), objective.data.lines)
    return bool(np.any((inflation > NEARLY**-2) | (inflation * noise**2 > SUSPECT)))


def is_steady(objective: Objective, grad: Array, hessian: Array) -> bool:
    """Whether Newton's step would hardly change the Hessian: by a factor e^s if it changes no logit by more than s.

    Also True if the Hessian is singular up to rounding.
    """
    inverse = inverse_hessian(objective, hessian)
    if inverse is None:
        return True
    decrement = max(newton_move(objective, grad, hessian).slope, 0.0) ** 0.5
    most = STEADY[objective.narrow] / max(decrement, 1e-300)
    return row_norm(objective, inverse) <= most or objective.data.largest_norm(inverse) <= most


def covariance(objective: Objective, hessian: Array) -> Array:
    """The inverse (D, D) of the observed information; NaN for coefficients that the rows do not determine.

    For K classes, the coefficients are constrained to sum to 0 over the classes.
    """
    lines, columns = objective.data.lines, objective.data.columns
    size, hidden = len(columns.scale) + 1, columns.undetermined
    inverse = inverse_hessian(objective, hessian)
    if inverse is None:
        return np.full((lines * len(hidden),) * 2, np.nan)
    if lines > 1:  # project out the direction that all classes share
        blocks = np.reshape(inverse, (lines, size, lines, size))
        blocks = blocks - np.mean(blocks, axis=0, keepdims=True)
        inverse = np.reshape(blocks - np.mean(blocks, axis=2, keepdims=True), inverse.shape)
    # From z, or its combinations, to x, on one side and then on the other.
    for _ in range(2):
        rows = columns.outward(np.reshape(inverse, (-1, size)))
        inverse = np.reshape(rows, (len(inverse), lines * len(hidden))).T
    hidden = np.tile(hidden, lines)
    return np.where(hidden[:, None] | hidden, np.nan, inverse / objective.weight)

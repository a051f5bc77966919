"""Newton's method, which for this loss is iteratively reweighted least squares."""

from .._array.host import HOST, inverse_diagonal, solve_psd
from .._array.namespace import Array
from .descent import Move, Objective, Point
from .objective import shared_shift


class Newton:
    """−H⁻¹g; the shortest such step where columns of x depend on each other."""

    curvature = "full"

    def __init__(self, objective: Objective):
        self.objective = objective
        self.free = free_coefficients(objective)

    def move(self, at: Point) -> Move:
        """Solve on the host, in float64."""
        hessian = regular_hessian(self.objective, at.curvature)
        delta = -solve_free(self.free, hessian, at.grad, eps=self.objective.eps)
        return Move(delta, -float(HOST.sum(at.grad * delta)))

    def learn(self, before: Point, after: Point) -> None:
        """Nothing: each pass brings the Hessian."""


def free_coefficients(objective: Objective) -> Array | None:
    """The numbers of the coefficients that are sought, where they are not all of them."""
    return None if objective.fit_intercept else HOST.nonzero(objective.coef)[0]


def regular_hessian(objective: Objective, hessian: Array) -> Array:
    """The Hessian, with curvature along what the softmax does not see."""
    lines = objective.samples.lines
    return hessian if lines == 1 else hessian + shared_shift(HOST, hessian, lines)


def solve_free(free: Array | None, hessian: Array, grad: Array, *, eps: float) -> Array:
    """H⁻¹g over the coefficients that are sought, 0 for the others."""
    if free is None:
        return solve_psd(hessian, grad, eps=eps)
    found = HOST.zeros_like(grad)
    found[free] = solve_psd(hessian[free, :][:, free], grad[free], eps=eps)
    return found


def standard_errors(objective: Objective, hessian: Array) -> Array:
    """√ of the diagonal of the inverse of the observed information, as (lines, p + 1); ∞ for what x does not tell.

    For K classes of the coefficients whose sums over the classes are 0.
    """
    lines, size = objective.samples.lines, len(hessian)
    free = free_coefficients(objective)
    kept = HOST.arange(size) if free is None else free
    full = regular_hessian(objective, hessian)[kept, :][:, kept]
    variance = HOST.zeros(size)
    variance[kept] = inverse_diagonal(full, eps=objective.eps)
    if lines > 1:  # less what the inverse has along the direction that all classes share, 1/K of it each
        shift = regular_hessian(objective, hessian) - hessian
        shared = HOST.zeros(size)
        shared[kept] = 1.0 / HOST.linalg.diagonal(shift)[kept] / lines**2
        variance = variance - shared
    return HOST.reshape(HOST.sqrt(HOST.maximum(variance, HOST.zeros(size)) / objective.weight), (lines, -1))

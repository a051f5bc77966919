"""Proximal Newton: quadratic models of the loss, minimised with the l1 penalty by coordinate descent."""

from .._array.host import HOST, lasso
from .._array.namespace import Array
from .descent import Move, Objective, Point
from .newton import free_coefficients


class ProximalNewton:
    """The step to the minimum of g·d + d·Hd / 2 + l1 ‖coef + d‖₁ [1]_.

    References
    ----------
    .. [1] Lee, Sun and Saunders, Proximal Newton-type methods for minimizing composite functions, SIAM Journal on
       Optimization 24 (2014), algorithm 1.
    """

    curvature = "full"

    def __init__(self, objective: Objective):
        self.objective = objective
        free = free_coefficients(objective)
        self.free = HOST.arange(len(objective.coef)) if free is None else free
        self.bound = objective.l1 / objective.weight * objective.coef[self.free]

    def move(self, at: Point) -> Move:
        """The model's minimum, and how much the objective falls towards it to first order."""
        curvature: Array = at.curvature
        hessian = curvature[self.free, :][:, self.free]
        start, grad = HOST.reshape(at.theta, (-1,))[self.free], at.grad[self.free]
        found = lasso(hessian, grad - hessian @ start, self.bound, start)
        if self.objective.samples.lines > 1 and self.objective.l2 == 0:
            found = self._least_shared(found)
        delta = HOST.zeros_like(at.grad)
        delta[self.free] = found - start
        fall = HOST.sum(grad * (found - start)) + HOST.sum(self.bound * (HOST.abs(found) - HOST.abs(start)))
        return Move(delta, -float(fall))

    def _least_shared(self, found: Array) -> Array:
        """The same probabilities by the least ‖coef‖₁: from each column the part of its median that all classes share.

        One coordinate at a time cannot find it.
        """
        flat = HOST.zeros_like(self.objective.coef)
        flat[self.free] = found
        lines = self.objective.samples.lines
        theta = HOST.reshape(flat, (lines, -1))
        ordered = HOST.sort(theta[:, :-1], axis=0)
        low, high = ordered[(lines - 1) // 2, :], ordered[lines // 2, :]
        theta[:, :-1] -= HOST.clip(HOST.zeros_like(low), low, high)
        return flat[self.free]

    def learn(self, before: Point, after: Point) -> None:
        """Nothing: each pass brings the Hessian."""

"""Proximal Newton methods in NumPy on the host: quadratic models of the loss, minimised with the l1 penalty."""

from abc import ABC, abstractmethod
from collections import deque

import numpy as np

from ..._array.namespace import Array
from .descent import Move, Objective, Point
from .duality import balancing_factors, duality_gap
from .lasso import lasso, lasso_by_products
from .lbfgs import MEMORY
from .newton import free_coefficients, newton_gap, newton_move, regular_hessian

GAP_ROUNDING = 256.0  # rounding errors in a duality gap, relative to the objective
LOOSE = 1e-4  # the largest gap of a fit that has converged, relative to the objective


class Proximal(ABC):
    """The step to the minimum of g·d + d·Bd / 2 + l1 ‖coef + d‖₁, for a model B of the Hessian [1]_.

    References
    ----------
    .. [1] Lee, Sun and Saunders, Proximal Newton-type methods for minimizing composite functions, SIAM Journal on
       Optimization 24 (2014), algorithm 1.
    """

    def __init__(self, objective: Objective):
        self.objective = objective
        self.free = free_coefficients(objective)
        self.bound = objective.bound[self.free] / objective.weight

    def certify(self, at: Point, move: Move, goal: float) -> float | None:
        """The duality gap after the move. It falls in proportion to the distance, so the limit is the goal's root."""
        objective = self.objective
        theta = at.theta + np.reshape(move.delta, at.theta.shape)
        classes = max(len(theta), 2)
        factors = np.ones(classes)
        loss, divergence, slope, levels = objective.data.dual(theta, factors)
        if objective.fit_intercept:
            factors = balancing_factors(levels)
            loss, divergence, slope, levels = objective.data.dual(theta, factors)
        bound, ridge = (
            np.reshape(a, theta.shape)[:, :-1] / objective.weight for a in (objective.bound, objective.ridge)
        )
        gap = duality_gap(float(loss), float(divergence), slope, objective.weight, theta[:, :-1], bound, ridge)
        least = max(min((goal * at.value) ** 0.5, LOOSE * at.value), GAP_ROUNDING * objective.eps * at.value)
        return gap if gap <= least else self.linearised_gap(at, least)

    @abstractmethod
    def linearised_gap(self, at: Point, least: float) -> float | None:
        """Another bound, at most `least`, for penalties so small that rounding dominates the gap; None if none."""

    @abstractmethod
    def minimum(self, at: Point, start: Array, grad: Array) -> Array:
        """The coefficients that minimise the model."""

    def move(self, at: Point) -> Move:
        """The model's minimum, and how much the objective falls towards it to first order."""
        start, grad = np.reshape(at.theta, (-1,))[self.free], at.grad[self.free]
        found = self.minimum(at, start, grad)
        if self.objective.data.lines > 1 and not np.any(self.objective.ridge > 0):
            found = self._least_shared(found)
        delta = np.zeros_like(at.grad)
        delta[self.free] = found - start
        fall = np.sum(grad * (found - start)) + np.sum(self.bound * (np.abs(found) - np.abs(start)))
        return Move(delta, -float(fall))

    def _least_shared(self, found: Array) -> Array:
        """Minimise ‖coef‖₁ at equal probabilities by subtracting from each column its median over the classes.

        Coordinate descent cannot find this move.
        """
        flat = np.zeros_like(self.objective.coef)
        flat[self.free] = found
        lines = self.objective.data.lines
        theta = np.reshape(flat, (lines, -1))
        ordered = np.sort(theta[:, :-1], axis=0)
        low, high = ordered[(lines - 1) // 2, :], ordered[lines // 2, :]
        theta[:, :-1] -= np.clip(np.zeros_like(low), low, high)
        return flat[self.free]


class ProximalNewton(Proximal):
    """B is the Hessian, which each pass computes; coordinate descent minimises the model."""

    curvature = "full"
    patience = 12
    ahead = 1.0

    def minimum(self, at: Point, start: Array, grad: Array) -> Array:
        """Minimise the model by coordinate descent."""
        curvature: Array = at.curvature
        if self.objective.data.lines > 1:
            # In an unpenalised direction that all classes share, sweeps would only follow rounding errors.
            flat = self.objective.bound + self.objective.ridge == 0
            shift = regular_hessian(self.objective, curvature) - curvature
            curvature = curvature + shift * flat[:, None] * flat[None, :]
        hessian = curvature[self.free, :][:, self.free]
        return lasso(hessian, grad - hessian @ start, self.bound, start)

    def learn(self, before: Point, after: Point) -> None:
        """Do nothing: each pass computes the Hessian."""

    def linearised_gap(self, at: Point, least: float) -> float | None:
        """The square of Newton's decrement, with a subgradient in place of the l1 penalty.

        For |u_j| ≤ l1_j, the objective is at least f(θ) + u·θ, with equality at this point if u_j = ±l1_j where θ_j is
        not 0; elsewhere u_j balances the gradient as well as possible. f(θ) + u·θ is as smooth as f, so its decrement
        bounds how far below its minimum is. It has no curvature along coefficients that are equal for all classes; the
        gradient left along them is added to the bound, times their size.
        """
        grad, theta, bound = at.grad * 1.0, np.reshape(at.theta, (-1,)), self.objective.bound / self.objective.weight
        grad = grad + np.where(theta != 0, bound * np.sign(theta), np.clip(-grad, -bound, bound))
        shared = 0.0
        if self.objective.data.lines > 1 and not np.any(self.objective.ridge > 0):
            left = np.reshape(grad, at.theta.shape)
            mean = np.mean(left, axis=0)
            grad = np.reshape(left - mean, (-1,))
            shared = 2.0 * float(np.sum(np.abs(mean) * np.sum(np.abs(at.theta), axis=0)))
        slope = newton_move(self.objective, grad, at.curvature).slope
        gap = newton_gap(self.objective, at.curvature, slope, least - shared)
        return None if gap is None else gap + shared


class ProximalLBFGS(Proximal):
    """B = B₀ − ΨM⁻¹Ψᵀ from the last steps and a diagonal B₀, for more coefficients than a Hessian can have.

    B is stored as two thin matrices [2]_, and the model is minimised by products with them.

    References
    ----------
    .. [2] Nocedal and Wright, Numerical Optimization, 2nd edition (2006), theorem 7.4.
    """

    curvature = "none"
    patience = 50
    ahead = 1.0

    def __init__(self, objective: Objective, diagonal: Array):
        super().__init__(objective)
        diagonal = diagonal[self.free]
        least = 1e-3 * float(np.mean(diagonal))
        self.diagonal = np.maximum(diagonal, np.full_like(diagonal, least if least > 0 else 1.0))
        self.pairs: deque[tuple[Array, Array]] = deque(maxlen=MEMORY)

    def minimum(self, at: Point, start: Array, grad: Array) -> Array:
        """Minimise the model by accelerated proximal gradients, without a pass over the data.

        Coefficients that are 0, and whose gradient is far below the bound, are left out until the next model.
        """
        base, thin, core = self._model()
        near = np.nonzero((start != 0) | (np.abs(grad) >= 0.5 * self.bound))[0]
        found = np.zeros_like(start)
        found[near] = lasso_by_products(base[near], thin[near, :], core, grad[near], self.bound[near], start[near])
        return found

    def _model(self) -> tuple[Array, Array, Array]:
        """The diagonal of B₀, Ψ and M⁻¹."""
        if not self.pairs:
            return self.diagonal, np.zeros((len(self.diagonal), 0)), np.zeros((0, 0))
        steps, changes = (np.stack(columns, axis=1) for columns in zip(*self.pairs, strict=True))
        last, change = self.pairs[-1]
        base = self.diagonal * float(np.sum(change**2 / self.diagonal) / np.sum(last * change))
        scaled = base[:, None] * steps
        products = steps.T @ changes
        below = np.tril(products, k=-1)
        top = np.concat([steps.T @ scaled, below], axis=1)
        bottom = np.concat([below.T, -np.eye(len(products)) * products], axis=1)
        return base, np.concat([scaled, changes], axis=1), np.linalg.inv(np.concat([top, bottom], axis=0))

    def linearised_gap(self, at: Point, least: float) -> float | None:
        """Return None, because there is no Hessian."""

    def learn(self, before: Point, after: Point) -> None:
        """Remember a step and how the gradient changed along it."""
        step = np.reshape(after.theta - before.theta, (-1,))[self.free]
        change = (after.grad - before.grad)[self.free]
        if float(np.sum(step * change)) > self.objective.eps * float(np.sum(change**2 / self.diagonal)):
            self.pairs.append((step, change))

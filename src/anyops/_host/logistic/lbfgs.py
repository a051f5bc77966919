"""Limited-memory BFGS in NumPy on the host, for many coefficients, when a Hessian costs more than many gradients."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..._array.namespace import Array
from ..linalg import factored
from .descent import Move, Objective, Point
from .newton import (
    NEAR,
    free_coefficients,
    free_gradient,
    inverse_hessian,
    newton_gap,
    newton_move,
    regular_hessian,
    row_norm,
)

MEMORY = 10
HESSIAN_LIMIT = 4096  # the most coefficients for which a Hessian is computed
AFFORDED = 1e10  # the most multiplications for a Hessian that certifies convergence
RENEWED = 25  # steps after which a new Hessian pays off
PATIENT = 3  # steps to try before computing a Hessian
FLAT = 1e-4  # largest derivative by a coefficient of z, relative to the objective, if a Hessian is too expensive


class Rough(NamedTuple):
    """An approximate inverse of the Hessian.

    Attributes
    ----------
    solve : callable
        g ↦ H⁻¹g.
    excess : float
        H is at most this multiple of the Hessian near the minimum; ∞ if unknown.
    norm : float
        A bound on √(aᵀH⁻¹a) over all rows a.
    """

    solve: Callable[[Array], Array]
    excess: float = np.inf
    norm: float = np.inf


class LBFGS:
    """−Bg, with B from the last steps and `rough`, an approximate inverse of the Hessian [1]_.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd edition (2006), algorithm 7.4.
    """

    curvature = "none"
    patience = 50
    ahead = 1.0

    def __init__(self, objective: Objective, rough: Rough):
        self.objective = objective
        self.rough = rough
        self.pairs: deque[tuple[Array, Array, float]] = deque(maxlen=MEMORY)
        self.hessian: Array | None = None  # of the point that was certified
        self.refused = self.steps = 0

    def move(self, at: Point) -> Move:
        """The two-loop recursion over the last steps."""
        grad = free_gradient(self.objective, at.grad)
        q, shares = grad, []
        for step, change, product in reversed(self.pairs):
            share = float(np.sum(step * q)) / product
            shares.append(share)
            q = q - share * change
        q = self.rough.solve(q)
        if self.pairs:
            step, change, product = self.pairs[-1]
            bend = float(np.sum(change * self.rough.solve(change)))
            q = q * (product / bend) if bend > 0 else q  # the square of a tiny change underflows
        for (step, change, product), share in zip(self.pairs, reversed(shares), strict=True):
            q = q + (share - float(np.sum(change * q)) / product) * step
        return Move(-q, float(np.sum(grad * q)))

    def learn(self, before: Point, after: Point) -> None:
        """Remember a step and how the gradient changed along it."""
        step = np.reshape(after.theta - before.theta, (-1,))
        change = free_gradient(self.objective, after.grad - before.grad)
        product = float(np.sum(step * change))
        if product > 0:  # always true but for rounding, because the loss is convex
            self.pairs.append((step, change, product))
        self.steps += 1
        if self.steps % RENEWED == 0 and affords_hessian(self.objective):
            self._renew(self.objective.at(after.theta, "full").curvature)

    def certify(self, at: Point, move: Move, goal: float) -> float | None:
        """A bound on the square of Newton's decrement, by the Hessian of a sample of the rows, or of all.

        If a Hessian is too expensive, an estimate, once the gradient is small.
        """
        objective = self.objective
        if objective.penalised and self.rough.excess < np.inf:
            grad = free_gradient(self.objective, at.grad)
            bound = self.rough.excess * float(np.sum(grad * self.rough.solve(grad)))
            if bound <= goal and bound**0.5 * self.rough.excess**0.5 * self.rough.norm <= NEAR:
                return bound
            self.refused += 1
            if self.refused <= PATIENT and bound <= 1e3 * goal:
                return None  # a few more steps cost less than a Hessian
        if not affords_hessian(self.objective):
            steepest = float(np.max(np.abs(free_gradient(self.objective, at.grad)), initial=0.0))
            return 2.0 * move.slope if steepest <= FLAT * at.value else None
        hessian: Array = objective.at(at.theta, "full").curvature
        gap = newton_gap(objective, hessian, newton_move(objective, at.grad, hessian).slope, goal)
        if gap is None:
            self._renew(hessian)
        else:
            self.hessian = hessian
        return gap

    def _renew(self, hessian: Array) -> None:
        """Restart with a Hessian of all rows."""
        self.rough = inverse_of(self.objective, hessian, excess=1.0)
        self.pairs.clear()


def affords_hessian(objective: Objective) -> bool:
    """Whether a Hessian takes neither too much memory nor too long."""
    data, size = objective.data, objective.data.coefficients
    return size <= HESSIAN_LIMIT and data.x.shape[0] * size**2 <= AFFORDED


def inverse_of(objective: Objective, curvature: Array, *, excess: float = np.inf) -> Rough:
    """The inverse of a Hessian, or of its diagonal.

    The Hessian of a sample of the rows, with weights multiplied by at most m, is at most m times the Hessian of all
    rows. An `excess` of 2 m allows for its change on the way to the minimum.
    """
    if curvature.ndim == 1:
        some = curvature > 0
        diagonal = np.where(some, 1.0 / np.where(some, curvature, 1.0), 1.0)
        return Rough(lambda g: diagonal * g)
    inverse = inverse_hessian(objective, curvature)
    if inverse is not None:
        return Rough(lambda g: inverse @ g, excess, row_norm(objective, inverse))
    free = None if objective.fit_intercept else free_coefficients(objective)
    return Rough(factored(free, regular_hessian(objective, curvature), eps=objective.eps))


def inverse_at_null(objective: Objective, shares: Array) -> Rough:
    """The inverse of the Hessian of the null model, in which all rows have the same probabilities.

    With the shares π of the classes, the Hessian is (diag π − ππᵀ) ⊗ Σ w (x, 1)(x, 1)ᵀ plus the penalty. It needs one
    Gram matrix, and in the eigenvectors of the first factor it splits into one matrix of size p + 1 for each class.
    """
    gram = objective.data.gram()
    if objective.data.lines == 1:
        mixing, levels = np.ones((1, 1)), np.asarray([shares[0] * shares[1]])
    else:
        levels, mixing = np.linalg.eigh(np.eye(len(shares)) * shares - shares[:, None] * shares[None, :])
        levels[0] = np.mean(levels)  # the null direction of the softmax: any curvature will do, as in shared_shift
    size = len(gram)
    ridge = np.diag(objective.ridge[:size])
    free = None if objective.fit_intercept else np.arange(size - 1)
    blocks = [factored(free, (level * gram + ridge) / objective.weight, eps=objective.eps) for level in levels.tolist()]

    def solve(g: Array) -> Array:
        turned = mixing.T @ np.reshape(g, (-1, size))
        solved = np.stack([block(line) for block, line in zip(blocks, turned, strict=True)])
        return np.reshape(mixing @ solved, (-1,))

    return Rough(solve)

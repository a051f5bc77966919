"""Limited-memory BFGS, for so many coefficients that a Hessian costs more than many gradients."""

from collections import deque
from collections.abc import Callable

from .._array.host import HOST, factored
from .._array.namespace import Array
from .descent import Move, Objective, Point
from .newton import free_coefficients, regular_hessian

MEMORY = 10


class LBFGS:
    """−Bg, B from the last steps and from `rough`, an inverse of the Hessian as it is somewhere, or nearly [1]_.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd edition (2006), algorithm 7.4.
    """

    curvature = "none"

    def __init__(self, objective: Objective, rough: Callable[[Array], Array]):
        self.sought = 1.0 if objective.fit_intercept else objective.coef
        self.rough = rough
        self.pairs: deque[tuple[Array, Array, float]] = deque(maxlen=MEMORY)

    def move(self, at: Point) -> Move:
        """The two loops over the last steps."""
        grad = at.grad * self.sought
        q, shares = grad, []
        for step, change, product in reversed(self.pairs):
            share = float(HOST.sum(step * q)) / product
            shares.append(share)
            q = q - share * change
        q = self.rough(q)
        if self.pairs:
            step, change, product = self.pairs[-1]
            q = q * (product / float(HOST.sum(change * self.rough(change))))
        for (step, change, product), share in zip(self.pairs, reversed(shares), strict=True):
            q = q + (share - float(HOST.sum(change * q)) / product) * step
        return Move(-q, float(HOST.sum(grad * q)))

    def learn(self, before: Point, after: Point) -> None:
        """Remember a step and how the gradient changed along it."""
        step = HOST.reshape(after.theta - before.theta, (-1,))
        change = (after.grad - before.grad) * self.sought
        product = float(HOST.sum(step * change))
        if product > 0:  # rounding aside it is, for the loss is convex
            self.pairs.append((step, change, product))


def inverse_of(objective: Objective, curvature: Array) -> Callable[[Array], Array]:
    """g ↦ H⁻¹g of a Hessian, or of its diagonal."""
    if curvature.ndim == 1:
        some = curvature > 0
        inverse = HOST.where(some, 1.0 / HOST.where(some, curvature, 1.0), 1.0)
        return lambda g: inverse * g
    return factored(free_coefficients(objective), regular_hessian(objective, curvature), eps=objective.eps)


def inverse_at_null(objective: Objective, shares: Array) -> Callable[[Array], Array]:
    """g ↦ H⁻¹g of the Hessian where all rows have the same probabilities: one Gram matrix of x makes all of it.

    With the shares π of the classes it is (diag π − ππᵀ) ⊗ Σ w (x, 1)(x, 1)ᵀ, and the penalty: in the eigenvectors of
    the first factor, one matrix of p + 1 lines for each class.
    """
    gram = objective.samples.gram()
    if objective.samples.lines == 1:
        mixing, levels = HOST.ones((1, 1)), HOST.asarray([shares[0] * shares[1]])
    else:
        levels, mixing = HOST.linalg.eigh(HOST.eye(len(shares)) * shares - shares[:, None] * shares[None, :])
        levels[0] = HOST.mean(levels)  # of what all classes share; as in shared_shift, any curvature will do
    size = len(gram)
    ridge = objective.l2 * HOST.eye(size)
    ridge[-1, -1] = 0.0
    free = None if objective.fit_intercept else HOST.arange(size - 1)
    blocks = [factored(free, (level * gram + ridge) / objective.weight, eps=objective.eps) for level in levels.tolist()]

    def solve(g: Array) -> Array:
        turned = mixing.T @ HOST.reshape(g, (-1, size))
        solved = HOST.stack([block(line) for block, line in zip(blocks, turned, strict=True)])
        return HOST.reshape(mixing @ solved, (-1,))

    return solve

"""Limited-memory BFGS, for so many coefficients that a Hessian costs more than many gradients."""

from collections import deque

from .._array.host import HOST, factored
from .._array.namespace import Array
from .descent import Move, Objective, Point
from .newton import free_coefficients, regular_hessian

MEMORY = 10


class LBFGS:
    """−Bg, B from the last steps and from the curvature at a start: a Hessian of some rows, or its diagonal [1]_.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd edition (2006), algorithm 7.4.
    """

    curvature = "none"
    exact = False

    def __init__(self, objective: Objective, curvature: Array):
        free = free_coefficients(objective)
        self.sought = 1.0 if free is None else objective.coef
        if curvature.ndim == 1:
            some = curvature > 0
            inverse = HOST.where(some, 1.0 / HOST.where(some, curvature, 1.0), 1.0)
            self.rough = lambda g: inverse * g
        else:
            self.rough = factored(free, regular_hessian(objective, curvature), eps=objective.eps)
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

"""Descent to the minimum of the penalised loss: passes over the data, directions found between them, Armijo's rule."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from .._array.host import HOST
from .._array.namespace import Array
from .objective import ARMIJO
from .samples import Samples

TRIALS = tuple(0.5**k for k in range(1, 13))
SETTLED = 1e-3  # a step this small beside the coefficients is one towards them, not one of many on a way to infinity
RECESSION = 1e-4  # how little a direction may worsen a row, beside what it does for others, and count as separating


class Point(NamedTuple):
    """Coefficients (lines, p + 1), and there the mean objective, the gradient of its smooth part, and its curvature."""

    theta: Array
    value: float
    grad: Array
    curvature: Array | None
    margin: float


class Move(NamedTuple):
    """A direction (D,) and by how much the objective falls along it, to first order."""

    delta: Array
    slope: float


class Directions(Protocol):
    """A way to find directions; `curvature` is what it needs of a pass."""

    curvature: str

    def move(self, at: Point) -> Move:
        """The next direction."""

    def learn(self, before: Point, after: Point) -> None:
        """Take note of a step."""


@dataclass(frozen=True)
class Objective:
    """(Σ w·loss + l2/2 ‖coef‖² + l1 ‖coef‖₁) / Σw, on the host."""

    samples: Samples
    weight: float
    l2: float
    l1: float
    eps: float  # the rounding of the data's dtype
    fit_intercept: bool

    @property
    def coef(self) -> Array:
        """1 for coefficients, 0 for intercepts, as (D,)."""
        k, p = self.samples.lines, self.samples.x.shape[1]
        return HOST.reshape(HOST.concat([HOST.ones((k, p)), HOST.zeros((k, 1))], axis=1), (-1,))

    @property
    def penalised(self) -> bool:
        """Whether there is a minimum, however the classes lie."""
        return self.l1 > 0 or self.l2 > 0

    def at(self, theta: Array, curvature: str) -> Point:
        """One pass over the data."""
        sums = self.samples.sums(theta, curvature)
        coef = theta[:, :-1]
        value = (sums.loss + self.penalty(coef)) / self.weight
        flat = HOST.reshape(theta, (-1,)) * self.coef
        grad = (sums.grad + self.l2 * flat) / self.weight
        bend = sums.curvature
        if bend is not None:
            ridge = self.l2 * self.coef
            bend = (bend + (ridge if bend.ndim == 1 else ridge * HOST.eye(len(ridge)))) / self.weight
        return Point(theta, value, grad, bend, sums.margin)

    def thinned(self, step: int) -> "Objective":
        """That of every so manieth row, penalised to match."""
        return replace(
            self, samples=self.samples.thinned(step), weight=self.weight / step, l2=self.l2 / step, l1=self.l1 / step
        )

    def penalty(self, coef: Array) -> float:
        """l2/2 ‖coef‖² + l1 ‖coef‖₁."""
        return float(0.5 * self.l2 * HOST.sum(coef**2) + self.l1 * HOST.sum(HOST.abs(coef)))


class Outcome(NamedTuple):
    """Where a descent ended, after how many steps, and why."""

    at: Point
    n_iter: int
    converged: bool
    separated: bool


def descend(objective: Objective, start: Array, directions: Directions, *, tol: float, max_iter: int) -> Outcome:
    """Follow directions until the next is expected to gain less than tol² of the objective.

    Raises FloatingPointError where the objective is not finite to begin with.

    Without a penalty there may be no minimum. Coefficients that put every row on its side of the boundary prove it; and
    if steps stay large while they gain nothing, one more pass tells whether their direction worsens any row.
    """
    at = objective.at(start, directions.curvature)
    noise = 8.0 * objective.eps
    if not HOST.isfinite(at.value) or not HOST.all(HOST.isfinite(at.grad)):
        raise FloatingPointError
    for n_iter in range(max_iter + 1):
        if not objective.penalised and at.margin > 0:
            return Outcome(at, n_iter, True, True)
        move = directions.move(at)
        delta = HOST.reshape(move.delta, at.theta.shape)
        if move.slope <= 2.0 * tol**2 * at.value:
            settled = HOST.max(HOST.abs(delta)) <= SETTLED * (HOST.max(HOST.abs(at.theta)) + SETTLED)
            if not objective.penalised and not settled and _separates(objective, at, delta):
                return Outcome(at, n_iter, True, True)
            # The last step costs no pass, and Newton's squares the error.
            at = at._replace(theta=at.theta + delta, value=at.value - 0.5 * move.slope)
            return Outcome(at, n_iter, True, False)
        if n_iter == max_iter:
            break
        after = objective.at(at.theta + delta, directions.curvature)
        if not _good_enough(at, move, after, noise):
            length = _shorter(objective, at, move, delta)
            if length is None:  # rounding hides what is left to gain
                return Outcome(at, n_iter, move.slope <= 1e3 * noise * at.value, False)
            after = objective.at(at.theta + length * delta, directions.curvature)
        directions.learn(at, after)
        at = after
    return Outcome(at, max_iter, False, False)


def _good_enough(at: Point, move: Move, after: Point, noise: float) -> bool:
    """Whether the whole step lowers the objective by a share of what its slope promised.

    Near the minimum differences of the objective are rounding; the slope at the end of the step, of a convex function,
    still tells whether it went too far.
    """
    if after.value <= at.value - ARMIJO * move.slope:
        return True
    end = float(HOST.sum(after.grad * move.delta))
    return after.value <= at.value + noise * abs(at.value) and abs(end) <= 0.9 * move.slope


def _shorter(objective: Objective, at: Point, move: Move, delta: Array) -> float | None:
    """The longest of ever shorter steps that lowers the objective enough; None if none does."""
    losses = objective.samples.along(at.theta, delta, TRIALS).losses
    for step, loss in zip(TRIALS, losses, strict=True):
        value = (float(loss) + objective.penalty((at.theta + step * delta)[:, :-1])) / objective.weight
        if value <= at.value - ARMIJO * step * move.slope:
            return step
    return None


def _separates(objective: Objective, at: Point, delta: Array) -> bool:
    """Whether a direction worsens no row, and betters some."""
    along = objective.samples.along(at.theta, delta, (1.0,))
    return along.most > SETTLED and along.least >= -RECESSION * along.most

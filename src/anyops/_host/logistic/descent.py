"""Descent to the minimum of the penalised loss, in NumPy on the host: search directions, and Armijo's rule."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from ..._array.namespace import Array
from ...logistic.objective import ARMIJO
from .dataset import Dataset
from .separation import separates

LONGER = tuple(2.0**k for k in range(1, 13))  # step lengths to try if 1 is too short
TRIALS = tuple(0.5**k for k in range(1, 13)), tuple(0.5**k for k in range(13, 49))
LEAP = 1e15  # a bound on how far a step may move a logit
REFUSALS = 8  # refused certificates, or steps without gain, after which rounding is assumed to prevent progress
STEEP = 0.9  # a step is too short if this fraction of its slope is left at its end
NOISE = 32.0  # rounding errors within which values of the objective count as equal


class Point(NamedTuple):
    """Coefficients (lines, p + 1), the mean objective there, the gradient of its smooth part, and its curvature."""

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
    """A method that computes search directions.

    Attributes
    ----------
    curvature : str
        What a pass must compute: "none", "diagonal" or "full".
    patience : int
        Steps after which a fit without a penalty is suspected to have no minimum.
    ahead : float
        One step may reach the goal if the slope of a move is at most `ahead` times the goal.
    """

    curvature: str
    patience: int
    ahead: float

    def move(self, at: Point) -> Move:
        """The next direction."""

    def learn(self, before: Point, after: Point) -> None:
        """Update the method after a step."""

    def certify(self, at: Point, move: Move, goal: float) -> float | None:
        """A bound on the distance of the objective to its minimum after the move, at most `goal`; None if unknown.

        The call may improve later directions.
        """


@dataclass(frozen=True)
class Objective:
    """(Σ w·loss + ½ Σ ridge θ² + Σ bound |θ|) / Σw, on the host, in coefficients θ of z, the scaled columns."""

    data: Dataset
    weight: float
    ridge: Array
    bound: Array
    eps: float  # the rounding of the dtype of the computation
    fit_intercept: bool

    @property
    def coef(self) -> Array:
        """1 for coefficients, 0 for intercepts, as (D,)."""
        k, p = self.data.lines, self.data.x.shape[1]
        return np.reshape(np.concat([np.ones((k, p)), np.zeros((k, 1))], axis=1), (-1,))

    @property
    def penalised(self) -> bool:
        """Whether there is a penalty, and so a minimum even if the classes are separated."""
        return bool(np.any(self.ridge > 0) or np.any(self.bound > 0))

    @property
    def narrow(self) -> bool:
        """Whether there may be a wider dtype."""
        return self.eps > 1e-10

    def at(self, theta: Array, curvature: str) -> Point:
        """One pass over the data."""
        sums = self.data.sums(theta, curvature)
        value = (sums.loss + self.penalty(theta)) / self.weight
        grad = (sums.grad + self.ridge * np.reshape(theta, (-1,))) / self.weight
        bend = sums.curvature
        if bend is not None:
            bend = (bend + (self.ridge if bend.ndim == 1 else np.diag(self.ridge))) / self.weight
        return Point(theta, value, grad, bend, sums.margin)

    def thinned(self, step: int) -> "Objective":
        """The same objective over a random sample of the rows, with weights scaled to match."""
        return replace(self, data=self.data.thinned(step))

    def penalty(self, theta: Array) -> float:
        """½ Σ ridge θ² + Σ bound |θ|."""
        flat = np.reshape(theta, (-1,))
        return float(0.5 * np.sum(self.ridge * flat**2) + np.sum(self.bound * np.abs(flat)))

    def is_apart(self, at: Point) -> bool:
        """Whether the coefficients classify every row correctly, by more than rounding, without a penalty."""
        reach = self.data.columns.change(at.theta)
        return not self.penalised and at.margin > NOISE * self.eps * reach


class Ending(NamedTuple):
    """Where a descent ended, after how many steps, and why; `gap` bounds how far the objective is above its minimum."""

    at: Point
    n_iter: int
    converged: bool
    separated: bool
    gap: float | None = None


def descend(
    objective: Objective, at: Point, directions: Directions, *, tol: float, max_iter: int, certain: bool = True
) -> Ending:
    """Follow directions until the objective is certainly (unless `certain`, probably) within tol² of its minimum.

    Without a penalty there may be no minimum. Coefficients that classify every row correctly prove it; if many steps
    have not led to a minimum, :func:`separates` decides.
    """
    noise = NOISE * objective.eps
    goal = 2.0 * max(tol, noise) ** 2
    suspicion, stalled, refused = directions.patience, 0, 0
    still = suspected = False
    for n_iter in range(max_iter + 1):
        if objective.is_apart(at):
            return Ending(at, n_iter, True, True)
        whole = directions.move(at)  # not shortened: a small slope of a shortened move proves nothing
        settled = whole.slope <= goal * at.value
        near = whole.slope <= directions.ahead * goal * at.value
        gap = directions.certify(at, whole, goal * at.value) if near and certain else None
        if gap is not None or (settled and not certain):
            return Ending(_ended(at, whole), n_iter, True, False, gap)
        if certain and not objective.penalised and (n_iter >= suspicion or (settled and not suspected)):
            if separates(objective.data, at.theta, objective.fit_intercept):
                return Ending(at, n_iter, True, True)
            suspicion, suspected = 2 * max(n_iter, directions.patience), True
        refused += still or (settled and objective.narrow)
        if n_iter == max_iter or refused > REFUSALS:
            return Ending(at, n_iter, False, False)
        if settled:
            whole = directions.move(at)  # the certificate may have improved it
        move = _bounded(objective, whole)
        after = _stepped(objective, at, move, directions.curvature, noise)
        if after is None:
            stalled += 1
            gap = directions.certify(at, whole, max(goal, 2.0 * noise) * at.value)
            if gap is not None:
                return Ending(_ended(at, whole), n_iter, True, False, gap)
            if stalled > 1:
                return Ending(at, n_iter, False, False)
            continue
        directions.learn(at, after)
        still = after.value > (1.0 - 0.1 * noise) * at.value
        at = after
    raise AssertionError  # the last iteration returns


def _ended(at: Point, move: Move) -> Point:
    """Take a last step, without a pass; a Newton step squares the error."""
    theta = at.theta + np.reshape(move.delta, at.theta.shape)
    return at._replace(theta=theta, value=at.value - 0.5 * move.slope)


def _bounded(objective: Objective, move: Move) -> Move:
    """Shorten a direction that would move a logit by more than LEAP."""
    lines = objective.data.lines
    reach = objective.data.columns.change(np.reshape(move.delta, (lines, -1)))
    return move if reach <= LEAP else Move(move.delta * (LEAP / reach), move.slope * (LEAP / reach))


def _stepped(objective: Objective, at: Point, move: Move, curvature: str, noise: float) -> Point | None:
    """The point after the step, or the longest shorter one, that lowers the objective enough; None if none does."""
    delta = np.reshape(move.delta, at.theta.shape)
    after = objective.at(at.theta + delta, curvature)
    if _good_enough(at, move, after, noise):
        return _lengthened(objective, at, move, after, curvature)
    for trials in TRIALS:
        losses = objective.data.along(at.theta, delta, trials)
        for step, loss in zip(trials, losses, strict=True):
            theta = at.theta + step * delta
            if (float(loss) + objective.penalty(theta)) / objective.weight <= at.value - ARMIJO * step * move.slope:
                return objective.at(theta, curvature)
        if move.slope <= noise * at.value:
            return None  # rounding hides the gain of any step
    return None


def _lengthened(objective: Objective, at: Point, move: Move, after: Point, curvature: str) -> Point:
    """Lengthen the step while the objective falls, if it is still steep at the end of this one.

    Far from the minimum, where many rows are misclassified, the loss is linear and has no curvature to learn from.
    """
    delta = np.reshape(move.delta, at.theta.shape)
    if np.any(objective.bound > 0) or -float(np.sum(after.grad * move.delta)) < STEEP * move.slope:
        return after
    longer = tuple(step for step in LONGER if step * objective.data.columns.change(delta) <= LEAP)
    if not longer:
        return after
    losses = objective.data.along(at.theta, delta, longer)
    penalties = [objective.penalty(at.theta + step * delta) for step in longer]
    values = (losses + np.asarray(penalties)) / objective.weight
    best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    return objective.at(at.theta + longer[best] * delta, curvature) if values[best] < after.value else after


def _good_enough(at: Point, move: Move, after: Point, noise: float) -> bool:
    """Whether the whole step satisfies Armijo's rule.

    Near the minimum, differences of the objective are rounding errors. Because it is convex, the slope at the end of
    the step then tells whether the step was too long.
    """
    if after.value <= at.value - ARMIJO * move.slope:
        return True
    end = float(np.sum(after.grad * move.delta))
    return after.value <= at.value + noise * abs(at.value) and abs(end) <= 0.9 * move.slope

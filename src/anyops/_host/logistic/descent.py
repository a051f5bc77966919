"""Descent to the minimum of the penalised loss, in NumPy on the host: passes, directions between, Armijo's rule."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from ..._array.namespace import Array
from ...logistic.objective import ARMIJO
from .dataset import Dataset
from .separation import separates

LONGER = tuple(2.0**k for k in range(1, 13))  # steps, where one is too short
TRIALS = tuple(0.5**k for k in range(1, 13)), tuple(0.5**k for k in range(13, 49))
LEAP = 1e15  # a bound on how far a step may move a logit
REFUSALS = 8  # of a certificate, or steps without gain, after which rounding is taken to be in the way
STEEP = 0.9  # of the slope of a step, the slope at its end that says that it was too short
NOISE = 32.0  # roundings of the dtype within which values of the objective are taken for equal


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
    """A way to find directions.

    Attributes
    ----------
    curvature : str
        What it needs of a pass.
    patience : int
        Steps after which a fit without a penalty is suspected to have no minimum.
    ahead : float
        Times the goal, the slope of a move from which one step may reach it.
    """

    curvature: str
    patience: int
    ahead: float

    def move(self, at: Point) -> Move:
        """The next direction."""

    def learn(self, before: Point, after: Point) -> None:
        """Take note of a step."""

    def certify(self, at: Point, move: Move, goal: float) -> float | None:
        """A bound on the distance of the objective to its minimum after the move, at most `goal`; None if unknown.

        Directions may be better after that.
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
        """Whether there is a minimum, however the classes lie."""
        return bool(np.any(self.ridge > 0) or np.any(self.bound > 0))

    @property
    def narrow(self) -> bool:
        """Whether there may be a wider dtype to go on in."""
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
        """The same of a random part of the rows, whose weights make up for the others."""
        return replace(self, data=self.data.thinned(step))

    def penalty(self, theta: Array) -> float:
        """½ Σ ridge θ² + Σ bound |θ|."""
        flat = np.reshape(theta, (-1,))
        return float(0.5 * np.sum(self.ridge * flat**2) + np.sum(self.bound * np.abs(flat)))

    def is_apart(self, at: Point) -> bool:
        """Whether the coefficients put every row on its side of the boundary, by more than rounding."""
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
    """Follow directions until the objective is certainly, or likely, within tol² of its minimum.

    Without a penalty there may be no minimum. Coefficients that put every row on its side of the boundary prove it;
    where many steps have not led to a minimum, :func:`separates` decides.
    """
    noise = NOISE * objective.eps
    goal = 2.0 * max(tol, noise) ** 2
    suspicion, stalled, refused = directions.patience, 0, 0
    still = suspected = False
    for n_iter in range(max_iter + 1):
        if objective.is_apart(at):
            return Ending(at, n_iter, True, True)
        whole = directions.move(at)  # a part of it has a small slope, and says nothing
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
            whole = directions.move(at)  # the certificate may have brought a better one
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
    raise AssertionError  # the last turn returns


def _ended(at: Point, move: Move) -> Point:
    """The end of a step that costs no pass, and with Newton's directions squares the error."""
    theta = at.theta + np.reshape(move.delta, at.theta.shape)
    return at._replace(theta=theta, value=at.value - 0.5 * move.slope)


def _bounded(objective: Objective, move: Move) -> Move:
    """A direction that moves no logit too far to be computed with."""
    lines = objective.data.lines
    reach = objective.data.columns.change(np.reshape(move.delta, (lines, -1)))
    return move if reach <= LEAP else Move(move.delta * (LEAP / reach), move.slope * (LEAP / reach))


def _stepped(objective: Objective, at: Point, move: Move, curvature: str, noise: float) -> Point | None:
    """The point after the step, or the longest of ever shorter ones, that lowers the objective enough; None if none."""
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
    """The end of a longer step where the objective still falls as steeply at the end of this one, and falls further.

    Far from the minimum, on the wrong side of many rows, the loss is linear and has no curvature to learn from.
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
    """Whether the whole step lowers the objective by a share of what its slope promised.

    Near the minimum differences of the objective are rounding; the slope at the end of the step, of a convex function,
    still tells whether it went too far.
    """
    if after.value <= at.value - ARMIJO * move.slope:
        return True
    end = float(np.sum(after.grad * move.delta))
    return after.value <= at.value + noise * abs(at.value) and abs(end) <= 0.9 * move.slope

"""The fit of a logistic regression, in NumPy on the host: which solver, from where, in which dtype, and what it found.

Each pass over the rows is one call of :class:`~anyops._host.logistic.dataset.Dataset`.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..._array.host import mode_of_passes
from ..._array.namespace import Array, widest_dtype
from .columns import involved
from .dataset import Dataset, thin
from .descent import Directions, Ending, Objective, descend
from .lbfgs import HESSIAN_LIMIT, LBFGS, affords_hessian, inverse_at_null, inverse_of
from .newton import Newton, free_coefficients, inverse_hessian, sought, standard_errors
from .proximal import ProximalLBFGS, ProximalNewton

FEW_COEFFICIENTS = 64  # coefficients whose Hessian costs little beside the gradient
CHEAP = 2e8  # products, for a Hessian that takes no time worth saving
INVERTED = 2048  # coefficients whose Hessian is worth its inverse
SWEPT = 1024  # coefficients whose Hessian is worth sweeps over its lines, for l1
FINE = 1e4  # roundings, of the dtype, that an l1 penalty of the mean loss should exceed
PASSES, MOST_PASSES = 80, 200  # passes for the gradient, in products, that a Hessian to start from may cost; or at most
WARM_UP = 40  # steps on some of the rows


def start_of(coef: Array, intercept: Array, lines: int, fit_intercept: bool) -> Array:
    """Coefficients (lines, p + 1) of x to start from; raise ValueError unless they are finite."""
    coef, intercept = (np.reshape(value, (lines, -1)) for value in (coef, intercept))
    start = np.concat([coef, intercept if fit_intercept else 0 * intercept], axis=1)
    if not np.all(np.isfinite(start)):
        raise ValueError("init must be finite, got NaN or infinite coefficients")
    return start


class Solution(NamedTuple):
    """A fit as it ended.

    Attributes
    ----------
    solver : str
        The one that "auto" chose, or that was asked for.
    theta : array (lines, p + 1)
        Coefficients of x, the intercept last.
    errors : array (lines, p + 1), or None
        Their standard errors, for weights as they are here.
    outcome : Ending
    log_likelihood : float
        −Σ w·loss.
    gradient : float
        The largest derivative by a free coefficient, less as much as the l1 penalty balances.
    dependent : tuple of int
        Columns that are linearly dependent.
    """

    solver: str
    theta: Array
    errors: Array | None
    outcome: Ending
    log_likelihood: float
    gradient: float
    dependent: tuple[int, ...]


def solve(
    data: Dataset,
    totals: Array,
    start: Array | None,
    solver: str,
    l1: float,
    l2: float,
    fit_intercept: bool,
    tol: float,
    max_iter: int,
) -> Solution:
    """Fit some rows, whose weights by class have the sums `totals`; raise FloatingPointError where x is not finite."""
    chosen = _choose(data, l1) if solver == "auto" else solver
    weight = float(np.sum(totals))
    with np.errstate(all="ignore"):
        objective = _objective(data.scaled(fit_intercept), weight, l2, l1, fit_intercept)
        start = None if start is None else objective.data.columns.inward(start)
        shares = totals / np.sum(totals)
        objective, outcome, hessian = _fit(objective, chosen, start, shares, tol=tol, max_iter=max_iter)
        columns = objective.data.columns
        theta = _centred(outcome.at.theta, data.lines, l1)
        theta = columns.shortest(theta, objective.flat) if objective.flat.shape[1] else columns.outward(theta)
        errors = None
        if hessian is not None and not objective.penalised and not outcome.separated:
            errors = standard_errors(objective, hessian)
    return Solution(
        chosen,
        theta,
        errors,
        outcome,
        objective.penalty(outcome.at.theta) - outcome.at.value * objective.weight,
        float(np.max(_left(objective, outcome.at.grad), initial=0.0)),
        tuple(np.nonzero(involved(objective.flat)[:-1])[0].tolist()),
    )


def _choose(data: Dataset, l1: float) -> str:
    """Newton's method where a Hessian costs little beside a gradient, or little at all."""
    if l1 > 0:
        return "proximal"
    d = data.coefficients
    cheap = data.x.shape[0] * d**2 <= CHEAP and d <= HESSIAN_LIMIT
    return "newton" if d <= FEW_COEFFICIENTS or cheap else "lbfgs"


def _objective(data: Dataset, weight: float, l2: float, l1: float, fit_intercept: bool) -> Objective:
    """The objective in scaled columns, where each has a penalty of its own."""
    scale = np.concat([data.columns.scale, np.full(1, np.inf)])
    ridge, bound = (np.tile(a, data.lines) for a in (l2 / scale**2, l1 / scale))
    eps = float(data.mode.xp.finfo(data.dtype).eps)
    flat = np.zeros((len(scale), 0))
    return Objective(data, weight, ridge, bound, eps, fit_intercept, flat)


def _fit(
    objective: Objective, solver: str, start: Array | None, shares: Array, *, tol: float, max_iter: int
) -> tuple[Objective, Ending, Array | None]:
    """Where the descent ends, and the Hessian there if it is known or asked for."""
    bounded = objective.bound[objective.bound > 0] / objective.weight
    newton = solver == "newton" or (solver == "proximal" and not len(bounded))
    if np.min(bounded, initial=np.inf) < FINE * objective.eps:  # the rounding of a gradient would show beside it
        objective = _widened(objective)
    theta = _null(objective, shares) if start is None else start
    directions: Directions
    # Compared before the Hessian at the start is used, which may have underflowed.
    if start is not None and not objective.at(theta, "none").value <= _null_value(objective, shares):
        theta = _null(objective, shares)
    if solver == "lbfgs":
        objective = objective if objective.penalised else _independent(objective)
        theta, directions = _many_coefficients(objective, theta, shares, warm_up=start is None)
    else:
        step = objective.data.thinning() if start is None else 1
        if step > 1:
            part = objective.thinned(step)
            theta = _roughly(part, theta, _few_coefficients(part, newton, theta), tol=1e-3)
        directions = _few_coefficients(objective, newton, theta)
    at = objective.at(theta, directions.curvature)
    if not at.value <= _null_value(objective, shares):  # a start, given or found, that is worse than none
        at = objective.at(_null(objective, shares), directions.curvature)
    if not np.isfinite(at.value) or not np.all(np.isfinite(at.grad)):
        raise FloatingPointError
    if newton and inverse_hessian(objective, at.curvature) is None:
        objective = _independent(objective)
        directions = Newton(objective)
        at = objective.at(at.theta, directions.curvature)
    outcome = descend(objective, at, directions, tol=tol, max_iter=max_iter)
    wide = _widened(objective)
    if not (outcome.converged or wide.eps == objective.eps) and outcome.n_iter < max_iter:
        # Rounding has stopped it: on in a wider dtype.
        steps, objective = outcome.n_iter, wide
        if solver == "lbfgs" and not affords_hessian(wide):
            directions = LBFGS(wide, inverse_of(wide, wide.at(outcome.at.theta, "diagonal").curvature))
        else:
            directions = _few_coefficients(wide, newton or solver == "lbfgs", outcome.at.theta)
        at = wide.at(outcome.at.theta, directions.curvature)
        outcome = descend(wide, at, directions, tol=tol, max_iter=max_iter - steps)
        outcome = outcome._replace(n_iter=outcome.n_iter + steps)
    hessian = outcome.at.curvature
    if isinstance(directions, LBFGS):
        hessian = directions.hessian
    if (
        hessian is None
        and not (objective.penalised or outcome.separated)
        and objective.data.coefficients <= HESSIAN_LIMIT
    ):
        hessian = objective.at(outcome.at.theta, "full").curvature
    return objective, outcome, hessian


def _independent(objective: Objective) -> Objective:
    """The objective with the dependences of its columns, if there is no penalty.

    It computes in a wide dtype if the Gram matrix is too nearly singular for a narrow one.
    """
    data = objective.data
    if data.coefficients > HESSIAN_LIMIT:
        return objective
    wide = _widened(objective)
    gram = wide.data.gram()
    if not objective.penalised:
        flat = data.columns.dependences(gram, objective.fit_intercept, wide.eps)
        objective, wide = (replace(each, flat=flat) for each in (objective, wide))
    alike = replace(objective, data=replace(data, lines=1), ridge=np.zeros(len(gram)))
    return wide if inverse_hessian(alike, gram) is None else objective


def _widened(objective: Objective) -> Objective:
    """The objective in float64, where the library has it."""
    data = objective.data
    mode, *arrays = mode_of_passes(data.mode.xp, data.x, data.target, data.weight, exact=True)
    (x, target, weight), xp = arrays, mode.xp
    dtype = widest_dtype(xp, data.dtype, x)
    data = replace(data, mode=mode, x=x, target=target, weight=weight, dtype=dtype)
    return replace(objective, data=data, eps=float(xp.finfo(dtype).eps))


def _null(objective: Objective, shares: Array) -> Array:
    """The null model: the best intercepts with coefficients of 0."""
    lines = objective.data.lines
    theta = np.zeros((lines, objective.data.x.shape[1] + 1))
    if objective.fit_intercept and np.all(shares > 0):
        logs = np.log(shares)
        theta[:, -1] = logs[1] - logs[0] if lines == 1 else logs - np.mean(logs)
    return theta


def _null_value(objective: Objective, shares: Array) -> float:
    """The objective of the null model, and a margin for rounding."""
    logs = np.log(np.where(shares > 0, shares, 1.0)) if objective.fit_intercept else np.log(1 / len(shares))
    return (1.0 + 1e3 * objective.eps) * -float(np.sum(shares * logs))


def _few_coefficients(objective: Objective, newton: bool, theta: Array) -> Directions:
    """Newton's method, or the proximal one: by the Hessian up to SWEPT coefficients, else by L-BFGS."""
    if newton:
        return Newton(objective)
    if objective.data.coefficients <= SWEPT:
        return ProximalNewton(objective)
    return ProximalLBFGS(objective, objective.at(theta, "diagonal").curvature)


def _many_coefficients(objective: Objective, theta: Array, shares: Array, *, warm_up: bool) -> tuple[Array, LBFGS]:
    """A start, and the curvature that L-BFGS begins with.

    The Hessian of some rows near their minimum is close to that of all rows, and saves many passes. The minimum of
    those rows is found from the Hessian of the null model, which for any number of classes costs one Gram matrix.
    """
    data, size = objective.data, objective.data.coefficients
    if data.x.shape[1] >= INVERTED:
        return theta, LBFGS(objective, inverse_of(objective, objective.at(theta, "diagonal").curvature))
    least = data.thinning()
    few = objective.thinned(least) if least > 1 else objective
    some = min(least, 2 * thin(size / PASSES))
    if size > INVERTED or size > MOST_PASSES * some or (warm_up and least == 1):
        if warm_up:
            return theta, LBFGS(objective, inverse_at_null(few, shares))
        # Where classes are rare the curvature of no coefficients is a hundredth of what it is elsewhere.
        return theta, LBFGS(objective, inverse_of(objective, objective.at(theta, "diagonal").curvature))
    if warm_up:
        theta = _roughly(few, theta, LBFGS(few, inverse_at_null(few, shares)), tol=1e-2)
    part = few if some == least else objective.thinned(some) if some > 1 else objective
    rough = inverse_of(part, part.at(theta, "full").curvature, excess=2.0 * some)
    if warm_up and some > 1:
        theta = _roughly(part, theta, LBFGS(part, rough), tol=1e-3)
    return theta, LBFGS(objective, rough)


def _roughly(part: Objective, start: Array, directions: Directions, *, tol: float) -> Array:
    """The minimum over some of the rows; `start` if the descent does not converge."""
    outcome = descend(part, part.at(start, directions.curvature), directions, tol=tol, max_iter=WARM_UP, certain=False)
    return outcome.at.theta if outcome.converged and not outcome.separated else start


def _left(objective: Objective, grad: Array) -> Array:
    """The derivatives by the free coefficients, less as much as the l1 penalty balances."""
    grad = sought(objective, grad)[free_coefficients(objective)]
    bound = objective.bound[free_coefficients(objective)] / objective.weight
    return np.clip(np.abs(grad) - bound, 0.0, None)


def _centred(theta: Array, lines: int, l1: float) -> Array:
    """Subtract the mean over the classes, which changes no probability; not from coefficients with l1."""
    if lines == 1:
        return theta
    mean = np.mean(theta, axis=0, keepdims=True)
    if l1 > 0:
        mean = np.concat([0 * mean[:, :-1], mean[:, -1:]], axis=1)
    return theta - mean

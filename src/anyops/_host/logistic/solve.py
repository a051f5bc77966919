"""The fit of a logistic regression, in NumPy on the host: choice of solver, start and dtype, and the result.

Each pass over the rows is one call of :class:`~anyops._host.logistic.dataset.Dataset`.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..._array.host import mode_of_passes
from ..._array.namespace import Array, widest_dtype
from .columns import Spectrum, Whitened, involved, spectrum
from .dataset import Dataset, thin
from .descent import Directions, Ending, Objective, descend
from .lbfgs import HESSIAN_LIMIT, LBFGS, affords_hessian, inverse_at_null, inverse_of
from .newton import (
    Newton,
    covariance,
    free_coefficients,
    free_gradient,
    inverse_hessian,
    is_steady,
    nearly_collinear,
    newton_move,
)
from .proximal import ProximalLBFGS, ProximalNewton
from .separation import separates, separating

FEW_COEFFICIENTS = 64  # coefficients up to which a Hessian costs little more than a gradient
CHEAP = 2e8  # multiplications up to which the time of a Hessian does not matter
INVERTED = 2048  # coefficients up to which inverting a Hessian pays off
SWEPT = 1024  # coefficients up to which coordinate descent on the Hessian pays off, for l1
FINE = 1e4  # rounding errors that an l1 penalty on the mean loss must exceed, or else the dtype is widened
PASSES, MOST_PASSES = 80, 200  # gradient passes, in multiplications, that an initial Hessian may cost; and at most
WARM_UP = 40  # steps on a sample of the rows
VAGUE = 1e5  # norm of a row, in the inverse of the mean Hessian, above which rounding may hide a separation
STEPS_FOR_ERRORS = 6  # the most Newton steps after the end, for standard errors
WITHIN = {False: 1e-7, True: 1e-5}  # by narrow dtype: relative change of the objective that rounding of x may cause


def start_of(coef: Array, intercept: Array, lines: int, fit_intercept: bool) -> Array:
    """Coefficients (lines, p + 1) of x to start from; raise ValueError unless they are finite."""
    coef, intercept = (np.reshape(value, (lines, -1)) for value in (coef, intercept))
    start = np.concat([coef, intercept if fit_intercept else 0 * intercept], axis=1)
    if not np.all(np.isfinite(start)):
        raise ValueError("init must be finite, got NaN or infinite coefficients")
    return start


class Solution(NamedTuple):
    """The result of a fit.

    Attributes
    ----------
    solver : str
        The solver that "auto" chose, or the given one.
    theta : array (lines, p + 1)
        Coefficients of x, the intercept last.
    covariance : array (D, D), or None
        Of `theta`, for weights in the given unit.
    outcome : Ending
    log_likelihood : float
        −Σ w·loss.
    gradient : float
        The largest derivative by a fitted coefficient, beyond the part that the l1 penalty balances.
    dependent : tuple of int
        Columns that are linearly dependent.
    rank : int
        The number of linearly independent columns, including the intercept's.
    separating : tuple of tuples of int
        Sets of columns that separate the classes.
    """

    solver: str
    theta: Array
    covariance: Array | None
    outcome: Ending
    log_likelihood: float
    gradient: float
    dependent: tuple[int, ...]
    rank: int
    separating: tuple[tuple[int, ...], ...]


class End(NamedTuple):
    """Where a fit ended, the objective it minimised, and the Hessian if it is known."""

    objective: Objective
    outcome: Ending
    hessian: Array | None


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
    """Fit rows whose weights sum to `totals` by class; raise FloatingPointError if x is not finite."""
    chosen = _choose(data, l1) if solver == "auto" else solver
    weight = float(np.sum(totals))
    with np.errstate(all="ignore"):
        plain = _objective(data.scaled(fit_intercept), weight, l2, l1, fit_intercept)
        # A large part that all classes share would leave no digits for their differences.
        start = None if start is None else plain.data.columns.inward(_centred(start, data.lines, l1))
        shares = totals / np.sum(totals)
        end = _fit(plain, chosen, start, shares, tol=tol, max_iter=max_iter)
        steps = end.outcome.n_iter
        if start is not None and not end.outcome.converged and steps < max_iter:
            # The start may be so far off that the curvature underflows: begin at the null model.
            end = _fit(plain, chosen, None, shares, tol=tol, max_iter=max_iter - steps)
            end = end._replace(outcome=end.outcome._replace(n_iter=steps + end.outcome.n_iter))
        end = _steadied(end)
        if isinstance(end.objective.data.columns, Whitened):
            end, theta = _settled(plain, end, tol=tol, max_iter=max_iter)
        else:
            theta = _centred(end.outcome.at.theta, data.lines, l1)
        objective, outcome, hessian = end
        has_errors = hessian is not None and not objective.penalised and not outcome.separated
        known = covariance(objective, hessian) if has_errors else None
        sets = separating(data, plain.data, theta, fit_intercept) if outcome.separated else ()
    flat = objective.data.columns.null_basis
    return Solution(
        chosen,
        plain.data.columns.outward(theta),
        known,
        outcome,
        objective.penalty(outcome.at.theta) - outcome.at.value * objective.weight,
        float(np.max(_unbalanced(objective, outcome.at.grad), initial=0.0)),
        tuple(np.nonzero(involved(flat)[:-1])[0].tolist()),
        data.x.shape[1] + fit_intercept - flat.shape[1],
        sets,
    )


def _choose(data: Dataset, l1: float) -> str:
    """Choose "proximal" for l1, "newton" if a Hessian costs little more than a gradient, or little at all."""
    if l1 > 0:
        return "proximal"
    d = data.coefficients
    cheap = data.x.shape[0] * d**2 <= CHEAP and d <= HESSIAN_LIMIT
    return "newton" if d <= FEW_COEFFICIENTS or cheap else "lbfgs"


def _objective(data: Dataset, weight: float, l2: float, l1: float, fit_intercept: bool) -> Objective:
    """The objective in scaled columns, each of which has its own penalty."""
    scale = np.concat([data.columns.scale, np.full(1, np.inf)])
    ridge, bound = (np.tile(a, data.lines) for a in (l2 / scale**2, l1 / scale))
    eps = float(data.mode.xp.finfo(data.dtype).eps)
    return Objective(data, weight, ridge, bound, eps, fit_intercept)


def _fit(objective: Objective, solver: str, start: Array | None, shares: Array, *, tol: float, max_iter: int) -> End:
    """Run the descent; return where it ends, and the Hessian there if it is known."""
    bounded = objective.bound[objective.bound > 0] / objective.weight
    newton = solver == "newton" or (solver == "proximal" and not len(bounded))
    if np.min(bounded, initial=np.inf) < FINE * objective.eps:  # rounding of the gradient would not be negligible
        objective = _widened(objective)
    theta = _null(objective, shares) if start is None else start
    directions: Directions
    # Compared before the Hessian at the start is used, which may have underflowed.
    if start is not None and not objective.at(theta, "none").value <= _null_value(objective, shares):
        theta = _null(objective, shares)
    if solver == "lbfgs":
        if not objective.penalised and objective.data.coefficients <= HESSIAN_LIMIT:
            alike = replace(objective, data=replace(objective.data, lines=1))
            objective, theta = _independent(objective, alike, objective.data.gram(), theta)
        theta, directions = _many_coefficients(objective, theta, shares, warm_up=start is None)
    else:
        step = objective.data.thinning() if start is None else 1
        if step > 1:
            part = objective.thinned(step)
            theta = _roughly(part, theta, _few_coefficients(part, newton, theta), tol=1e-3)
        directions = _few_coefficients(objective, newton, theta)
    at = objective.at(theta, directions.curvature)
    if not at.value <= _null_value(objective, shares):  # a start, given or found, that is worse than the null model
        at = objective.at(_null(objective, shares), directions.curvature)
    if not np.isfinite(at.value) or not np.all(np.isfinite(at.grad)):
        raise FloatingPointError
    if newton:
        before, (objective, theta) = objective, _independent(objective, objective, at.curvature, at.theta)
        if objective is not before:
            directions = Newton(objective)
            at = objective.at(theta, directions.curvature)
    outcome = descend(objective, at, directions, tol=tol, max_iter=max_iter)
    wide = _widened(objective)
    if not (outcome.converged or wide.eps == objective.eps) and outcome.n_iter < max_iter:
        # Rounding has stopped the descent: continue in a wider dtype.
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
    return End(objective, outcome, hessian)


def _independent(objective: Objective, alike: Objective, hessian: Array, theta: Array) -> tuple[Objective, Array]:
    """Without a penalty, replace linearly dependent columns; return the objective, and its coefficients.

    The dtype is widened if `hessian`, of the objective `alike`, is too nearly singular for a narrow one.
    """
    inverse = inverse_hessian(alike, hessian)
    if not objective.penalised and nearly_collinear(alike, hessian, inverse):
        wide = _widened(objective)
        found = _spectrum(wide)
        if not found.plain:
            columns = found.whitened(wide.data.columns, ~found.hidden)
            return _whitened(wide, columns), columns.of_inner(theta)
    return (_widened(objective) if inverse is None else objective), theta


def _spectrum(objective: Objective) -> Spectrum:
    data, level = objective.data, objective.fit_intercept
    plain = data.triangle(level_first=level, weighted=False)
    weighted = None if data.weight is None else data.triangle(level_first=level, weighted=True)
    return spectrum(plain, weighted, data.columns, fit_intercept=level, eps=objective.eps)


def _whitened(objective: Objective, columns: Whitened) -> Objective:
    """The objective, which has no penalty, in whitened columns."""
    data = objective.data.whitened(columns)
    none = np.zeros(data.coefficients)
    return replace(objective, data=data, ridge=none, bound=none)


def _settled(plain: Objective, end: End, *, tol: float, max_iter: int) -> tuple[End, Array]:
    """Return the end of a fit in whitened columns, checked to be the minimum in columns z, and its coefficients of z.

    Combinations that were left out as rounding errors are still data. As the loss is convex, coefficients of about this
    size can lower it by at most derivative times size. If that is too much, the fit continues with all combinations.
    """
    objective, outcome, _ = end
    columns = objective.data.columns
    assert isinstance(columns, Whitened)
    theta = columns.to_inner(_centred(outcome.at.theta, objective.data.lines, 0.0))
    if outcome.separated or not outcome.converged:
        return end, columns.shortest(theta)
    wide, within = _widened(plain), WITHIN[plain.narrow]
    if _is_vague(end) and separates(wide.data, theta, wide.fit_intercept):
        # Rounding of the combinations may have created a minimum that does not exist.
        return end._replace(outcome=outcome._replace(converged=False, gap=None)), columns.shortest(theta)
    at = wide.at(theta, "none")
    size = np.linalg.vector_norm(theta[:, :-1] * involved(columns.null_basis)[:-1], axis=1)
    slope = np.linalg.vector_norm(np.reshape(at.grad, theta.shape) @ columns.null_basis, axis=1)
    most = outcome.at.value * (1.0 + within)
    if 2.0 * float(np.sum(size * slope)) > 10.0 * within * at.value:
        found = _spectrum(wide)
        columns = found.whitened(wide.data.columns, found.values > found.least)
        objective = _whitened(wide, columns)
        start = objective.at(columns.of_inner(theta), "full")
        more = descend(objective, start, Newton(objective), tol=tol, max_iter=max_iter - outcome.n_iter)
        if not more.converged or more.separated:
            return end._replace(outcome=outcome._replace(converged=False)), theta
        more = more._replace(n_iter=outcome.n_iter + more.n_iter)
        end = End(objective, more, more.at.curvature)
        end = _steadied(end)
        outcome = end.outcome
        theta = columns.to_inner(_centred(outcome.at.theta, objective.data.lines, 0.0))
        at, most = wide.at(theta, "none"), outcome.at.value * (1.0 + within)
    elif columns.null_basis.shape[1]:
        short = columns.shortest(theta)
        after = wide.at(short, "none")
        if after.value <= most:
            theta, at = short, after
    # The loss at the returned coefficients: rounding them may have moved it from the loss of the combinations.
    ended = outcome.at._replace(value=at.value)
    return end._replace(outcome=outcome._replace(at=ended, converged=at.value <= most)), theta


def _is_vague(end: End) -> bool:
    """Whether some row alone nearly determines a direction, and is fitted so well that its curvature is tiny."""
    if end.hessian is None:
        return False
    inverse = inverse_hessian(end.objective, end.hessian)
    return inverse is None or end.objective.data.largest_norm(inverse) > VAGUE


def _steadied(end: End) -> End:
    """Compute the Hessian at the end, for standard errors, with more Newton steps while it still changes."""
    objective, outcome, hessian = end
    if objective.penalised or outcome.separated or objective.data.coefficients > HESSIAN_LIMIT:
        return end
    at = outcome.at
    for _ in range(STEPS_FOR_ERRORS):
        if hessian is not None and (not outcome.converged or is_steady(objective, at.grad, hessian)):
            break
        here = objective.at(outcome.at.theta, "full")
        if hessian is not None and not here.value <= (1.0 + 1e3 * objective.eps) * at.value:
            break
        at, hessian = here, here.curvature
        if outcome.converged:
            move = newton_move(objective, at.grad, hessian)
            theta = at.theta + np.reshape(move.delta, at.theta.shape)
            outcome = outcome._replace(at=at._replace(theta=theta, value=at.value - 0.5 * move.slope))
    return End(objective, outcome, hessian)


def _widened(objective: Objective) -> Objective:
    """The objective in float64, where the library has it."""
    data = objective.data
    mode, *arrays = mode_of_passes(data.mode.xp, data.x, data.target, data.weight, views=True)
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
    """The objective of the null model, plus a margin for rounding."""
    logs = np.log(np.where(shares > 0, shares, 1.0)) if objective.fit_intercept else np.log(1 / len(shares))
    return (1.0 + 1e3 * objective.eps) * -float(np.sum(shares * logs))


def _few_coefficients(objective: Objective, newton: bool, theta: Array) -> Directions:
    """Newton's method, or proximal Newton: with the Hessian up to SWEPT coefficients, else with L-BFGS."""
    if newton:
        return Newton(objective)
    if objective.data.coefficients <= SWEPT:
        return ProximalNewton(objective)
    return ProximalLBFGS(objective, objective.at(theta, "diagonal").curvature)


def _many_coefficients(objective: Objective, theta: Array, shares: Array, *, warm_up: bool) -> tuple[Array, LBFGS]:
    """Return initial coefficients, and L-BFGS with an initial curvature.

    The Hessian of a sample of the rows, near its minimum, is close to the Hessian of all rows, and saves many passes.
    The sample is fitted from the Hessian of the null model, which costs one Gram matrix for any number of classes.
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
        # With rare classes, the curvature of the null model may be a hundredth of the curvature elsewhere.
        return theta, LBFGS(objective, inverse_of(objective, objective.at(theta, "diagonal").curvature))
    if warm_up:
        theta = _roughly(few, theta, LBFGS(few, inverse_at_null(few, shares)), tol=1e-2)
    part = few if some == least else objective.thinned(some) if some > 1 else objective
    rough = inverse_of(part, part.at(theta, "full").curvature, excess=2.0 * some)
    if warm_up and some > 1:
        theta = _roughly(part, theta, LBFGS(part, rough), tol=1e-3)
    return theta, LBFGS(objective, rough)


def _roughly(part: Objective, start: Array, directions: Directions, *, tol: float) -> Array:
    """The approximate minimum over a sample of the rows; `start` if the descent does not converge."""
    outcome = descend(part, part.at(start, directions.curvature), directions, tol=tol, max_iter=WARM_UP, certain=False)
    return outcome.at.theta if outcome.converged and not outcome.separated else start


def _unbalanced(objective: Objective, grad: Array) -> Array:
    """The derivatives by the fitted coefficients, beyond the part that the l1 penalty balances."""
    grad = free_gradient(objective, grad)[free_coefficients(objective)]
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

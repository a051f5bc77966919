"""Logistic regression: from arrays and labels to coefficients."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from .._array.arguments import check_integer, check_number
from .._array.chunked import check_known_chunks, is_chunked
from .._array.host import HOST, from_host, home_of_passes, on_host, writable
from .._array.labels import by_class, class_weights, labels_on_host, ship_classes, stays_on_host, survey, targets
from .._array.namespace import (
    Array,
    DType,
    Namespace,
    check_dtype,
    compute_dtype,
    hides_values,
    namespace,
    result_dtype,
    widest_dtype,
)
from .._host.logistic.columns import involved, unshifted
from .._host.logistic.descent import Directions, Objective, Outcome, descend
from .._host.logistic.lbfgs import HESSIAN_LIMIT, LBFGS, affords_hessian, inverse_at_null, inverse_of
from .._host.logistic.newton import Newton, free_coefficients, inverse_hessian, sought, standard_errors
from .._host.logistic.proximal import ProximalLBFGS, ProximalNewton
from .._host.logistic.summary import Report
from .objective import check_penalty, check_rows
from .samples import Samples, thin

SOLVERS = ("auto", "newton", "lbfgs", "proximal")
FEW = 64  # coefficients whose Hessian costs little beside the gradient
CHEAP = 2e8  # products, for a Hessian that takes no time worth saving
DENSE = 2048  # coefficients whose Hessian is worth its inverse
SWEPT = 1024  # coefficients whose Hessian is worth sweeps over its lines, for l1
FINE = 1e4  # roundings, of the dtype, that an l1 penalty of the mean loss should exceed
SOME, MANY = 80, 200  # passes for the gradient, in products, that a Hessian to start from may cost; or at most
WARM_UP = 40  # steps on some of the rows


class _Fields(NamedTuple):
    coef: Array
    intercept: Array
    classes: Array
    loss: float
    n_iter: int
    converged: bool
    separated: bool
    stderr: tuple[Array, Array] | None


class LogisticResult(_Fields):
    """A fitted model, and how the fit went; printed, it is the table of its coefficients.

    Attributes
    ----------
    coef : array (p,) or (K, p)
    intercept : array () or (K,)
    classes : array (K,)
        The labels in ascending order; text on the host.
    loss : float
        (Σ w·loss + penalties) / Σw.
    n_iter : int
        Steps, each of which is one pass over the data.
    converged : bool
        Whether the loss is certainly within tol² of its minimum (with l1, within tol), relative to its value, or the
        classes are separated. Beyond 4 096 coefficients, or 10¹⁰ products for a Hessian, a small gradient decides.
    separated : bool
        Whether, without a penalty, the loss has no minimum, because some direction parts the classes.
    stderr : tuple of arrays, or None
        Standard errors of coef and intercept, by the observed information; None if penalised or separated.
    report : Report
        What the table needs beside these: the solver that "auto" chose, Σw, the log-likelihood.
    """

    report: Report | None = None

    def __str__(self) -> str:
        return super().__repr__() if self.report is None else self.summary()

    def summary(self, names: Any = None) -> str:
        """The table of coefficients: standard error, z, p-value, 95 % interval, and the log-likelihood.

        Parameters
        ----------
        names : sequence of str, optional
            Of the columns of x; x1, x2 … if not given.
        """
        if self.report is None:
            raise ValueError("summary needs a result of logistic_regression, got one that was put together otherwise")
        return self.report.table(self, names)


def logistic_regression(
    x: Array,
    y: Array,
    *,
    l2: float = 0.0,
    l1: float = 0.0,
    sample_weight: Array | None = None,
    class_weight: Mapping[Any, float] | str | None = None,
    fit_intercept: bool = True,
    solver: str = "auto",
    max_iter: int = 100,
    tol: float = 1e-6,
    init: tuple[Array, Array] | None = None,
) -> LogisticResult:
    """The minimum over coef and intercept of Σ w·loss + l2/2 ‖coef‖² + l1 ‖coef‖₁, loss = −log p of the class [1]_.

    Parameters
    ----------
    x : array (n, p)
        Floating or integer, dask arrays included, which are read chunk by chunk.
    y : array (n,)
        Labels: numbers or bools; beside any `x` a NumPy array of strings, or of numbers that the library of `x` cannot
        hold. Two classes make a binary model, more a multinomial one.
    l2, l1 : float ≥ 0
        Penalties on the sum of the losses, not on their mean; none on the intercept.
    sample_weight : array (n,), optional
        Numbers ≥ 0, or bool. Rows of weight 0 are ignored, even if they hold NaN.
    class_weight : None, "balanced" or mapping
        Factors by class, 1 if not named; "balanced" is Σw / (K · Σw of the class). A class of factor 0 is ignored.
    fit_intercept : bool
        Whether there is an intercept; it is 0 if not.
    solver : str
        "newton": iteratively reweighted least squares. "lbfgs": gradients alone, for many coefficients. "proximal":
        proximal Newton, for `l1`. "auto": the one of these that costs least here; the result tells which.
    max_iter : int ≥ 0
    tol : float ≥ 0
        The fit ends when the loss is within tol² of its minimum, relative to its value; with l1, when the duality gap
        is below tol of it.
    init : (coef, intercept), optional
        Where to start, in the shapes of the result; the null model is used instead if its loss is less. By default
        the null model, or a fit of some rows where there are many.

    Returns
    -------
    LogisticResult
        In the namespace and on the device of `x`; NumPy arrays for dask. ``print`` gives the table of coefficients.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, or an option is out of range; if `y` holds one class,
        `x` or `y` is not finite, or `sample_weight` is negative; if `solver` does not take `l1`.

    Notes
    -----
    Each iteration is one pass over chunks of rows, whose sums are merged, and one transfer to the host, where p × p
    systems are solved in float64. If columns of `x` are linearly dependent, the minimum-norm solution is returned,
    and their standard errors are infinite. For K classes, coef (not with `l1`) and intercept sum to 0 over the classes.

    If a plane separates the classes and there is no penalty, the loss has no minimum. The result then has
    ``separated=True`` and the finite coefficients of a step on the way to infinity. With more columns than rows the
    classes are nearly always separated.

    References
    ----------
    .. [1] McCullagh and Nelder, Generalized Linear Models, 2nd edition (1989), section 4.4.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x = np.asarray([[0.0], [1.0], [2.0], [3.0]])
    >>> y = np.asarray(["dry", "wet", "dry", "wet"])
    >>> found = anyops.logistic_regression(x, y)
    >>> found.coef.round(4), found.intercept.round(4), found.classes, found.converged
    (array([0.9082]), np.float64(-1.3623), array(['dry', 'wet'], dtype='<U3'), True)
    """
    xp, dtype = _check(x, y, sample_weight, fit_intercept)
    l1, l2 = check_penalty("l1", l1), check_penalty("l2", l2)
    tol, max_iter = check_number("tol", tol, least=0), _check_iterations(max_iter)
    _check_solver(solver, l1)
    found, factors = by_class(class_weight, survey(xp, y, sample_weight))
    if len(found.classes) < 2:
        one = f"1 class, {found.classes[0]!r}," if len(found.classes) else "none with a weight that is not zero"
        raise ValueError(f"y must hold at least two classes of weight above 0, got {one} in {x.shape[0]} rows")
    # Rows in the host's memory are read there: each pass is a few products, which torch and JAX would start anew.
    home, rows, weights = home_of_passes(xp, x, sample_weight)
    wide, labels = compute_dtype(xp, dtype), y
    if home is HOST:
        labels = labels_on_host(y)
        wide = HOST.float64 if HOST.isdtype(rows.dtype, "integral") else compute_dtype(HOST, rows.dtype)
    totals = found.weights if factors is None else found.weights * factors
    unit = 1.0
    if factors is not None or sample_weight is not None:
        # In units, a power of 2, that the dtype of the computation holds; the penalties are in the same.
        unit = _unit(totals, found.counts, float(home.finfo(wide).smallest_normal))
        ones = HOST.ones(len(found.classes)) if factors is None else factors
        weights = class_weights(home, labels, found.classes, ones / unit, weights, wide, rows)
        totals, l1, l2 = totals / unit, l1 / unit, l2 / unit
    lines = 1 if len(found.classes) == 2 else len(found.classes)
    target = targets(home, labels, found.classes, wide, rows)
    ignored = weights is not None and (is_chunked(home) or bool(home.any(weights <= 0)))
    samples = Samples(home, rows, target, weights, lines, wide, unshifted(x.shape[1]), ignored)
    shares = totals / HOST.sum(totals)
    start = None if init is None else _start(xp, init, samples, fit_intercept)
    chosen = _choose(samples, l1) if solver == "auto" else solver
    try:
        with HOST.errstate(all="ignore"):
            objective = _objective(samples.scaled(fit_intercept), float(HOST.sum(totals)), l2, l1, fit_intercept)
            start = None if start is None else objective.samples.columns.inward(start)
            objective, outcome, hessian = _fit(objective, chosen, start, shares, tol=tol, max_iter=max_iter)
            columns = objective.samples.columns
            theta = _centred(outcome.at.theta, lines, l1)
            theta = columns.shortest(theta, objective.flat) if objective.flat.shape[1] else columns.outward(theta)
            errors = None
            if hessian is not None and not objective.penalised and not outcome.separated:
                errors = _ship(xp, standard_errors(objective, hessian) / unit**0.5, dtype, x)
    except FloatingPointError:
        raise ValueError("x must be finite, and small enough to be summed; a value, or the loss, is not") from None
    result = LogisticResult(
        *_ship(xp, theta, dtype, x),
        ship_classes(xp, found.classes, y),
        float(outcome.at.value),
        outcome.n_iter,
        outcome.converged,
        outcome.separated,
        errors,
    )
    likelihood = unit * (objective.penalty(outcome.at.theta) - outcome.at.value * objective.weight)
    totals = totals * unit
    result.report = Report(
        chosen,
        x.shape[0],
        float(HOST.sum(totals)),
        float(likelihood),
        tuple(totals.tolist()),
        fit_intercept,
        gradient=float(HOST.max(_left(objective, outcome.at.grad), initial=0.0)),
        gap=outcome.gap,
        dependent=tuple(HOST.nonzero(involved(objective.flat)[:-1])[0].tolist()),
    )
    return result


# --- checks ----------------------------------------------------------------------------------------------------------


def _check(x: Array, y: Array, sample_weight: Array | None, fit_intercept: bool) -> tuple[Namespace, DType]:
    apart = stays_on_host(y, x)
    beside = {"x": x} if apart else {"x": x, "y": y}
    if sample_weight is not None:
        beside["sample_weight"] = sample_weight
    xp = namespace(**beside)
    if not is_chunked(xp):
        _check_values(**beside)
    if not apart:
        check_dtype(xp, "y", y, "real floating", "integral", "bool")
    if sample_weight is not None:
        check_dtype(xp, "sample_weight", sample_weight, "real floating", "integral", "bool")
        check_known_chunks(xp, "sample_weight", sample_weight)
    check_known_chunks(xp, "x", x)
    if not apart:
        check_known_chunks(xp, "y", y)
    check_rows(xp, x, y=y, sample_weight=sample_weight)
    if not isinstance(fit_intercept, bool):
        raise TypeError(f"fit_intercept must be True or False, got {fit_intercept!r}")
    return xp, result_dtype(xp, x=x)


def _check_values(**arrays: Array) -> None:
    for name, value in arrays.items():
        if hides_values(value):
            raise TypeError(
                f"{name} must have values, got an array under a transform (jit, vmap, grad, compile), which hides "
                "them; logistic_regression decides by values, logistic_step does not"
            )


def _check_iterations(max_iter: int) -> int:
    max_iter = check_integer("max_iter", max_iter)
    if max_iter < 0:
        raise ValueError(f"max_iter must be at least 0, got {max_iter}")
    return max_iter


def _check_solver(solver: str, l1: float) -> None:
    if not isinstance(solver, str) or solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if l1 > 0 and solver not in ("auto", "proximal"):
        raise ValueError(f"solver must be 'proximal' or 'auto' for l1 > 0, got {solver!r} with l1={l1:g}")


def _unit(totals: Array, counts: Array, least: float) -> float:
    """The power of 2 next to the mean weight of the rows; raise if it puts the weights of a class below `least`."""
    mean = sum(totals.tolist()) / sum(counts.tolist())
    if not 1e-300 <= mean < math.inf:
        raise ValueError(
            f"sample_weight, with class_weight, must have a finite sum, and mean at least 1e-300, got {mean:g}"
        )
    unit = math.ldexp(1.0, math.frexp(mean)[1])
    light = min(total / count for total, count in zip(totals.tolist(), counts.tolist(), strict=True))
    if light / unit < least:
        raise ValueError(
            "sample_weight, with class_weight, must have mean weights by class that the dtype of x holds side by side, "
            f"got {light:g} beside {mean:g} of all; to ignore a class, give it weight 0"
        )
    return unit


def _start(xp: Namespace, init: tuple[Array, Array], samples: Samples, fit_intercept: bool) -> Array:
    if not isinstance(init, tuple | list) or len(init) != 2:
        raise TypeError(f"init must be a pair (coef, intercept), got {type(init).__name__}")
    p, lines = samples.x.shape[1], samples.lines
    shapes = ((p,), ()) if lines == 1 else ((lines, p), (lines,))
    for name, value, shape in zip(("init[0]", "init[1]"), init, shapes, strict=True):
        home = namespace(**{name: value})
        _check_values(**{name: value})
        check_dtype(home, name, value, "real floating", "integral")
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    coef, intercept = (HOST.reshape(on_host(value), (lines, -1)) for value in init)
    start = HOST.concat([coef, intercept if fit_intercept else 0 * intercept], axis=1)
    if not HOST.all(HOST.isfinite(start)):
        raise ValueError("init must be finite, got NaN or infinite coefficients")
    return start


# --- the fit ---------------------------------------------------------------------------------------------------------


def _choose(samples: Samples, l1: float) -> str:
    """Newton's method where a Hessian costs little beside a gradient, or little at all."""
    if l1 > 0:
        return "proximal"
    d = samples.coefficients
    cheap = samples.x.shape[0] * d**2 <= CHEAP and d <= HESSIAN_LIMIT
    return "newton" if d <= FEW or cheap else "lbfgs"


def _objective(samples: Samples, weight: float, l2: float, l1: float, fit_intercept: bool) -> Objective:
    """The objective in scaled columns, where each has a penalty of its own."""
    scale = HOST.concat([samples.columns.scale, HOST.full(1, HOST.inf)])
    ridge, bound = (HOST.tile(a, samples.lines) for a in (l2 / scale**2, l1 / scale))
    eps = float(samples.xp.finfo(samples.dtype).eps)
    flat = HOST.zeros((len(scale), 0))
    return Objective(samples, weight, ridge, bound, eps, fit_intercept, flat)


def _fit(
    objective: Objective, solver: str, start: Array | None, shares: Array, *, tol: float, max_iter: int
) -> tuple[Objective, Outcome, Array | None]:
    """Where the descent ends, and the Hessian there if it is known or asked for."""
    bounded = objective.bound[objective.bound > 0] / objective.weight
    newton = solver == "newton" or (solver == "proximal" and not len(bounded))
    if HOST.min(bounded, initial=HOST.inf) < FINE * objective.eps:  # the rounding of a gradient would show beside it
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
        step = objective.samples.thinning() if start is None else 1
        if step > 1:
            part = objective.thinned(step)
            theta = _roughly(part, theta, _few_coefficients(part, newton, theta), tol=1e-3)
        directions = _few_coefficients(objective, newton, theta)
    at = objective.at(theta, directions.curvature)
    if not at.value <= _null_value(objective, shares):  # a start, given or found, that is worse than none
        at = objective.at(_null(objective, shares), directions.curvature)
    if not HOST.isfinite(at.value) or not HOST.all(HOST.isfinite(at.grad)):
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
        and objective.samples.coefficients <= HESSIAN_LIMIT
    ):
        hessian = objective.at(outcome.at.theta, "full").curvature
    return objective, outcome, hessian


def _independent(objective: Objective) -> Objective:
    """The objective with the dependences of its columns, if there is no penalty.

    It computes in a wide dtype if the Gram matrix is too nearly singular for a narrow one.
    """
    samples = objective.samples
    if samples.coefficients > HESSIAN_LIMIT:
        return objective
    wide = _widened(objective)
    gram = wide.samples.gram()
    if not objective.penalised:
        flat = samples.columns.dependences(gram, objective.fit_intercept, wide.eps)
        objective, wide = (replace(each, flat=flat) for each in (objective, wide))
    alike = replace(objective, samples=replace(samples, lines=1), ridge=HOST.zeros(len(gram)))
    return wide if inverse_hessian(alike, gram) is None else objective


def _widened(objective: Objective) -> Objective:
    """The objective in float64, where the library has it."""
    samples = objective.samples
    xp, x, target, weight = writable(samples.xp, samples.x, samples.target, samples.weight)
    dtype = widest_dtype(xp, compute_dtype(xp, x.dtype) if xp is HOST else samples.dtype, x)
    samples = replace(samples, xp=xp, x=x, target=target, weight=weight, dtype=dtype)
    return replace(objective, samples=samples, eps=float(xp.finfo(dtype).eps))


def _null(objective: Objective, shares: Array) -> Array:
    """The null model: the best intercepts with coefficients of 0."""
    lines = objective.samples.lines
    theta = HOST.zeros((lines, objective.samples.x.shape[1] + 1))
    if objective.fit_intercept and HOST.all(shares > 0):
        logs = HOST.log(shares)
        theta[:, -1] = logs[1] - logs[0] if lines == 1 else logs - HOST.mean(logs)
    return theta


def _null_value(objective: Objective, shares: Array) -> float:
    """The objective of the null model, and a margin for rounding."""
    logs = HOST.log(HOST.where(shares > 0, shares, 1.0)) if objective.fit_intercept else HOST.log(1 / len(shares))
    return (1.0 + 1e3 * objective.eps) * -float(HOST.sum(shares * logs))


def _few_coefficients(objective: Objective, newton: bool, theta: Array) -> Directions:
    """Newton's method, or the proximal one: by the Hessian up to SWEPT coefficients, else by L-BFGS."""
    if newton:
        return Newton(objective)
    if objective.samples.coefficients <= SWEPT:
        return ProximalNewton(objective)
    return ProximalLBFGS(objective, objective.at(theta, "diagonal").curvature)


def _many_coefficients(objective: Objective, theta: Array, shares: Array, *, warm_up: bool) -> tuple[Array, LBFGS]:
    """A start, and the curvature that L-BFGS begins with.

    The Hessian of some rows near their minimum is close to that of all rows, and saves many passes. The minimum of
    those rows is found from the Hessian of the null model, which for any number of classes costs one Gram matrix.
    """
    samples, size = objective.samples, objective.samples.coefficients
    if samples.x.shape[1] >= DENSE:
        return theta, LBFGS(objective, inverse_of(objective, objective.at(theta, "diagonal").curvature))
    least = samples.thinning()
    few = objective.thinned(least) if least > 1 else objective
    some = min(least, 2 * thin(size / SOME))
    if size > DENSE or size > MANY * some or (warm_up and least == 1):
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
    return HOST.clip(HOST.abs(grad) - bound, 0.0, None)


def _centred(theta: Array, lines: int, l1: float) -> Array:
    """Subtract the mean over the classes, which changes no probability; not from coefficients with l1."""
    if lines == 1:
        return theta
    mean = HOST.mean(theta, axis=0, keepdims=True)
    if l1 > 0:
        mean = HOST.concat([0 * mean[:, :-1], mean[:, -1:]], axis=1)
    return theta - mean


def _ship(xp: Namespace, theta: Array, dtype: DType, x: Array) -> tuple[Array, Array]:
    """Coefficients and intercepts, in the shapes of the result."""
    coef, intercept = (theta[:, :-1], theta[:, -1]) if len(theta) > 1 else (theta[0, :-1], theta[0, -1])
    return from_host(xp, coef, dtype, x), from_host(xp, intercept, dtype, x)

"""Logistic regression: from arrays and labels to coefficients."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal, get_args

from .._array.arguments import check_integer, check_number
from .._array.chunked import check_known_chunks, without_empty_chunks
from .._array.finite import describe_not_finite
from .._array.host import from_host, mode_of_passes, on_host
from .._array.integers import ends, farthest, largest_exact, may_be_rounded, middle
from .._array.labels import (
    Survey,
    by_class,
    class_weights,
    labels_on_host,
    ship_classes,
    stays_on_host,
    survey,
    targets,
)
from .._array.mode import mode_of
from .._array.namespace import (
    Array,
    DType,
    Namespace,
    as_numbers,
    check_dtype,
    check_has_values,
    compute_dtype,
    namespace,
    result_dtype,
)
from .._array.nearest import less
from .._array.support import Kind, op
from .._array.threads import blas_of
from .._array.trees import pass_through_trees
from .._host.logistic.columns import unshifted
from .._host.logistic.dataset import Dataset
from .._host.logistic.inference import errors_of
from .._host.logistic.solve import solve, start_of
from .objective import check_logits, check_penalty, check_rows
from .result import LogisticReport, LogisticResult

ClassWeight = Mapping[Any, float] | Literal["balanced"] | None
Solver = Literal["auto", "newton", "lbfgs", "proximal"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
MANY_COLUMNS = 32  # columns from which a binary pass is mostly matrix products
CONTINUOUS = 20  # distinct fractional values that may still be labels
HINT = "logistic_regression decides by values, logistic_step does not"


@op(Kind.FIT, static="logistic_step")
def logistic_regression(
    x: Array,
    y: Array,
    *,
    l2: float = 0.0,
    l1: float = 0.0,
    sample_weight: Array | None = None,
    class_weight: ClassWeight = None,
    fit_intercept: bool = True,
    solver: Solver = "auto",
    max_iter: int = 100,
    tol: float = 1e-6,
    init: tuple[Array, Array] | None = None,
) -> LogisticResult:
    """Minimise Σ w·loss + l2/2 ‖coef‖² + l1 ‖coef‖₁ over coef and intercept, loss = −log p of the true class [1]_.

    Parameters
    ----------
    x : array (n, p)
        Floating, integer or bool. dask arrays are read chunk by chunk.
    y : array (n,)
        Labels: numbers or bools. With any `x` also a NumPy array of strings, or of numbers that the library of `x`
        cannot represent. Two classes make a binary model, more a multinomial one.
    l2 : float ≥ 0
        Penalty l2 / 2 · ‖coef‖² on the sum of the losses, not on their mean; none on the intercept.
    l1 : float ≥ 0
        Penalty l1 · ‖coef‖₁ on the same sum.
    sample_weight : array (n,), optional
        Numbers ≥ 0, or bool. Rows of weight 0 are ignored, even if they hold NaN.
    class_weight : None, "balanced" or mapping
        Factors by class, 1 if not named; "balanced" is Σw / (K · Σw of the class). A class of factor 0 is ignored.
        Standard errors take the factors for numbers of rows, so they are wrong: bootstrap.
    fit_intercept : bool
        Whether there is an intercept; it is 0 if not.
    solver : {"auto", "newton", "lbfgs", "proximal"}
        "newton": iteratively reweighted least squares. "lbfgs": gradients only, for many coefficients. "proximal":
        proximal Newton, for `l1`. "auto": the cheapest of these; the result names it.
    max_iter : int ≥ 0
        Largest number of steps.
    tol : float ≥ 0
        The fit ends when the loss is within tol² of its minimum, relative to its value; with l1, when the duality gap
        is below tol of it.
    init : (coef, intercept), optional
        Start, in the shapes of the result; the null model is used instead if its loss is lower. By default the null
        model, or for large data a fit of some rows.

    Returns
    -------
    LogisticResult
        In the namespace and on the device of `x`; NumPy arrays for dask. ``print`` gives the table of coefficients.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, or an option is out of range; if `y` holds one class, `x`
        or `y` is not finite, or `sample_weight` is negative; if `solver` does not take `l1`; if the dtype of the result
        would round integers of `x` and this would change logits by more than a thousandth. The fit itself subtracts an
        offset from large integers before they are rounded.

    Notes
    -----
    Each iteration is one pass over chunks of rows, which merges their sums, and one transfer to the host, where p × p
    systems are solved in float64. If columns of `x` are linearly dependent, up to the rounding of `x`, the minimum-norm
    solution is returned, and their standard errors are infinite. If fitting the rounding errors would lower the loss by
    more than 1e-4 (float32; float64 1e-6), they are fitted as data. For K classes, coef (not with `l1`) and intercept
    sum to 0 over the classes.

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
    x = as_numbers("x", x)
    xp, dtype = _check(x, y, sample_weight, fit_intercept)
    x = without_empty_chunks(x)
    l1, l2 = check_penalty("l1", l1), check_penalty("l2", l2)
    tol, max_iter = check_number("tol", tol, least=0), _check_iterations(max_iter)
    _check_solver(solver, l1)
    found, factors = by_class(class_weight, survey(xp, y, sample_weight))
    if len(found.classes) < 2:
        one = f"1 class, {found.classes.tolist()[0]!r}," if len(found.classes) else "none"
        raise ValueError(f"y must hold at least two classes of weight above zero, got {one} in {x.shape[0]} rows")
    _check_discrete(found)
    # Mostly matrix products: NumPy on views of rows in host memory has the least overhead per pass.
    products = len(found.classes) == 2 and x.shape[1] >= MANY_COLUMNS
    mode, rows, weights = mode_of_passes(xp, x, sample_weight, views=products)
    home = mode.xp
    wide, labels = compute_dtype(xp, dtype), y
    if mode.host:
        labels = labels_on_host(y)
        wide = home.float64 if home.isdtype(rows.dtype, "integral") else compute_dtype(home, rows.dtype)
    totals = found.weights * factors
    unit = 1.0
    if class_weight is not None or sample_weight is not None:
        # Weights and penalties are divided by a power of 2, so that the dtype of the computation holds the weights.
        unit = _unit(totals, found.counts, float(home.finfo(wide).smallest_normal))
        weights = class_weights(home, labels, found.classes, factors / unit, weights, wide, rows)
    lines = 1 if len(found.classes) == 2 else len(found.classes)
    target = targets(home, labels, found.classes, wide, rows)
    ignored = weights is not None and (mode.lazy or bool(home.any(weights <= 0)))
    columns, far = unshifted(x.shape[1]), None
    if may_be_rounded(xp, x, dtype):
        low, high = ends(rows, weights)
        far = farthest(low, high)
        if fit_intercept and far.max() > largest_exact(home, wide):
            columns = replace(columns, origin=middle(low, high))
            rows = less(home, rows, from_host(home, columns.origin, rows.dtype, rows), wide)
    data = Dataset(mode, rows, target, weights, lines, wide, columns, ignored)
    start = None if init is None else _start(init, data, fit_intercept)
    try:
        with blas_of(rows) if mode.host else nullcontext():
            solved = solve(data, totals / unit, start, solver, l1 / unit, l2 / unit, fit_intercept, tol, max_iter)
    except FloatingPointError:
        wrong = describe_not_finite(home, rows, None if weights is None else weights > 0)
        raise ValueError(
            "x must hold numbers small enough to be summed, got larger ones: the loss is not finite"
            if wrong is None
            else f"x must be finite, got {wrong}"
        ) from None
    outcome = solved.outcome
    if far is not None:
        check_logits(xp, x, far, solved.theta[:, :-1], dtype)
    covariance = None if solved.covariance is None else solved.covariance / unit
    pass_through_trees(xp, LogisticReport)
    return LogisticResult(
        *_ship(xp, solved.theta, dtype, x),
        ship_classes(xp, found.classes, y),
        float(outcome.at.value),
        outcome.n_iter,
        outcome.converged,
        outcome.separated,
        None if covariance is None else _ship(xp, errors_of(covariance, solved.theta.shape), dtype, x),
        LogisticReport(
            solved.solver,
            x.shape[0],
            float(totals.sum()),
            float(unit * solved.log_likelihood),
            tuple(totals.tolist()),
            fit_intercept,
            l2,
            l1,
            parameters=solved.rank * (len(found.classes) - 1),
            gradient=solved.gradient,
            gap=outcome.gap,
            dependent=solved.dependent,
            separating=solved.separating,
            weighted=class_weight is not None or sample_weight is not None,
            covariance=covariance,
        ),
    )


# --- checks ----------------------------------------------------------------------------------------------------------


def _check(x: Array, y: Array, sample_weight: Array | None, fit_intercept: bool) -> tuple[Namespace, DType]:
    apart = stays_on_host(y, x)
    beside = {"x": x} if apart else {"x": x, "y": y}
    if sample_weight is not None:
        beside["sample_weight"] = sample_weight
    mode = mode_of(**beside)
    xp = mode.xp
    if not mode.lazy:
        check_has_values(HINT, **beside)
    if mode.lazy and not apart and getattr(y.dtype, "kind", "") in "OSUTMm":
        raise TypeError(f"y must have a numeric dtype in dask, got {y.dtype}; pass text as a NumPy array, y.compute()")
    if not apart:
        check_dtype(xp, "y", y, "real floating", "integral", "bool")
    if sample_weight is not None:
        check_dtype(xp, "sample_weight", sample_weight, "real floating", "integral", "bool")
        check_known_chunks(xp, "sample_weight", sample_weight)
    check_known_chunks(xp, "x", x)
    if not apart:
        check_known_chunks(xp, "y", y)
    check_rows(xp, x, y=y, sample_weight=sample_weight)
    if not x.shape[0]:
        raise ValueError(f"x must have at least one row, got shape {tuple(x.shape)}")
    if not x.shape[1]:
        raise ValueError(f"x must have at least one column, got shape {tuple(x.shape)}")
    if not isinstance(fit_intercept, bool):
        raise TypeError(f"fit_intercept must be True or False, got {fit_intercept!r}")
    return xp, result_dtype(xp, x=x)


def _check_iterations(max_iter: int) -> int:
    max_iter = check_integer("max_iter", max_iter)
    if max_iter < 0:
        raise ValueError(f"max_iter must be at least 0, got {max_iter}")
    return max_iter


def _check_discrete(found: Survey) -> None:
    """Raise ValueError for labels that look continuous: fractions, more distinct ones than half the rows."""
    classes, rows = found.classes, sum(found.counts.tolist())
    many = len(classes) > CONTINUOUS and 2 * len(classes) > rows
    if many and classes.dtype.kind == "f" and any(label % 1 for label in classes.tolist()):
        raise ValueError(
            f"y must hold class labels, got {len(classes)} distinct numbers in {rows:g} rows, which look continuous; "
            "threshold or round them to get classes"
        )


def _check_solver(solver: str, l1: float) -> None:
    if not isinstance(solver, str) or solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if l1 > 0 and solver not in ("auto", "proximal"):
        raise ValueError(f"solver must be 'proximal' or 'auto' for l1 > 0, got {solver!r} with l1={l1:g}")


def _unit(totals: Array, counts: Array, least: float) -> float:
    """Return a power of 2 near the mean weight; raise if the mean weight of a class is below `least` times that."""
    mean = sum(totals.tolist()) / sum(counts.tolist())
    if not 1e-300 <= mean < math.inf:
        raise ValueError(
            "sample_weight times class_weight must have a finite sum, and a mean of at least 1e-300, got a mean of "
            f"{mean:g}"
        )
    unit = math.ldexp(1.0, math.frexp(mean)[1])
    light = min(total / count for total, count in zip(totals.tolist(), counts.tolist(), strict=True))
    if light / unit < least:
        raise ValueError(
            "sample_weight times class_weight must have means by class within the range of the dtype of x, got "
            f"{light:g} for a class and {mean:g} overall; to ignore a class, give it weight 0"
        )
    return unit


def _start(init: tuple[Array, Array], data: Dataset, fit_intercept: bool) -> Array:
    if not isinstance(init, tuple | list) or len(init) != 2:
        raise TypeError(f"init must be a pair (coef, intercept), got {type(init).__name__}")
    p, lines = data.x.shape[1], data.lines
    shapes = ((p,), ()) if lines == 1 else ((lines, p), (lines,))
    for name, value, shape in zip(("init[0]", "init[1]"), init, shapes, strict=True):
        home = namespace(**{name: value})
        check_has_values(HINT, **{name: value})
        check_dtype(home, name, value, "real floating", "integral")
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    coef, intercept = map(on_host, init)
    return start_of(coef, intercept, lines, fit_intercept)


def _ship(xp: Namespace, theta: Array, dtype: DType, x: Array) -> tuple[Array, Array]:
    """Coefficients and intercepts, in the shapes of the result."""
    coef, intercept = (theta[:, :-1], theta[:, -1]) if len(theta) > 1 else (theta[0, :-1], theta[0, -1])
    return from_host(xp, coef, dtype, x), from_host(xp, intercept, dtype, x)

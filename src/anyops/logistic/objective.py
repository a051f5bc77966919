"""The logistic loss, its gradient and its Hessian as sums over rows, so that parts can be merged.

Notation: r = x·coef + intercept, the logit of a row, or one per class; p the probabilities; w the weight of a row; u
the margin of the true class, which is positive if its probability is above one half (±r for two classes).
"""

import math
from typing import Any, NamedTuple

from .._array.arguments import check_number, check_parameter, check_parts
from .._array.chunked import check_known_chunks, reduce_chunks
from .._array.host import Host, on_host
from .._array.integers import ends, farthest, largest_exact, may_be_rounded, remedy
from .._array.mode import Mode, enter, mode_of
from .._array.namespace import (
    A,
    Array,
    DType,
    Namespace,
    as_numbers,
    cast,
    check_dtype,
    compute_dtype,
    default_int,
    device,
    is_array,
    is_kind,
    namespace,
    positive,
    result_dtype,
    stop_gradient,
)
from .._array.nearest import as_compared, less, rows_at
from .._array.solve import identity, solve_spd
from .._array.support import LOOPS, SOLVES, Kind, op
from .._math import class_loss, cross_entropy, in_unit, log_softmax, out_of_unit, sigmoids, softplus

STEPS = (1.0, 0.5, 0.25, 0.125, 0.0625)
ARMIJO = 1e-4
MOVED = 1e-3  # change of a logit that rounding of integers may cause
TINY_UNIT = 2.0**60  # scale of penalties below its inverse
UNSOLVED = 1e-3  # residual of Newton's equations, for scaled columns, above which they count as unsolved


class LogisticLoss(NamedTuple):
    """Probabilities, the mean loss with its penalty, and the derivatives of that mean."""

    probs: Array
    loss: Array
    grad_coef: Array
    grad_intercept: Array


class LogisticPartial(NamedTuple):
    """Sums over rows of w·loss, its gradient and Hessian by (coef, intercept), class by class, and of w."""

    loss: Array
    grad: Array
    hessian: Array
    weight: Array


class LogisticStep(NamedTuple):
    """Coefficients after a step, the mean loss before it, and the decrease that Newton's model predicts."""

    coef: Array
    intercept: Array
    loss: Array
    decrement: Array


# --- public functions ------------------------------------------------------------------------------------------------


@op(Kind.VALUES)
def logistic_loss(
    x: Array, y: Array, coef: Array, intercept: Array, *, sample_weight: Array | None = None, l2: float | Array = 0.0
) -> LogisticLoss:
    """(Σ w·loss + l2/2 ‖coef‖²) / Σw, loss = −log p of the true class, with its gradient in closed form.

    Two classes: p = 1 / (1 + e^−r), loss = y log(1 + e^−r) + (1 − y) log(1 + e^r) [1]_. K classes: p = softmax(r).

    Parameters
    ----------
    x : array (n, p)
        Floating, integer or bool.
    y : array (n,)
        Two classes: 0 and 1, or probabilities between them. K classes: integers 0 … K − 1. Others raise if `y` is in
        host memory. On a device and under a transform a check would force a synchronisation; there they make all
        results NaN.
    coef : array (p,) or (K, p)
    intercept : array () or (K,)
    sample_weight : array (n,), optional
        Numbers ≥ 0, or bool, in any unit. A row of weight 0 is ignored, even if it holds NaN.
    l2 : float ≥ 0
        Penalty on the sum of the losses: l2 / 2 · ‖coef‖².

    Returns
    -------
    probs : array (n,) or (n, K)
        Probabilities of the second class, or of each class.
    loss : array ()
    grad_coef : array
        In the shape of `coef`. No rows, or weights that are all 0, count as one row of loss 0.
    grad_intercept : array
        In the shape of `intercept`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, or `l2` is negative or not finite; if `y` holds other
        labels; except under a transform, if the floating dtype would round integers of `x` and this would change logits
        by more than a thousandth.

    References
    ----------
    .. [1] McCullagh and Nelder, Generalized Linear Models, 2nd edition (1989), section 4.4.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x, y = np.asarray([[1.0], [-1.0], [100.0]]), np.asarray([1, 0, 0])
    >>> probs, loss, slope, level = anyops.logistic_loss(x, y, np.asarray([2.0]), np.asarray(0.0))
    >>> probs.round(4), loss.round(4), slope.round(4), level.round(4)
    (array([0.8808, 0.1192, 1.    ]), np.float64(66.7513), array([33.2539]), np.float64(0.3333))
    """
    l2 = check_parameter("l2", l2, least=0)
    x = as_numbers("x", x)
    mode, options = _check(x, coef, intercept, y, sample_weight=sample_weight, l2=l2, between=True)
    penalty = _in_range(mode.xp, l2, options["dtype"])
    return LogisticLoss(*mode.run(_loss, x, y, coef, intercept, sample_weight, *penalty, **options))


@op(Kind.VALUES)
def logistic_predict_proba(x: A, coef: Array, intercept: Array) -> A:
    """Probability of the second of two classes, 1 / (1 + e^−r), or of each of K classes, softmax(r).

    Parameters
    ----------
    x : array (n, p)
    coef : array (p,) or (K, p)
    intercept : array () or (K,)

    Returns
    -------
    array (n,) or (n, K)

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, or if integers of `x` are rounded as in
        :func:`logistic_loss`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> anyops.logistic_predict_proba(np.asarray([[1.0], [-800.0]]), np.asarray([1.0]), np.asarray(0.0)).round(4)
    array([0.7311, 0.    ])
    """
    x = as_numbers("x", x)
    mode, options = _check(x, coef, intercept)
    return mode.run(_probabilities, x, _beside(mode, coef), _beside(mode, intercept), **options)


@op(Kind.VALUES)
def logistic_log_proba(x: A, coef: Array, intercept: Array) -> A:
    """log of :func:`logistic_predict_proba`, accurate where a probability is near 1 or rounds to 0.

    Parameters
    ----------
    x : array (n, p)
    coef : array (p,) or (K, p)
    intercept : array () or (K,)

    Returns
    -------
    array (n,) or (n, K)

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, or if integers of `x` are rounded as in
        :func:`logistic_loss`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> anyops.logistic_log_proba(np.asarray([[50.0], [-800.0]]), np.asarray([1.0]), np.asarray(0.0))
    array([-1.92874985e-22, -8.00000000e+02])
    """
    x = as_numbers("x", x)
    mode, options = _check(x, coef, intercept)
    return mode.run(_log_probabilities, x, _beside(mode, coef), _beside(mode, intercept), **options)


@op(Kind.VALUES)
def logistic_partial(
    x: Array, y: Array, coef: Array, intercept: Array, *, sample_weight: Array | None = None
) -> LogisticPartial:
    """Σ w·loss, its gradient and Hessian, and Σ w: sums over a part of the data, for :func:`logistic_merge`.

    Parameters
    ----------
    x
        As in :func:`logistic_loss`.
    y : array (n,)
        Numbers of the classes; of two classes only 0 and 1, not probabilities between them.
    coef, intercept, sample_weight
        As in :func:`logistic_loss`.

    Returns
    -------
    loss, weight : array ()
    grad : array (D,)
        Coefficients, then the intercept, D = p + 1; for K classes one class after the other, D = K (p + 1).
    hessian : array (D, D)
        The observed information. All results are at least float32, NumPy arrays for dask, and without penalties.

    Raises
    ------
    TypeError, ValueError
        As :func:`logistic_loss`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x, y = np.asarray([[0.0], [2.0]]), np.asarray([0, 1])
    >>> part = anyops.logistic_partial(x, y, np.asarray([0.0]), np.asarray(0.0))
    >>> part.grad, part.hessian
    (array([-1.,  0.]), array([[1. , 0.5],
           [0.5, 0.5]]))
    """
    x = as_numbers("x", x)
    mode, options = _check(x, coef, intercept, y, sample_weight=sample_weight)
    wide = options["dtype"] = compute_dtype(mode.xp, options["dtype"])
    if mode.lazy:
        at = on_host(coef), on_host(intercept)
        return reduce_chunks(
            lambda x, y, w: logistic_partial(x, y, *(a.astype(wide) for a in at), sample_weight=w),
            logistic_merge,
            1,
            x,
            y,
            sample_weight,
        )
    return LogisticPartial(*mode.run(_partial, x, y, coef, intercept, sample_weight, **options))


@op(Kind.VALUES)
def logistic_merge(a: LogisticPartial, b: LogisticPartial) -> LogisticPartial:
    """Add the sums of two parts (chunks, devices or ranks), in any order.

    Parameters
    ----------
    a, b : LogisticPartial
        By the same coefficients.

    Returns
    -------
    LogisticPartial

    Raises
    ------
    TypeError, ValueError
        If the parts differ in library or number of coefficients.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x, y, at = np.asarray([[0.0], [2.0]]), np.asarray([0, 1]), (np.asarray([0.0]), np.asarray(0.0))
    >>> parts = [anyops.logistic_partial(x[i : i + 1], y[i : i + 1], *at) for i in (0, 1)]
    >>> anyops.logistic_merge(*parts).grad
    array([-1.,  0.])
    """
    check_parts(LogisticPartial, a=a, b=b)
    named = {f"{name}.{field}": v for name, part in (("a", a), ("b", b)) for field, v in part._asdict().items()}
    result_dtype(namespace(**named), **named)
    if tuple(a.grad.shape) != tuple(b.grad.shape):
        raise ValueError(
            f"a and b must have equally many coefficients, got {tuple(a.grad.shape)} and {tuple(b.grad.shape)}"
        )
    return LogisticPartial(*(s + t for s, t in zip(a, b, strict=True)))


@op(Kind.VALUES, SOLVES, LOOPS)
def logistic_step(
    x: Array, y: Array, coef: Array, intercept: Array, *, sample_weight: Array | None = None, l2: float | Array = 0.0
) -> LogisticStep:
    """One step of Newton's method, shortened until it lowers the loss: for many small problems at once.

    Runs under ``jax.jit``, ``jax.vmap``, ``torch.compile`` and ``torch.func.vmap``, and decides nothing on the host.
    Use it for bootstrap samples (as weights), one-versus-rest, or one model per group. Eight steps from 0 are plenty if
    the classes overlap.

    Parameters
    ----------
    x
        As in :func:`logistic_loss`.
    y : array (n,)
        Numbers of the classes; of two classes only 0 and 1, not probabilities between them.
    coef, intercept, sample_weight, l2
        As in :func:`logistic_loss`.

    Returns
    -------
    coef, intercept : array
        After the step: the largest of 1, ½ … 1/16 Newton steps that lowers the loss enough [1]_, else none.
    loss : array ()
        The loss of :func:`logistic_loss` before the step.
    decrement : array ()
        g·H⁻¹g / 2, the decrease that Newton's model predicts: converged if it is small relative to the loss.

    Raises
    ------
    TypeError, ValueError
        As :func:`logistic_loss`.

    References
    ----------
    .. [1] Armijo, Minimization of functions having Lipschitz continuous first partial derivatives, Pacific Journal of
       Mathematics 16 (1966).

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x, y = np.asarray([[0.0], [1.0], [2.0], [3.0]]), np.asarray([0, 1, 0, 1])
    >>> at = np.zeros(1), np.zeros(())
    >>> for _ in range(5):
    ...     *at, loss, decrement = anyops.logistic_step(x, y, *at)
    >>> at[0].round(4), at[1].round(4), bool(decrement < 1e-12)
    (array([0.9082]), np.float64(-1.3623), True)
    """
    l2 = check_parameter("l2", l2, least=0)
    x = as_numbers("x", x)
    mode, options = _check(x, coef, intercept, y, sample_weight=sample_weight, l2=l2)
    if mode.lazy:
        raise TypeError("x must not be a dask array, which has no linear solver; use logistic_regression")
    penalty = _in_range(mode.xp, l2, options["dtype"])
    found = LogisticStep(*mode.run(_step, x, y, coef, intercept, sample_weight, *penalty, **options))
    if mode.known:
        check_integers(mode.xp, x, sample_weight, found.coef, options["dtype"])
    return found


# --- checks ----------------------------------------------------------------------------------------------------------


def check_penalty(name: str, value: float) -> float:
    """Return a penalty as a float; raise unless it is finite and at least 0."""
    return check_number(name, value, least=0)


def check_rows(xp: Namespace, x: Array, **others: Array | None) -> None:
    """Raise unless `x` is a matrix of numbers and the others have one item per row."""
    check_dtype(xp, "x", x, "real floating", "integral")
    if len(x.shape) != 2:
        raise ValueError(f"x must have shape (n, p), got {tuple(x.shape)}")
    check_known_chunks(xp, "x", x)
    for name, value in others.items():
        if value is not None and tuple(value.shape) != (x.shape[0],):
            raise ValueError(
                f"{name} must have shape ({x.shape[0]},) for x of shape {tuple(x.shape)}, got {tuple(value.shape)}"
            )


def _check(
    x: Array,
    coef: Array,
    intercept: Array,
    *labels: Array,
    sample_weight: Array | None = None,
    l2: float | Array = 0.0,
    between: bool = False,
) -> tuple[Mode, dict[str, Any]]:
    """Return the mode and the kernel options: dtype, and whether labels were checked; raise for invalid arguments."""
    rows = {"x": x, **dict(zip(("y",), labels, strict=False))}
    y = rows.get("y")
    if sample_weight is not None:
        rows["sample_weight"] = sample_weight
    at = {"coef": coef, "intercept": intercept}
    if (mode := mode_of(**rows)).lazy:  # coefficients found for a lazy array are on the host
        at = {k: mode.xp.asarray(v) for k, v in at.items()}
    mode = mode_of(**rows, **at, **({"l2": l2} if is_array(l2) else {}))
    xp = mode.xp
    check_rows(xp, x, y=y, sample_weight=sample_weight)
    for name, value in at.items():
        check_dtype(xp, name, value, "real floating", "integral")
    p, given = x.shape[1], tuple(coef.shape)
    if not (len(given) in (1, 2) and given[-1] == p and (len(given) == 1 or given[0] > 1)):
        raise ValueError(
            f"coef must have shape ({p},), or (K, {p}) for K classes, for x of shape {tuple(x.shape)}, got {given}"
        )
    if tuple(intercept.shape) != given[:-1]:
        raise ValueError(
            f"intercept must have shape {given[:-1]} for coef of shape {given}, got {tuple(intercept.shape)}"
        )
    if sample_weight is not None:
        check_dtype(xp, "sample_weight", sample_weight, "real floating", "integral", "bool")
    if y is not None:
        check_dtype(xp, "y", y, "integral", *(("real floating", "bool") if len(given) == 1 else ()))
    checked = y is None or _check_labels(mode, y, 2 if len(given) == 1 else given[0], sample_weight, between=between)
    dtype = result_dtype(xp, x=x, **at)
    if mode.known:
        check_integers(xp, x, sample_weight, coef, dtype)
    return mode, {"dtype": dtype} if y is None else {"dtype": dtype, "checked": checked}


def check_integers(xp: Namespace, x: Array, w: Array | None, coef: Array, dtype: DType, name: str = "x") -> None:
    """Raise ValueError where rounding integers to a floating dtype would move logits by more than a thousandth."""
    if may_be_rounded(xp, x, dtype) and x.shape[0]:
        check_logits(xp, x, farthest(*ends(x, w)), coef, dtype, name)


def check_logits(xp: Namespace, x: Array, far: Host, coef: Array, dtype: DType, name: str = "x") -> None:
    """Do as :func:`check_integers`, given the largest numbers `far` of the columns."""
    far = far * (far > largest_exact(xp, dtype))
    if not far.any():
        return
    moved = 0.5 * float(xp.finfo(dtype).eps) * float((abs(on_host(coef)) @ far).max())
    if moved > MOVED:
        raise ValueError(
            f"{name} must hold integers that {dtype} can tell apart, got numbers up to {far.max():.10g}, whose "
            f"rounding moves logits by up to {moved:.2g}; {remedy(xp, name, dtype, x, far.max())}"
        )


def _check_labels(mode: Mode, y: Array, classes: int, w: Array | None, *, between: bool) -> bool:
    """Raise ValueError for labels that are not classes, if they are in host memory; return whether they were checked.

    On a device, a check would force a synchronisation.
    """
    if is_kind(mode.xp, y, "bool") or not y.shape[0]:
        return True
    if not mode.at_hand:
        mode, (y, w) = enter(mode.xp, y, w, differentiable=False)
    if not mode.at_hand:
        return False
    xp = mode.xp
    wrong = _invalid_labels(xp, y, classes, w, between=between)
    if bool(xp.any(wrong)):
        number = int(xp.argmax(xp.astype(wrong, xp.uint8)))
        allowed = "0 or 1" if classes == 2 and not between else f"in [0, {classes - 1}]"
        raise ValueError(f"y must be {allowed}, got {y[number]}")
    return True


def _invalid_labels(xp: Namespace, y: Array, classes: int, w: Array | None, *, between: bool) -> Array:
    """Mask of the rows of positive weight whose label is not a class, nor, with `between`, a probability."""
    y = as_compared(xp, y)
    right = (y >= 0) & (y <= classes - 1) if between or classes > 2 else (y == 0) | (y == 1)
    return ~right if w is None else positive(xp, w) & ~right


def _beside(mode: Mode, value: Array) -> Array:
    return mode.xp.asarray(value) if mode.lazy else value


# --- kernels ---------------------------------------------------------------------------------------------------------


def _loss(
    mode: Mode,
    x: Array,
    y: Array,
    coef: Array,
    intercept: Array,
    w: Array | None,
    l2: float,
    unit: float,
    *,
    dtype: DType,
    checked: bool,
) -> tuple[Array, Array, Array, Array]:
    xp = mode.xp
    wide = compute_dtype(xp, dtype)
    wrong = None if checked else _any_invalid_label(xp, y, coef, w, between=True)
    x, y, w, l2 = _present(mode, x, y, w, l2, unit, wide)
    coef, intercept = (cast(xp, a, wide) for a in (coef, intercept))
    if coef.ndim == 1:
        probs, each, slope = _soft_items(xp, x @ coef + intercept, cast(xp, y, wide))
        level = slope if w is None else slope * w
        sums = level @ x, xp.sum(level)
    else:
        probs, each, slope, _ = _class_items(mode, coef @ x.T + intercept[:, None], y)
        level = slope if w is None else slope * w
        sums = level @ x, xp.sum(level, axis=1)
        probs = probs.T
    if w is not None:
        each = xp.where(w > 0, w * each, xp.zeros_like(each))
    over = 1.0 / _mass(xp, each, w)
    loss = (xp.sum(each) + 0.5 * l2 * xp.sum(coef * coef)) * over
    results = _unless(xp, wrong, probs, loss, (sums[0] + l2 * coef) * over, sums[1] * over)
    return tuple(cast(xp, a, dtype) for a in results)


def _partial(
    mode: Mode, x: Array, y: Array, coef: Array, intercept: Array, w: Array | None, *, dtype: DType, checked: bool
) -> tuple[Array, Array, Array, Array]:
    xp = mode.xp
    wrong = None if checked else _any_invalid_label(xp, y, coef, w)
    w, inverse = in_unit(mode, w, dtype)
    x, y, w = _kept(xp, x, y, w, dtype)
    coef, intercept = (cast(xp, a, dtype) for a in (coef, intercept))
    target = 2.0 * cast(xp, y, dtype) - 1.0 if coef.ndim == 1 else y
    _, loss, *rest = row_sums(mode, x, target, w, coef, intercept, curvature="full", wide=dtype)
    weight = xp.sum(xp.ones_like(x[:, 0])) if w is None and x.shape[1] else xp.full_like(loss, float(x.shape[0]))
    sums = _unless(xp, wrong, loss, *assembled(xp, *rest), weight if w is None else xp.sum(w))
    if inverse is None:
        return sums
    return tuple(cast(xp, out_of_unit(xp, a, inverse[0]), dtype) for a in sums)


def _step(
    mode: Mode,
    x: Array,
    y: Array,
    coef: Array,
    intercept: Array,
    w: Array | None,
    l2: float,
    unit: float,
    *,
    dtype: DType,
    checked: bool,
) -> tuple[Array, Array, Array, Array]:
    xp = mode.xp
    wide = compute_dtype(xp, dtype)
    wrong = None if checked else _any_invalid_label(xp, y, coef, w)
    x, origin = _recentred(xp, x, w, wide)
    x, y, w, l2 = _present(mode, x, y, w, l2, unit, wide)
    coef, intercept = (cast(xp, a, wide) for a in (coef, intercept))
    target = 2.0 * cast(xp, y, wide) - 1.0 if coef.ndim == 1 else y
    mass = _mass(xp, x[:, 0], w)
    z, centre, scale = _scaled(xp, x, w, mass, l2)
    centre = centre if origin is None else centre + origin
    intercept = intercept + coef @ centre
    coef = coef * scale
    _, loss, *rest = row_sums(mode, z, target, w, coef, intercept, curvature="full", wide=wide)
    grad, hessian = assembled(xp, *rest)
    k, p = (1, coef.shape[0]) if coef.ndim == 1 else coef.shape
    ridge = xp.broadcast_to(l2 * (1.0 / scale) * (1.0 / scale), (k, p))
    ridge = xp.reshape(xp.concat([ridge, xp.zeros_like(ridge[:, :1])], axis=1), (-1,))
    theta = xp.concat([xp.reshape(coef, (k, p)), xp.reshape(intercept, (k, 1))], axis=1)
    theta = xp.reshape(theta, (-1,))
    grad = (grad + ridge * theta) / mass
    diagonal = identity(xp, k * (p + 1), wide, x)
    hessian = (hessian + ridge[:, None] * diagonal) / mass
    if k > 1:
        hessian = hessian + shared_shift(xp, hessian, k)
    delta = -solve_spd(xp, hessian, grad)
    gain = -xp.sum(grad * delta)
    # A gradient that no step reduces, because p(1 − p) has underflowed: far from the minimum, though the step is short.
    lost = xp.max(xp.abs(hessian @ delta + grad)) > UNSOLVED
    move = xp.reshape(delta, (k, p + 1))
    move_coef, move_intercept = xp.reshape(move[:, :p], coef.shape), xp.reshape(move[:, p], intercept.shape)
    losses = losses_along(mode, z, target, w, coef, intercept, move_coef, move_intercept, steps=STEPS, wide=wide)
    squares = [xp.sum(ridge * (theta + t * delta) ** 2) for t in STEPS]
    start = (loss + 0.5 * xp.sum(ridge * theta**2)) / mass
    length = xp.zeros_like(loss)
    for i in range(len(STEPS) - 1, -1, -1):  # in ascending order, so that the longest sufficient step wins
        value = (losses[i] + 0.5 * squares[i]) / mass
        length = xp.where(value <= start - ARMIJO * STEPS[i] * gain, xp.full_like(length, STEPS[i]), length)
    # Near the minimum, rounding hides the gain of a step: take the full Newton step.
    length = xp.where(gain <= 64.0 * float(xp.finfo(wide).eps) * start, xp.ones_like(length), length)
    coef = (coef + length * move_coef) / scale
    new = coef, intercept + length * move_intercept - coef @ centre
    decrement = xp.where(lost, math.inf, 0.5 * gain)
    return tuple(cast(xp, a, dtype) for a in _unless(xp, wrong, *new, start, decrement))


def _scaled(xp: Namespace, x: Array, w: Array | None, mass: Array, l2: float) -> tuple[Array, Array, Array]:
    """(x − centre) / scale, centre, and scale: columns of mean 0 and size 1, or less where the penalty dominates."""
    level = xp.ones_like(x[:, 0]) if w is None else w
    centre = (level @ x) / mass
    z = x - centre
    if w is not None:
        z = xp.where((w > 0)[:, None], z, xp.zeros_like(z))
    size = xp.max(xp.abs(z), axis=0) if x.shape[0] else xp.sum(z, axis=0)
    # The step does not depend on the scale, so the gradient by the penalty needs no path through it.
    size = xp.maximum(size, xp.sqrt(stop_gradient(xp.ones_like(size) * l2)) / xp.sqrt(mass))
    scale = xp.where(size > 0, size, xp.ones_like(size))
    return z / scale, centre, scale


def _probabilities(mode: Mode, x: Array, coef: Array, intercept: Array, *, dtype: DType) -> Array:
    xp = mode.xp
    r = _logits(xp, x, coef, intercept, dtype)
    if coef.ndim == 1:
        return cast(xp, sigmoids(xp, r)[0], dtype)
    e = xp.exp(r - xp.max(r, axis=1, keepdims=True))
    return cast(xp, e / xp.sum(e, axis=1, keepdims=True), dtype)


def _log_probabilities(mode: Mode, x: Array, coef: Array, intercept: Array, *, dtype: DType) -> Array:
    xp = mode.xp
    r = _logits(xp, x, coef, intercept, dtype)
    if coef.ndim == 1:
        return cast(xp, -softplus(xp, -r), dtype)
    return cast(xp, log_softmax(xp, r), dtype)


def _logits(xp: Namespace, x: Array, coef: Array, intercept: Array, dtype: DType) -> Array:
    wide = compute_dtype(xp, dtype)
    x, coef, intercept = (cast(xp, a, wide) for a in (x, coef, intercept))
    return x @ (coef if coef.ndim == 1 else coef.T) + intercept


def _any_invalid_label(xp: Namespace, y: Array, coef: Array, w: Array | None, *, between: bool = False) -> Array:
    """Whether any label is invalid; unchecked labels then make all results NaN."""
    return xp.any(_invalid_labels(xp, y, 2 if coef.ndim == 1 else coef.shape[0], w, between=between))


def _unless(xp: Namespace, wrong: Array | None, *sums: Array) -> tuple[Array, ...]:
    return sums if wrong is None else tuple(xp.where(wrong, math.nan, a) for a in sums)


def _recentred(xp: Namespace, x: Array, w: Array | None, dtype: DType) -> tuple[Array, Array | None]:
    """Subtract a row of positive weight from integers before the dtype rounds them; return the rows, and that row."""
    if not may_be_rounded(xp, x, dtype) or not x.shape[0]:
        return x, None
    if w is None:
        row = x[:1, :]
    else:
        index = default_int(xp, x)
        row = rows_at(xp, x, xp.astype(xp.argmax(xp.astype(positive(xp, w), index), axis=0, keepdims=True), index))
    return less(xp, x, row, dtype), cast(xp, row[0, :], dtype)


def _present(
    mode: Mode, x: Array, y: Array, w: Array | None, l2: float, unit: float, dtype: DType
) -> tuple[Array, Array, Array | None, float | Array]:
    """Return the rows of :func:`_kept`, and the penalty, with weights and penalty scaled to fit the dtype."""
    xp = mode.xp
    w, inverse = in_unit(mode, w, dtype)
    if inverse is None:
        return *_kept(xp, x, y, w, dtype), l2 * unit
    l2 = cast(xp, l2 * (inverse[0] * unit), dtype)
    return *_kept(xp, x, y, w, dtype), xp.minimum(l2, xp.full_like(l2, float(xp.finfo(dtype).max)))


def _in_range(xp: Namespace, l2: Any, dtype: DType) -> tuple[Any, float]:
    """Split a penalty into two factors that float32 holds: XLA would flush an argument below 1e-38 to 0."""
    if is_array(l2):
        return cast(xp, l2, compute_dtype(xp, dtype)), 1.0
    return (l2 * TINY_UNIT, 1 / TINY_UNIT) if l2 < 1 / TINY_UNIT else (l2, 1.0)


def _kept(xp: Namespace, x: Array, y: Array, w: Array | None, dtype: DType) -> tuple[Array, Array, Array | None]:
    """Return the rows in the dtype they are computed in; numbers that are not finite in rows of weight 0 become 0."""
    x = cast(xp, x, dtype)
    if w is None:
        return x, y, None
    w = cast(xp, w, dtype)
    kept = w > 0
    x = xp.where(kept[:, None] | xp.isfinite(x), x, xp.zeros_like(x))
    return x, xp.where(kept, y, xp.zeros_like(y)), w


def _mass(xp: Namespace, x: Array, w: Array | None) -> Array:
    """Σw, or 1 if it is 0."""
    total = xp.sum(xp.ones_like(x)) if w is None else xp.sum(w)
    return xp.where(total > 0, total, xp.ones_like(total))


# --- rows ------------------------------------------------------------------------------------------------------------


def row_sums(
    mode: Mode,
    x: Array,
    target: Array,
    w: Array | None,
    coef: Array,
    intercept: Array,
    *,
    curvature: str,
    wide: DType,
) -> tuple[Array, ...]:
    """Return the least margin, and the sums over rows of the loss, its gradient and its curvature, in dtype `wide`.

    `target` is ±1 for two classes, else the class index. Rows of weight 0 must be finite. `curvature` is "none",
    "full" for the blocks that :func:`assembled` joins to a Hessian, or "diagonal" for its diagonal.
    """
    made = (_two_classes if coef.ndim == 1 else _more_classes)(mode, x, target, w, coef, intercept, curvature)
    return tuple(cast(mode.xp, a, wide) for a in made)


def losses_along(
    mode: Mode,
    x: Array,
    target: Array,
    w: Array | None,
    coef: Array,
    intercept: Array,
    move_coef: Array,
    move_intercept: Array,
    *,
    steps: tuple[float, ...],
    wide: DType,
) -> list[Array]:
    """Summed losses at several steps along a direction."""
    xp = mode.xp
    if coef.ndim == 1:
        away = -target
        z, v = away * (x @ coef + intercept), away * (x @ move_coef + move_intercept)
        at = [softplus(xp, z + t * v) for t in steps]
    else:
        u, v = coef @ x.T + intercept[:, None], move_coef @ x.T + move_intercept[:, None]
        at = [_class_items(mode, u + t * v, target)[1] for t in steps]
    if w is not None:
        at = [xp.where(w > 0, w * each, xp.zeros_like(each)) for each in at]
    return [cast(xp, xp.sum(each), wide) for each in at]


def assembled(xp: Namespace, grad: Array, level: Array, *curvature: Array) -> tuple[Array, Array]:
    """Gradient and Hessian by (coef, intercept), class by class, from the sums of :func:`row_sums`."""
    if grad.ndim == 1:
        xx, x1, ones = curvature
        top = xp.concat([xx, x1[:, None]], axis=1)
        bottom = xp.concat([x1, ones[None]])[None, :]
        return xp.concat([grad, level[None]]), xp.concat([top, bottom], axis=0)
    k, p = grad.shape
    own_xx, own_x1, own_ones, xx, x1, ones = curvature
    same = identity(xp, k, grad.dtype, grad)
    other = 1.0 - same
    xx = same[:, None, :, None] * own_xx[:, :, None, :] - other[:, None, :, None] * xp.reshape(xx, (k, p, k, p))
    x1 = same[:, None, :] * own_x1[:, :, None] - other[:, None, :] * xp.reshape(x1, (k, p, k))
    ones = same * own_ones[:, None] - other * ones
    top = xp.concat([xx, x1[..., None]], axis=3)
    bottom = xp.concat([xp.permute_dims(x1, (2, 0, 1)), ones[..., None]], axis=2)[:, None, ...]
    size = k * (p + 1)
    hessian = xp.reshape(xp.concat([top, bottom], axis=1), (size, size))
    return xp.reshape(xp.concat([grad, level[:, None]], axis=1), (size,)), hessian


def shared_shift(xp: Namespace, hessian: Array, classes: int) -> Array:
    """A regularisation of the null direction of the softmax Hessian, of the size of one class's block.

    With it the Hessian has an inverse, and steps sum to 0 over the classes, as the gradient does.
    """
    size = hessian.shape[0] // classes
    one = identity(xp, hessian.shape[0], hessian.dtype, hessian)
    shape = (classes, size, classes, size)
    level = xp.sum(xp.reshape(hessian * one, shape), axis=(0, 2)) / classes
    each = identity(xp, size, hessian.dtype, hessian)
    level = xp.where(level > 0, level, each) * each
    return xp.reshape(xp.broadcast_to(level[None, :, None, :], shape), hessian.shape)


def _two_classes(
    mode: Mode,
    x: Array,
    sign: Array,
    w: Array | None,
    coef: Array,
    intercept: Array,
    curvature: str,
) -> tuple[Array, ...]:
    xp, (add, _, mul, *_) = mode.xp, mode.own
    u = mul(add(x @ coef, intercept), sign)
    e = xp.exp(-xp.abs(u))
    q = 1.0 / (1.0 + e)
    loss = add(xp.log1p(e), xp.maximum(-u, xp.zeros_like(u)))
    small = e * q
    miss = xp.where(u >= 0, small, q)  # the probability of the other class
    bend = mul(small, q)
    least = u
    if w is not None:
        zero = xp.zeros_like(u)
        kept = w > 0
        loss, miss, bend = (xp.where(kept, w * a, zero) for a in (loss, miss, bend))
        least = xp.where(kept, u, xp.full_like(u, float("inf")))
    slope = mul(-miss, sign)
    least = xp.min(least) if u.shape[0] else xp.sum(least)
    sums = (least, xp.sum(loss), slope @ x, xp.sum(slope))
    if curvature == "none":
        return sums
    if curvature == "diagonal":
        return *sums, bend @ (x * x), xp.sum(bend)
    root = xp.sqrt(bend)
    scaled = x * root[:, None]
    return *sums, scaled.T @ scaled, root @ scaled, xp.sum(bend)


def _more_classes(
    mode: Mode,
    x: Array,
    number: Array,
    w: Array | None,
    coef: Array,
    intercept: Array,
    curvature: str,
) -> tuple[Array, ...]:
    xp = mode.xp
    p, loss, slope, margin = _class_items(mode, mode.own.add(coef @ x.T, intercept[:, None]), number)
    mine = _is_class(xp, number, p.shape[0], p)
    if w is not None:
        zero = xp.zeros_like(loss)
        kept = w > 0
        loss, margin = xp.where(kept, w * loss, zero), xp.where(kept, margin, xp.full_like(zero, float("inf")))
        slope = slope * w
    least = xp.min(margin) if x.shape[0] else xp.sum(margin)
    sums = (least, xp.sum(loss), slope @ x, xp.sum(slope, axis=1))
    if curvature == "none":
        return sums
    # p (1 − p); for the true class, the slope holds −(1 − p) without cancellation.
    own = p * (1.0 - p) if w is None else w * (p * (1.0 - p))
    own = xp.where(mine, -slope * p, own)
    if curvature == "diagonal":
        return *sums, own @ (x * x), xp.sum(own, axis=1)
    k, n = p.shape
    root = p if w is None else p * xp.sqrt(w)
    each = xp.reshape(root.T[:, :, None] * x[:, None, :], (n, k * x.shape[1]))
    own_xx = xp.matmul(own[:, None, :] * x.T[None, :, :], x)
    return *sums, own_xx, own @ x, xp.sum(own, axis=1), each.T @ each, each.T @ root.T, root @ root.T


def _class_items(mode: Mode, r: Array, number: Array) -> tuple[Array, Array, Array, Array]:
    """p, the loss, its derivative by r, and the margin, from logits (K, n); all are accurate where p is near 1.

    The logits are overwritten.
    """
    xp, (_, subtract, multiply, *_) = mode.xp, mode.own
    mine = _is_class(xp, number, r.shape[0], r)
    zero = xp.zeros_like(r)
    r = subtract(r, stop_gradient(xp.max(r, axis=0)))
    e = xp.exp(r)
    own = xp.sum(xp.where(mine, r, zero), axis=0)
    rest = xp.sum(xp.where(mine, zero, e), axis=0)
    same = xp.exp(own)
    total = same + rest
    # The maximum was subtracted as a constant. Where it is the own logit, this restores the derivative by it.
    apart = rest * xp.exp(-xp.where(own == 0, own, 0.0)) if mode.grad else rest
    loss = class_loss(xp, own, apart, total)
    over = 1.0 / total
    p = multiply(e, over)
    slope = xp.where(mine, -rest * over, p)
    return p, loss, slope, same - rest


def _is_class(xp: Namespace, number: Array, classes: int, r: Array) -> Array:
    return xp.arange(classes, dtype=number.dtype, device=device(r))[:, None] == number[None, :]


def _soft_items(xp: Namespace, r: Array, y: Array) -> tuple[Array, Array, Array]:
    """p, the loss and its derivative by r, for y in [0, 1]."""
    p, other = sigmoids(xp, r)
    return p, cross_entropy(xp, r, y), (1.0 - y) * p - y * other

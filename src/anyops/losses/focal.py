"""Focal loss: cross-entropy with low weights for well-classified items.

Notation: z the logit against the target, so σ(z) is the probability of the wrong class; w the distance of a soft target
from the nearer hard target; ce = softplus(z) − wz the cross-entropy; q = σ(z) + w(1 − 2σ(z)) the paper's 1 − p_t. In
these terms there is no cancellation: for z → −∞ the prediction is right, and ce = q = e^z to the last digit; for
z → +∞ it is wrong, and ce = z and q = 1.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from .._array.arguments import check_axis, check_integer, check_number, check_parameter
from .._array.elementwise import with_slope
from .._array.integers import check_held
from .._array.mode import Mode, sized_mode_of
from .._array.namespace import (
    A,
    Array,
    DType,
    Namespace,
    cast,
    check_dtype,
    compiles_branches,
    compute_dtype,
    default_int,
    device,
    divisor,
    is_array,
    number_in,
    positive,
    promoted,
    result_dtype,
    stop_gradient,
)
from .._array.pieces import by_rows
from .._array.support import Kind, op
from .._math import cross_entropy, log_sum_exp, present
from .reduction import Reduction, check_reduction, check_weights, reduce, share, shares


class LossAndGrad(NamedTuple):
    """A loss and its derivative with respect to the logits."""

    loss: Array
    dlogits: Array


# --- the common core -------------------------------------------------------------------------------------------------


def _focal(
    mode: Mode,
    z: Array,
    w: Array | None,
    weight: Array | None,
    gamma: float | Array,
    *,
    slope: bool,
    balance: tuple[Array, Array] | None = None,
) -> tuple[Array, ...]:
    """Return weight · q^γ · ce, and its derivative by z if `slope`; w = None for hard targets.

    For soft targets ``balance = (u, v)`` replaces ce by u softplus(z) + v softplus(−z).
    """
    xp, own = mode.xp, mode.own
    cap, capped = _cap(xp, z.dtype), z
    if not mode.at_hand or bool(xp.any(z > cap)):
        capped = xp.minimum(z, xp.full_like(z, cap))
    odds = xp.exp(capped)
    softplus = xp.log1p(odds)
    rest = 1.0 / (1.0 + odds) if slope else None  # 1 − σ(z)
    if rest is not None and capped is not z:
        rest = xp.where(z > cap, 0.0, rest)
    miss = own.divide(odds, 1.0 + odds)
    q = miss if w is None else miss + w * (1.0 - 2.0 * miss)
    power = _power(xp, q, w, gamma, capped, softplus)
    ce = softplus if capped is z else own.add(softplus, z - capped)
    if w is not None and balance is None:
        ce = own.subtract(ce, w * z)
    if balance is not None or (not is_array(gamma) and gamma == 0):
        ce = cross_entropy(xp, z, w, balance)
    if weight is not None:
        power = weight if power is None else own.multiply(power, weight)
    if rest is None:
        return (ce if power is None else own.multiply(ce, power),)
    # d/dz (q^γ ce) = q^γ (γ ce q′/q + ce′), where q′/q is at most 1
    if w is None:
        derivative = own.add(own.multiply(own.multiply(rest, ce), gamma), miss)
    else:
        part = w > 0  # for w = 0, q = σ(z), which may have underflowed
        ratio = xp.where(part, miss / xp.where(part, q, 1.0), 1.0)
        ascent = miss - w if balance is None else balance[0] * miss - balance[1] * rest
        derivative = rest * ce * (1.0 - 2.0 * w) * ratio * gamma + ascent
    if power is None:
        return ce, derivative
    return own.multiply(ce, power), own.multiply(derivative, power)


def _cap(xp: Namespace, dtype: DType) -> float:
    """Return a z with σ(z) = 1 to rounding and finite e^4z, a divisor in third derivatives of e^z / (1 + e^z)."""
    return -1.25 * math.log(float(xp.finfo(dtype).eps))  # 20 in float32, 45 in float64


def _power(xp: Namespace, q: Array, w: Array | None, gamma: float | Array, z: Array, softplus: Array) -> Array | None:
    """q^γ, None for γ = 0. By products for a small integer γ; else through log q, because 0^γ has no derivative."""
    if not is_array(gamma):
        if gamma == 0:
            return None
        # Comparisons, because with them a compiler makes one program for all γ but these.
        products = 4 if compiles_branches(xp) else 16
        power = next((k for k in range(1, products + 1) if gamma == k), None)
        if power is not None:
            return q * q if power == 2 else q**power
    log_q = z - softplus
    if w is not None:
        # At w = 0 linear in w, so that the derivative by w is (1 − 2q)/q.
        part, least = w > 0, float(xp.finfo(z.dtype).smallest_normal)
        hard = log_q + w * stop_gradient((1.0 - 2.0 * q) / xp.where(q > least, q, least))
        log_q = xp.where(part, xp.log(xp.where(part, q, 1.0)), hard)
    return xp.exp(gamma * log_q)


# --- two classes -----------------------------------------------------------------------------------------------------


@op(Kind.VALUES)
def sigmoid_focal_loss(
    logits: A,
    targets: Array,
    alpha: float | Array | None = 0.25,
    gamma: float | Array = 2.0,
    reduction: Reduction = "none",
    *,
    pos_weight: float | Array | None = None,
    sample_weight: Array | None = None,
) -> A:
    """−α_t (1 − p_t)^γ log p_t of independent binary classifications [1]_.

    p = σ(x), p_t = pt + (1 − p)(1 − t), −log p_t the cross-entropy t softplus(−x) + (1 − t) softplus(x), and α_t = αt +
    (1 − α)(1 − t); equations 4 and 5; soft targets as in torchvision and optax. `pos_weight` multiplies the first term
    of the cross-entropy, `sample_weight` the loss of each item.

    Parameters
    ----------
    logits : array
        Of any shape. Floating or integer; integers become the namespace's default float, 16-bit floats are computed in
        float32.
    targets : array
        Same shape, numbers in [0, 1]. Bool, integer or floating. Values outside are not checked; their loss is
        meaningless.
    alpha : float in [0, 1] or None
        Weight of the positive class; the negative class has 1 − alpha. None means no weights.
    gamma : float ≥ 0
        0 is the weighted binary cross-entropy, to the last bit.
    reduction : {"none", "mean", "sum"}
        The mean is over all items, Σ w loss / Σ w with weights; the mean of an empty array is 0.
    pos_weight : float ≥ 0 or array, optional
        Weight of the positive term, as in torch's ``BCEWithLogitsLoss``: a number, or an array that broadcasts to the
        shape of `logits`, such as (C,) with one weight per class along the last axis.
    sample_weight : array, optional
        Bool or numbers ≥ 0, broadcast to the shape of `logits`, such as (N, 1) with one weight per row. An item of
        weight 0 is ignored in the loss and all gradients, even if it holds NaN.

    Returns
    -------
    array
        In the shape of `logits`, or 0-d. Accurate to the relative precision of the dtype at logits of any size; first
        and second derivatives are finite. NaN if a logit is NaN or infinite.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array, shapes differ, or an option is out of its range. Negative weights in arrays
        raise where checking is free (NumPy), and give NaN elsewhere.

    References
    ----------
    .. [1] Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002, equations 1 to 5.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> logits, targets = np.asarray([-2.0, 0.0, 2.0]), np.asarray([0, 1, 1])
    >>> anyops.sigmoid_focal_loss(logits, targets).round(6)
    array([0.001353, 0.043322, 0.000451])
    >>> anyops.sigmoid_focal_loss(logits, targets, alpha=None, gamma=0.0).round(6)  # binary cross-entropy
    array([0.126928, 0.693147, 0.126928])
    >>> there = np.asarray([True, True, False])  # the last item is padding
    >>> anyops.sigmoid_focal_loss(logits, targets, reduction="mean", sample_weight=there).round(6)
    np.float64(0.022337)
    """
    mode, arrays, options = _check_sigmoid(logits, targets, alpha, gamma, reduction, pos_weight, sample_weight)
    return mode.run(_sigmoid_loss, *arrays, **options)


@op(Kind.VALUES)
def sigmoid_focal_loss_and_grad(
    logits: Array,
    targets: Array,
    alpha: float | Array | None = 0.25,
    gamma: float | Array = 2.0,
    reduction: Reduction = "none",
    *,
    pos_weight: float | Array | None = None,
    sample_weight: Array | None = None,
) -> LossAndGrad:
    """:func:`sigmoid_focal_loss` and its derivative by the logits in closed form, without automatic differentiation.

    With z = x(1 − 2t) for a hard target, d/dz = α_t q^γ (γ(1 − q) ce + q).

    Parameters
    ----------
    logits, targets, alpha, gamma, reduction, pos_weight, sample_weight
        As in :func:`sigmoid_focal_loss`.

    Returns
    -------
    loss : array
        As returned by :func:`sigmoid_focal_loss`.
    dlogits : array
        In the shape and dtype of `logits` (the default float for integers): of each item's own loss for "none" and
        "sum", of the mean for "mean".

    Raises
    ------
    TypeError, ValueError
        As :func:`sigmoid_focal_loss`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> loss, dlogits = anyops.sigmoid_focal_loss_and_grad(np.asarray([0.0, 2.0]), np.asarray([1, 1]), reduction="sum")
    >>> float(loss.round(6)), dlogits.round(6)
    (0.043773, array([-0.074572, -0.001218]))
    """
    mode, arrays, options = _check_sigmoid(logits, targets, alpha, gamma, reduction, pos_weight, sample_weight)
    return LossAndGrad(*mode.run(_sigmoid_loss_and_grad, *arrays, **options, of=result_dtype(mode.xp, logits=logits)))


def _check_sigmoid(
    logits: Array,
    targets: Array,
    alpha: float | None,
    gamma: float,
    reduction: str,
    pos_weight: float | Array | None,
    sample_weight: Array | None,
) -> tuple[Mode, tuple[Array | None, ...], dict[str, object]]:
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    if is_array(pos_weight) and pos_weight.ndim > 0:
        weights["pos_weight"] = pos_weight
    elif pos_weight is not None:
        if isinstance(pos_weight, list | tuple):
            raise TypeError(f"pos_weight must be a number or an array, got {type(pos_weight).__name__}")
        pos_weight = check_parameter("pos_weight", pos_weight, least=0)
    if isinstance(alpha, int | float) and alpha < 0:
        raise ValueError(f"alpha must be in [0, 1] or None, got {alpha}; None leaves it out")
    numbers = {
        "pos_weight": pos_weight,
        "alpha": None if alpha is None else check_parameter("alpha", alpha, least=0, largest=1),
        "gamma": check_parameter("gamma", gamma, least=0),
    }
    arrays = {name: x for name, x in numbers.items() if is_array(x)}
    mode = sized_mode_of(logits=logits, targets=targets, **(weights | arrays))
    xp = mode.xp
    dtype = result_dtype(xp, logits=logits)
    check_dtype(xp, "targets", targets, "real floating", "integral", "bool")
    if tuple(targets.shape) != tuple(logits.shape):
        raise ValueError(
            f"targets must have the shape of logits, {tuple(logits.shape)}, got {tuple(targets.shape)}; "
            "for class labels use softmax_focal_loss"
        )
    for name, x in weights.items():
        check_weights(mode, name, x, tuple(logits.shape))
    hard = not xp.isdtype(targets.dtype, "real floating")
    if not hard:
        dtype = promoted(xp, dtype, targets.dtype)
    check_reduction(reduction)
    options = {**numbers, "reduction": reduction, "dtype": dtype, "hard": hard}
    return mode, (logits, targets, sample_weight), options


def _sigmoid_items(
    mode: Mode,
    x: Array,
    t: Array,
    pos_weight: float | Array | None = None,
    *,
    alpha: float | Array | None,
    gamma: float | Array,
    hard: bool,
    slope: bool,
) -> tuple[Array, ...]:
    """Loss of each item, and its derivative by x if `slope`."""
    xp, own = mode.xp, mode.own
    against, w, balance = 1.0 - t, None, None
    weight = None if alpha is None else own.add(t * (2.0 * alpha - 1.0), 1.0 - alpha)
    # Σ t(1 − t) is 0 only if all targets are hard. With a gradient, floating targets are soft, to have a derivative.
    if hard or (mode.at_hand and not mode.grad and bool(_dot(xp, t, against) == 0)):
        if pos_weight is not None:
            chosen = t * pos_weight + against
            weight = chosen if weight is None else own.multiply(weight, chosen)
        sign = own.subtract(against, t)
    else:
        nearest = xp.round(t)
        sign = 1.0 - 2.0 * nearest
        w = (t - nearest) * sign
        if pos_weight is not None:  # multiplies the nearer term if t is nearer to 1, else the farther term
            of_near, of_far = (xp.where(side, pos_weight, xp.ones_like(t)) for side in (nearest > 0, nearest <= 0))
            balance = of_near * (1.0 - w), of_far * w
    found = _focal(mode, x * sign, w, weight, gamma, slope=slope, balance=balance)
    return found if not slope else (found[0], own.multiply(found[1], sign))


def _sigmoid_pieces(
    mode: Mode,
    x: Array,
    t: Array,
    *,
    alpha: float | Array | None,
    gamma: float | Array,
    pos_weight: float | Array | None,
    hard: bool,
    slope: bool,
) -> tuple[Array, ...]:
    """:func:`_sigmoid_items`, in pieces."""
    items = partial(_sigmoid_items, mode, alpha=alpha, gamma=gamma, hard=hard, slope=slope)
    # Half as large with `slope`, for its temporaries: malloc returns megabytes to the system, and page faults follow.
    grain = mode.grain // 2 if slope else mode.grain
    if pos_weight is None or isinstance(pos_weight, float):
        return by_rows(mode, partial(items, pos_weight=pos_weight), x, t, grain=grain)
    return by_rows(mode, items, x, t, mode.xp.broadcast_to(pos_weight, x.shape), grain=grain)


def _in_range(xp: Namespace, x: Array, t: Array, weight: Array | None) -> tuple[Array, Array]:
    """Return logits and targets, with zeros for values of weight-0 items that have no finite loss."""
    if weight is None:
        return x, t
    return present(xp, x, weight), xp.where((weight > 0) | ((t >= 0) & (t <= 1)), t, 0.0)


def _dot(xp: Namespace, x: Array, y: Array) -> Array:
    """Σ xy over all items."""
    return xp.vecdot(xp.reshape(x, (-1,)), xp.reshape(y, (-1,)))


def _sigmoid_loss(
    mode: Mode,
    logits: Array,
    targets: Array,
    sample_weight: Array | None,
    *,
    reduction: str,
    dtype: DType,
    **options: Any,
) -> Array:
    xp, wide = mode.xp, compute_dtype(mode.xp, dtype)
    factor = shares(mode, sample_weight, tuple(logits.shape), wide, reduction)
    x, t = _in_range(xp, cast(xp, logits, wide), cast(xp, targets, wide), factor)

    def value(mode: Mode, x: Array, t: Array, **options: Any) -> Array:
        return _sigmoid_pieces(mode, x, t, slope=False, **options)[0]

    # In one piece, because the graph keeps all memory anyway.
    both = partial(_sigmoid_items, slope=True)
    loss = with_slope(mode, value, both, x, t, **{k: number_in(xp, y, wide) for k, y in options.items()})
    return cast(xp, reduce(xp, loss, reduction, factor=factor), dtype)


def _sigmoid_loss_and_grad(
    mode: Mode,
    logits: Array,
    targets: Array,
    sample_weight: Array | None,
    *,
    reduction: str,
    dtype: DType,
    of: DType,
    **options: Any,
) -> tuple[Array, Array]:
    xp, wide = mode.xp, compute_dtype(mode.xp, dtype)
    factor = shares(mode, sample_weight, tuple(logits.shape), wide, reduction)
    x, t = _in_range(xp, cast(xp, logits, wide), cast(xp, targets, wide), factor)
    loss, slope = _sigmoid_pieces(mode, x, t, slope=True, **{k: number_in(xp, y, wide) for k, y in options.items()})
    loss, slope = reduce(xp, loss, reduction, factor=factor), share(xp, slope, reduction, factor=factor)
    return cast(xp, loss, dtype), cast(xp, slope, of)


# --- many classes ----------------------------------------------------------------------------------------------------


@op(Kind.VALUES)
def softmax_focal_loss(
    logits: A,
    labels: Array,
    *,
    alpha: float | Array | Sequence[float] | None = None,
    gamma: float | Array = 2.0,
    axis: int = -1,
    ignore_index: int | None = None,
    label_smoothing: float | Array = 0.0,
    reduction: Reduction = "none",
    sample_weight: Array | None = None,
) -> A:
    """−Σ_c t_c α_c (1 − p_c)^γ log p_c, p the softmax of the logits [1]_.

    t is one for the label and zero elsewhere, (1 − ε) onehot + ε / C with label smoothing ε, or given.

    Parameters
    ----------
    logits : array (..., C, ...)
        Floating or integer; integers become the namespace's default float, 16-bit floats are computed in float32. A
        logit of −∞ marks an impossible class.
    labels : array
        Integers 0 to C − 1 in the shape of `logits` without its class axis; or the t_c themselves, floating, in the
        whole shape of `logits`.
    alpha : float in [0, 1], array (C,), sequence of C numbers, or None
        One weight for all items, or a weight ≥ 0 of each class.
    gamma : float ≥ 0
        0 is the weighted cross-entropy.
    axis : int
        The class axis of `logits`.
    ignore_index : int, optional
        Items with this label are ignored: loss and gradient are 0, whatever their logits.
    label_smoothing : float in [0, 1]
        ε above.
    reduction : {"none", "mean", "sum"}
        The mean is over the items not ignored, whatever their `alpha`; Σ w loss / Σ w with a `sample_weight`. The mean
        of no items is 0.
    sample_weight : array, optional
        Bool or numbers ≥ 0, broadcast to the shape of the items: `logits` without the class axis. An item of weight 0
        is ignored in the loss and all gradients, even if it holds NaN or a label out of range.

    Returns
    -------
    array
        In the shape of `logits` without its class axis, or 0-d. A label out of range raises where checking is free
        (NumPy), and gives NaN elsewhere and under a transform.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, or an option is out of its range.

    References
    ----------
    .. [1] Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002, equation 5 with the softmax's p_t.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> logits = np.asarray([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    >>> anyops.softmax_focal_loss(logits, np.asarray([0, 2])).round(6)
    array([0.004144, 0.488272])
    >>> anyops.softmax_focal_loss(logits, np.asarray([0, -100]), ignore_index=-100, reduction="mean").round(6)
    np.float64(0.004144)
    """
    mode, arguments, options = _check_softmax(
        logits, labels, alpha, gamma, axis, ignore_index, label_smoothing, reduction, sample_weight
    )
    return mode.run(_softmax_loss, *arguments, **options, slope=False)


@op(Kind.VALUES)
def softmax_focal_loss_and_grad(
    logits: Array,
    labels: Array,
    *,
    alpha: float | Array | Sequence[float] | None = None,
    gamma: float | Array = 2.0,
    axis: int = -1,
    ignore_index: int | None = None,
    label_smoothing: float | Array = 0.0,
    reduction: Reduction = "none",
    sample_weight: Array | None = None,
) -> LossAndGrad:
    """:func:`softmax_focal_loss` and its derivative by the logits in closed form, without automatic differentiation.

    Parameters
    ----------
    logits, labels, alpha, gamma, axis, ignore_index, label_smoothing, reduction, sample_weight
        As in :func:`softmax_focal_loss`.

    Returns
    -------
    loss : array
        As returned by :func:`softmax_focal_loss`.
    dlogits : array
        In the shape and dtype of `logits` (the default float for integers): of each item's own loss for "none" and
        "sum", of the mean for "mean".

    Raises
    ------
    TypeError, ValueError
        As :func:`softmax_focal_loss`.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> loss, dlogits = anyops.softmax_focal_loss_and_grad(np.asarray([[2.0, 0.0, -1.0]]), np.asarray([0]))
    >>> loss.round(6), dlogits.round(6)
    (array([0.004144]), array([[-0.010805,  0.007899,  0.002906]]))
    """
    mode, arguments, options = _check_softmax(
        logits, labels, alpha, gamma, axis, ignore_index, label_smoothing, reduction, sample_weight
    )
    return LossAndGrad(*mode.run(_softmax_loss, *arguments, **options, slope=True))


def _check_softmax(
    logits: Array,
    labels: Array,
    alpha: float | Array | Sequence[float] | None,
    gamma: float,
    axis: int,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
    sample_weight: Array | None,
) -> tuple[Mode, tuple[Array | None, ...], dict[str, object]]:
    of_classes = (isinstance(alpha, Sequence) and not isinstance(alpha, str | bytes)) or (
        is_array(alpha) and alpha.ndim > 0
    )
    numbers = {
        "alpha": None if alpha is None or of_classes else check_parameter("alpha", alpha, least=0, largest=1),
        "gamma": check_parameter("gamma", gamma, least=0),
        "label_smoothing": check_parameter("label_smoothing", label_smoothing, least=0, largest=1),
    }
    arrays = {name: x for name, x in numbers.items() if is_array(x)}
    arrays |= {"alpha": alpha} if of_classes and is_array(alpha) else {}
    arrays |= {} if sample_weight is None else {"sample_weight": sample_weight}
    mode = sized_mode_of(logits=logits, labels=labels, **arrays)
    xp = mode.xp
    dtype = result_dtype(xp, logits=logits)
    check_held(mode, "logits", logits, compute_dtype(xp, dtype))
    check_dtype(xp, "labels", labels, "integral", "real floating")
    soft = xp.isdtype(labels.dtype, "real floating")
    if logits.ndim == 0:
        raise ValueError("logits must have shape (..., C, ...), got ()")
    axis = check_axis("axis", axis, logits.ndim)
    shape = tuple(logits.shape)
    classes, items = shape[axis], shape[:axis] + shape[axis + 1 :]
    if classes == 0:
        raise ValueError(f"logits must have at least one class along axis {axis}, got {shape}")
    if tuple(labels.shape) != (shape if soft else items):
        what = "floating class probabilities" if soft else "integer class labels"
        raise ValueError(
            f"labels must have shape {shape if soft else items} as {what} for logits of shape {shape} with classes "
            f"along axis {axis}, got {tuple(labels.shape)}"
        )
    if soft:
        dtype = promoted(xp, dtype, labels.dtype)
    if ignore_index is not None:
        ignore_index = check_integer("ignore_index", ignore_index)
        if soft:
            raise ValueError(f"ignore_index must be None if labels are probabilities, got {ignore_index}")
    weights = _class_weights(mode, alpha, logits, classes, compute_dtype(xp, dtype)) if of_classes else None
    check_reduction(reduction)
    options = {
        **numbers,
        "axis": axis,
        "ignore_index": ignore_index,
        "reduction": reduction,
        "dtype": dtype,
        "of": result_dtype(xp, logits=logits),
    }
    check_weights(mode, "sample_weight", sample_weight, items)
    if not soft and mode.raises:
        wrong = (labels < 0) | (labels >= classes)
        if sample_weight is not None:
            wrong = wrong & positive(xp, sample_weight)
        if ignore_index is not None:
            wrong = wrong & (labels != ignore_index)
        if bool(xp.any(wrong)):
            worst = int(xp.max(xp.where(wrong, labels, int(xp.min(labels)))))
            raise ValueError(f"labels must be in [0, {classes - 1}], or ignore_index, got {worst}")
    return mode, (logits, labels, weights, sample_weight), options


def _class_weights(mode: Mode, alpha: Any, logits: Array, classes: int, dtype: DType) -> Array:
    """Return a weight for each class as an array (C,)."""
    if isinstance(alpha, Sequence):
        numbers = [check_number(f"alpha[{i}]", a, least=0) for i, a in enumerate(alpha)]
        alpha = mode.constant(tuple(numbers), dtype, logits)
    check_dtype(mode.xp, "alpha", alpha, "real floating", "integral")
    if tuple(alpha.shape) != (classes,):
        raise ValueError(f"alpha must be a number or have shape ({classes},), got {tuple(alpha.shape)}")
    return alpha


def _softmax_loss(
    mode: Mode,
    logits: Array,
    labels: Array,
    weights: Array | None,
    sample_weight: Array | None,
    *,
    alpha: float | Array | None,
    gamma: float | Array,
    axis: int,
    ignore_index: int | None,
    label_smoothing: float | Array,
    reduction: str,
    dtype: DType,
    of: DType,
    slope: bool,
) -> Array | tuple[Array, Array]:
    xp, wide = mode.xp, compute_dtype(mode.xp, dtype)
    alpha, gamma, label_smoothing = (number_in(xp, x, wide) for x in (alpha, gamma, label_smoothing))
    x = _class_last(xp, cast(xp, logits, wide), axis)
    classes = x.shape[-1]
    each = None if weights is None else cast(xp, weights, wide)
    count = divisor(xp, math.prod(x.shape[:-1]), x)
    counts = None
    if xp.isdtype(labels.dtype, "real floating"):
        t = _class_last(xp, cast(xp, labels, wide), axis)
    else:
        t = cast(xp, labels, default_int(xp, labels))
        if ignore_index is not None and reduction == "mean":
            counts = t != ignore_index
            count = xp.sum(xp.astype(counts, wide))
            count = xp.maximum(count, xp.ones_like(count))
    factor = shares(mode, sample_weight, x.shape[:-1], wide, reduction, counts)
    if factor is not None:
        x, t = _with_classes(xp, x, t, factor > 0)
    items = partial(
        _softmax_items,
        mode,
        each=each,
        number=xp.arange(classes, dtype=default_int(xp, labels), device=device(labels)),
        gamma=gamma,
        ignore_index=ignore_index,
        smoothing=label_smoothing,
        slope=slope,
    )
    loss, *grads = by_rows(mode, items, x, t, whole=1, grain=mode.grain)
    if alpha is not None:
        loss, grads = loss * alpha, [g * alpha for g in grads]
    loss = cast(xp, reduce(xp, loss, reduction, count, factor), dtype)
    if not slope:
        return loss
    dlogits = share(xp, grads[0], reduction, count, None if factor is None else factor[..., None])
    return loss, cast(xp, _class_back(xp, dlogits, axis), of)


def _with_classes(xp: Namespace, x: Array, t: Array, counts: Array) -> tuple[Array, Array]:
    """Return logits (..., C), and labels or probabilities, with zeros where ignored items have no finite loss."""
    far = float(xp.finfo(x.dtype).max) / 4  # so that differences of logits are finite
    x = xp.where(counts[..., None] | (xp.abs(x) < far), x, 0.0)
    if t.ndim == x.ndim:
        return x, xp.where(counts[..., None] | ((t >= 0) & (t <= 1)), t, 0.0)
    return x, xp.where(counts | ((t >= 0) & (t < x.shape[-1])), t, 0)


# permute_dims, because torch.func.vmap has no batching rule for moveaxis (torch 2.13).
def _class_last(xp: Namespace, x: Array, axis: int) -> Array:
    others = [i for i in range(x.ndim) if i != axis]
    return xp.permute_dims(x, (*others, axis))


def _class_back(xp: Namespace, x: Array, axis: int) -> Array:
    others = list(range(x.ndim - 1))
    return xp.permute_dims(x, (*others[:axis], x.ndim - 1, *others[axis:]))


def _softmax_items(
    mode: Mode,
    x: Array,
    t: Array,
    *,
    each: Array | None,
    number: Array,
    gamma: float | Array,
    ignore_index: int | None,
    smoothing: float | Array,
    slope: bool,
) -> tuple[Array, ...]:
    """Loss of each item (..., C), and its derivative by x if `slope`; t is labels (...) or probabilities (..., C)."""
    xp = mode.xp
    weight = None if each is None else each + xp.zeros_like(x)
    if t.ndim == x.ndim:
        return _all_classes(mode, x, (1.0 - smoothing) * t + smoothing / x.shape[-1], weight, gamma, slope=slope)
    chosen = t[..., None] == number
    counts = None
    if ignore_index is not None:
        counts = (t != ignore_index)[..., None]
        x = xp.where(counts, x, 0.0)
    # 1 for an item, 0 for an ignored one, NaN for a label out of range.
    known = (t >= 0) & (t < x.shape[-1])
    item = xp.where(known, xp.ones_like(x[..., 0]), math.nan)[..., None]
    if counts is not None:
        item = xp.where(counts, item, 0.0)
    if not is_array(smoothing) and smoothing == 0:
        return _one_class(mode, x, chosen, item if weight is None else item * weight, gamma, slope=slope)
    onehot = xp.where(chosen, xp.ones_like(x), 0.0)
    t = ((1.0 - smoothing) * onehot + smoothing / x.shape[-1]) * item
    return _all_classes(mode, x, t, weight, gamma, slope=slope)


def _one_class(
    mode: Mode, x: Array, chosen: Array, weight: Array, gamma: float | Array, *, slope: bool
) -> tuple[Array, ...]:
    """Focal loss of one class against the rest, as two classes with logit z = log Σ_{c≠y} e^{x_c} − x_y."""
    xp = mode.xp
    # Not −∞: if all other classes are impossible, the maximum must still be finite.
    others = xp.where(chosen, float(xp.finfo(x.dtype).min), x)
    z, shares = log_sum_exp(xp, others, xp.sum(xp.where(chosen, x, 0.0), axis=-1, keepdims=True))
    if weight.shape[-1] != 1:
        weight = xp.sum(xp.where(chosen, weight, 0.0), axis=-1, keepdims=True)
    loss, *slopes = _focal(mode, z, None, weight, gamma, slope=slope)
    if not slope:
        return (loss[..., 0],)
    return loss[..., 0], slopes[0] * xp.where(chosen, -1.0, shares)


def _all_classes(
    mode: Mode, x: Array, t: Array, each: Array | None, gamma: float | Array, *, slope: bool
) -> tuple[Array, ...]:
    """Σ_c t_c α_c times the focal loss of class c against the rest, for every class.

    The sum over the rest is 1 − p_c. As a difference it is exact for all classes except the most probable one, for
    which the rest is summed directly.
    """
    xp = mode.xp
    if x.shape[-1] == 1:  # no rest: p = 1
        loss = xp.sum(x * 0.0 * t, axis=-1)
        return (loss, xp.zeros_like(x)) if slope else (loss,)
    first = xp.argmax(x, axis=-1, keepdims=True)
    best = first == xp.arange(x.shape[-1], dtype=first.dtype, device=device(x))
    top = xp.sum(xp.where(best, x, 0.0), axis=-1, keepdims=True)
    rest, shares = log_sum_exp(xp, xp.where(best, float(xp.finfo(x.dtype).min), x), top)
    below = xp.exp(rest)  # Σ e^{x_c − top} over all classes but the best
    mine = xp.exp(x - top)
    against = xp.where(best, 1.0, 1.0 + (below - mine))
    z = xp.where(best, rest, xp.log(against) - (x - top))
    weight = t if each is None else t * each
    z = xp.where((weight == 0) & (z == math.inf), 0.0, z)  # an impossible class of weight 0
    found = _focal(mode, z, None, weight, gamma, slope=slope)
    loss = xp.sum(found[0], axis=-1)
    if not slope:
        return (loss,)
    # ∂z_c/∂x_j is −1 for j = c, else p_j / (1 − p_c), the share of j in the rest.
    total = 1.0 + below
    each_share = xp.where(best, 0.0, found[1] * total / against)
    elsewhere = mine / total * (xp.sum(each_share, axis=-1, keepdims=True) - each_share)
    of_best = xp.sum(xp.where(best, found[1], 0.0), axis=-1, keepdims=True)
    return loss, elsewhere - found[1] + xp.where(best, 0.0, of_best * shares)

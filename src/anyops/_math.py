"""Functions for which the plain formula loses digits, overflows, or has no derivative somewhere."""

from ._array.mode import Mode
from ._array.namespace import Array, DType, Namespace, cast, compute_dtype, device, is_kind, promoted, stop_gradient
from ._array.subnormal import lifted

SQUARABLE = 2.0**50  # above it, and below its inverse, squares of float32 leave their range


def softplus(xp: Namespace, z: Array) -> Array:
    """log(1 + e^z), to the last digits; its second derivative at 0 is not found, see :func:`cross_entropy`."""
    return xp.log1p(xp.exp(-xp.abs(z))) + xp.maximum(z, xp.zeros_like(z))


def cross_entropy(xp: Namespace, z: Array, w: Array | None, balance: tuple[Array, Array] | None = None) -> Array:
    """(1 − w) softplus(z) + w softplus(−z), as defined, to the last bit, with two derivatives; w = None for 0.

    Or ``u softplus(z) + v softplus(−z)`` for ``balance = (u, v)``.
    """
    # where, and not abs and maximum, which have no second derivative at 0, and take a fraction of the time
    positive = z > 0
    tail = xp.log1p(xp.exp(xp.where(positive, -z, z)))
    against = tail + xp.where(positive, z, 0.0)
    if w is None:
        return against
    u, v = balance or (1.0 - w, w)
    return u * against + v * (tail - xp.where(positive, 0.0, z))


def sigmoids(xp: Namespace, z: Array) -> tuple[Array, Array]:
    """σ(z) and σ(−z) = 1 − σ(z), both to the last digits."""
    e = xp.exp(-xp.abs(z))
    q = 1.0 / (1.0 + e)
    up = z >= 0
    return xp.where(up, q, e * q), xp.where(up, e * q, q)


def log_sum_exp(xp: Namespace, x: Array, level: Array) -> tuple[Array, Array]:
    """log Σ e^x − level along the last axis, which stays, and the share of each in the sum.

    The largest x meets the level before the logarithm joins: beside logits of ±10 000 that would lose its digits.
    """
    top = stop_gradient(xp.max(x, axis=-1, keepdims=True))
    parts = xp.exp(x - top)
    total = xp.sum(parts, axis=-1, keepdims=True)
    return (top - level) + xp.log(total), parts / total


def log_softmax(xp: Namespace, r: Array) -> Array:
    """The logarithms of the softmax along the last axis, accurate where one probability is near 1."""
    # Of the classes at the top all but one are among the rest of it, and take no part in its derivative.
    first = xp.argmax(r, axis=-1, keepdims=True) == xp.arange(r.shape[-1], device=device(r))
    r = r - xp.sum(xp.where(first, r, 0.0), axis=-1, keepdims=True)
    rest = xp.sum(xp.where(first, 0.0, xp.exp(r)), axis=-1, keepdims=True)
    return r - xp.log1p(rest)


def class_loss(xp: Namespace, own: Array, rest: Array, total: Array) -> Array:
    """−log of the softmax of one class, of logits whose largest is 0: of its logit, and Σ e^r of the others and of all.

    Where its own is the largest, the others are small beside it, and keep their digits.
    """
    return xp.where(own == 0, xp.log1p(rest), xp.log(total) - own)


def quotient(xp: Namespace, x: Array, y: Array) -> Array:
    """x / y, and x where y is not above 0; neither value nor derivative is that of a division by 0."""
    return x / xp.where(y > 0, y, 1.0)


def inverse_scale(xp: Namespace, largest: Array) -> Array:
    """1, or 1 / largest where squares could overflow or vanish."""
    far = (largest > SQUARABLE) | ((largest < 1 / SQUARABLE) & (largest > 0))
    info = xp.finfo(largest.dtype)
    one = xp.ones_like(largest)
    # No inverse is infinite, or subnormal, which some processors take for 0. No scalars: torch would not compile them.
    bounded = xp.minimum(xp.maximum(largest, 4 * float(info.smallest_normal) * one), float(info.max) / 8 * one)
    return xp.where(far, one / bounded, one)


def present(xp: Namespace, x: Array, w: Array | None) -> Array:
    """Return x with zeros for what is not finite in items of weight 0, so that no gradient meets it."""
    return x if w is None else xp.where((w > 0) | xp.isfinite(x), x, 0.0)


def positive(xp: Namespace, weight: Array) -> Array:
    """Which weights are above 0; the standard compares no bools with numbers."""
    return weight if is_kind(xp, weight, "bool") else weight > 0


def in_unit(mode: Mode, weight: Array | None, wide: DType) -> tuple[Array | None, Array | None]:
    """Return weights (..., n) in a unit in which their sums stay in range, and the inverse of the unit (..., 1).

    In their own floating dtype, which may have a wider range; None for the unit where it is 1.
    """
    if weight is None or weight.shape[-1] == 0:
        return weight, None
    xp = mode.xp
    weight = cast(xp, weight, compute_dtype(xp, weight.dtype) if is_kind(xp, weight, "real floating") else wide)
    if mode.at_hand and weight.ndim == 1 and 1 / SQUARABLE < float(xp.max(stop_gradient(weight))) < SQUARABLE:
        return weight, None
    weight, power = lifted(xp, weight)
    inverse = inverse_scale(xp, stop_gradient(xp.max(weight, axis=-1, keepdims=True)))
    return weight * inverse, inverse * power


def out_of_unit(xp: Namespace, total: Array, inverse: Array) -> Array:
    """Return sums in the unit of the given weights, in a dtype that holds them."""
    dtype = promoted(xp, total.dtype, inverse.dtype)
    return cast(xp, total, dtype) / cast(xp, inverse, dtype)

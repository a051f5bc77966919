"""Functions whose plain formula would lose digits, overflow, or lack a derivative somewhere."""

from ._array.mode import Mode
from ._array.namespace import Array, DType, Namespace, cast, compute_dtype, device, is_kind, promoted, stop_gradient
from ._array.subnormal import lifted

SQUARABLE = 2.0**50  # above it, and below its inverse, squares of float32 leave their range


def softplus(xp: Namespace, z: Array) -> Array:
    """log(1 + e^z), accurate to the last digits; without a second derivative at 0, see :func:`cross_entropy`."""
    return xp.log1p(xp.exp(-xp.abs(z))) + xp.maximum(z, xp.zeros_like(z))


def cross_entropy(xp: Namespace, z: Array, w: Array | None, balance: tuple[Array, Array] | None = None) -> Array:
    """(1 − w) softplus(z) + w softplus(−z), rounded as this formula, twice differentiable; w = None for 0.

    With ``balance = (u, v)`` it is ``u softplus(z) + v softplus(−z)``.
    """
    # `where`, although it is several times slower than abs and maximum: these have no second derivative at 0.
    positive = z > 0
    tail = xp.log1p(xp.exp(xp.where(positive, -z, z)))
    against = tail + xp.where(positive, z, 0.0)
    if w is None:
        return against
    u, v = balance or (1.0 - w, w)
    return u * against + v * (tail - xp.where(positive, 0.0, z))


def sigmoids(xp: Namespace, z: Array) -> tuple[Array, Array]:
    """σ(z) and σ(−z) = 1 − σ(z), both accurate to the last digits."""
    e = xp.exp(-xp.abs(z))
    q = 1.0 / (1.0 + e)
    up = z >= 0
    return xp.where(up, q, e * q), xp.where(up, e * q, q)


def log_sum_exp(xp: Namespace, x: Array, level: Array) -> tuple[Array, Array]:
    """log Σ e^x − level along the last axis (kept as length 1), and the softmax of x.

    The level is subtracted from the largest x before the logarithm is added, which would lose its digits beside logits
    of ±10 000.
    """
    top = stop_gradient(xp.max(x, axis=-1, keepdims=True))
    parts = xp.exp(x - top)
    total = xp.sum(parts, axis=-1, keepdims=True)
    return (top - level) + xp.log(total), parts / total


def log_softmax(xp: Namespace, r: Array) -> Array:
    """The logarithms of the softmax along the last axis, accurate even if one probability is near 1."""
    # If several logits are the largest, only the first of them is subtracted; the others belong to the rest.
    first = xp.argmax(r, axis=-1, keepdims=True) == xp.arange(r.shape[-1], device=device(r))
    r = r - xp.sum(xp.where(first, r, 0.0), axis=-1, keepdims=True)
    rest = xp.sum(xp.where(first, 0.0, xp.exp(r)), axis=-1, keepdims=True)
    return r - xp.log1p(rest)


def class_loss(xp: Namespace, own: Array, rest: Array, total: Array) -> Array:
    """−log softmax of one class, for logits r with maximum 0: `own` its logit, `rest` and `total` Σ e^r of others, all.

    If its logit is the largest, log1p keeps the digits of a small `rest`.
    """
    return xp.where(own == 0, xp.log1p(rest), xp.log(total) - own)


def quotient(xp: Namespace, x: Array, y: Array) -> Array:
    """x / y, or x if y ≤ 0; neither the value nor the derivative divides by 0."""
    return x / xp.where(y > 0, y, 1.0)


def inverse_scale(xp: Namespace, largest: Array) -> Array:
    """1, or 1 / largest if squares could overflow or underflow."""
    far = (largest > SQUARABLE) | ((largest < 1 / SQUARABLE) & (largest > 0))
    info = xp.finfo(largest.dtype)
    one = xp.ones_like(largest)
    # Bounded so that no inverse is infinite, or subnormal, which some processors treat as 0. Arrays instead of scalars,
    # which torch would not compile.
    bounded = xp.minimum(xp.maximum(largest, 4 * float(info.smallest_normal) * one), float(info.max) / 8 * one)
    return xp.where(far, one / bounded, one)


def present(xp: Namespace, x: Array, w: Array | None) -> Array:
    """Return x with zeros for non-finite values of weight 0, so that they do not reach gradients."""
    return x if w is None else xp.where((w > 0) | xp.isfinite(x), x, 0.0)


def in_unit(mode: Mode, weight: Array | None, wide: DType) -> tuple[Array | None, Array | None]:
    """Return weights (..., n) in a unit in which their sums are in range, and the inverse of the unit (..., 1).

    Weights keep their floating dtype, which may have a wider range; None for the unit if it is 1.
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
    """Return sums in the unit of the given weights, in a dtype with sufficient range."""
    dtype = promoted(xp, total.dtype, inverse.dtype)
    return cast(xp, total, dtype) / cast(xp, inverse, dtype)

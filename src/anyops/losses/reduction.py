"""From the loss of each item to the requested reduction."""

import math
from typing import Literal, get_args

from .._array.mode import Mode
from .._array.namespace import Array, DType, Namespace, cast, check_dtype, divisor
from .._math import in_unit, quotient

Reduction = Literal["none", "mean", "sum"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless `reduction` is known."""
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")


def check_weights(mode: Mode, name: str, weights: Array | None, shape: tuple[int, ...]) -> None:
    """Raise unless weights broadcast to a shape; also for a negative weight, if checking values is free."""
    if weights is None:
        return
    xp, given = mode.xp, tuple(weights.shape)
    check_dtype(xp, name, weights, "real floating", "integral", "bool")
    fits = len(given) <= len(shape) and all(a in (1, b) for a, b in zip(reversed(given), reversed(shape), strict=False))
    if not fits:
        rows = given == shape[: len(given)]
        hint = f"; one for each row has shape {(*given, *(1,) * (len(shape) - len(given)))}" if rows else ""
        raise ValueError(f"{name} must broadcast to the shape of the items, {shape}, got {given}{hint}")
    if mode.raises and not xp.isdtype(weights.dtype, "bool") and bool(xp.any(weights < 0)):
        raise ValueError(f"{name} must be at least 0, got {float(xp.min(weights))}")


def shares(
    mode: Mode,
    weights: Array | None,
    shape: tuple[int, ...],
    dtype: DType,
    reduction: str,
    counts: Array | None = None,
) -> Array | None:
    """Return the factor of each item's loss: its weight, divided by their sum for "mean"; NaN for a negative weight.

    For "mean" only the ratios of weights matter, so they may have any scale. Items not in `counts` get 0. None if there
    are no weights.
    """
    if weights is None:
        return None
    xp = mode.xp
    if not xp.isdtype(weights.dtype, "bool"):
        floats = weights if xp.isdtype(weights.dtype, "real floating") else cast(xp, weights, dtype)
        weights = xp.where(floats < 0, math.nan, floats)
    if reduction == "mean":
        flat, _ = in_unit(mode, xp.reshape(weights, (-1,)), dtype)
        weights = xp.reshape(flat, weights.shape)
    weights = xp.broadcast_to(cast(xp, weights, dtype), shape)
    if counts is not None:
        weights = xp.where(counts, weights, 0.0)
    return quotient(xp, weights, xp.sum(weights)) if reduction == "mean" else weights


def reduce(
    xp: Namespace, loss: Array, reduction: str, count: Array | float | None = None, factor: Array | None = None
) -> Array:
    """Return the losses, their sum, or their sum divided by their number (or `count`); the mean of no items is 0.

    With factors from :func:`shares` the mean is a sum.
    """
    if factor is not None:
        loss, count = loss * factor, 1
    if reduction == "none":
        return loss
    total = xp.sum(loss)
    return total if reduction == "sum" else total / (_number(xp, loss) if count is None else count)


def share(
    xp: Namespace, grad: Array, reduction: str, count: Array | float | None = None, factor: Array | None = None
) -> Array:
    """Return the gradient of the reduced loss, given the derivative of each item's loss."""
    if factor is not None:
        return grad * factor
    return grad if reduction != "mean" else grad / (_number(xp, grad) if count is None else count)


def _number(xp: Namespace, x: Array) -> int | Array:
    return divisor(xp, math.prod(x.shape), x)

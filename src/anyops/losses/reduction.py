"""From the loss of each item to what is asked for."""

import math

from .._array.namespace import Array, Namespace

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless `reduction` is one of those known."""
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")


def reduce(xp: Namespace, loss: Array, reduction: str, count: Array | float | None = None) -> Array:
    """Return the losses, their sum, or their sum over their number (or `count`); the mean of nothing is 0."""
    if reduction == "none":
        return loss
    total = xp.sum(loss)
    return total if reduction == "sum" else total / (_number(loss) if count is None else count)


def share(grad: Array, reduction: str, count: Array | float | None = None) -> Array:
    """Return the gradient of the reduced loss from the derivative of each item's own."""
    return grad if reduction != "mean" else grad / (_number(grad) if count is None else count)


def _number(x: Array) -> int:
    return max(math.prod(x.shape), 1)

"""Arithmetic that may overwrite its first argument, a temporary array that nothing else reads."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from .namespace import Array, Namespace, library

Operator = Callable[[Array, Any], Array]


class Operators(NamedTuple):
    """+, −, ·, / and max(x, 0)."""

    add: Operator
    subtract: Operator
    multiply: Operator
    divide: Operator
    positive: Callable[[Namespace, Array], Array]


def _positive(xp: Namespace, x: Array) -> Array:
    # Not a scalar: torch.compile does not support it here, and NumPy's loop for it is slower.
    return xp.maximum(x, xp.zeros_like(x))


def _positive_in_place(xp: Namespace, x: Array) -> Array:
    name = library(xp)
    if name == "torch":
        return x.clamp_(min=0)
    return xp.maximum(x, xp.zeros_like(x), out=x) if name in ("numpy", "cupy") else _positive(xp, x)


PLAIN = Operators(operator.add, operator.sub, operator.mul, operator.truediv, _positive)
WRITING = Operators(operator.iadd, operator.isub, operator.imul, operator.itruediv, _positive_in_place)

"""Checks of numbers and axes; each error names the argument, the expectation and the given value.

A number is a Python or NumPy number, or a 0-d array. :func:`check_number` needs its value, because the value decides
the shape of a result or the end of a fit. :func:`check_parameter` also takes a 0-d array whose value is unknown or may
change from call to call, and returns that array, unchecked if the value is unknown.
"""

import math
import operator
from numbers import Real
from typing import Any

from .backends import to_host
from .namespace import Array, check_dtype, hides_values, is_array, is_value_free, library, may_vary, namespace


def check_number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    largest: float = math.inf,
    finite: bool = True,
    positive: bool = False,
) -> float:
    """Return a number as a float; raise unless it is in [least, largest], and finite or positive if required."""
    if type(value) is not float:
        value = value_of(name, value)
        try:
            value = float(value)
        except OverflowError:
            bits = value.bit_length()
            raise ValueError(f"{name} must fit in a float, got an integer of {bits} bits") from None
    # Comparisons, not math.isfinite: torch.compile accepts them as a condition on a symbolic float.
    inside = least <= value <= largest and (not finite or -math.inf < value < math.inf) and (not positive or value > 0)
    if not inside:
        if largest < math.inf:
            limits = f"in [{least:g}, {largest:g}]"
        elif positive:
            limits = "positive and finite"
        else:
            limits = " and ".join(["finite"] * finite + [f"at least {least:g}"] * (least > -math.inf)) or "a number"
        raise ValueError(f"{name} must be {limits}, got {value}")
    return value


def check_parameter(name: str, value: Any, **limits: Any) -> float | Array:
    """Return :func:`check_number` of `value`; an array whose value may vary as it is, checked if the value is known."""
    if type(value) is float or not is_array(value):
        return check_number(name, value, **limits)
    _check_scalar(name, value)
    if not may_vary(value):
        return check_number(name, value, **limits)
    if is_value_free(value):
        check_number(name, value, **limits)
    return value


def value_of(name: str, value: Any) -> Real:
    """Return a Python or NumPy number as it is, a 0-d array's value; raise for anything else."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return value
    if not is_array(value):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    _check_scalar(name, value)
    if hides_values(value):
        lazy = library(namespace(**{name: value})) not in ("jax", "torch")
        hint = "compute it first" if lazy else "static forms of suppression (`nms_mask`, ...) take one"
        raise TypeError(f"{name} must have a known value, got an array under a transform, or a lazy array; {hint}")
    return to_host(value).item()


def _check_scalar(name: str, value: Array) -> None:
    """Raise TypeError unless an array is a number: 0-d, and floating or integer."""
    if tuple(value.shape) != ():
        raise TypeError(f"{name} must be a number, got {type(value).__name__} of shape {tuple(value.shape)}")
    check_dtype(namespace(**{name: value}), name, value, "real floating", "integral")


def check_integer(name: str, value: Any) -> int:
    """Return an integer as an int; raise TypeError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):  # torch.compile looks up no attribute of a symbolic one
        return value
    if is_array(value) and tuple(value.shape) == ():  # operator.index accepts a bool tensor of torch
        check_dtype(namespace(**{name: value}), name, value, "integral")
    try:
        if not isinstance(value, bool) and tuple(getattr(value, "shape", ())) == ():
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name} must be an integer, got {type(value).__name__}")


def check_axis(name: str, value: Any, ndim: int) -> int:
    """Return a valid axis of an array of `ndim` dimensions as a number ≥ 0; raise ValueError for any other."""
    axis = check_integer(name, value)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be in [{-ndim}, {ndim - 1}] for {ndim} dimensions, got {axis}")
    return axis % ndim


def check_parts(cls: type, **parts: Any) -> None:
    """Raise TypeError unless the named arguments are partial results of a class."""
    for name, part in parts.items():
        if not isinstance(part, cls):
            raise TypeError(f"{name} must be a {cls.__name__}, got {type(part).__name__}")

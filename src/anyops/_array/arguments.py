"""Checks of numbers and axes; each names the argument, what was expected and what came."""

import math
import operator
from numbers import Real
from typing import Any


def check_number(
    name: str, value: Any, *, least: float = -math.inf, largest: float = math.inf, finite: bool = True
) -> float:
    """Return a Python or NumPy number as a float; raise unless it is in [least, largest], and finite where asked."""
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    try:
        value = float(value)
    except OverflowError:
        raise ValueError(f"{name} must fit a floating number, got an integer of {value.bit_length()} bits") from None
    if not (least <= value <= largest and (math.isfinite(value) or not finite)):
        if largest < math.inf:
            limits = f"in [{least:g}, {largest:g}]"
        else:
            limits = " and ".join(["finite"] * finite + [f"at least {least:g}"] * (least > -math.inf)) or "a number"
        raise ValueError(f"{name} must be {limits}, got {value}")
    return value


def check_integer(name: str, value: Any) -> int:
    """Return an integer as an int; raise TypeError for anything else."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name} must be an integer, got {type(value).__name__}")


def check_axis(name: str, value: Any, ndim: int) -> int:
    """Return an axis of an array of `ndim` dimensions as a number from 0 on; raise unless there is one."""
    axis = check_integer(name, value)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be in [{-ndim}, {ndim - 1}] for {ndim} dimensions, got {axis}")
    return axis % ndim


def check_parts(cls: type, **parts: Any) -> None:
    """Raise TypeError unless the named arguments are partial results of a class."""
    for name, part in parts.items():
        if not isinstance(part, cls):
            raise TypeError(f"{name} must be a {cls.__name__}, got {type(part).__name__}")

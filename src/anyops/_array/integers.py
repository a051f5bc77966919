"""Integers too large for a floating dtype: float32 represents all integers up to 2²⁴, float64 up to 2⁵³."""

import numpy as np

from .backends import to_host
from .host import Host
from .mode import Mode, enter
from .namespace import Array, DType, Namespace, cast, is_array, is_kind, library, namespace, positive, widest_dtype
from .nearest import lowered_by, with_arithmetic


def largest_exact(xp: Namespace, dtype: DType) -> float:
    """Return the number up to which a floating dtype represents every integer."""
    return 2.0 / float(xp.finfo(dtype).eps)


def rounded_down(xp: Namespace, value: float | Array, dtype: DType) -> float | Array:
    """Return the largest number of a floating dtype that is at most the given integer; a float as it is."""
    if is_array(value):
        if xp.isdtype(value.dtype, "real floating"):
            return cast(xp, value, dtype)
        lower = cast(xp, value, dtype)
        return xp.where(cast(xp, lower, value.dtype) > value, xp.nextafter(lower, xp.zeros_like(lower)), lower)
    if not isinstance(value, int):
        return value
    surplus = value.bit_length() - int(largest_exact(xp, dtype)).bit_length() + 1
    return value - value % 2**surplus if surplus > 0 else value


def may_be_rounded(xp: Namespace, x: Array, dtype: DType) -> bool:
    """Tell whether the dtype of `x` has integers that a floating dtype cannot represent."""
    return is_kind(xp, x, "integral") and float(xp.iinfo(x.dtype).max) > largest_exact(xp, dtype)


def ends(x: Array, weight: Array | None) -> tuple[Host, Host]:
    """Return the smallest and largest integers (..., d) of each column of (..., n, d), over rows of positive weight.

    If there is no such row, the smallest is above the largest.
    """
    mode, (x, weight) = enter(namespace(x=x), x, weight, differentiable=False)
    both = to_host(mode.prepare(_ends, x, weight))
    return both[0, ...], both[1, ...]


def _ends(mode: Mode, x: Array, weight: Array | None) -> Array:
    xp, info = mode.xp, mode.xp.iinfo(x.dtype)
    low = high = x
    if weight is not None:
        kept = positive(xp, weight)[..., None]
        low, high = (xp.where(kept, x, xp.full_like(x, end)) for end in (info.max, info.min))
    return xp.stack([xp.min(low, axis=-2), xp.max(high, axis=-2)])  # together: dask computes once


def spread(low: Host, high: Host) -> Host:
    """Return high − low in float64, subtracted before rounding; 0 if no row was kept."""
    # As unsigned numbers, whose difference is exact modulo 2⁶⁴.
    apart = (high.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64)
    return np.where(high >= low, apart, 0.0)


def farthest(low: Host, high: Host) -> Host:
    """Return the largest absolute value of each column, in float64; 0 if no row was kept."""
    far = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
    return np.where(high >= low, far, 0.0)


def middle(low: Host, high: Host) -> Host:
    """Return a number near the middle of [low, high] that float64 and the integer dtype both represent."""
    info = np.iinfo(low.dtype)
    most = float(info.max)
    if most > info.max:  # rounded up to a power of two, which is beyond the integer dtype
        most = float(np.nextafter(most, 0.0))
    return np.clip(np.round(low.astype(np.float64) + spread(low, high) / 2), float(info.min), most)


def unresolved(low: Host, high: Host, eps: float) -> Host:
    """Return Σ (eps · spread)², (...), over those columns of (..., d) whose differences are rounded.

    It is 0 where all differences are exact.
    """
    apart = spread(low, high)
    return np.sum(np.where(apart > 2.0 / eps, (eps * apart) ** 2, 0.0), axis=-1)


def check_held(mode: Mode, name: str, x: Array, dtype: DType, beside: str = "", smaller: int = 1) -> None:
    """Raise ValueError if a dtype cannot represent the integers times `smaller`; not checked if values are unknown."""
    xp = mode.xp
    if 0 in x.shape or not (mode.known and (mode.at_hand or mode.fused)) or not may_be_rounded(xp, x, dtype):
        return
    # Compared as integers: the first one that the float cannot represent is rounded to the last one that it can.
    signed = with_arithmetic(xp, x)
    low, high = (int(end) + lowered_by(xp, x.dtype, signed.dtype) for end in (xp.min(signed), xp.max(signed)))
    largest, limit = max(high, -low), largest_exact(xp, dtype) / smaller
    if largest > limit:
        like = x if mode.like is None else mode.like
        raise ValueError(
            f"{name} must hold integers up to {limit:.0f}{beside}, to be computed in {dtype}, got {largest}; "
            f"{remedy(namespace(x=like), name, dtype, like, largest)}"
        )


def remedy(xp: Namespace, name: str, dtype: DType, like: Array, largest: float) -> str:
    """Return advice for an error message about integers as large as `largest`, which a dtype would round."""
    wide = "" if largest > 2.0**53 else f", or convert {name} to float64"
    if xp.finfo(widest_dtype(xp, dtype, like)).bits > xp.finfo(dtype).bits:
        return f"subtract an offset{wide}"
    if wide and library(xp) == "jax" and xp.finfo(dtype).bits < 64:
        return "subtract an offset, or enable float64 in JAX (jax_enable_x64)"
    return "subtract an offset"

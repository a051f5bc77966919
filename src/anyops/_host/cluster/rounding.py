"""The effect of rounding large integers on centres and inertia, and errors where it is too large."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._array.backends import to_host
from ..._array.host import Host, on_host
from ..._array.integers import ends, largest_exact, remedy, unresolved
from ..._array.namespace import Array, DType, Namespace

BLURRED = 100.0  # least RMS distance of integer samples from their centres, in rounding errors


def too_large(xp: Namespace, name: str, x: Array, centers: Host, dtype: DType) -> ValueError:
    """Return the error for integers whose exact centres a dtype cannot tell apart."""
    largest = float(np.max(np.abs(centers)))
    return ValueError(
        f"{name} must hold integers whose centres {dtype} can tell apart, got numbers up to {largest:.10g}; "
        f"{remedy(xp, name, dtype, x, largest)}"
    )


def too_wide(xp: Namespace, name: str, x: Array, dtype: DType) -> ValueError:
    """Return the error for integers so far apart that a dtype does not resolve their distances from centres."""
    return ValueError(
        f"{name} must hold integers whose distances from their centres {dtype} can resolve, got {x.dtype} numbers "
        f"further apart than {largest_exact(xp, dtype):.10g}; remove the outliers"
    )


def is_blurred(inertia: Host | float, mass: Host | float, rounded: Host | float) -> Any:
    """Whether Σ w · distance is mostly rounding; `rounded` is the squared rounding error of a sample."""
    return (rounded > 0) & (inertia <= BLURRED**2 * rounded * mass)


def rounds_centers(xp: Namespace, centers: Host, inertia: Host | float, mass: Host | float, dtype: DType) -> bool:
    """Whether rounding moves centres (..., k, d) of integers by more than the RMS distance of samples from them."""
    rounding = float(xp.finfo(dtype).eps) * np.max(np.abs(centers), axis=(-2, -1))
    return bool(np.any((rounding > 1) & (inertia > 0) & (rounding * rounding * mass > inertia)))


def check_rounding(
    xp: Namespace,
    x: Array,
    centers: Host,
    inertia: Array,
    weight: Array | None,
    dtype: DType,
    copies: Callable[[], Any],
) -> None:
    """Raise ValueError if rounding makes the distances of integers (..., n, d) from new centres meaningless.

    That is, if it moves the centres by more than the RMS distance of samples from them, as in :func:`anyops.kmeans`, or
    if the rounding of samples is not small beside that distance, unless they are `copies` of the old centres.
    """
    lost = on_host(inertia)
    mass = float(x.shape[-2]) if weight is None else np.sum(on_host(weight), axis=-1)
    if rounds_centers(xp, centers, lost, mass, dtype):
        raise too_large(xp, "x", x, centers, dtype)
    eps = float(xp.finfo(dtype).eps)
    rounded = unresolved(*ends(x, weight), eps)
    if np.any(is_blurred(lost, mass, rounded)) and not copies():
        raise too_wide(xp, "x", x, dtype)


def means_of(sums: Array, counts: Array) -> Host:
    """Return the means (..., k, d) from sums and counts (..., k); 0 for empty clusters."""
    weight = on_host(counts)[..., None]
    return on_host(sums) / np.where(weight > 0, weight, 1.0)


def are_copies(x: Array, centers: Array, labels: Array) -> bool:
    """Whether all samples equal their closest centres, in the same integer dtype."""
    if x.dtype != centers.dtype:
        return False
    closest = np.take_along_axis(to_host(centers), to_host(labels)[..., None], axis=-2)
    return bool(np.all(closest == to_host(x)))

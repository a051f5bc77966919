"""Uniform draws made on the host, so that a seed means the same numbers on every library and device."""

import numpy as np

from .namespace import Array, DType, Namespace

Seed = int | np.random.Generator | None


def generator(seed: Seed) -> np.random.Generator:
    """Return the host generator that `seed` names: itself, a new one from an integer, or one from entropy for None.

    Raises
    ------
    TypeError
        If `seed` is none of these.
    ValueError
        If `seed` is a negative integer.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
        kind = type(seed)
        # A generator of another library has the same name: its module tells them apart.
        name = (
            kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        )
        raise TypeError(f"seed must be an integer, a numpy.random.Generator or None, got {name}")
    if seed is not None and seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return np.random.default_rng(seed)


def uniforms(xp: Namespace, rng: np.random.Generator, shape: tuple[int, ...], *, dtype: DType, device: object) -> Array:
    """Return draws from [0, 1) of the given shape, shipped to a namespace and device.

    Float64 draws that would round up to 1 in a narrower `dtype` stay below it.
    """
    largest = 1.0 - xp.finfo(dtype).eps / 2  # the number before 1 in that dtype
    return xp.asarray(np.minimum(rng.random(shape), float(largest)), dtype=dtype, device=device)

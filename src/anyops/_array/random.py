"""Draws are made on the host, so that a seed means the same numbers on every library and device."""

import numpy as np

from .namespace import describe

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
        raise TypeError(f"seed must be an integer, a numpy.random.Generator or None, got {describe(seed)}")
    if seed is not None and seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return np.random.default_rng(seed)

"""Random numbers, drawn on the host: a seed gives the same numbers on every library and device."""

import numpy as np

from .namespace import describe

Seed = int | np.random.Generator | None


def generator(seed: Seed) -> np.random.Generator:
    """Return a host generator: `seed` itself, a new one from an integer, or one from fresh entropy for None.

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


def uniforms(key: int, start: int, stop: int) -> np.ndarray:
    """Return items `start` to `stop` of a key's sequence in [0, 1); any part can be drawn without the rest."""
    bits = np.random.PCG64(key)
    bits.advance(start)
    return np.random.Generator(bits).random(stop - start)

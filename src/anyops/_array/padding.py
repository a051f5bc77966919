"""Bucketed sizes, so that a compiled kernel serves many lengths."""

import numpy as np

from .namespace import Array, Namespace


def bucket(size: int) -> int:
    """Return the size that `size` is padded to: the next of 64, 96, 128, 192, 256, ..."""
    power = 64
    while power < size:
        if power * 3 // 2 >= size:
            return power * 3 // 2
        power *= 2
    return power


def power_of_two(size: int) -> int:
    """Return the next power of two, at least 64: for sizes that vary more, and cost less where they are too large."""
    return max(64, 1 << max(size - 1, 0).bit_length())


def pad(xp: Namespace, x: Array, size: int) -> Array | np.ndarray:
    """Return a concrete JAX array with zeros up to `size` along its first axis, ready to be given to a jitted kernel.

    Eager ``jnp.pad`` compiles for every length it meets, which costs more than the suppression itself. On a CPU the
    host sees the same memory, so the copy is made there; elsewhere the data stays on its device.
    """
    if any(d.platform != "cpu" for d in x.devices()):
        return xp.pad(x, [(0, size - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
    padded = pad_host(np.asarray(x), size)
    if not x.committed:
        return padded
    import jax

    return jax.device_put(padded, next(iter(x.devices())))


def pad_host(x: np.ndarray, size: int) -> np.ndarray:
    """Return a host array with zeros up to `size` along its first axis."""
    padded = np.zeros((size, *x.shape[1:]), dtype=x.dtype)
    padded[: x.shape[0]] = x
    return padded


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return host arrays one after another."""
    return np.concatenate(parts)

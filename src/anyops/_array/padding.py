"""Bucketed sizes, so that a compiled kernel serves many lengths."""

import numpy as np

from .namespace import Array, Namespace

MOST_ON_HOST = 1 << 20  # elements above which an array on a device is padded there


def bucket(size: int) -> int:
    """Return the size that `size` is padded to: the next of 64, 96, 128, 192, 256, ..."""
    power = 64
    while power < size:
        if power * 3 // 2 >= size:
            return power * 3 // 2
        power *= 2
    return power


def power_of_two(size: int) -> int:
    """Return the next power of two, at least 64; for sizes that vary more than boxes and whose padding costs less."""
    return max(64, 1 << max(size - 1, 0).bit_length())


def pad(xp: Namespace, x: Array, size: int, axes: int = 1) -> Array | np.ndarray:
    """Return a concrete JAX array padded with zeros to `size` along its first axes, for a jitted kernel.

    Eager ``jnp.pad`` compiles for every new length, which costs more than the suppression itself, and more than copying
    a few boxes to the host and back. On a CPU no copy is needed. Large arrays on a device are padded there.
    """
    if x.size > MOST_ON_HOST and any(d.platform != "cpu" for d in x.devices()):
        return xp.pad(x, [(0, size - n if axis < axes else 0) for axis, n in enumerate(x.shape)])
    padded = pad_host(np.asarray(x), size, axes)
    if not x.committed:
        return padded
    import jax

    return jax.device_put(padded, next(iter(x.devices())))


def pad_host(x: np.ndarray, size: int, axes: int = 1) -> np.ndarray:
    """Return a host array padded with zeros to `size` along its first axes."""
    padded = np.zeros((*(size,) * axes, *x.shape[axes:]), dtype=x.dtype)
    padded[tuple(map(slice, x.shape))] = x
    return padded


def marked(index: np.ndarray | slice, size: int) -> np.ndarray:
    """Return a host array of bools, true at some positions."""
    flags = np.zeros(size, np.bool)
    flags[index] = True
    return flags


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return host arrays one after another."""
    return np.concatenate(parts)

"""Weights of samples on the host, in float64."""

import math

import numpy as np

from ..._array.host import Host, on_host
from ..._array.namespace import Array

ORDINARY = 2.0**30  # numbers above it, or below its inverse, are scaled


def weights_of(sample_weight: Array | None, n: int) -> Host:
    """Return the weights of n samples, 1 if none are given; raise ValueError unless they are finite and at least 0."""
    if sample_weight is None:
        return np.ones(n)
    weight = on_host(sample_weight)
    if not np.all(np.isfinite(weight) & (weight >= 0)):
        raise ValueError("sample_weight must be finite and not negative, got a value that is not")
    return weight


def unit_of(largest: float) -> float:
    """Return 1, or a power of two close to a number that is far from 1."""
    return 1.0 if largest == 0 or 1 / ORDINARY < largest < ORDINARY else 2.0 ** math.floor(math.log2(largest))

"""Conversion of host data to the array library that the detector runs on, and back."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import array_api_compat
import numpy as np

LIBRARIES = ("numpy", "torch", "jax", "cupy")
"""The array libraries that the detector runs on."""

Array = Any

Ship = Callable[[np.ndarray], Array]
"""Converts a host array to the library and device that the detector runs on."""


def shipper(library: str, device: str | None = None) -> Ship:
    """Return a function that converts host arrays to a library, on `device` such as cuda:0, or its default one."""
    module = import_module(library)
    xp = module.numpy if library == "jax" else module
    if device is None:
        return xp.asarray
    kind, _, number = device.partition(":")
    place: Any = device
    if library == "jax":
        place = module.devices(kind)[int(number or 0)]
    if library == "cupy":
        place = module.cuda.Device(int(number or 0))
    return lambda x: array_api_compat.to_device(xp.asarray(x), place)


def to_host(x: Array) -> np.ndarray:
    """Return the values of an array of any library as a NumPy array."""
    return np.asarray(x if array_api_compat.is_jax_array(x) else array_api_compat.to_device(x, "cpu"))

"""How the detector's host data gets into the library that it runs on, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._array.backends import to_backend, to_host

__all__ = ["Array", "Ship", "shipper", "to_host"]

Array = Any

Ship = Callable[[np.ndarray], Array]
"""Brings a host array to the library and device that the detector runs on."""


def shipper(backend: str, device: str | None = None) -> Ship:
    """Return what brings host arrays to a library, on `device` in its own words, or its default one."""
    return partial(to_backend, name=backend, device=device)

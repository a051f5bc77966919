"""Installed array libraries on which anyops can run, and the conversion of host data to their arrays."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from .namespace import Array, library, namespace, unwrapped


class Backend(NamedTuple):
    """An array library on this machine; `reason` tells why it cannot be used, None if it can."""

    name: str
    version: str | None
    devices: tuple[str, ...]
    reason: str | None


def _torch_devices(torch: Any) -> tuple[str, ...]:
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ("cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else []))


def _jax_devices(jax: Any) -> tuple[str, ...]:
    return tuple(f"{d.platform}:{d.id}" for d in jax.devices())


def _cupy_devices(cupy: Any) -> tuple[str, ...]:
    # CuPy can be imported without a GPU; only this call finds out.
    if not cupy.cuda.is_available():
        raise RuntimeError("CuPy is installed but finds no CUDA device")
    return tuple(f"cuda:{i}" for i in range(cupy.cuda.runtime.getDeviceCount()))


def _cpu(_module: Any) -> tuple[str, ...]:
    return ("cpu",)


# name: (module, distributions that provide it, its devices)
_KNOWN: dict[str, tuple[str, tuple[str, ...], Callable[[Any], tuple[str, ...]]]] = {
    "numpy": ("numpy", ("numpy",), _cpu),
    "torch": ("torch", ("torch",), _torch_devices),
    "jax": ("jax", ("jax",), _jax_devices),
    "cupy": ("cupy", ("cupy", "cupy-cuda13x", "cupy-cuda12x", "cupy-rocm-7-0"), _cupy_devices),
    "array_api_strict": ("array_api_strict", ("array-api-strict",), _cpu),
    "dask": ("dask.array", ("dask",), _cpu),
    "ndonnx": ("ndonnx", ("ndonnx",), lambda _module: ()),
}


def _version(distributions: tuple[str, ...]) -> str | None:
    from importlib import metadata  # importing it takes as long as importing all of anyops

    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def backends() -> tuple[Backend, ...]:
    """Tell which array libraries are installed, their versions and devices, or why one cannot be used.

    Returns
    -------
    tuple of Backend
        ``(name, version, devices, reason)``; `reason` is None where the library can be used. Asking imports the
        libraries that are installed.

    Examples
    --------
    >>> import anyops
    >>> numpy = anyops.backends()[0]
    >>> numpy.name, numpy.devices, numpy.reason
    ('numpy', ('cpu',), None)
    """
    return tuple(_probe(name) for name in _KNOWN)


def _probe(name: str) -> Backend:
    module, distributions, devices = _KNOWN[name]
    version = _version(distributions)
    try:
        return Backend(name, version, devices(import_module(module)), None)
    except ModuleNotFoundError as error:
        reason = f"not installed: {error}"
    except Exception as error:  # a broken installation may raise anything, and must not hide the other libraries
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return Backend(name, version, (), reason)


def to_backend(x: np.ndarray, name: str, device: str | None = None) -> Array:
    """Convert a host array to the library called `name`, on a device as that library names it, or its default one.

    Raises
    ------
    ValueError
        If the name is unknown, or the library has no such device.
    RuntimeError
        If the library cannot be used here; the message tells why.
    """
    if name not in _KNOWN:
        raise ValueError(f"backend must be one of {', '.join(_KNOWN)}, got {name!r}")
    found = _probe(name)
    if found.reason is not None:
        raise RuntimeError(f"backend {name} cannot be used: {found.reason}")
    if device is not None and not any(d == device or d.partition(":")[0] == device for d in found.devices):
        raise ValueError(f"device must be one of {', '.join(found.devices)} for {name}, got {device!r}")
    kind, _, number = (device or "").partition(":")
    if name == "jax":
        import jax

        return jax.device_put(x, jax.devices(kind)[int(number or 0)] if device else None)
    if name == "cupy":
        import cupy

        with cupy.cuda.Device(int(number or 0)):
            return cupy.asarray(x)
    if name == "torch":
        import torch

        return torch.tensor(x, device=device)
    return import_module(_KNOWN[name][0]).asarray(x)


def to_host(x: Array) -> np.ndarray:
    """Return the values of an array of any library as a NumPy array, sharing memory where it can."""
    if type(x) is np.ndarray:
        return x
    name = library(namespace(x=x))
    if name == "torch":
        import torch

        with torch._C._DisableFuncTorch():  # functorch would track the copy
            x = unwrapped(x).detach().cpu()
            x = x.float() if x.dtype == torch.bfloat16 else x  # NumPy has no bfloat16
            return x.resolve_neg().numpy()
    if name == "cupy":
        return x.get()
    if name == "array_api_strict":
        return np.asarray(x.to_device(namespace(x=x).__array_namespace_info__().default_device()))
    return np.asarray(x)

"""Which namespace, device and dtypes a call works in; the place where arguments that cannot work are refused.

Array libraries are recognised, never imported: an array of a library that is installed but unused costs nothing.
"""

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import array_api_compat as compat
import numpy as np

Array = Any
Namespace = Any
DType = Any

_NAMESPACES: dict[type, ModuleType] = {}


def namespace(**arrays: Array | None) -> Namespace:
    """Return the array namespace that the named arguments share; those that are None do not count.

    Raises
    ------
    TypeError
        If an argument is no array, is of a kind whose arithmetic is not that of arrays (masked arrays, ``np.matrix``,
        sparse tensors, object and string dtypes), or if the arguments are of different libraries.
    ValueError
        If the arguments live on different devices.
    """
    first = shared = None
    for name, x in arrays.items():
        if x is None:
            continue
        found = _NAMESPACES.get(type(x)) or _recognise(name, x)
        if first is None:
            first, shared = name, found
        elif found is not shared:
            raise TypeError(
                f"{first} and {name} must be arrays of one library, "
                f"got {_describe(arrays[first])} and {_describe(x)}; convert one of them"
            )
    if shared is None:
        raise TypeError(f"one of {', '.join(arrays)} must be an array, got None for each")
    if shared is not _NUMPY:
        _check_devices(shared, {name: x for name, x in arrays.items() if x is not None})
    return shared


def _recognise(name: str, x: Any) -> ModuleType:
    cls = type(x)
    if isinstance(x, np.ma.MaskedArray | np.matrix):
        raise TypeError(f"{name} must be a plain array, got {_describe(x)}; pass numpy.asarray({name})")
    if isinstance(x, str | bytes | bool | int | float | complex | Sequence):
        raise TypeError(f"{name} must be an array (NumPy, PyTorch, JAX, CuPy, ...), got {_describe(x)}")
    try:
        found = compat.array_namespace(x)
    except TypeError as error:
        raise TypeError(f"{name} must be an array (NumPy, PyTorch, JAX, CuPy, ...), got {_describe(x)}") from error
    _NAMESPACES[cls] = found
    return found


_NUMPY = compat.array_namespace(np.empty(0))


def _describe(x: Any) -> str:
    cls = type(x)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def _check_devices(xp: Namespace, arrays: dict[str, Array]) -> None:
    places = [(name, place) for name, x in arrays.items() if (place := _device(xp, x)) is not None]
    for name, place in places[1:]:
        if place != places[0][1]:
            raise ValueError(
                f"{places[0][0]} and {name} must be on one device, got {places[0][1]} and {place}; move one of them"
            )


def _device(xp: Namespace, x: Array) -> Any:
    if compat.is_jax_namespace(xp):
        # A tracer has no device yet, and an uncommitted array follows the others.
        import jax

        return None if isinstance(x, jax.core.Tracer) or not x.committed else x.sharding.device_set
    return compat.device(x)


def device(x: Array) -> Any:
    """Return the device to create companions of `x` on; None where the library places them itself."""
    # dask and a JAX tracer have no device to name: https://github.com/data-apis/array-api-compat/pull/293
    return None if type(x).__module__.startswith(("jax", "dask")) else compat.device(x)


def default_float(xp: Namespace) -> DType:
    """Return the namespace's own default floating dtype."""
    return xp.__array_namespace_info__().default_dtypes()["real floating"]


def default_int(xp: Namespace) -> DType:
    """Return the namespace's own index dtype (int32 on JAX without x64)."""
    return xp.__array_namespace_info__().default_dtypes()["indexing"]


@cache
def _is_floating(xp: Namespace, dtype: DType) -> bool:
    return bool(xp.isdtype(dtype, "real floating"))


@cache
def _is_narrow(xp: Namespace, dtype: DType) -> bool:
    return xp.finfo(dtype).bits < 32


def result_dtype(xp: Namespace, **arrays: Array) -> DType:
    """Return the dtype of a result: the floating one that the arguments share, the default float for integers.

    Raises
    ------
    TypeError
        If an argument is neither floating nor integer, or has a dtype that its own library cannot compute with.
    """
    found = None
    for name, x in arrays.items():
        dtype = x.dtype
        if not _is_floating(xp, dtype):
            if not xp.isdtype(dtype, "integral"):
                hint = "; NumPy has no bfloat16 arithmetic, pass float32" if "bfloat16" in str(dtype) else ""
                raise TypeError(f"{name} must have a floating or integer dtype, got {dtype}{hint}")
            dtype = default_float(xp)
        if found is None:
            found = dtype
        elif found != dtype:
            found = xp.result_type(found, dtype)
    return found


def compute_dtype(xp: Namespace, dtype: DType) -> DType:
    """Return the dtype that a result of `dtype` is computed in: float32 for the 16-bit ones."""
    return xp.float32 if _is_narrow(xp, dtype) else dtype


def cast(xp: Namespace, x: Array, dtype: DType) -> Array:
    """Return `x` in `dtype`, itself where it has it already."""
    return x if x.dtype == dtype else xp.astype(x, dtype)


def stop_gradient(x: Array) -> Array:
    """Return `x` as a constant to automatic differentiation; the standard has no such function."""
    if compat.is_torch_array(x):
        return x.detach()
    if compat.is_jax_array(x):
        import jax

        return jax.lax.stop_gradient(x)
    return x


def is_traced(x: Array) -> bool:
    """Tell whether `x` stands for values not known yet: under ``jax.jit``, ``vmap``, ``torch.compile``, in a graph."""
    xp = compat.array_namespace(x)
    if compat.is_jax_namespace(xp):
        import jax

        return isinstance(x, jax.core.Tracer)
    if compat.is_torch_namespace(xp):
        import torch

        return torch.compiler.is_compiling() or torch._C._functorch.is_batchedtensor(x)
    return compat.is_lazy_array(x)


def is_eager_jax(x: Array) -> bool:
    """Tell whether `x` is a concrete JAX array, whose every operation is compiled for every new shape."""
    return compat.is_jax_array(x) and not is_traced(x)

"""Where the values of a call lie and what computes with them: decided once, when the call enters.

Index-contract ops compute on NumPy views of arrays in host memory. A library's own operations on a few hundred boxes
cost more than the boxes: torch starts threads for each, JAX compiles each for every shape.
"""

from contextlib import nullcontext
from typing import Any, NamedTuple

import array_api_compat.numpy as numpy_namespace
import numpy as np

from .namespace import Array, Namespace, library, unwrapped

# Dtypes that NumPy has too.
_FLOATS, _INTEGERS = ("float16", "float32", "float64"), ("int8", "int16", "int32", "int64")
_HELD = frozenset({*_FLOATS, *_INTEGERS, *(f"u{name}" for name in _INTEGERS), "bool"})


class Mode(NamedTuple):
    """How a call computes."""

    xp: Namespace  # what computes
    home: str  # name of the library of the arguments
    like: Array  # whose device the results get
    host: bool  # `xp` is NumPy, the arguments are views of host memory, and to look at a value costs nothing
    padded: bool  # values are known, but every operation is compiled for every shape

    def back(self, x: Any) -> Array:
        """Return a result in the library and on the device of the arguments."""
        if self.home == "numpy" or not self.host or x is None:
            return x
        if self.home == "torch":
            import torch

            return torch.from_numpy(x)
        import jax

        if self.like.committed:
            return jax.device_put(x, next(iter(self.like.devices())))
        return jax.numpy.asarray(x)


def enter(xp: Namespace, *arrays: Array | None, differentiable: bool) -> tuple[Mode, tuple[Array | None, ...]]:
    """Return the mode of a call and its arrays as they are computed with.

    Views where all of them lie in host memory and nobody watches what is done with them: no transform, no tracer, and,
    where results are `differentiable`, no graph for a gradient.
    """
    home = library(xp)
    given = [x for x in arrays if x is not None]
    see = _VIEWS.get(home)
    views = None if see is None else see(given, differentiable)
    if views is None:
        return Mode(xp, home, given[0], False, home == "jax" and not _is_traced(given)), arrays
    left = iter(views)
    like = given[0]
    if home == "jax" and not like.committed:
        like = next((x for x in given if x.committed), like)
    return Mode(numpy_namespace, home, like, True, False), tuple([None if x is None else next(left) for x in arrays])


def _of_numpy(arrays: list[Array], _differentiable: bool) -> list[Array]:
    return [x if type(x) is np.ndarray else np.asarray(x) for x in arrays]


def _of_torch(arrays: list[Array], differentiable: bool) -> list[Array] | None:
    import torch

    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return None
    # A dispatch mode sees every operation: it counts, fakes or records them.
    if torch._C._len_torch_dispatch_stack():
        return None
    if not differentiable:
        arrays = [unwrapped(x) for x in arrays]
    elif torch._C._are_functorch_transforms_active():
        return None
    if differentiable and torch.autograd.forward_ad._current_level >= 0:
        return None
    recorded = differentiable and torch.is_grad_enabled()
    held = _torch_held()
    for x in arrays:
        if (
            type(x) is not torch.Tensor  # subclasses have operations of their own
            or x.device.type != "cpu"
            or x.dtype not in held
            or x.layout is not torch.strided
            or torch._C._functorch.is_functorch_wrapped_tensor(x)
            or x.is_neg()
            or (recorded and x.requires_grad)
        ):
            return None
    with torch._C._DisableFuncTorch() if torch._C._are_functorch_transforms_active() else nullcontext():
        return [x.detach().numpy() if x.requires_grad else x.numpy() for x in arrays]


def _torch_held() -> frozenset[Any]:
    if not _TORCH_HELD:
        import torch

        _TORCH_HELD.append(frozenset(getattr(torch, name) for name in _HELD))
    return _TORCH_HELD[0]


_TORCH_HELD: list[frozenset[Any]] = []


def _of_jax(arrays: list[Array], _differentiable: bool) -> list[Array] | None:
    if _is_traced(arrays):
        return None
    for x in arrays:
        devices = x.devices()
        if len(devices) != 1 or next(iter(devices)).platform != "cpu":
            return None
    views = [np.asarray(x) for x in arrays]
    return views if all(x.dtype.isbuiltin == 1 for x in views) else None  # bfloat16 is none of NumPy's own


def _is_traced(arrays: list[Array]) -> bool:
    import jax

    tracer = jax.core.Tracer
    return any(isinstance(x, tracer) for x in arrays)


_VIEWS = {"numpy": _of_numpy, "torch": _of_torch, "jax": _of_jax}


def floats(mode: Mode, *views: Array | None) -> list[Array | None]:
    """Return views of host memory, integers as floats of the default dtype of the arguments' library."""
    return [x if x is None or x.dtype.kind == "f" else x.astype(_default_float(mode.home)) for x in views]


def _default_float(home: str) -> Any:
    if home == "torch":
        import torch

        return str(torch.get_default_dtype()).removeprefix("torch.")
    if home == "jax":
        import jax

        return np.float64 if jax.config.read("jax_enable_x64") else np.float32
    return np.float64

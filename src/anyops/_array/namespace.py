"""The namespace, device and dtypes of a call; unsupported arguments are refused here.

Array libraries are recognised, never imported, so a library that is installed but unused costs nothing.
"""

from collections.abc import Sequence
from functools import reduce
from types import ModuleType
from typing import Any, Protocol, TypeGuard, TypeVar

import array_api_compat as compat
import numpy as np

Array = Any
# For editors and type checkers: a result with the dtype of a floating argument has the argument's class, including the
# dtype if that is part of the class, as in NumPy. Masks, labels and tuples of arrays are typed as `Array`.
A = TypeVar("A", bound=Array)
I_co = TypeVar("I_co", covariant=True)
Namespace = Any
DType = Any


class Sortable(Protocol[I_co]):
    """Scores of a function that returns indices: these have the class of the array that `argsort` returns."""

    def argsort(self, *args: Any, **options: Any) -> I_co:
        """Return the indices that sort the scores."""


NAMESPACES: dict[type, ModuleType] = {}


def namespace(**arrays: Array) -> Namespace:
    """Return the array namespace that the named arguments share.

    Raises
    ------
    TypeError
        If an argument is not an array, or has other arithmetic than arrays do (masked arrays, ``np.matrix``, sparse and
        nested tensors), or if the arguments are of different libraries.
    ValueError
        If the arguments are on different devices.
    """
    first = shared = place = None
    for name, x in arrays.items():
        cls = type(x)
        if first is None and cls.__module__ == "torch":
            import anyops._array.tensors  # noqa: F401  # fills the tables that are read next
        found = NAMESPACES.get(cls) or _recognise(name, x)
        where = None if found is _NUMPY else _placed_on(name, found, x)
        if first is None:
            first, shared, place = name, found, where
        elif found is not shared:
            names = {library(shared): first, library(found): name}
            how = "convert one of them"
            if lazy := names.pop("dask", None):
                how = f"pass dask.array.from_array({_as_code(*names.values())}, chunks=...) with the chunks of {lazy}"
            raise TypeError(
                f"{first} and {name} must be arrays of one library, "
                f"got {describe(arrays[first])} and {describe(x)}; {how}"
            )
        elif where != place and where is not None and place is not None:
            raise ValueError(f"{first} and {name} must be on one device, got {place} and {where}; move one of them")
    return shared


def reads_are_free(x: Array) -> bool:
    """Tell whether reading a value is free: no transfer, no synchronisation, no transform that hides it."""
    return library(namespace(x=x)) in ("numpy", "array_api_strict")


def is_at_hand(x: Array) -> bool:
    """Tell whether the values of `x` can be read from host memory, so a check of all of them is one pass over it."""
    if library(namespace(x=x)) != "torch":
        return reads_are_free(x)
    return x.device.type == "cpu" and not has_no_values() and not _torch_transforms()


def in_program() -> bool:
    """Tell whether torch is building a program: in ``torch.compile``, ``torch.export``, ``make_fx``, ..."""
    import torch

    return torch.compiler.is_compiling() or _torch_mode("PROXY")


def has_no_values() -> bool:
    """Tell whether torch tensors have no values that can be read: in a program, in a trace, or if they are fake."""
    import torch

    return in_program() or torch._C._get_tracing_state() is not None or _torch_mode("FAKE")


def compiles_branches(xp: Namespace) -> bool:
    """Tell whether each outcome of a comparison of Python numbers is another program, of which torch makes eight."""
    return library(xp) == "torch" and in_program()


def _torch_mode(name: str) -> bool:
    import torch

    return torch._C._get_dispatch_mode(getattr(torch._C._TorchDispatchModeKey, name)) is not None


def _torch_transforms() -> bool:
    """Tell whether a transform of torch.func, or forward-mode differentiation, is active."""
    import torch

    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def library(xp: Namespace) -> str:
    """Return the name of the library behind a namespace: "numpy", "torch", "jax", "cupy", "dask", ..."""
    # Not array_api_compat's predicates: torch.compile warns of functions cached with lru_cache.
    return xp.__name__.removeprefix("array_api_compat.").partition(".")[0]


def _recognise(name: str, x: Any) -> ModuleType:
    cls = type(x)
    if isinstance(x, np.ma.MaskedArray | np.matrix):
        raise TypeError(f"{name} must be a plain array, got {describe(x)}; pass numpy.asarray({name})")
    if isinstance(x, str | bytes | bool | int | float | complex | Sequence) and not isinstance(x, np.generic):
        nested = isinstance(x, Sequence) and not isinstance(x, str | bytes)
        hint = f"; numpy.asarray({_as_code(name)}) makes one" if nested else ""
        raise TypeError(f"{name} must be an array (NumPy, PyTorch, JAX, CuPy, ...), got {describe(x)}{hint}")
    try:
        found = compat.array_namespace(x)
    except TypeError as error:
        hint = _of_frame(name, x) if hasattr(x, "to_numpy") or hasattr(x, "to_dask_array") else ""
        raise TypeError(f"{name} must be an array (NumPy, PyTorch, JAX, CuPy, ...), got {describe(x)}{hint}") from error
    NAMESPACES[cls] = found
    return found


def _of_frame(name: str, x: Any) -> str:
    """Return advice for a data frame or a column of one, from pandas, polars, pyarrow, xarray or dask."""
    if hasattr(x, "to_dask_array"):
        return f"; pass {_as_code(name)}.to_dask_array(lengths=True)"
    if not hasattr(x, "columns"):
        return f"; pass {_as_code(name)}.to_numpy()"
    # pandas converts columns of different dtypes to an array of objects unless a dtype is given.
    dtype = "float" if describe(x) == "pandas.DataFrame" else ""
    return f"; pass {_as_code(name)}.to_numpy({dtype}); anyops.estimators take data frames"


def _as_code(name: str) -> str:
    return name.replace(" ", "_")  # "batch 0"


_NUMPY = compat.array_namespace(np.empty(0))


def describe(x: Any) -> str:
    """Return the names of the library and the class of `x`, because classes of two libraries may share a name."""
    cls = type(x)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def _placed_on(name: str, xp: Namespace, x: Array) -> Any:
    if xp.__name__ == "jax.numpy":
        # A tracer has no device yet; an uncommitted array moves to the device of the others.
        import jax

        return None if isinstance(x, jax.core.Tracer) or not x.committed else x.sharding.device_set
    if xp.__name__ == "array_api_compat.torch":
        import torch

        # Few operations support these tensors, and the others fail with various messages.
        if x.layout is not torch.strided or x.is_nested:
            kind, hint = ("nested", "pad it") if x.is_nested else (x.layout, f"pass {name}.to_dense()")
            raise TypeError(f"{name} must be a dense tensor, got a {kind} one; {hint}")
    return getattr(x, "device", None)


def device(x: Array) -> Any:
    """Return the device on which to create arrays to be combined with `x`; None if the library places them itself."""
    return None if type(x) is np.ndarray or library(namespace(x=x)) not in _PLACED else x.device


# JAX moves uncommitted arrays to the data's device, and its tracers have no device; NumPy and dask have one device.
_PLACED = ("torch", "cupy", "array_api_strict")


def default_float(xp: Namespace, like: Array) -> DType:
    """Return the default floating dtype of the namespace, on the device of an array."""
    return xp.__array_namespace_info__().default_dtypes(device=device(like))["real floating"]


def default_int(xp: Namespace, like: Array) -> DType:
    """Return the index dtype of the namespace, on the device of an array (int32 on JAX without x64)."""
    return xp.__array_namespace_info__().default_dtypes(device=device(like))["indexing"]


def result_dtype(xp: Namespace, **arrays: Array) -> DType:
    """Return the dtype of a result: the arguments' promoted floating dtype, with integers as the default float.

    Raises
    ------
    TypeError
        If an argument is neither floating nor integer, or has a dtype that its own library cannot compute with.
    """
    found = None
    for name, x in arrays.items():
        check_dtype(xp, name, x, "real floating", "integral")
        dtype = x.dtype if xp.isdtype(x.dtype, "real floating") else default_float(xp, x)
        if found is None:
            found = dtype
        elif found != dtype:
            found = promoted(xp, found, dtype)
    return found


def promoted(xp: Namespace, *dtypes: DType) -> DType:
    """Return the dtype that some floating dtypes promote to."""
    # torch.compile does not support array_api_compat's result_type, because it does not return a tensor.
    return reduce(xp.promote_types if library(xp) == "torch" else xp.result_type, dtypes)


def check_dtype(xp: Namespace, name: str, x: Array, *kinds: str) -> None:
    """Raise TypeError unless an array has a dtype of one of some kinds, named as in the array API standard."""
    dtype = x.dtype
    key = xp.__name__, dtype  # the name keeps dtypes of two libraries from being compared
    if KINDS.get(key) in kinds:
        return
    known = str(getattr(dtype, "name", dtype)).rpartition(".")[2]
    foreign = library(xp) == "numpy" and known == "bfloat16"
    ours = known in STANDARD_DTYPES and not foreign
    found = next((kind for kind in kinds if xp.isdtype(dtype, kind)), None) if ours else None
    if found is not None:
        KINDS[key] = found
        return
    words = {"real floating": "floating", "integral": "integer", "bool": "bool"}
    hint = ""
    if foreign:
        hint = "; NumPy has no bfloat16 arithmetic, pass float32"
    elif not ours and "float" in known:
        hint = f"; floats have 16, 32 or 64 bits here, pass {'float64' if 'float1' in known else 'float32'}"
    elif known == "object":
        hint = "; NumPy makes objects of columns of several dtypes or of text, pass numbers: .to_numpy(float) in pandas"
    elif not ours and "int" in known:
        hint = "; integers have 8, 16, 32 or 64 bits here"
    expected = " or ".join(words[k] for k in kinds)
    article = "an" if expected.startswith("i") else "a"
    raise TypeError(f"{name} must have {article} {expected} dtype, got {dtype}{hint}")


# The standard's dtypes and 16-bit floats. Libraries have others with little arithmetic: long doubles, floats of 4 and 8
# bits, integers of 2 and 4 bits.
STANDARD_DTYPES = frozenset(
    {
        *("float16", "bfloat16", "float32", "float64", "bool"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    }
)
KINDS: dict[tuple[str, DType], str] = {}


def as_numbers(name: str, x: Array) -> Array:
    """Return bools as integers, so that they can be summed; other arrays as they are."""
    xp = namespace(**{name: x})
    return xp.astype(x, xp.int8) if x.dtype == xp.bool else x


def is_kind(xp: Namespace, x: Array, kind: str) -> bool:
    """Tell whether an array that passed :func:`check_dtype` is of a kind; cached: ``isdtype`` is as slow as a sum."""
    found = KINDS.get((xp.__name__, x.dtype))
    return bool(xp.isdtype(x.dtype, kind)) if found is None else found == kind


def positive(xp: Namespace, weight: Array) -> Array:
    """Tell which weights are above 0; the standard does not compare bools with numbers."""
    return weight if is_kind(xp, weight, "bool") else weight > 0


def check_can_order(xp: Namespace, op: str) -> None:
    """Raise TypeError if a library cannot sort items by their scores."""
    if library(xp) == "dask":
        raise TypeError(f"{op} sorts all scores, but dask.array has no take_along_axis; compute the array first")


def compute_dtype(xp: Namespace, dtype: DType) -> DType:
    """Return the dtype in which to compute a result of `dtype`: float32 for 16-bit floats."""
    return xp.float32 if xp.finfo(dtype).bits < 32 else dtype


def widest_dtype(xp: Namespace, dtype: DType, like: Array) -> DType:
    """Return the dtype for long sums: float64 if the library has it on the device of an array, else `dtype`."""
    kinds = xp.__array_namespace_info__().dtypes(device=device(like), kind="real floating")
    return kinds.get("float64", dtype)


def working(xp: Namespace, x: Array) -> Array:
    """Return `x` in the dtype to compute in: the default float for integers, float32 for 16-bit floats."""
    return cast(xp, x, compute_dtype(xp, result_dtype(xp, x=x)))


def cast(xp: Namespace, x: Array, dtype: DType) -> Array:
    """Return `x` in `dtype`; `x` itself if it has that dtype."""
    return x if x.dtype == dtype else xp.astype(x, dtype)


def is_array(x: Any) -> TypeGuard[Array]:
    """Tell whether an argument that may be a number is an array; NumPy's scalars are not."""
    # Numbers first: torch.compile cannot look up an attribute of a symbolic number.
    return not isinstance(x, int | float | np.generic) and hasattr(x, "shape")


def number_in(xp: Namespace, number: Any, dtype: DType) -> Any:
    """Return a number as it is, a 0-d array in `dtype`, so that it does not promote other arrays."""
    return cast(xp, number, dtype) if is_array(number) else number


def divisor(xp: Namespace, number: int, like: Array) -> int | Array:
    """Return a number of items, at least 1, in the dtype of an array if it is known only when the program runs.

    torch takes a dynamic size for positive, so `max` would return it as it is.
    """
    if not is_dynamic(xp, number):
        return max(number, 1)
    count = xp.full((), number * 1.0, dtype=like.dtype, device=device(like))  # float() makes a constant of the size
    return xp.maximum(count, xp.ones_like(count))


def number_for_loops(xp: Namespace, number: Any, like: Array) -> Any:
    """Return a float as a 0-d array on torch, whose loops cannot close over a symbolic number; else as it is."""
    if library(xp) != "torch" or not isinstance(number, float):
        return number
    return xp.full((), number, dtype=xp.float64, device=device(like))


def rows_of(x: Array) -> tuple[Array, ...]:
    """Return the items along the first axis, as views if the library has views."""
    if library(namespace(x=x)) == "torch":
        return x.unbind(0)  # unstack of array_api_compat moves axes first, for which vmap has no rule
    return tuple(x[k, ...] for k in range(x.shape[0]))


def stop_gradient(x: Array) -> Array:
    """Return `x` as a constant for automatic differentiation; the standard has no such function."""
    name = library(namespace(x=x))
    if name == "torch":
        return x.detach()
    if name == "jax":
        import jax

        return jax.lax.stop_gradient(x)
    return x


def is_traced(x: Array) -> bool:
    """Tell whether the values of `x` are not known yet: under ``jax.jit``, ``vmap``, ``torch.compile``, or lazy."""
    name = library(namespace(x=x))
    if name == "jax":
        import jax

        return isinstance(x, jax.core.Tracer)
    if name == "torch":
        import torch

        return has_no_values() or torch._C._functorch.is_batchedtensor(unwrapped(x))
    return name in ("dask", "ndonnx")


def is_compiled(xp: Namespace, x: Array) -> bool:
    """Tell whether operations on `x` are compiled: it is traced by JAX, or torch is building a program."""
    return in_program() if library(xp) == "torch" else library(xp) == "jax" and is_traced(x)


def is_dynamic(xp: Namespace, size: int) -> bool:
    """Tell whether a size is known only when the program runs, as in ``torch.export`` or ``jax.export``."""
    if library(xp) == "torch":
        import torch

        return in_program() and not torch.fx.experimental.symbolic_shapes.has_static_value(size)
    return library(xp) == "jax" and not isinstance(size, int)


def unwrapped(x: Array) -> Array:
    """Return a torch tensor without the wrappers of ``torch.func.grad`` and ``jvp``."""
    import torch

    while torch._C._functorch.is_gradtrackingtensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


def hides_values(x: Array) -> bool:
    """Tell whether the values of `x`, or of results computed from it, cannot be read because of a transform.

    More than :func:`is_traced`: ``jax.jit`` and ``torch.func.grad`` also trace results computed from constants.
    """
    name = library(namespace(x=x))
    if name == "jax":
        import jax

        # iota has no operand: anything else made here would transfer a number to the device.
        return is_traced(x) or isinstance(jax.lax.iota("int32", 1), jax.core.Tracer)
    if name != "torch":
        return is_traced(x)
    import torch

    if has_no_values() or x.is_meta:
        return True
    active = torch._C._are_functorch_transforms_active()
    return active and torch._C._functorch.is_functorch_wrapped_tensor(x.detach())


def may_vary(x: Array) -> bool:
    """Tell whether a 0-d array must stay an array: its value is unknown, recorded by autograd, or on a device.

    On JAX it always is, so that a program is compiled once for all values.
    """
    name = library(namespace(x=x))
    if name != "torch":
        return name not in ("numpy", "array_api_strict")
    import torch

    if hides_values(x) or torch._C._are_functorch_transforms_active():
        return True
    followed = torch.is_grad_enabled() and x.requires_grad
    return followed or type(x) not in (torch.Tensor, torch.nn.Parameter) or not x.is_cpu


def is_value_free(x: Array) -> bool:
    """Tell whether the value of a 0-d array is known and can be read without synchronising with a device."""
    name = library(namespace(x=x))
    if name == "jax":
        return not is_traced(x) and all(d.platform == "cpu" for d in x.devices())
    if name != "torch":
        return name in ("numpy", "array_api_strict")
    return not hides_values(x) and x.is_cpu and type(x).__module__.partition(".")[0] == "torch"


def check_has_values(hint: str, **arrays: Array) -> None:
    """Raise TypeError for an array that is lazy, or whose values a transform hides, see :func:`hides_values`."""
    for name, x in arrays.items():
        if hides_values(x):
            home = library(namespace(**{name: x}))
            if home not in ("jax", "torch"):
                how = f"pass {name}.compute()" if home == "dask" else "pass its values"
                raise TypeError(f"{name} must have values, got an array of {home}, which is computed later; {how}")
            raise TypeError(
                f"{name} must have values, got an array under a transform (jit, vmap, grad, compile), which hides "
                f"them; {hint}"
            )


def is_eager_jax(x: Array) -> bool:
    """Tell whether `x` is a concrete JAX array: each operation on it is compiled for each new shape."""
    return library(namespace(x=x)) == "jax" and not is_traced(x)

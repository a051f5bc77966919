"""Where the values of a call are stored and which library computes; decided once, at the start of the call.

Index ops compute on NumPy views of arrays in host memory, see :func:`enter`. For a few hundred boxes the
overhead of a library's own operations dominates: torch starts threads for each operation, JAX compiles each for every
shape. Elementwise ops, overlaps, losses and batch norm compute in the library of their arrays, see :func:`mode_of`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import array_api_compat.numpy as numpy_namespace
import numpy as np

from .chunked import check_known_chunks, without_empty_chunks
from .compiled import as_written, constant, jitted
from .namespace import Array, DType, Namespace, default_float, device, has_no_values, library, namespace, unwrapped
from .operators import PLAIN, WRITING, Operators

# Elements of a piece. On NumPy the few temporaries of a chain stay in cache, and the cost of a call is small in
# comparison; on torch a piece is also large enough for all cores; on a device it hides kernel launches.
_GRAIN, _GRAIN_OF_TORCH, _GRAIN_OF_DEVICES = 1 << 17, 1 << 20, 1 << 24
# Pairs of boxes that are gathered and compared at once: few enough to stay in cache, or enough to hide kernel launches.
_CHUNK, _CHUNK_OF_DEVICES = 1 << 15, 1 << 22


class Mode(NamedTuple):
    """How a call computes."""

    xp: Namespace  # the library that computes
    home: str  # name of the arguments' library
    like: Array | None = None  # an array whose device the results get, if `xp` is not the arguments' library
    host: bool = False  # `xp` is NumPy, the arguments are in host memory, and reading a value is free
    known: bool = False  # arrays have values: they are neither tracers, nor lazy, nor nodes of a graph
    at_hand: bool = False  # values are in host memory, so a check of all of them is one pass over it
    grad: bool = False  # the result may be differentiated
    lazy: bool = False  # arrays consist of chunks that are computed one by one
    sharded: bool = False  # rows are on several devices
    fused: bool = False  # a compiler fuses operations, and splits a sum into many partial sums
    grain: int = 0  # elements per piece; 0: do not write to arrays, and do not split the work

    @property
    def padded(self) -> bool:
        """Whether values are known, but every operation is compiled for every shape."""
        return self.fused and self.known

    @property
    def chunk(self) -> int:
        """Pairs to compare at once, if values decide the number of pairs."""
        return _CHUNK if self.at_hand else _CHUNK_OF_DEVICES

    @property
    def selects(self) -> bool:
        """Whether values are at hand and may decide shapes; array-api-strict has a flag that forbids this."""
        return self.at_hand and self.home != "array_api_strict"

    @property
    def raises(self) -> bool:
        """Whether invalid values raise; in other libraries they give NaN, as they do if values are unknown."""
        return self.home in ("numpy", "array_api_strict")

    @property
    def own(self) -> Operators:
        """Operators whose first argument is a temporary array that nothing else reads, so its memory may be reused.

        Reuse saves a third of an operation's memory traffic. Compilers reuse memory themselves; a graph for a gradient
        needs every temporary.
        """
        return WRITING if self.grain else PLAIN

    def run(self, kernel: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """Return ``kernel(mode, *arguments, **options)``.

        On JAX a kernel runs under ``jax.jit`` if values are known: eager JAX compiles each operation for each shape,
        while the kernel is compiled as a whole, and fused. The kernel gets the mode of its tracers, which have no
        values. Options must be hashable, and each combination is compiled; or arrays, which are traced.

        Matrix products have full precision. On a GPU, JAX would round float32 factors to eleven bits, which moves
        samples to other centres and spoils gradients, https://github.com/jax-ml/jax/issues/4873; torch and CuPy do so
        only on request.

        torch's autocast is off: it would round the factors of every product to eight or eleven bits. JAX's check for
        rank promotion, which users enable for their own code, is off too.

        Empty chunks of dask arrays are removed, because dask's reductions along other axes fail on them.

        NumPy's warnings of inf − inf, overflow and underflow are off: kernels replace undefined values.
        """
        if self.fused:
            return jitted(kernel, self._replace(like=None, known=False), self.known, arguments, options)
        if self.home == "torch" and not self.host:
            return as_written(kernel, self, *arguments, **options)
        if self.lazy:
            arguments = tuple(map(without_empty_chunks, arguments))
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return kernel(self, *arguments, **options)

    def prepare(self, kernel: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """Return ``kernel(mode, *arguments, **options)`` of a few operations on arguments, before :meth:`run`.

        As there on JAX, where each operation by itself would transfer its numbers to the device. Other libraries need
        none of the other settings for them.
        """
        return self.run(kernel, *arguments, **options) if self.fused else kernel(self, *arguments, **options)

    def constant(self, values: float | tuple[float, ...], dtype: DType, like: Array) -> Array:
        """Return a number, or several, as an array in a dtype, on the device of another array.

        On JAX it is cached there: the next call with these numbers transfers nothing.
        """
        if self.fused and self.known:
            return constant(values, dtype, like)
        if self.home == "torch" and not isinstance(values, tuple):  # asarray would wait for the device
            return self.xp.full((), values, dtype=dtype, device=device(like))
        return self.xp.asarray(values, dtype=dtype, device=device(like))

    def back(self, x: Any) -> Array:
        """Return a result as an array of the arguments' library and device.

        It is a host array if `xp` is NumPy, or if arrays are padded.
        """
        if self.home == "numpy" or not (self.host or self.padded) or x is None:
            return x
        if self.home == "torch":
            import torch

            return torch.from_numpy(x)
        return placed_beside(x, self.like)


def mode_of(**arrays: Array) -> Mode:
    """Return the mode of a call that computes in the library of its named arguments.

    Raises
    ------
    TypeError, ValueError
        As :func:`namespace`, unless the arguments are arrays of one library on one device.
    """
    return _mode(namespace(**arrays), list(arrays.values()))


def sized_mode_of(**arrays: Array) -> Mode:
    """Return :func:`mode_of` arrays whose chunks have to match; raise ValueError if chunk sizes are unknown."""
    mode = mode_of(**arrays)
    if mode.lazy:
        for name, x in arrays.items():
            check_known_chunks(mode.xp, name, x)
    return mode


def _mode(xp: Namespace, arrays: list[Array], like: Array | None = None) -> Mode:
    home = library(xp)
    if home == "torch":
        return _mode_of_torch(xp, arrays, like)
    if home == "jax":
        traced = _is_traced(arrays)
        sharded = not traced and any(len(x.sharding.device_set) > 1 for x in arrays)
        like = like if like is None or traced else _placed(arrays)
        return Mode(xp, home, like, known=not traced, grad=traced, sharded=sharded, fused=True)
    mode = _mode_of_library(xp)
    return mode if like is None else mode._replace(like=like)


@cache
def _mode_of_library(xp: Namespace) -> Mode:
    """Return the mode of a library in which it does not depend on the arrays."""
    home = library(xp)
    if home == "cupy":
        return Mode(xp, home, known=True, grain=_GRAIN_OF_DEVICES)
    if home in ("numpy", "array_api_strict"):
        return Mode(xp, home, host=home == "numpy", known=True, at_hand=True, grain=_GRAIN)
    return Mode(xp, home, lazy=home == "dask")


@cache
def _views_of(home: str) -> Mode:
    """Return the mode of NumPy on views of another library's arrays."""
    return Mode(numpy_namespace, home, host=True, known=True, at_hand=True, grain=_GRAIN)


def _mode_of_torch(xp: Namespace, arrays: list[Array], like: Array | None) -> Mode:
    import torch

    if torch.compiler.is_compiling():
        return Mode(xp, "torch", like, grad=torch.is_grad_enabled() and any(x.requires_grad for x in arrays))
    if has_no_values() or arrays[0].is_meta:
        return Mode(xp, "torch", like, grad=True)
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        batched = any(torch._C._functorch.is_batchedtensor(unwrapped(x)) for x in arrays)
        return Mode(xp, "torch", like, known=not batched, grad=True)
    grad, plain = torch.is_grad_enabled(), (torch.Tensor, torch.nn.Parameter)
    watched = torch._C._len_torch_dispatch_stack()
    recorded = False
    for x in arrays:
        watched = watched or type(x) not in plain
        recorded = recorded or x.requires_grad
    if watched:
        # A dispatch mode would record reads and writes of pieces; subclasses override operations.
        return Mode(xp, "torch", like, known=True, grad=True)
    mode = _mode_of_tensors(xp, arrays[0].device.type == "cpu", grad and recorded)
    return mode if like is None else mode._replace(like=like)


@cache
def _mode_of_tensors(xp: Namespace, on_cpu: bool, grad: bool) -> Mode:
    grain = 0 if grad else _GRAIN_OF_TORCH if on_cpu else _GRAIN_OF_DEVICES
    return Mode(xp, "torch", known=True, at_hand=on_cpu, grad=grad, grain=grain)


def without_gradient(mode: Mode, x: Array, *constants: Array) -> Mode | None:
    """Return torch's mode without a graph, if its plain autograd records `x` alone and no other transform is active."""
    if mode.home != "torch" or not mode.grad or not mode.known:
        return None
    alone = _mode_of_torch(mode.xp, [x.detach(), *constants], mode.like)
    return None if alone.grad else alone


def enter(xp: Namespace, *arrays: Array | None, differentiable: bool) -> tuple[Mode, tuple[Array | None, ...]]:
    """Return the mode of a call, and the arrays to compute with.

    These are NumPy views if all arrays are in host memory and nothing records operations on them: no transform, no
    tracer, and, if results are `differentiable`, no graph for a gradient.
    """
    home = library(xp)
    see = _VIEWS.get(home)
    views = None if see is None else see(arrays, differentiable)
    if views is None:
        given = [x for x in arrays if x is not None]
        return _mode(xp, given, given[0]), arrays
    mode = _views_of(home)
    if home == "jax":
        mode = mode._replace(like=_placed([x for x in arrays if x is not None]))
    return mode, tuple(views)


def _of_numpy(arrays: tuple[Array | None, ...], _differentiable: bool) -> list[Array | None]:
    return [x if x is None or type(x) is np.ndarray else np.asarray(x) for x in arrays]


def _of_torch(arrays: tuple[Array | None, ...], differentiable: bool) -> list[Array | None] | None:
    import torch

    # A dispatch mode sees every operation: it counts, fakes or records them.
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return None
    if torch._C._get_tracing_state() is not None:
        return None
    if torch._C._are_functorch_transforms_active():
        if differentiable:
            return None
        with torch._C._DisableFuncTorch():
            inner = [None if x is None else unwrapped(x).detach() for x in arrays]
            return _views_of_tensors(torch.Tensor, inner, False)
    if differentiable and torch.autograd.forward_ad._current_level >= 0:
        return None
    return _views_of_tensors(torch.Tensor, arrays, differentiable and torch.is_grad_enabled())


def _views_of_tensors(plain: Any, arrays: Sequence[Array | None], recorded: bool) -> list[Array | None] | None:
    """Return NumPy views of tensors of a class; None if one is of another class, has no view, or a graph records it."""
    views: list[Array | None] = []
    for x in arrays:
        if x is None:
            views.append(None)
            continue
        # Subclasses override operations.
        if type(x) is not plain or not x.is_cpu or (recorded and x.requires_grad):
            return None
        try:
            views.append(x.detach().numpy() if x.requires_grad else x.numpy())
        except (RuntimeError, TypeError):
            # NumPy has no view of bfloat16, sparse or negated tensors, nor of tensors under vmap.
            return None
    return views


def _of_jax(arrays: tuple[Array | None, ...], _differentiable: bool) -> list[Array | None] | None:
    import jax

    views: list[Array | None] = []
    for x in arrays:
        if x is None:
            views.append(None)
            continue
        if isinstance(x, jax.core.Tracer):
            return None
        devices = x.devices()
        if len(devices) != 1 or next(iter(devices)).platform != "cpu":
            return None
        view = np.asarray(x)
        if view.dtype.isbuiltin != 1:  # bfloat16 is not a NumPy dtype
            return None
        views.append(view)
    return views


def _placed(arrays: list[Array]) -> Array:
    """Return the first array that is committed to its device, else the first one."""
    for x in arrays:
        if x.committed:
            return x
    return arrays[0]


def placed_beside(values: Any, like: Array | None) -> Array:
    """Return host values as a JAX array on the device of another one, replicated if it has several devices."""
    import jax

    if like is None or not like.committed:
        return jax.device_put(values)  # jnp.asarray compiles a copy for every shape
    devices, named = like.sharding.device_set, jax.sharding.NamedSharding
    if len(devices) == 1:
        return jax.device_put(values, next(iter(devices)))
    if isinstance(like.sharding, named):
        mesh = like.sharding.mesh
    else:
        mesh = jax.sharding.Mesh(np.asarray(sorted(devices, key=lambda d: d.id)), ("all",))
    return jax.device_put(values, named(mesh, jax.sharding.PartitionSpec()))


def _is_traced(arrays: list[Array]) -> bool:
    import jax

    tracer = jax.core.Tracer
    return any(isinstance(x, tracer) for x in arrays)


_VIEWS = {"numpy": _of_numpy, "torch": _of_torch, "jax": _of_jax}


def floating_of(mode: Mode, x: Array) -> DType:
    """Return the default float of the arguments' library, as a NumPy dtype if they are views."""
    return np.dtype(_default_float(mode.home)) if mode.host else default_float(mode.xp, x)


def floats(mode: Mode, *views: Array | None, exact: bool = False) -> list[Array | None]:
    """Return NumPy views with integers as floats: in the default float of the arguments' library, float64 if `exact`.

    float64 represents all integers up to 2⁵³, float32 up to 2²⁴.
    """
    return [
        x if x is None or x.dtype.kind == "f" else x.astype(np.float64 if exact else _default_float(mode.home))
        for x in views
    ]


def _default_float(home: str) -> Any:
    if home == "torch":
        import torch

        name = str(torch.get_default_dtype()).removeprefix("torch.")
        return name if name in ("float32", "float64") else "float32"
    if home == "jax":
        import jax

        return np.float64 if jax.config.read("jax_enable_x64") else np.float32
    return np.float64

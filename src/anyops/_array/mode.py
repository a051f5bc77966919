"""Where the values of a call are stored and which library computes: decided once, at the start of the call.

Index-contract ops compute on NumPy views of arrays in host memory, see :func:`enter`. For a few hundred boxes the
overhead of a library's own operations dominates: torch starts threads for each operation, JAX compiles each for every
shape. Elementwise ops, overlaps, losses and batch norm compute in the library of their arrays, see :func:`mode_of`.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import array_api_compat.numpy as numpy_namespace
import numpy as np

from .chunked import check_known_chunks, without_empty_chunks
from .compiled import as_written, jitted
from .namespace import Array, DType, Namespace, default_float, has_no_values, library, namespace, unwrapped
from .operators import PLAIN, WRITING, Operators

# Elements of a piece. On NumPy the handful of temporaries of a chain stay in cache, and a call costs little beside;
# torch has a share for all cores besides; on a device a piece hides the launch of its kernels.
_GRAIN, _GRAIN_OF_TORCH, _GRAIN_OF_DEVICES = 1 << 17, 1 << 20, 1 << 24
# Pairs of boxes that are gathered and compared at once, whose columns stay in cache, or hide the launches.
_CHUNK, _CHUNK_OF_DEVICES = 1 << 15, 1 << 22


class Mode(NamedTuple):
    """How a call computes."""

    xp: Namespace  # what computes
    home: str  # name of the library of the arguments
    like: Array | None = None  # whose device the results get, where `xp` is not their library
    host: bool = False  # `xp` is NumPy, the arguments are in host memory, and to look at a value costs nothing
    known: bool = False  # there are values: neither a tracer, nor a lazy array, nor a node of a graph
    at_hand: bool = False  # they lie in host memory, so that to look at all of them is one pass over it
    grad: bool = False  # somebody may differentiate
    lazy: bool = False  # arrays are made of chunks that are computed one by one
    sharded: bool = False  # rows lie on several devices
    fused: bool = False  # a compiler fuses operations, and sums by many partial sums
    grain: int = 0  # elements worth a piece; 0: arrays are not to be written to, and all is done at once

    @property
    def padded(self) -> bool:
        """Whether values are known, but every operation is compiled for every shape."""
        return self.fused and self.known

    @property
    def chunk(self) -> int:
        """Pairs to compare at once, where values decide how many there are."""
        return _CHUNK if self.at_hand else _CHUNK_OF_DEVICES

    @property
    def selects(self) -> bool:
        """Whether values are at hand, and may decide shapes, which array-api-strict can be told to forbid."""
        return self.at_hand and self.home != "array_api_strict"

    @property
    def raises(self) -> bool:
        """Whether wrong values raise; elsewhere they give NaN, as where they are not known."""
        return self.home in ("numpy", "array_api_strict")

    @property
    def own(self) -> Operators:
        """The operators for a first argument that is a temporary which nothing else reads: its memory may be reused.

        That spares each operation a third of its traffic. A compiler decides for itself, and a graph keeps them all.
        """
        return WRITING if self.grain else PLAIN

    def run(self, kernel: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """Return ``kernel(mode, *arguments, **options)``.

        Through ``jax.jit`` on JAX where the values are known: called eagerly, JAX compiles each operation for each
        shape; the whole kernel is one compilation, and fuses. The kernel gets the mode of what it sees: arrays without
        values. Options must be hashable, each combination is compiled on its own; or arrays, which are not.

        Matrix products are of full precision: on a GPU, JAX would round float32 factors to eleven bits, which moves
        samples to other centres and spoils a gradient, https://github.com/jax-ml/jax/issues/4873; torch and CuPy do not
        unless told to.

        torch's autocast is off: it would round the factors of every product to eight or eleven bits. JAX's check of
        ranks, which users ask for in code of their own, is too.

        dask's arrays come without chunks that have no elements: its reductions along other axes fail on these.

        Where NumPy computes, inf − inf, overflow and underflow are no news: a kernel replaces what is undefined.
        """
        if self.fused:
            return jitted(kernel, self._replace(like=None, known=False), self.known, arguments, options)
        if self.home == "torch" and not self.host:
            return as_written(kernel, self, *arguments, **options)
        if self.lazy:
            arguments = tuple(map(without_empty_chunks, arguments))
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return kernel(self, *arguments, **options)

    def back(self, x: Any) -> Array:
        """Return a result, on the host where `xp` is NumPy or arrays are padded, as an array like the arguments."""
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
    """Return :func:`mode_of` a call that lays its arrays beside each other; raise where sizes of chunks are unknown."""
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
    """Return the mode of a library in which all arrays are alike."""
    home = library(xp)
    if home == "cupy":
        return Mode(xp, home, known=True, grain=_GRAIN_OF_DEVICES)
    if home in ("numpy", "array_api_strict"):
        return Mode(xp, home, host=home == "numpy", known=True, at_hand=True, grain=_GRAIN)
    return Mode(xp, home, lazy=home == "dask")


@cache
def _views_of(home: str) -> Mode:
    """Return the mode of NumPy on views of arrays of another library."""
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
        # What is read, or written in pieces, would be recorded as that; subclasses have operations of their own.
        return Mode(xp, "torch", like, known=True, grad=True)
    mode = _mode_of_tensors(xp, arrays[0].device.type == "cpu", grad and recorded)
    return mode if like is None else mode._replace(like=like)


@cache
def _mode_of_tensors(xp: Namespace, on_cpu: bool, grad: bool) -> Mode:
    grain = 0 if grad else _GRAIN_OF_TORCH if on_cpu else _GRAIN_OF_DEVICES
    return Mode(xp, "torch", known=True, at_hand=on_cpu, grad=grad, grain=grain)


def without_gradient(mode: Mode, x: Array, *constants: Array) -> Mode | None:
    """Return the mode of torch of what is not recorded, where its plain autograd, and it alone, follows `x` alone."""
    if mode.home != "torch" or not mode.grad or not mode.known:
        return None
    alone = _mode_of_torch(mode.xp, [x.detach(), *constants], mode.like)
    return None if alone.grad else alone


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
        return _mode(xp, given, given[0]), arrays
    left, mode = iter(views), _views_of(home)
    if home == "jax":
        mode = mode._replace(like=_placed(given))
    return mode, tuple([None if x is None else next(left) for x in arrays])


def _of_numpy(arrays: list[Array], _differentiable: bool) -> list[Array]:
    return [x if type(x) is np.ndarray else np.asarray(x) for x in arrays]


def _of_torch(arrays: list[Array], differentiable: bool) -> list[Array] | None:
    import torch

    # A dispatch mode sees every operation: it counts, fakes or records them.
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return None
    if torch._C._get_tracing_state() is not None:
        return None
    followed = torch._C._are_functorch_transforms_active()
    if differentiable:
        if followed or torch.autograd.forward_ad._current_level >= 0:
            return None
    elif followed:
        arrays = [unwrapped(x) for x in arrays]
    recorded = differentiable and torch.is_grad_enabled()
    for x in arrays:
        # Subclasses have operations of their own.
        if type(x) is not torch.Tensor or not x.is_cpu or (recorded and x.requires_grad):
            return None
    try:
        if not followed:
            return [x.detach().numpy() if x.requires_grad else x.numpy() for x in arrays]
        with torch._C._DisableFuncTorch():
            return [x.detach().numpy() for x in arrays]
    except (RuntimeError, TypeError):
        # What NumPy has no view of: bfloat16, sparse or negated tensors, those under vmap.
        return None


def _of_jax(arrays: list[Array], _differentiable: bool) -> list[Array] | None:
    import jax

    views = []
    for x in arrays:
        if isinstance(x, jax.core.Tracer):
            return None
        devices = x.devices()
        if len(devices) != 1 or next(iter(devices)).platform != "cpu":
            return None
        view = np.asarray(x)
        if view.dtype.isbuiltin != 1:  # bfloat16 is none of NumPy's own
            return None
        views.append(view)
    return views


def _placed(arrays: list[Array]) -> Array:
    """Return the first array that is bound to its device, which the others follow."""
    for x in arrays:
        if x.committed:
            return x
    return arrays[0]


def placed_beside(values: Any, like: Array | None) -> Array:
    """Return host values as an array of JAX on the device of another one, or as a copy on each of its devices."""
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
    """Return the default float of the library of the arguments: of NumPy where they are views."""
    return np.dtype(_default_float(mode.home)) if mode.host else default_float(mode.xp, x)


def floats(mode: Mode, *views: Array | None, exact: bool = False) -> list[Array | None]:
    """Return views of host memory, integers as floats: of the default dtype of the arguments' library, or `exact` ones.

    float64 holds all integers up to 2⁵³, float32 those up to 2²⁴.
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

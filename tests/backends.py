"""The array libraries and transforms on which every op is tested."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from functools import cache, lru_cache
from typing import Any

import array_api_compat as compat
import numpy as np

import anyops


class Backend(Enum):
    """A library, with a device and settings; the value is its name in test ids and in the environment."""

    NUMPY = "numpy"
    NUMPY_READONLY = "numpy:readonly"
    STRICT = "strict"
    STRICTEST = "strict:strictest"
    TORCH_CPU = "torch:cpu"
    TORCH_CUDA = "torch:gpu"
    JAX_CPU = "jax:cpu"
    JAX_X64 = "jax:x64"
    JAX_GPU = "jax:gpu"
    CUPY = "cupy"
    DASK = "dask"

    def __str__(self) -> str:
        return self.value

    @property
    def library(self) -> str:
        return self.value.partition(":")[0]

    def why_unavailable(self) -> str | None:
        """Why no test can run on this backend here, or None if they can."""
        return _why_unavailable(self)

    @property
    def xp(self) -> Any:
        return compat.array_namespace(self.asarray(np.zeros(1, np.float32)))

    @property
    def device(self) -> Any:
        """The device of the inputs: not the library's default device, if there is another one."""
        match self:
            case Backend.STRICT | Backend.STRICTEST:
                strict = importlib.import_module("array_api_strict")
                # On "no_float64" the default float is float32 and any float64 raises.
                return strict.Device("device1" if self is Backend.STRICT else "no_float64")
            case Backend.TORCH_CPU | Backend.TORCH_CUDA:
                return importlib.import_module("torch").device("cpu" if self is Backend.TORCH_CPU else "cuda:0")
            case Backend.JAX_CPU | Backend.JAX_X64 | Backend.JAX_GPU:
                return importlib.import_module("jax").devices("gpu" if self is Backend.JAX_GPU else "cpu")[0]
            case _:
                return compat.device(self.asarray(np.zeros(1, np.float32)))

    @contextmanager
    def active(self) -> Iterator[None]:
        """The settings of this backend, for one test."""
        with ExitStack() as stack:
            if self is Backend.STRICTEST:
                strict = importlib.import_module("array_api_strict")
                stack.enter_context(
                    strict.ArrayAPIStrictFlags(
                        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
                    )
                )
            elif self.library == "jax":
                jax = importlib.import_module("jax")
                stack.enter_context(jax.enable_x64(self is Backend.JAX_X64))
                if self is not Backend.JAX_GPU and not named_in("ANYOPS_BACKENDS"):
                    stack.enter_context(optimized(False))
                if self is not Backend.JAX_GPU:  # inputs are on the CPU even if JAX prefers a GPU
                    stack.enter_context(jax.default_device(self.device))
            yield

    def asarray(self, host: np.ndarray, dtype: str | None = None) -> Any:
        """`host` on this backend; `dtype` names the type, for floating arrays only."""
        host = np.array(host)
        if host.dtype.kind != "f":
            dtype = None
        if host.dtype == np.float64 and not self.has_dtype("float64"):
            host = host.astype(np.float32)
        if dtype not in (None, "bfloat16"):
            host = host.astype(dtype)
        match self.library:
            case "numpy":
                host.flags.writeable = self is Backend.NUMPY
                return host
            case "strict":
                return importlib.import_module("array_api_strict").asarray(host, device=self.device)
            case "torch":
                torch = importlib.import_module("torch")
                x = torch.asarray(host, device=self.device)
                return x.to(torch.bfloat16) if dtype == "bfloat16" else x
            case "jax":
                jax = importlib.import_module("jax")
                x = jax.device_put(jax.numpy.asarray(host), self.device)
                return x.astype("bfloat16") if dtype == "bfloat16" else x
            case "dask":
                return importlib.import_module("dask.array").from_array(host, chunks=-1)
            case library:
                return importlib.import_module(library).asarray(host)

    def to_numpy(self, x: Any) -> np.ndarray:
        """`x` on the host, bfloat16 as float32."""
        if dtype_name(x) == "bfloat16":
            x = self.xp.astype(x, self.xp.float32)
        match self.library:
            case "torch":
                return x.detach().cpu().numpy()
            case "cupy":
                return x.get()
            case "dask":
                with np.errstate(over="ignore", invalid="ignore"):  # dask computes after the op has returned
                    return np.asarray(x.compute(scheduler="synchronous"))
            case "strict":
                return np.array(x.to_device(importlib.import_module("array_api_strict").Device("CPU_DEVICE")))
            case _:
                return np.array(x)

    def owns(self, x: Any) -> bool:
        """Whether `x` is an array of this library on the device of the inputs."""
        return (
            compat.is_array_api_obj(x)
            and compat.array_namespace(x) is self.xp
            and (compat.device(x) == self.device or self.library in ("numpy", "dask"))
        )

    @property
    def is_fast(self) -> bool:
        """Whether this backend tests scenes of thousands of boxes: one per library, except array-api-strict."""
        return self.library != "strict" and self not in (Backend.NUMPY_READONLY, Backend.JAX_X64)

    def has_dtype(self, name: str) -> bool:
        match name, self:
            case "float16", _:
                return self.library != "strict"
            case "bfloat16", _:
                return self.library in ("torch", "jax")
            case "float64", _:
                return self not in (Backend.STRICTEST, Backend.JAX_CPU, Backend.JAX_GPU)
            case "int64", _:
                return self not in (Backend.JAX_CPU, Backend.JAX_GPU)
        return True

    def default(self, kind: str) -> str:
        """The name of the default dtype of a kind: "real floating", "integral", "indexing"."""
        with self.active():
            return str(self.xp.__array_namespace_info__().default_dtypes(device=self.device)[kind]).rpartition(".")[2]

    def gradient(self, f: Callable[..., Any], *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Gradients of the sum of `f(*arrays)` with respect to each array, by the library's own differentiation."""
        xs = [self.asarray(a) for a in arrays]
        if self.library == "jax":
            jax = importlib.import_module("jax")
            grads = jax.jit(jax.grad(lambda *a: jax.numpy.sum(f(*a)), argnums=tuple(range(len(xs)))))(*xs)
        else:
            torch = importlib.import_module("torch")
            xs = [x.requires_grad_() for x in xs]
            grads = torch.autograd.grad(torch.sum(f(*xs)), xs, materialize_grads=True)  # zeros, as JAX gives
        return tuple(map(self.to_numpy, grads))


class Transform(Enum):
    """How an op is called."""

    EAGER = "eager"
    JIT = "jit"
    VMAP = "vmap"
    COMPILE = "compile"
    FUNC_VMAP = "func.vmap"
    GRAD = "grad"

    def __str__(self) -> str:
        return self.value

    def belongs_to(self, backend: Backend) -> bool:
        match self:
            case Transform.EAGER:
                return True
            case Transform.JIT | Transform.VMAP:
                return backend.library == "jax"
            case Transform.COMPILE | Transform.FUNC_VMAP:
                return backend.library == "torch"
            case Transform.GRAD:
                return backend.library in ("torch", "jax")


def why_not(op: str, backend: Backend, transform: Transform) -> str | None:
    """Why `op` does not run there, as it declares, or None if it does."""
    if not transform.belongs_to(backend):
        return f"{backend.library} has no {transform}"
    return anyops.support()[op].why_not(transform.value, backend.value)


def is_due(backend: Backend, transform: Transform) -> bool:
    """Whether tests run this cell. x64 changes only dtypes, which eager calls show in tests of all ops and of dtypes.
    The programs that JAX would compile for it run only if ANYOPS_BACKENDS names it, as `nox -s jax` does.
    """
    if not transform.belongs_to(backend):
        return False
    return not is_thinned(backend) or transform is Transform.EAGER


def is_thinned(backend: Backend) -> bool:
    """Whether tests that compile for long run on a backend only if ANYOPS_BACKENDS names it."""
    return backend is Backend.JAX_X64 and backend not in named_in("ANYOPS_BACKENDS")


@contextmanager
def optimized(by_llvm: bool) -> Iterator[None]:
    """Whether JAX's programs are optimised on a CPU; without, compiling takes half as long.

    They are in the matrix of all ops, and everywhere if ANYOPS_BACKENDS names JAX, as `nox -s jax` does.
    """
    jax = importlib.import_module("jax")
    before = jax.config._read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", not by_llvm)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


class Run:
    """Call an op on one backend under one transform with host arrays; check what holds for every op.

    The result has the inputs' library and device, and the inputs are unchanged. Under a vmap the arrays are one lane of
    two; the other lane has them in reverse order, and its result must equal the result without vmap.
    """

    def __init__(self, backend: Backend, transform: Transform, compiler: str = "eager"):
        self.backend, self.transform, self.compiler = backend, transform, compiler

    def __call__(self, op: Callable[..., Any], *args: Any, dtype: str | None = None, **options: Any) -> Any:
        """The result as a NumPy array, or a tuple of them."""
        got = self.raw(op, *args, dtype=dtype, **options)
        return tuple(map(self.backend.to_numpy, got)) if isinstance(got, tuple) else self.backend.to_numpy(got)

    def raw(self, op: Callable[..., Any], *args: Any, dtype: str | None = None, **options: Any) -> Any:
        """The result as arrays of the backend."""
        named = dict(enumerate(args)) | options
        arrays = {k: v for k, v in named.items() if isinstance(v, np.ndarray)}

        rest = {k: v for k, v in named.items() if k not in arrays}
        f = _OfLeaves(op, len(args), tuple(arrays), tuple(rest.items()))
        inputs = [self.backend.asarray(a, dtype) for a in arrays.values()]
        got = self._call(f, inputs, arrays, dtype)
        for y in got if isinstance(got, tuple) else (got,):
            assert self.backend.owns(y), f"{type(y)} came back for {self.backend}"
        for name, x, host in zip(arrays, inputs, arrays.values(), strict=True):
            want = self.backend.to_numpy(self.backend.asarray(host, dtype))
            np.testing.assert_array_equal(self.backend.to_numpy(x), want, f"argument {name} was modified")
        return got

    def _call(self, f: _OfLeaves, inputs: list[Any], arrays: dict[Any, np.ndarray], dtype: str | None) -> Any:
        match self.transform:
            case Transform.EAGER:
                return f(*inputs)
            case Transform.JIT:
                return _jitted(f)(*inputs)
            case Transform.COMPILE:
                return _compiled(f, tuple((x.shape, x.dtype) for x in inputs), self.compiler)(*inputs)
            case Transform.VMAP:  # in a jit, or each operation would be compiled separately
                return self._two_lanes(_jitted(f, lanes=True), _jitted(f), arrays, dtype)
            case Transform.FUNC_VMAP:
                return self._two_lanes(importlib.import_module("torch").func.vmap(f), f, arrays, dtype)
        raise AssertionError(f"{self.transform} has its own tests")

    def _two_lanes(
        self, mapped: Callable[..., Any], f: Callable[..., Any], arrays: dict[Any, np.ndarray], dtype: str | None
    ) -> Any:
        asarray, to_numpy = self.backend.asarray, self.backend.to_numpy
        # On the host, because JAX would compile each flip and each stack.
        reverse = [
            np.flip(x, axis=tuple(range(min(x.ndim, 2 if name == "overlaps" else 1)))).copy()
            for name, x in arrays.items()
        ]
        both = mapped(*(asarray(np.stack(lanes), dtype) for lanes in zip(arrays.values(), reverse, strict=True)))
        alone = f(*(asarray(x, dtype) for x in reverse))
        for lanes, want in zip(*((r if isinstance(r, tuple) else (r,)) for r in (both, alone)), strict=True):
            rtol = tolerance(dtype_name(lanes))
            np.testing.assert_allclose(to_numpy(lanes)[1], to_numpy(want), rtol=rtol, atol=1e-6)
        return tuple(r[0] for r in both) if isinstance(both, tuple) else both[0]


class _OfLeaves:
    """A call as a function of its arrays; calls of one op with equal options are equal."""

    def __init__(self, op: Callable[..., Any], count: int, arrays: tuple[Any, ...], rest: tuple[Any, ...]):
        self.op, self.count, self.arrays, self.rest = op, count, arrays, dict(rest)
        plain = all(isinstance(x, (bool, int, float, str, type(None), np.generic)) for _, x in rest)
        self.key = op, count, arrays, repr(rest) if plain else object()

    def __call__(self, *leaves: Any) -> Any:
        full = self.rest | dict(zip(self.arrays, leaves, strict=True))
        return self.op(*(full[i] for i in range(self.count)), **{k: v for k, v in full.items() if isinstance(k, str)})

    def __hash__(self) -> int:
        return hash(self.key[:3])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _OfLeaves) and self.key == other.key


@lru_cache(maxsize=32)
def _jitted(f: _OfLeaves, *, lanes: bool = False) -> Callable[..., Any]:
    """The jitted call; calls that differ only in values are compiled once."""
    jax = importlib.import_module("jax")
    return jax.jit(jax.vmap(f) if lanes else f)


@lru_cache(maxsize=1)
def _compiled(f: _OfLeaves, arrays: tuple[Any, ...], compiler: str) -> Callable[..., Any]:
    """The compiled call, once for equal shapes and dtypes: for other shapes torch would compile with dynamic ones."""
    return compile_fullgraph(f, compiler)


def compile_fullgraph(f: Callable[..., Any], backend: str) -> Callable[..., Any]:
    """`torch.compile` in one graph, without the caches of earlier tests.

    "eager" runs Dynamo's graph. "aot_eager" also makes it functional, which takes as long again. Both avoid the C++
    compiler of "inductor".
    """
    torch = importlib.import_module("torch")
    with warnings.catch_warnings():  # when it imports inductor
        warnings.filterwarnings("ignore", "`torch.jit.script_method` is", DeprecationWarning)
        torch.compiler.reset()
    compiled = torch.compile(f, fullgraph=True, backend=backend)

    def call(*args: Any) -> Any:
        with warnings.catch_warnings():
            # array-api-compat caches namespaces: https://github.com/pytorch/pytorch/issues/155352
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
            # inductor: https://github.com/data-apis/array-api-extra/pull/668
            warnings.filterwarnings("ignore", "`torch.jit.script_method` is", DeprecationWarning)
            return compiled(*args)

    return call


def dtype_name(x: Any) -> str:
    return str(x.dtype).rpartition(".")[2]


def tolerance(dtype: str) -> float:
    """A few rounding errors of a dtype."""
    return {"float64": 1e-12, "float32": 4e-6, "float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 0.0)


def named_in(variable: str) -> list[Backend]:
    """The backends in an environment variable, separated by commas."""
    names = [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]
    known = {b.value: b for b in Backend}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{variable} names {', '.join(unknown)}; the backends are {', '.join(known)}")
    return [known[name] for name in names]


def selected() -> list[Backend]:
    """The backends under test: those in ANYOPS_BACKENDS, or all."""
    return named_in("ANYOPS_BACKENDS") or list(Backend)


@cache
def _why_unavailable(backend: Backend) -> str | None:
    module = {"strict": "array_api_strict", "dask": "dask.array"}.get(backend.library, backend.library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            library = importlib.import_module(module)
            match backend:
                case Backend.TORCH_CUDA if not library.cuda.is_available():
                    return "torch finds no CUDA device"
                case Backend.CUPY if not library.cuda.is_available():
                    return "cupy finds no CUDA device"
                case Backend.JAX_GPU if not any(d.platform == "gpu" for d in library.devices()):
                    return "jax finds no GPU"
        except ModuleNotFoundError as e:
            return f"{e.name} is not installed"
        except (ImportError, RuntimeError, OSError) as e:
            return f"{module} cannot be imported: {e}".splitlines()[0]
    return None

"""Loops for every library and transform: ``while_loop`` on a data-dependent condition, ``for_each`` over integers."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from .namespace import Array, device, has_no_values, in_program, is_compiled, is_dynamic, is_traced, library, namespace

State = tuple[Array, ...]


def while_loop(cond: Callable[..., Array], body: Callable[..., State], state: State) -> State:
    """Repeat ``state = body(*state)`` while ``cond(*state)``.

    Parameters
    ----------
    cond : callable
        Takes the state; returns a new 0-d bool array.
    body : callable
        Takes the state; returns a tuple of new arrays with the same shapes and dtypes.
    state : tuple of arrays
        Computed from the op's arguments, so that a transform that traces these traces the state.

    Notes
    -----
    A Python loop if values are concrete. Otherwise ``jax.lax.while_loop`` on JAX: called eagerly on closures, it would
    compile anew at each call. torch's ``while_loop`` operator under ``torch.compile`` and ``torch.export``. Under
    ``torch.func.vmap`` a loop that runs while any lane does. An ONNX ``Loop`` for ndonnx.
    """
    xp = namespace(**{f"state[{i}]": x for i, x in enumerate(state)})
    if library(xp) == "jax":
        return _jax_loop(cond, body, state)
    if library(xp) == "torch":
        return _torch_loop(xp, cond, body, state)
    if library(xp) == "ndonnx":
        return _onnx_loop(xp, cond, body, state)
    return _eager_loop(cond, body, state)


UNROLLED = 8


def for_each(count: int, body: Callable[..., State], state: State, *, unrolled: int = UNROLLED) -> State:
    """Repeat ``state = body(k, *state)`` for k = 0, ..., count − 1.

    The loop is unrolled, and `k` is an integer. But if JAX or torch compiles more than `unrolled` steps, or a dynamic
    number of them, it is a compiled loop, `k` is a 0-d array, and compile time does not grow with `count`.
    """
    xp = namespace(**{f"state[{i}]": x for i, x in enumerate(state)})
    if is_dynamic(xp, count) or (count > unrolled and is_compiled(xp, state[0])):
        if library(xp) == "jax":
            import jax

            return jax.lax.fori_loop(0, count, lambda k, s: tuple(body(k, *s)), tuple(state))
        first = xp.zeros((), dtype=xp.int64, device=device(state[0]))
        return while_loop(lambda k, *_: k < count, lambda k, *s: (k + 1, *body(k, *s)), (first, *state))[1:]
    if library(xp) == "torch" and count > 1:
        _check_torch_keeps_loops()
    for k in range(count):
        state = tuple(body(k, *state))
    return tuple(state)


def map_lanes(function: Callable[[Any], Array], arrays: Any, lanes: tuple[int, ...]) -> Array:
    """Return ``function(arrays)`` of a function that processes each leading lane independently.

    On a CPU, JAX processes lanes one by one: temporaries of a lane stay in cache, and its loops and branches do not
    wait for other lanes.
    """
    xp = namespace(x=next(x for x in arrays if x is not None))
    if library(xp) != "jax" or not (any(is_dynamic(xp, size) for size in lanes) or math.prod(lanes) > 1):
        return function(arrays)
    import jax

    flat = jax.tree.map(lambda x: xp.reshape(x, (-1, *x.shape[len(lanes) :])), arrays)
    made = jax.lax.platform_dependent(flat, cpu=lambda x: jax.lax.map(function, x), default=function)
    return xp.reshape(made, (*lanes, *made.shape[1:]))


def branches(x: Array, sizes: Sequence[int]) -> Sequence[int]:
    """Return the sizes for :func:`branch`: all if `x` is traced by JAX, else only the last."""
    return sizes if library(namespace(x=x)) == "jax" and is_traced(x) else sizes[-1:]


def branch(count: Array, sizes: Sequence[int], function: Callable[[int], Array]) -> Array:
    """Return ``function(size)`` for the first size ≥ `count`, a 0-d array, or for the last size.

    JAX compiles `function` for each size. The sizes come from :func:`branches`.
    """
    import jax

    number = sum((count > size).astype("int32") for size in sizes[:-1])
    return jax.lax.switch(number, [lambda size=size: function(size) for size in sizes])


def _eager_loop(cond: Callable[..., Array], body: Callable[..., State], state: State) -> State:
    while bool(cond(*state)):
        state = tuple(body(*state))
    return tuple(state)


def _jax_loop(cond: Callable[..., Array], body: Callable[..., State], state: State) -> State:
    import jax

    try:
        return _eager_loop(cond, body, state)
    except jax.errors.TracerBoolConversionError:  # no other test detects a vmap over concrete arrays
        return jax.lax.while_loop(lambda s: cond(*s), lambda s: tuple(body(*s)), tuple(state))


def _torch_loop(xp: Any, cond: Callable[..., Array], body: Callable[..., State], state: State) -> State:
    import torch

    _check_torch_keeps_loops()
    if in_program():
        # Private until it is stable: https://github.com/pytorch/pytorch/issues/158820
        from torch._higher_order_ops.while_loop import while_loop as operator

        # The operator refuses outputs that alias inputs, and strides that change, even of axes of length 1.
        def apart(arrays: State) -> State:
            return tuple(x.clone(memory_format=torch.contiguous_format) for x in arrays)

        return operator(lambda *s: cond(*s).clone(), lambda *s: apart(body(*s)), apart(state))
    if has_no_values() or state[0].is_meta:  # only shapes and dtypes, which no step changes
        return tuple(body(*state))
    try:
        return _eager_loop(cond, body, state)
    except RuntimeError as error:
        if "data-dependent control flow" not in str(error):
            raise
    any_lane = _torch_any_lane()
    while bool(any_lane(go := cond(*state))):
        state = tuple(xp.where(go, new, old) for new, old in zip(body(*state), state, strict=True))
    return state


def _check_torch_keeps_loops() -> None:
    import torch

    if torch.compiler.is_compiling():
        return
    if torch._C._get_tracing_state() is not None:
        raise TypeError(
            "torch.jit.trace would fix the number of loop steps to the number that its example takes; "
            "use torch.export or torch.compile"
        )
    faked = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    if in_program() and faked is not None and faked.shape_env is None:
        raise TypeError("functorch's aot_function supports loops only with symbolic sizes; pass dynamic=True")


@cache
def _torch_any_lane() -> Callable[[Array], Array]:
    import torch

    class AnyLane(torch.autograd.Function):
        """The identity on a flag; under ``torch.func.vmap``, `any` over its lanes."""

        @staticmethod
        def forward(flag: Array) -> Array:
            return flag.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Array) -> None:
            ctx.mark_non_differentiable(output)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> None:
            return None

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], flag: Array) -> tuple[Array, None]:
            return AnyLane.apply(flag.any(dim=in_dims[0])), None

    return AnyLane.apply


def _onnx_loop(xp: Any, cond: Callable[..., Array], body: Callable[..., State], state: State) -> State:
    import spox.opset.ai.onnx.v21 as op
    from spox._internal_op import unsafe_reshape  # Loop's shape inference loses the ranks

    def flag(s: State) -> Any:
        return xp.reshape(cond(*s), (1,)).unwrap_spox()

    def step(_iteration: Any, _go: Any, *carried: Any) -> list[Any]:
        new = tuple(body(*map(xp.asarray, carried)))
        return [flag(new), *(x.unwrap_spox() for x in new)]

    out = op.loop(None, flag(state), [x.unwrap_spox() for x in state], body=step)
    return tuple(xp.asarray(unsafe_reshape(o, (None,) * x.ndim)) for o, x in zip(out, state, strict=True))

"""Elementwise functions whose derivative is known in closed form."""

from collections.abc import Callable
from functools import cache
from typing import Any

from .mode import Mode, without_gradient
from .namespace import Array, is_array


def with_slope(
    mode: Mode,
    value: Callable[..., Array],
    value_and_slope: Callable[..., tuple[Array, Array]],
    x: Array,
    *constants: Array,
    **options: Any,
) -> Array:
    """Return ``value(mode, x, *constants, **options)``, an elementwise function with a closed-form derivative by `x`.

    Options that are arrays are constants too.

    In eager torch this is one node of the autograd graph: the forward pass also computes the derivative, at half the
    value's cost, and the backward pass is one product. Recorded operation by operation, the backward pass alone took as
    long as both. Second derivatives, transforms of torch.func and other libraries differentiate `value` itself.
    """
    varying = {k: y for k, y in options.items() if is_array(y)}
    alone = without_gradient(mode, x, *constants, *varying.values())
    if alone is None:
        return value(mode, x, *constants, **options)

    def of_constants(function: Callable[..., Any], how: Mode) -> Callable[..., Any]:
        def call(x: Array, *all_constants: Array) -> Any:
            given = options | dict(zip(varying, all_constants[len(constants) :], strict=True))
            return function(how, x, *all_constants[: len(constants)], **given)

        return call

    arrays = *constants, *varying.values()
    return _torch_node()(of_constants(value, mode), of_constants(value_and_slope, alone), x, *arrays)[0]


@cache
def _torch_node() -> Callable[..., tuple[Array, Array]]:
    import torch

    class Node(torch.autograd.Function):
        """A value that saves its derivative for the backward pass."""

        @staticmethod
        def forward(ctx: Any, value: Any, value_and_slope: Any, x: Array, *constants: Array) -> tuple[Array, Array]:
            y, slope = value_and_slope(x, *constants)
            ctx.value = value
            ctx.save_for_backward(slope, x, *constants)
            ctx.mark_non_differentiable(slope)
            ctx.set_materialize_grads(False)
            return y, slope

        @staticmethod
        def backward(ctx: Any, grad: Array | None, _: Any) -> tuple[Array | None, ...]:
            slope, x, *constants = ctx.saved_tensors
            others = (None,) * len(constants)
            if grad is None:
                return None, None, None, *others
            if not torch.is_grad_enabled():
                return None, None, grad * slope, *others
            with torch.enable_grad():
                (dx,) = torch.autograd.grad(ctx.value(x, *constants), x, grad, create_graph=True)
            return None, None, dx, *others

    return Node.apply

"""How kernels are called: as one compiled unit on JAX, and silently where NumPy would warn of values we define."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from .namespace import Array


def as_written(kernel: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
    """Return ``kernel(*arguments, **options)`` of torch, in the dtypes of the arguments also under autocast."""
    import torch

    place = next((x.device.type for x in _flat(arguments) if isinstance(x, torch.Tensor)), "cpu")
    if place == "meta" or not torch.is_autocast_enabled(place):
        return kernel(*arguments, **options)
    with torch.autocast(place, enabled=False):
        return kernel(*arguments, **options)


def _flat(arguments: Iterable[Any]) -> Iterator[Any]:
    """Yield arguments, and in their place the items of those that are tuples or lists."""
    for x in arguments:
        if isinstance(x, tuple | list):
            yield from _flat(x)
        else:
            yield x


def jitted(
    kernel: Callable[..., Any], how: Any, known: bool, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Return ``kernel(how, *arguments, **options)`` of JAX, compiled as one where values are known.

    For each combination of options; those that are arrays are arguments to the compiler, and may vary.
    """
    import jax

    varying = {k: x for k, x in options.items() if isinstance(x, jax.Array)}
    settings = tuple(sorted((k, x) for k, x in options.items() if k not in varying))
    return (_jitted if known else _precise)(kernel, how, settings)(*arguments, **varying)


@cache
def _jitted(kernel: Callable[..., Any], how: Any, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    import jax

    return jax.jit(_precise(kernel, how, options))


@cache
def _precise(kernel: Callable[..., Any], how: Any, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    import jax

    def call(*arguments: Array | float | None, **varying: Array) -> Any:
        with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
            return kernel(how, *arguments, **dict(options), **varying)

    call.__name__ = kernel.__name__  # so that profiles and errors name the kernel
    return call

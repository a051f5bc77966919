"""Run a kernel: jitted on JAX, with NumPy's floating-point warnings off."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .namespace import Array


def as_written(kernel: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
    """Return ``kernel(*arguments, **options)`` on torch, with autocast off: it would change dtypes."""
    import torch

    place = next((x.device.type for x in _flat(arguments) if isinstance(x, torch.Tensor)), "cpu")
    if place == "meta" or not torch.is_autocast_enabled(place):
        return kernel(*arguments, **options)
    with torch.autocast(place, enabled=False):
        return kernel(*arguments, **options)


def _flat(arguments: Iterable[Any]) -> Iterator[Any]:
    """Yield arguments; tuples and lists among them are flattened."""
    for x in arguments:
        if isinstance(x, tuple | list):
            yield from _flat(x)
        else:
            yield x


def jitted(
    kernel: Callable[..., Any], how: Any, known: bool, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Return ``kernel(how, *arguments, **options)`` on JAX, under ``jax.jit`` if values are known.

    It is compiled anew for each combination of options, except options that are arrays: these are traced.
    """
    import jax

    if known:
        leaves, tree = jax.tree.flatten(arguments)
        if any(isinstance(x, int | float) for x in leaves):
            place, float64 = _place(leaves), jax.config.read("jax_enable_x64")
            shipped = [_shipped(x, place, float64) if isinstance(x, int | float) else x for x in leaves]
            arguments = jax.tree.unflatten(tree, shipped)
    varying = {k: x for k, x in options.items() if isinstance(x, jax.Array)}
    settings = tuple(sorted((k, x) for k, x in options.items() if k not in varying))
    return (_jitted if known else _precise)(kernel, how, settings)(*arguments, **varying)


def constant(values: float | tuple[float, ...], dtype: Any, like: Array) -> Array:
    """Return numbers as a JAX array in a dtype beside another one, cached as in :func:`_shipped`."""
    return _shipped(values, _place([like]), dtype)


def _place(arrays: Iterable[Any]) -> Any:
    """Return the device that the first JAX array is committed to; None if uncommitted, or on several devices."""
    import jax

    first = next((x for x in arrays if isinstance(x, jax.Array)), None)
    if first is None or not first.committed or len(first.sharding.device_set) > 1:
        return None
    return first.sharding


@lru_cache(maxsize=256, typed=True)
def _shipped(values: float | tuple[float, ...], place: Any, dtype: Any) -> Array:
    """Return numbers as a JAX array, cached so that the next call with them transfers nothing to the device.

    In a dtype; or, given whether JAX has float64, in the dtype of a Python number.
    """
    import jax

    return jax.device_put(values if isinstance(dtype, bool) else np.asarray(values, dtype), place)


@cache
def _jitted(kernel: Callable[..., Any], how: Any, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    import jax

    return jax.jit(_precise(kernel, how, options))


@cache
def _precise(kernel: Callable[..., Any], how: Any, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    import jax

    def call(*arguments: Array | float | None, **varying: Array) -> Any:
        with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
            return _on_automatic_axes(lambda *given: kernel(how, *given, **dict(options), **varying), arguments)

    call.__name__ = kernel.__name__  # so that profiles and errors name the kernel
    return call


def _on_automatic_axes(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return ``call(*arguments)``, with the explicit axes of a mesh of JAX left to its compiler.

    With explicit axes every gather, sort or product along one has to name the sharding of its result. The leading axes
    that a result shares with the first sharded array keep their sharding; all other axes are replicated.
    """
    import jax

    leaves, tree = jax.tree.flatten(arguments)
    arrays = [x for x in leaves if isinstance(x, jax.Array)]
    parts = next((x for x in arrays if any(s is not None for s in jax.typeof(x).sharding.spec)), None)
    if parts is None:
        return call(*arguments)
    sharding, named, spec = jax.typeof(parts).sharding, jax.sharding.NamedSharding, jax.sharding.PartitionSpec

    def whole(*arrays: Array) -> Any:
        given = iter(arrays)
        return call(*jax.tree.unflatten(tree, [next(given) if isinstance(x, jax.Array) else x for x in leaves]))

    def place(x: Array) -> Any:
        same = 0
        while same < min(x.ndim, parts.ndim) and x.shape[same] == parts.shape[same]:
            same += 1
        return named(sharding.mesh, spec(*sharding.spec[:same]))

    nowhere = named(sharding.mesh, spec())
    made = jax.eval_shape(jax.sharding.auto_axes(whole, out_sharding=nowhere), *arrays)
    return jax.sharding.auto_axes(whole, out_sharding=jax.tree.map(place, made))(*arrays)

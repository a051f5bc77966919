"""Long chains of elementwise operations where each one is a pass over memory."""

import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .namespace import Array, Namespace, is_at_hand, library, records_nothing

# Elements of a tile: the handful of temporaries of a chain stay in cache, and a call costs little beside. Chains with
# twice as many take half: several megabytes of them malloc returns to the system, and gets back page by page.
TILE = 1 << 17


def by_tiles(
    xp: Namespace, kernel: Callable[..., tuple[Array, ...]], *arrays: Array, size: int = TILE
) -> tuple[Array, ...]:
    """Return what a kernel makes of arrays of one shape, element by element; on NumPy by tiles that stay in cache.

    The other libraries fuse the chain, or run each operation of it on all cores.
    """
    if library(xp) != "numpy" or arrays[0].size <= size:
        return kernel(*arrays)
    made = _tiled(kernel, [xp.reshape(x, (-1,)) for x in arrays], size)
    return tuple(y.reshape(arrays[0].shape) for y in made)


def by_rows(xp: Namespace, kernel: Callable[..., tuple[Array, ...]], x: Array, *others: Array) -> tuple[Array, ...]:
    """Return what a kernel makes of the rows along the last axis of `x`, each by itself; on NumPy by tiles of rows.

    The other arrays have the shape of `x`, or that of its leading dimensions, and so have the results.
    """
    if library(xp) != "numpy" or x.size <= TILE:
        return kernel(x, *others)
    lead = x.shape[:-1]
    flat = [xp.reshape(y, (-1, *y.shape[len(lead) :])) for y in (x, *others)]
    made = _tiled(kernel, flat, max(1, TILE // x.shape[-1]))
    return tuple(y.reshape(lead + y.shape[1:]) for y in made)


def _tiled(kernel: Callable[..., tuple[Array, ...]], arrays: list[np.ndarray], step: int) -> list[np.ndarray]:
    """The results for `step` items along the first axis at a time, written into place."""
    size = arrays[0].shape[0]
    whole: list[np.ndarray] = []
    for start in range(0, size, step):
        part = slice(start, start + step)
        tile = kernel(*(x[part] for x in arrays))
        whole = whole or [np.empty((size, *y.shape[1:]), y.dtype) for y in tile]
        for y, z in zip(whole, tile, strict=True):
            y[part] = z
    return whole


def tiles(xp: Namespace, x: Array, *others: Array | None) -> list[list[tuple[slice, slice]]]:
    """Cut (A, C, B) along A, and within that along C, into tiles that stay in cache, where that is faster; else one.

    Temporaries of the size of a large batch are mapped and zeroed by the system each time, which takes longer than to
    compute them. Where torch keeps a graph of `x` or of the others it has to keep them anyway.
    """
    a, c, b = x.shape
    limit = _tile_size(xp, x, *(y for y in others if y is not None))
    if limit is None or a * c * b <= limit:
        return [[(slice(0, a), slice(0, c))]]
    rows, columns = max(1, limit // (c * b)), max(1, min(c, limit // b))
    return [
        [(slice(i, i + rows), slice(j, min(j + columns, c))) for j in range(0, c, columns)] for i in range(0, a, rows)
    ]


def _tile_size(xp: Namespace, *arrays: Array) -> int | None:
    """Elements of a tile; None for libraries, devices and transforms that are better off without."""
    if library(xp) == "torch":
        # Large enough for all cores to have a share.
        return 8 * TILE if is_at_hand(arrays[0]) and records_nothing(*arrays) else None
    return TILE if library(xp) == "numpy" else None


def over_tiles(xp: Namespace, kernel: Callable[[slice, slice], Array], x: Array, *others: Array | None) -> Array:
    """Return the array in the shape of (A, C, B) `x` whose every tile is kernel(of A, of C), made of `x` and others."""
    cut = [tile for row in tiles(xp, x, *others) for tile in row]
    first = kernel(*cut[0])
    if len(cut) == 1:
        return first
    whole = xp.empty(x.shape, dtype=first.dtype)
    whole[cut[0]] = first
    for tile in cut[1:]:
        whole[tile] = kernel(*tile)
    return whole


def channel_sum(xp: Namespace, x: Array, y: Array | None = None) -> Array:
    """Return Σ x, or Σ xy, over A and B of arrays (A, C, B).

    NumPy reduces the longer of the two axes first, through BLAS: its own reductions take twice as long, and over two
    axes that do not meet twenty times as long.
    """
    if library(xp) != "numpy" or x.size == 0:
        return xp.sum(x if y is None else x * y, axis=(0, 2))
    a, _, b = x.shape
    if b > a:
        return np.sum(np.vecdot(x, np.ones(b, x.dtype) if y is None else y), axis=0)
    product = x if y is None else x * y
    return np.sum((np.ones(a, x.dtype) @ product.reshape(a, -1)).reshape(x.shape[1:]), axis=-1)


def refines_means(xp: Namespace) -> bool:
    """Tell whether a mean deserves a second pass for what rounding left of it.

    Not on JAX: XLA sums by many partial sums, and one more reduction costs an eighth of a batch norm.
    """
    return library(xp) != "jax"


def consuming(xp: Namespace, *operands: Array) -> tuple[Callable[[Array, Any], Array], ...]:
    """Return +, −, · and / that may take the memory of their first argument: a temporary that nothing else reads.

    In place on NumPy, and on torch where no graph of the operands is kept: that spares each operation a third of its
    traffic. Elsewhere they are the plain operators; a compiler decides for itself.
    """
    if library(xp) == "numpy" or (library(xp) == "torch" and records_nothing(*operands)):
        return operator.iadd, operator.isub, operator.imul, operator.itruediv
    return operator.add, operator.sub, operator.mul, operator.truediv


def with_slope(
    xp: Namespace,
    value: Callable[..., Array],
    value_and_slope: Callable[..., tuple[Array, Array]],
    x: Array,
    constants: tuple[Array, ...],
) -> Array:
    """Return value(x, *constants), elementwise, whose derivative by `x` is known in closed form.

    On torch called eagerly it is one node of the graph: the derivative is computed beside the value, which costs half
    as much again, and going back is one product. Recorded operation by operation, going back took as long as the whole
    of it. A second derivative, and every transform of torch.func, goes through `value` itself, as all does elsewhere.
    """
    if library(xp) != "torch" or not _is_recorded(x, constants):
        return value(x, *constants)
    return _torch_node()(value, value_and_slope, x, *constants)[0]


def _is_recorded(x: Array, constants: tuple[Array, ...]) -> bool:
    """Whether torch's plain autograd follows `x`, and nothing else does or is followed."""
    import torch

    return torch.is_grad_enabled() and x.requires_grad and records_nothing(x.detach(), *constants)


@cache
def _torch_node() -> Callable[..., tuple[Array, Array]]:
    import torch

    class Node(torch.autograd.Function):
        """A value that carries its derivative."""

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

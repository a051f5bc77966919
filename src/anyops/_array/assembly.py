"""A large result put together from blocks that are computed one at a time."""

from collections.abc import Iterable
from itertools import chain

from .namespace import Array, Namespace, library


def assemble(xp: Namespace, blocks: Iterable[Array], axis: int, length: int) -> Array:
    """Return the concatenation of blocks along an axis whose total length is known.

    NumPy writes them into place, so that the result exists once; autograd and immutable arrays want a concatenation.
    """
    if library(xp) != "numpy":
        return xp.concat(list(blocks), axis=axis)
    blocks = iter(blocks)
    first = next(blocks)
    shape = list(first.shape)
    shape[axis] = length
    out = xp.empty(shape, dtype=first.dtype)
    view = xp.moveaxis(out, axis, 0)
    done = 0
    for block in chain((first,), blocks):
        view[done : done + block.shape[axis]] = xp.moveaxis(block, axis, 0)
        done += block.shape[axis]
    return out

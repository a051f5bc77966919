"""Reductions of arrays in chunks, for those that do not fit in memory."""

from collections.abc import Callable
from itertools import product
from typing import Any

from .namespace import Array, Namespace, library


def is_chunked(xp: Namespace) -> bool:
    """Tell whether arrays of a library are made of chunks that are computed one by one."""
    return library(xp) == "dask"


def reduce_chunks(
    partial: Callable[..., Any], merge: Callable[[Any, Any], Any], axis: int, x: Array, leading: Array | None
) -> Any:
    """Return the merged `partial(chunk of x, chunk of leading)` of all chunks, which hold `axis` of `x` whole.

    `leading` has the shape of `x` without `axis`, or its leading part. Each chunk is read once and let go, as no
    expression over the whole array would: a mean that a second pass needs keeps every chunk in memory.
    """
    import dask

    x = x.rechunk({axis: -1})
    places = [range(n) for n in x.numblocks]
    if leading is not None:
        chunks = [c for i, c in enumerate(x.chunks) if i != axis]
        leading = leading.rechunk(tuple(chunks[: leading.ndim]))
    partial, merge = dask.delayed(partial), dask.delayed(merge)
    parts = []
    for place in product(*places):
        beside = None
        if leading is not None:
            index = place[:axis] + place[axis + 1 :]
            beside = leading.blocks[index[: leading.ndim]]
        parts.append(partial(x.blocks[place], beside))
    while len(parts) > 1:  # in pairs: rounding grows with the logarithm of their number
        odd = parts[len(parts) // 2 * 2 :]
        parts = [merge(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)] + odd
    return parts[0].compute()

"""Reductions of arrays in chunks, for those that do not fit in memory."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

from .namespace import Array, DType, Namespace, library


def is_chunked(xp: Namespace) -> bool:
    """Tell whether arrays of a library are made of chunks that are computed one by one."""
    return library(xp) == "dask"


def check_known_chunks(xp: Namespace, name: str, x: Array) -> None:
    """Raise ValueError for an array whose chunks have unknown sizes: nothing can be laid beside them."""
    if is_chunked(xp) and any(math.isnan(size) for size in x.shape):
        raise ValueError(
            f"{name} must have chunks of known sizes, got shape {x.shape}; call {name}.compute_chunk_sizes()"
        )


def reduce_chunks(
    partial: Callable[..., Any], merge: Callable[[Any, Any], Any], axis: int, x: Array, *leading: Array | None
) -> Any:
    """Return the merged `partial(chunk of x, chunk of each leading)` of all chunks, which hold `axis` of `x` whole.

    Each of `leading` has the shape of `x` without `axis`, or its leading part. Each chunk is read once and let go, as
    no expression over the whole array would: a mean that a second pass needs keeps every chunk in memory.
    """
    import dask

    x = x.rechunk({axis: -1}) if x.ndim > 1 else x
    places = [range(n) for n in x.numblocks]
    chunks = [c for i, c in enumerate(x.chunks) if i != axis or x.ndim == 1]
    beside = [None if a is None else a.rechunk(tuple(chunks[: a.ndim])) for a in leading]
    partial, merge = dask.delayed(partial), dask.delayed(merge)
    parts = []
    for place in product(*places):
        index = place[:axis] + place[axis + 1 :] if x.ndim > 1 else place
        parts.append(partial(x.blocks[place], *(None if a is None else a.blocks[index[: a.ndim]] for a in beside)))
    while len(parts) > 1:  # in pairs: rounding grows with the logarithm of their number
        odd = parts[len(parts) // 2 * 2 :]
        parts = [merge(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)] + odd
    return parts[0].compute()


def empty_rows(x: Array) -> Array:
    """Return no rows of the chunks of a lazy (n, d) array, in their library and dtype."""
    return x._meta.reshape(0, x.shape[1])


def over_chunks(f: Callable[..., Array], *arrays: Array) -> Array:
    """Return what `f` makes of the chunks of 1-D arrays, elementwise, still to be computed."""
    import dask.array

    first, *others = arrays
    return dask.array.map_blocks(
        f, first, *(a.rechunk(first.chunks) for a in others), dtype=f(*(a._meta for a in arrays)).dtype
    )


def over_rows(f: Callable[[Array], Array], x: Array, columns: int | None, dtype: DType) -> Array:
    """Return what `f` makes of the rows of (n, d), (n, columns) or (n,), still to be computed."""
    whole = x.rechunk({1: -1})
    if columns is None:
        return whole.map_blocks(f, drop_axis=1, dtype=dtype)
    return whole.map_blocks(f, chunks=(whole.chunks[0], (columns,)), dtype=dtype)


def chunks_like(values: Array, x: Array | None) -> Array:
    """Return host values, one an item of the first axis of `x`, in the chunks that `x` has along it."""
    import dask.array

    return dask.array.from_array(values, chunks=-1 if x is None else (x.chunks[0],))

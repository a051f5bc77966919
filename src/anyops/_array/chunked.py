"""Reductions of chunked arrays that do not fit in memory."""

import math
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .namespace import Array, DType, Namespace, library


def is_chunked(xp: Namespace) -> bool:
    """Tell whether a library's arrays consist of chunks that are computed one by one."""
    return library(xp) == "dask"


def check_known_chunks(xp: Namespace, name: str, x: Array) -> None:
    """Raise ValueError for an array with chunks of unknown size: they cannot be matched with another array's."""
    if is_chunked(xp) and any(math.isnan(size) for size in x.shape):
        raise ValueError(
            f"{name} must have chunks of known sizes, got shape {x.shape}; call {name}.compute_chunk_sizes()"
        )


def without_empty_chunks(x: Any) -> Any:
    """Return a dask array without its empty chunks, on which dask's reductions fail; any other array as it is.

    https://github.com/dask/dask/issues/10327
    """
    kept = {
        axis: tuple(size for size in sizes if size)
        for axis, sizes in enumerate(getattr(x, "chunks", None) or ())
        if 0 in sizes and sum(sizes) > 0  # false for an axis of length 0, and for one of unknown length (NaN)
    }
    return x.rechunk(kept) if kept else x


def check_no_lazy_frame(name: str, x: Any) -> None:
    """Raise TypeError for a dask data frame or series: converting it to an array would load all of it."""
    if hasattr(x, "to_dask_array"):
        raise TypeError(
            f"{name} must be an array, got a dask {type(x).__name__}, which would be loaded as a whole; "
            f"pass {name}.to_dask_array(lengths=True)"
        )


def reduce_chunks(
    partial: Callable[..., Any], merge: Callable[[Any, Any], Any], axis: int, x: Array, *leading: Array | None
) -> Any:
    """Return the merged results of `partial(chunk of x, chunk of each leading)`, on chunks that are whole along `axis`.

    The shape of each array in `leading` is the shape of `x` without `axis`, or the first axes of it. Each chunk is read
    once and released. A mean and a second pass over the array as dask expressions would keep every chunk in memory.
    """
    x = x.rechunk({axis: -1}) if x.ndim > 1 else x
    whole = tuple(range(x.ndim))
    kept = whole[:axis] + whole[axis + 1 :] if x.ndim > 1 else whole
    chunks = tuple(x.chunks[i] for i in kept)
    beside = [(None, None) if a is None else (a.rechunk(chunks[: a.ndim]), kept[: a.ndim]) for a in leading]
    return _merged(partial, merge, (x, whole), *beside)


def fold_blocks(
    partial: Callable[..., Any],
    merge: Callable[[Any, Any], Any],
    x: Array,
    weight: Array | None,
    blocks: list[int] | None = None,
) -> Any:
    """Return the merged results of `partial(index of the first row, rows, their weights)` on the row chunks of (n, d).

    `blocks`, in ascending order, selects chunks; None for all.
    """
    import dask.array

    x = x.rechunk({1: -1})
    sizes = x.chunks[0]
    starts = dask.array.from_array(np.cumulative_sum(np.asarray(sizes), include_initial=True)[:-1], chunks=1)
    weight = None if weight is None else weight.rechunk((sizes,))
    of_weight = (None, None) if weight is None else (weight, (0,))
    return _merged(partial, merge, (starts, (0,)), (x, (0, 1)), of_weight, blocks=blocks)


def _merged(
    partial: Callable[..., Any],
    merge: Callable[[Any, Any], Any],
    *arrays: tuple[Array, Any],
    blocks: list[int] | None = None,
) -> Any:
    """Return the merged results of all chunks, or of some `blocks`; each array comes with the numbers of its axes.

    Reading a chunk and reducing it is one task, so no worker holds chunks that wait to be reduced.
    """
    import dask
    import dask.array

    axes = max((index for _, index in arrays if index is not None), key=len)
    name = f"{getattr(partial, '__name__', 'partial')}-{uuid.uuid4().hex}"
    given = (part for pair in arrays for part in pair)
    made = dask.array.blockwise(
        partial, axes, *given, name=name, dtype=object, meta=np.empty((0,) * len(axes), object), align_arrays=False
    )
    parts, merge = made.to_delayed().ravel().tolist(), dask.delayed(merge)
    parts = parts if blocks is None else [parts[i] for i in blocks]
    while len(parts) > 1:  # in pairs: rounding grows with the logarithm of their number
        odd = parts[len(parts) // 2 * 2 :]
        parts = [merge(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)] + odd
    return parts[0].compute()


def block_sizes(x: Array) -> Any:
    """Return the lengths of the chunks of an array along its first axis."""
    return np.asarray(x.chunks[0])


def empty_rows(x: Array) -> Array:
    """Return an array of 0 rows with the library, dtype and width of a lazy (n, d) array's chunks."""
    return x._meta.reshape(0, x.shape[1])


def over_chunks(f: Callable[..., Array], *arrays: Array) -> Array:
    """Return `f` applied elementwise to the chunks of 1-D arrays, as a lazy array."""
    import dask.array

    first, *others = arrays
    return dask.array.map_blocks(
        f, first, *(a.rechunk(first.chunks) for a in others), dtype=f(*(a._meta for a in arrays)).dtype
    )


def over_rows(f: Callable[..., Array], x: Array, columns: int | None, dtype: DType, *beside: Array | None) -> Array:
    """Return `f` applied to the row chunks of (n, d), as a lazy array (n, columns), or (n,) if `columns` is None.

    The arrays `beside`, (n,) each, are chunked like the rows of `x` and passed to `f` with them.
    """
    import dask.array

    whole = x.rechunk({1: -1})
    rows = ((None, None) if a is None else (a.rechunk(whole.chunks[:1]), (0,)) for a in beside)
    given = [part for pair in ((whole, (0, 1)), *rows) for part in pair]
    options = {"dtype": dtype, "meta": whole._meta.astype(dtype), "align_arrays": False}
    if columns is not None:
        return dask.array.blockwise(f, (0, 1), *given, adjust_chunks={1: columns}, **options)
    # A result (n, 1), of which one column is taken: dask copies each chunk to drop an axis.
    made = dask.array.blockwise(partial(_column, f), (0, 1), *given, adjust_chunks={1: 1}, **options)
    return made[:, 0]


def _column(f: Callable[..., Array], *parts: Array | None) -> Array:
    return f(*parts)[:, None]


def chunks_like(values: Array, x: Array | None) -> Array:
    """Return host values, one per row of `x`, as a lazy array with the row chunks of `x`; one chunk if `x` is None."""
    import dask.array

    return dask.array.from_array(values, chunks=-1 if x is None else (x.chunks[0],))

"""Sums over the rows of a large array, in chunks with temporary arrays that stay in cache."""

import functools
import itertools
from collections.abc import Callable

from .mode import Mode
from .namespace import Array, Namespace, is_dynamic, is_traced, library
from .threads import in_parts, workers

Sums = tuple[Array, ...]
Parts = tuple[Sums, Sums]  # by name: torch.compile does not subscript types
Share = tuple[list[Sums], Sums]

BYTES = 1 << 20  # of a chunk of rows: about an L2 cache; four times as much is about a core's share of L3


def rows_in_cache(xp: Namespace, x: Array, columns: int, *, close: bool = True) -> int:
    """Return how many rows to process at once, if each row yields `columns` numbers.

    A chunk fits into a core's L2 cache, or, unless `close`, into its share of L3, if fewer calls gain more. On torch it
    is large enough for all cores, and larger under a compiler, which unrolls the chunks. On a device it is large enough
    to hide kernel launches. On JAX, larger chunks than the limit were not faster.
    """
    size = 8 if "64" in str(x.dtype) else 4
    name = library(xp)
    many = 1 if close else 4
    if name == "cupy" or (name == "torch" and x.device.type != "cpu") or (name == "jax" and not on_cpu(x)):
        many = 64
    elif name == "torch":
        many = 16 if is_traced(x) else 4
    rows = max(64, many * BYTES // (size * max(columns, 1)))
    return min(rows, 4096) if name == "jax" and many <= 4 else rows


def on_cpu(x: Array) -> bool:
    """Tell whether JAX computes on a CPU; for traced values, whether its default device is a CPU."""
    import jax

    platform = jax.default_backend() if is_traced(x) else next(iter(x.devices())).platform
    return platform == "cpu"


def is_sharded(x: Array) -> bool:
    """Tell whether the rows of an array are on several devices of JAX."""
    return library_of_jax(x) and not is_traced(x) and len(x.sharding.device_set) > 1


def library_of_jax(x: Array) -> bool:
    """Tell whether an array is a JAX array."""
    return type(x).__module__.partition(".")[0] in ("jax", "jaxlib")


def fold_rows(
    xp: Namespace,
    kernel: Callable[..., Sums],
    merge: Callable[[Sums, Sums], Sums],
    rows: int,
    *arrays: Array | None,
    axis: int = 0,
) -> Sums:
    """Return the merged results of `kernel` on chunks of `rows` rows along an axis; one chunk if `rows` is 0."""

    def chunk(*parts: Array | None) -> Parts:
        return (), kernel(*parts)

    return _scan(xp, chunk, merge, rows, axis, arrays, 1)[1]


def scan_rows(
    mode: Mode,
    kernel: Callable[..., Parts],
    merge: Callable[[Sums, Sums], Sums],
    rows: int,
    axis: int,
    *arrays: Array | None,
) -> Parts:
    """Return the results per row, concatenated, and the merged sums of `kernel` on chunks of `rows` rows along an axis.

    On JAX it is a loop in the compiled program, so neither program nor memory grows with the number of rows. In other
    libraries each core has a share of the chunks, unless a graph for a gradient is recorded.
    """
    parts = workers(arrays[0]) if mode.at_hand and not mode.grad else 1
    return _scan(mode.xp, kernel, merge, rows, axis, arrays, parts)


def _scan(
    xp: Namespace,
    kernel: Callable[..., Parts],
    merge: Callable[[Sums, Sums], Sums],
    rows: int,
    axis: int,
    arrays: tuple[Array | None, ...],
    parts: int,
) -> Parts:
    whole = next(x for x in arrays if x is not None)
    n = whole.shape[axis]
    if rows <= 0 or is_dynamic(xp, n) or n <= rows:
        return kernel(*arrays)
    lead = (slice(None),) * axis

    def part(start: int, stop: int) -> Parts:
        return kernel(*(None if x is None else x[(*lead, slice(start, stop), ...)] for x in arrays))

    first = n % rows or rows
    if library(xp) == "jax":
        import jax

        each, total = part(0, first)

        def body(total: Sums, start: Array) -> Parts:
            each, more = kernel(
                *(None if x is None else jax.lax.dynamic_slice_in_dim(x, start, rows, axis=axis) for x in arrays)
            )
            return merge(total, more), each

        total, others = jax.lax.scan(body, total, xp.arange(first, n, rows))
        return tuple(
            xp.concat([y, _side_by_side(xp, z, axis)], axis=axis) for y, z in zip(each, others, strict=True)
        ), total
    bounds = list(itertools.pairwise([0, *range(first, n + 1, rows)]))
    parts = min(parts, len(bounds))

    def share(number: int) -> Share:
        own = bounds[len(bounds) * number // parts : len(bounds) * (number + 1) // parts]
        made, total = part(*own[0])
        pieces = [made]
        for bound in own[1:]:
            made, more = part(*bound)
            total = merge(total, more)
            pieces.append(made)
        return pieces, total

    pieces, totals = zip(*in_parts(whole, share, parts), strict=True)
    columns = zip(*itertools.chain(*pieces), strict=True)
    return tuple(xp.concat(list(column), axis=axis) for column in columns), functools.reduce(merge, totals)


def _side_by_side(xp: Namespace, x: Array, axis: int) -> Array:
    """Return chunks stacked along the first axis, concatenated along `axis` of the chunks."""
    x = xp.moveaxis(x, 0, axis)
    return xp.reshape(x, (*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :]))

"""Sums over the rows of a large array, by chunks whose temporaries stay in cache."""

from collections.abc import Callable

from .namespace import Array, Namespace, is_traced, library

Sums = tuple[Array, ...]

BYTES = 1 << 20  # of a chunk of rows: about a close cache


def rows_in_cache(xp: Namespace, x: Array, columns: int) -> int:
    """Return how many rows to work on at once, where a row makes `columns` numbers.

    Torch gets enough for all cores to have a share; a device, as much as hides the launch of a kernel.
    """
    size = 8 if "64" in str(x.dtype) else 4
    name = library(xp)
    many = 4 if name == "torch" else 1
    if name == "cupy" or (name == "torch" and x.device.type != "cpu"):
        many = 64
    return max(64, many * BYTES // (size * max(columns, 1)))


def is_sharded(x: Array) -> bool:
    """Tell whether the rows of an array lie on several devices of JAX."""
    return library_of_jax(x) and not is_traced(x) and len(x.sharding.device_set) > 1


def library_of_jax(x: Array) -> bool:
    """Tell whether an array is one of JAX."""
    return type(x).__module__.partition(".")[0] in ("jax", "jaxlib")


def fold_rows(
    xp: Namespace,
    kernel: Callable[..., Sums],
    merge: Callable[[Sums, Sums], Sums],
    rows: int,
    *arrays: Array | None,
) -> Sums:
    """Return the merged results of `kernel` on chunks of `rows` rows, along the first axis of the arrays.

    A loop in the compiled program on JAX, so that neither it nor its memory grows with the number of rows.
    """
    n = next(x for x in arrays if x is not None).shape[0]
    if rows <= 0 or n <= rows:
        return kernel(*arrays)
    first = next(x for x in arrays if x is not None)
    if library(xp) == "jax" and is_traced(first):
        import jax

        def chunk(start: Array) -> Sums:
            return kernel(
                *(None if x is None else jax.lax.dynamic_slice_in_dim(x, start, rows, axis=0) for x in arrays)
            )

        whole = n // rows
        state = chunk(xp.asarray(0))
        state = jax.lax.fori_loop(1, whole, lambda k, s: merge(s, chunk(k * rows)), state)
        if n % rows:
            state = merge(state, kernel(*(None if x is None else x[whole * rows :, ...] for x in arrays)))
        return state
    state = kernel(*(None if x is None else x[:rows, ...] for x in arrays))
    for start in range(rows, n, rows):
        part = kernel(*(None if x is None else x[start : start + rows, ...] for x in arrays))
        state = merge(state, part)
    return state

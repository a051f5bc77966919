"""Sums over the rows of a large array, by chunks whose temporaries stay in cache."""

from collections.abc import Callable

from .namespace import Array, Namespace, is_traced, library

Sums = tuple[Array, ...]
Parts = tuple[Sums, Sums]  # by name: torch.compile does not subscript types

BYTES = 1 << 20  # of a chunk of rows: about a close cache


def rows_in_cache(xp: Namespace, x: Array, columns: int) -> int:
    """Return how many rows to work on at once, where a row makes `columns` numbers.

    Torch gets enough for all cores to have a share, and fewer pieces to unroll where it compiles; a device, as much as
    hides the launch of a kernel; JAX no more than what its loop over chunks was seen to gain from.
    """
    size = 8 if "64" in str(x.dtype) else 4
    name = library(xp)
    many = 1
    if name == "cupy" or (name == "torch" and x.device.type != "cpu") or (name == "jax" and not on_cpu(x)):
        many = 64
    elif name == "torch":
        many = 16 if is_traced(x) else 4
    rows = max(64, many * BYTES // (size * max(columns, 1)))
    return min(rows, 4096) if name == "jax" and many == 1 else rows


def on_cpu(x: Array) -> bool:
    """Tell whether JAX computes on a CPU: of traced values it is not known, so whether it does by default."""
    import jax

    platform = jax.default_backend() if is_traced(x) else next(iter(x.devices())).platform
    return platform == "cpu"


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
    """Return the merged results of `kernel` on chunks of `rows` rows, along the first axis of the arrays."""

    def chunk(*parts: Array | None) -> Parts:
        return (), kernel(*parts)

    return scan_rows(xp, chunk, merge, rows, 0, *arrays)[1]


def scan_rows(
    xp: Namespace,
    kernel: Callable[..., Parts],
    merge: Callable[[Sums, Sums], Sums],
    rows: int,
    axis: int,
    *arrays: Array | None,
) -> Parts:
    """Return what `kernel` makes of each row, and the merged rest, from chunks of `rows` rows along an axis.

    A loop in the compiled program on JAX, so that neither it nor its memory grows with the number of rows.
    """
    n = next(x for x in arrays if x is not None).shape[axis]
    if rows <= 0 or n <= rows:
        return kernel(*arrays)
    lead = (slice(None),) * axis

    def part(start: int, stop: int) -> Parts:
        return kernel(*(None if x is None else x[(*lead, slice(start, stop), ...)] for x in arrays))

    first = n % rows or rows
    each, total = part(0, first)
    if library(xp) == "jax":
        import jax

        def body(total: Sums, start: Array) -> Parts:
            each, more = kernel(
                *(None if x is None else jax.lax.dynamic_slice_in_dim(x, start, rows, axis=axis) for x in arrays)
            )
            return merge(total, more), each

        total, others = jax.lax.scan(body, total, xp.arange(first, n, rows))
        pieces = [[_side_by_side(xp, y, axis)] for y in others]
    else:
        pieces = [[] for _ in each]
        for start in range(first, n, rows):
            made, more = part(start, start + rows)
            total = merge(total, more)
            for piece, y in zip(pieces, made, strict=True):
                piece.append(y)
    whole = (xp.concat([y, *piece], axis=axis) for y, piece in zip(each, pieces, strict=True))
    return tuple(whole), total


def _side_by_side(xp: Namespace, x: Array, axis: int) -> Array:
    """Chunks that lie along the first axis, joined along another one of theirs."""
    x = xp.moveaxis(x, 0, axis)
    return xp.reshape(x, (*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :]))

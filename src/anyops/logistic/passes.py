"""One pass over rows: kernels that sum over a chunk, and functions that merge the sums of two chunks."""

from collections.abc import Callable

from .._array.mode import Mode
from .._array.namespace import Array, DType, cast, device, namespace
from .._array.rows import Sums, fold_rows
from .._array.solve import triangle
from .objective import losses_along


def read_rows(
    mode: Mode,
    x: Array,
    target: Array,
    w: Array | None,
    centre: Array | None,
    factor: Array | None,
    *at: Array,
    kernel: Callable[..., Sums],
    merge: Callable[..., Sums],
    rows: int,
    ignored: bool,
    dtype: DType,
    wide: DType,
    **options: object,
) -> Array:
    """Return all sums as one vector, so that they take one transfer."""
    xp = mode.xp

    def chunk(x: Array, target: Array, w: Array | None) -> Sums:
        z = cast(xp, x, dtype)
        z = z if centre is None else z - centre
        z = z if factor is None else z * factor
        z = z if w is None or not ignored else xp.where((w > 0)[:, None], z, 0.0)
        w = None if w is None else cast(xp, w, dtype)  # before its root is taken, whose square must be w
        return kernel(mode, z, target, w, *at, wide=wide, **options)

    parts = fold_rows(xp, chunk, merge, rows, x, target, w)
    return xp.concat([xp.reshape(part, (-1,)) for part in parts])


def merge_sums(a: Sums, b: Sums) -> Sums:
    """Merge a minimum, and sums."""
    return _least(a[0], b[0]), *(s + t for s, t in zip(a[1:], b[1:], strict=True))


def losses(mode: Mode, *arrays: Array, wide: DType, steps: tuple[float, ...]) -> Sums:
    """Summed losses at several steps along a direction, as one vector."""
    return (mode.xp.stack(losses_along(mode, *arrays, steps=steps, wide=wide)),)


def merge_added(a: Sums, b: Sums) -> Sums:
    """Merge sums."""
    return tuple(s + t for s, t in zip(a, b, strict=True))


def largest_norm(
    mode: Mode, z: Array, _target: Array, _w: Array | None, xx: Array, x1: Array, ones: Array, *, wide: DType
) -> Sums:
    """Largest aᵀ M a over rows a = (z, 1) and one matrix M per class, given by its blocks zz, z1 and 11."""
    xp = mode.xp
    squares = xp.sum(xp.matmul(z, xx) * z, axis=2) + 2.0 * (x1 @ z.T) + ones[:, None]
    return (cast(xp, xp.max(squares) if z.shape[0] else xp.sum(squares), wide),)


def merge_largest(a: Sums, b: Sums) -> Sums:
    """Merge a maximum."""
    return (-_least(-a[0], -b[0]),)


def moments(mode: Mode, z: Array, target: Array, w: Array | None, *, wide: DType) -> Sums:
    """Σw, Σw z, Σw z² and the largest ‖z‖²."""
    xp = mode.xp
    level = xp.ones_like(target, dtype=z.dtype) if w is None else w
    square = z * z
    length = square @ xp.ones((z.shape[1],), dtype=z.dtype, device=device(z))
    longest = xp.max(length) if z.shape[0] else xp.sum(length)
    return tuple(cast(xp, a, wide) for a in (xp.sum(level), level @ z, level @ square, longest))


def merge_moments(a: Sums, b: Sums) -> Sums:
    """Merge three sums, and a maximum."""
    return *(s + t for s, t in zip(a[:3], b[:3], strict=True)), -_least(-a[3], -b[3])


def triangular(
    mode: Mode, z: Array, _target: Array, w: Array | None, *, wide: DType, level_first: bool, weighted: bool
) -> Sums:
    """R of QR = √w (1, z) or √w (z, 1); unless `weighted`, positive weights count as 1."""
    xp = mode.xp
    one = xp.ones_like(z[:, :1])
    rows = xp.concat([one, z] if level_first else [z, one], axis=1)
    if w is not None:
        rows = xp.sqrt(w if weighted else cast(xp, w > 0, z.dtype))[:, None] * rows
    return (cast(xp, triangle(xp, rows), wide),)


def merge_triangular(a: Sums, b: Sums) -> Sums:
    """R of QR = the two stacked."""
    xp = namespace(a=a[0])
    return (triangle(xp, xp.concat([a[0], b[0]], axis=0)),)


def _least(a: Array, b: Array) -> Array:
    return namespace(a=a).where(a < b, a, b)

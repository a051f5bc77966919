"""Linear systems and factorisations on the arrays' device, without reading values on the host."""

from .loop import for_each
from .namespace import Array, DType, Namespace, device


def identity(xp: Namespace, n: int, dtype: DType, like: Array) -> Array:
    """Return the identity (n, n) on the device of an array; torch cannot export `eye` to ONNX."""
    index = xp.arange(n, device=device(like))
    return xp.astype(index[:, None] == index[None, :], dtype)


def solve_spd(xp: Namespace, a: Array, b: Array) -> Array:
    """Return x with a x = b for a positive semidefinite `a`, and 0 for columns that depend on earlier ones.

    Gauss–Jordan elimination without pivoting, which a definite matrix does not need, after scaling to a unit diagonal;
    pivots within rounding of 0 are skipped. The standard's `linalg` is an extension that not all libraries have; for a
    singular matrix some of them raise, others return NaN.
    """
    n = b.shape[0]
    index = xp.arange(n, device=device(a))
    eye = index[:, None] == index[None, :]
    diagonal = xp.sum(xp.where(eye, a, 0.0), axis=1)
    some = diagonal > 0
    scale = xp.where(some, 1.0 / xp.sqrt(xp.where(some, diagonal, 1.0)), 0.0)
    least = 8.0 * float(xp.finfo(a.dtype).eps) * xp.sum(xp.ones_like(diagonal))  # not n: torch's loops fail on it

    def eliminate(k: Array | int, a: Array, x: Array) -> tuple[Array, Array]:
        """Turn column `k` into a column of the identity, or set its unknown to 0."""
        at = index == k
        row = xp.sum(xp.where(at[:, None], a, 0.0), axis=0)
        column = xp.sum(xp.where(at[None, :], a, 0.0), axis=1)
        pivot = xp.sum(xp.where(at, row, 0.0))
        good = pivot > least
        over = xp.where(good, 1.0 / xp.where(good, pivot, 1.0), 0.0)
        value = xp.sum(xp.where(at, x, 0.0)) * over
        # Row k is divided by the pivot and eliminated from the others; without a pivot it becomes 0.
        column = xp.where(at, 0.0, column)
        row = row * over
        a = xp.where(at[:, None], row[None, :], a - column[:, None] * row[None, :])
        return a, xp.where(at, value, x - column * value)

    scaled = a * scale[:, None] * scale[None, :]
    return scale * for_each(n, eliminate, (scaled, b * scale))[1]


def triangle(xp: Namespace, a: Array) -> Array:
    """Return R of a = QR, (p, p) for any number of rows.

    By Householder reflections if the library has no `linalg`.
    """
    n, p = a.shape
    if n < p:
        a = xp.concat([a, xp.zeros((p - n, p), dtype=a.dtype, device=device(a))], axis=0)
    if hasattr(xp, "linalg"):
        return xp.linalg.qr(a)[1]
    index = xp.arange(a.shape[0], device=device(a))
    for k in range(p):
        column = xp.where(index >= k, a[:, k], 0.0)
        length = xp.sqrt(xp.sum(column * column))
        v = column + xp.where(index == k, xp.where(column >= 0, length, -length), 0.0)
        square = xp.sum(v * v)
        factor = xp.where(square > 0, 2.0 / xp.where(square > 0, square, 1.0), 0.0)
        a = a - factor * v[:, None] * (v @ a)[None, :]
    return xp.where(index[:, None] <= index[None, :p], a, 0.0)[:p, :]

"""Linear systems and factorisations on the device of their arrays, without decisions on the host."""

from .loop import for_each
from .namespace import Array, DType, Namespace, device


def identity(xp: Namespace, n: int, dtype: DType, like: Array) -> Array:
    """Return the identity (n, n) on the device of an array; models of ONNX made by torch have no `eye`."""
    index = xp.arange(n, device=device(like))
    return xp.astype(index[:, None] == index[None, :], dtype)


def solve_spd(xp: Namespace, a: Array, b: Array) -> Array:
    """Return x with a x = b for a positive semidefinite `a`, 0 for unknowns that the others determine.

    Gauss and Jordan's elimination without pivoting, which a definite matrix does not need, on columns scaled to a unit
    diagonal; pivots that are rounding are passed over. The standard's `linalg` is an extension that not all libraries
    have, and a singular matrix there raises on some, and gives NaN on others.
    """
    n = b.shape[0]
    index = xp.arange(n, device=device(a))
    eye = index[:, None] == index[None, :]
    diagonal = xp.sum(xp.where(eye, a, 0.0), axis=1)
    some = diagonal > 0
    scale = xp.where(some, 1.0 / xp.sqrt(xp.where(some, diagonal, 1.0)), 0.0)
    least = 8.0 * float(xp.finfo(a.dtype).eps) * xp.sum(xp.ones_like(diagonal))  # a loop of torch holds no dynamic size

    def eliminate(k: Array | int, a: Array, x: Array) -> tuple[Array, Array]:
        """Make column `k` that of the identity, or leave its unknown at 0."""
        at = index == k
        row = xp.sum(xp.where(at[:, None], a, 0.0), axis=0)
        column = xp.sum(xp.where(at[None, :], a, 0.0), axis=1)
        pivot = xp.sum(xp.where(at, row, 0.0))
        good = pivot > least
        over = xp.where(good, 1.0 / xp.where(good, pivot, 1.0), 0.0)
        value = xp.sum(xp.where(at, x, 0.0)) * over
        # The row itself is divided, the others lose a multiple of it; without a pivot it becomes 0.
        column = xp.where(at, 0.0, column)
        row = row * over
        a = xp.where(at[:, None], row[None, :], a - column[:, None] * row[None, :])
        return a, xp.where(at, value, x - column * value)

    scaled = a * scale[:, None] * scale[None, :]
    return scale * for_each(n, eliminate, (scaled, b * scale))[1]


def triangle(xp: Namespace, a: Array) -> Array:
    """Return R of a = QR, (p, p) for any number of rows.

    By Householder's reflections where the library has no `linalg`.
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

"""The columns of x transformed for a fit, in NumPy on the host: z = (x − centre) / scale, or combinations of z.

z has mean near 0 and spread near 1. Shifting the columns changes only the intercept, and dividing by a power of 2 is
exact. So every solver works on z, whatever the units and offsets of x are, and float32 keeps the digits of x − centre.
If columns of z are linearly dependent, or nearly, and there is no penalty, a fit works on uncorrelated combinations of
them.
"""

from dataclasses import dataclass

import numpy as np

from ..._array.namespace import Array

FAR = 0.3  # a mean above this fraction of a column's root mean square is subtracted
EXPONENTS = {4: (20, 126), 8: (200, 500)}  # by bytes: largest exponents of 2 of unscaled columns, and of scales
DEPENDENT = 32.0  # rounding errors: a combination of columns of spread 1 whose spread is smaller counts as 0
ROUNDED = 0.05  # the largest rounding that a column is credited with, relative to its spread
INVOLVED = 1e-6  # the least entry in a unit vector with which a column belongs to a dependence
NEARLY = 1e-3  # the spread of a combination below which products of the columns lose too many digits


@dataclass(frozen=True)
class Columns:
    """z = (x − centre) / scale, and properties of z.

    Attributes
    ----------
    centre : array (p,)
    scale : array (p,)
        Powers of 2.
    radius : float
        A bound on the length of any row (z, 1).
    noise : array (p,)
        The rounding error of x in its dtype, in units of z.
    extreme : bool
        Whether x is so large or small that squares of its numbers overflow or underflow.
    origin : array (p,)
        Whole numbers that were subtracted from large integers to get x; returned coefficients are for the integers.
    """

    centre: Array
    scale: Array
    radius: float
    noise: Array
    extreme: bool
    origin: Array

    @property
    def null_basis(self) -> Array:
        """An orthonormal basis (p + 1, q) of the combinations of z and 1 that are 0 in every row, and left out."""
        return np.zeros((len(self.scale) + 1, 0))

    @property
    def undetermined(self) -> Array:
        """Mask (p + 1,) of the coefficients of x, the intercept last, that the rows do not determine."""
        return np.zeros(len(self.scale) + 1, dtype=bool)

    @property
    def level(self) -> Array:
        """The values of the given columns at which z is 0."""
        return self.centre + self.origin

    @property
    def shifted(self) -> bool:
        """Whether any centre is not 0."""
        return bool(np.any(self.centre != 0))

    def inward(self, theta: Array) -> Array:
        """Convert coefficients (lines, p + 1) of x to z; the intercept is last."""
        coef = theta[:, :-1]
        return _beside(coef * self.scale, theta[:, -1] + coef @ self.level)

    def outward(self, theta: Array) -> Array:
        """Convert coefficients of z to x."""
        coef = theta[:, :-1] / self.scale
        return _beside(coef, theta[:, -1] - coef @ self.level)

    def change(self, delta: Array) -> float:
        """A bound on the change of any logit, or difference of two, if coefficients change by `delta`."""
        longest = float(np.max(np.linalg.vector_norm(delta, axis=1)))
        return self.radius * longest * (1.0 if len(delta) == 1 else 2.0)


@dataclass(frozen=True)
class Whitened(Columns):
    """Whitened columns u = (z − mean) turn, uncorrelated and of spread 1, for linearly dependent columns, or nearly so.

    Products of u lose no digits, however similar the columns of z are.

    Attributes
    ----------
    inner : Columns
        Of z.
    mean : array (p,)
        Of z, 0 without an intercept.
    turn : array (p, r)
    back : array (r, p)
        The inverse of `turn` on the directions that are kept.
    left_out : array (p + 1, q)
        The combinations of z and 1 that are 0 in every row up to rounding.
    """

    inner: Columns
    mean: Array
    turn: Array
    back: Array
    left_out: Array

    @property
    def null_basis(self) -> Array:
        """An orthonormal basis (p + 1, q) of the combinations of z and 1 that are 0 in every row, and left out."""
        return self.left_out

    @property
    def undetermined(self) -> Array:
        """Mask (p + 1,) of the coefficients of x, the intercept last, that the rows do not determine."""
        parts = involved(self.left_out)
        move = self.left_out[:-1, :] * (self.inner.level / self.inner.scale)[:, None]
        level = self.left_out[-1, :] - np.sum(move, axis=0)
        parts[-1] = np.any(np.abs(level) > INVOLVED * (1.0 + np.sum(np.abs(move), axis=0)))
        return parts

    def inward(self, theta: Array) -> Array:
        """Convert coefficients of x to u."""
        return self.of_inner(self.inner.inward(theta))

    def outward(self, theta: Array) -> Array:
        """Convert coefficients of u to x."""
        return self.inner.outward(self.to_inner(theta))

    def of_inner(self, theta: Array) -> Array:
        """Convert coefficients of z to u."""
        coef = theta[:, :-1]
        return _beside(coef @ self.back.T, theta[:, -1] + coef @ self.mean)

    def to_inner(self, theta: Array) -> Array:
        """Convert coefficients of u to z."""
        coef = theta[:, :-1] @ self.turn.T
        return _beside(coef, theta[:, -1] - coef @ self.mean)

    def shortest(self, theta: Array) -> Array:
        """Return coefficients of z with the same logits, whose coefficients of x have the minimum norm."""
        theta = self.inner.outward(theta)
        move = self.inner.outward(self.left_out.T)
        unit = np.max(np.abs(move[:, :-1]), axis=1, keepdims=True)
        move = move / np.where(unit > 0, unit, 1.0)
        parts = np.linalg.lstsq(move[:, :-1].T, theta[:, :-1].T, rcond=None)[0]
        return self.inner.inward(theta - parts.T @ move)


@dataclass(frozen=True)
class Spectrum:
    """Singular values of z, centred and divided by its spread: which combinations are 0, or nearly, in all rows.

    Attributes
    ----------
    mean, spread : array (p,)
        Of z; the mean is 0 without an intercept, the spread of a constant is 1.
    values : array (p,)
        The singular values: the unweighted spread of each combination over the rows.
    right : array (p, p)
        The combinations, one per column.
    rounding : array (p,)
        The spread of each combination that rounding of the columns can cause.
    least : float
        The spread that rounding in the dtype of the computation can cause.
    heavy_mean : array (p,)
        The weighted mean of z, 0 without an intercept.
    heavy : array (p, p), or None
        H with HᵀH the weighted covariance of z; None if there are no weights.
    """

    mean: Array
    spread: Array
    values: Array
    right: Array
    rounding: Array
    least: float
    heavy_mean: Array
    heavy: Array | None

    @property
    def hidden(self) -> Array:
        """Mask of the combinations that are 0 up to rounding."""
        return self.values <= np.maximum(self.rounding, self.least)

    @property
    def plain(self) -> bool:
        """Whether the columns can be used without whitening."""
        if np.any(self.hidden) or np.any(self.values < NEARLY):
            return False
        if self.heavy is None:
            return True
        size = np.linalg.vector_norm(self.heavy, axis=0)
        return bool(np.linalg.svd(self.heavy / np.where(size > 0, size, 1.0), compute_uv=False)[-1] >= NEARLY)

    def whitened(self, columns: Columns, kept: Array) -> Whitened:
        """Return the `kept` combinations, whitened: their weighted covariance is the identity."""
        some = self.right[:, kept]
        turn = some / self.values[kept] / self.spread[:, None]
        back = (some * self.values[kept]).T * self.spread
        if self.heavy is not None:
            _, size, right = np.linalg.svd(self.heavy @ turn, full_matrices=False)
            size = np.maximum(size, self.least * np.max(size, initial=1.0))
            turn, back = turn @ right.T / size, (right * size[:, None]) @ back
        # Rounding gives every column a small entry, which may be large in the units of another column.
        hidden = self.hidden
        rounding = float(np.max(np.maximum(self.rounding, self.least)[hidden], initial=0.0))
        null = self.right[:, hidden]
        null = np.where(involved(null, max(INVOLVED, rounding))[:, None], null, 0.0) / self.spread[:, None]
        null = np.concat([null, -(self.mean @ null)[None, :]], axis=0)
        null = np.linalg.qr(null)[0] if np.any(hidden) else null
        r = turn.shape[1]
        zero, one = np.zeros(r), np.ones(r)
        return Whitened(zero, one, np.inf, zero, False, zero, columns, self.heavy_mean, turn, back, null)


def spectrum(triangle: Array, weighted: Array | None, columns: Columns, *, fit_intercept: bool, eps: float) -> Spectrum:
    """Compute it from R of QR = (1, z), or (z, 1) without an intercept; `weighted` is R of the rows times √w.

    A combination counts as 0 if rounding of its columns, or of R, which is accurate to `eps`, can explain it. A single
    column is constant only if all its values are equal.
    """
    p = len(columns.scale)
    mean, part = _centred(triangle, fit_intercept)
    heavy_mean, heavy = (mean, None) if weighted is None else _centred(weighted, fit_intercept)
    spread = np.linalg.vector_norm(part, axis=0)
    constant = spread == 0
    spread = np.where(constant, 1.0, spread)
    _, values, right = np.linalg.svd(part / spread)
    rounding = np.where(constant, 0.0, np.minimum(4.0 * columns.noise / spread, ROUNDED))
    rounding = np.sqrt(rounding**2 @ right.T**2)
    return Spectrum(mean, spread, values, right.T, rounding, DEPENDENT * eps * p**0.5, heavy_mean, heavy)


def _centred(triangle: Array, level_first: bool) -> tuple[Array, Array]:
    """The mean of z, 0 if the column of ones is last, and H with HᵀH the covariance about it."""
    if level_first:
        return triangle[0, 1:] / triangle[0, 0], triangle[1:, 1:] / abs(triangle[0, 0])
    return np.zeros(len(triangle) - 1), triangle[:-1, :-1] / np.linalg.vector_norm(triangle[:, -1])


def unshifted(p: int) -> Columns:
    """Columns as they are."""
    zero, one = np.zeros(p), np.ones(p)
    return Columns(zero, one, np.inf, zero, False, zero)


def involved(flat: Array, least: float = INVOLVED) -> Array:
    """Mask (p + 1,) of the rows of a basis that have an entry above `least`."""
    return np.max(np.abs(flat), axis=1, initial=0.0) > least


def powers(values: Array, bytes_: int) -> Array:
    """The powers of 2 nearest to positive numbers, within the range of a dtype; 1 for 0."""
    most = EXPONENTS[bytes_][1]
    exponent = np.round(np.log2(np.where(values > 0, values, 1.0)))
    return 2.0 ** np.clip(exponent, -most, most)


def _beside(coef: Array, intercept: Array) -> Array:
    return np.concat([coef, intercept[:, None]], axis=1)

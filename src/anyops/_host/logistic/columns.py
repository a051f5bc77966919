"""The columns of x as a fit computes with them, in NumPy on the host: z = (x − centre) / scale, or combinations of z.

z has mean near 0 and spread near 1. A shift of the columns moves the intercept alone, and a power of 2 changes no
digit. So every solver works on z, in whatever units x is and however far from 0 its columns lie. float32 keeps the
digits of x − centre. Where columns of z depend on each other, or nearly, and there is no penalty, a fit works on
uncorrelated combinations of them.
"""

from dataclasses import dataclass

import numpy as np

from ..._array.namespace import Array

FAR = 0.3  # of a column's root mean square: a mean above this is subtracted
EXPONENTS = {4: (20, 126), 8: (200, 500)}  # by bytes: powers of 2 that squares can bear, and that scales may have
DEPENDENT = 32.0  # roundings: a smaller spread, of a combination of columns of spread 1, counts as 0
ROUNDED = 0.05  # of its spread, the most that rounding may move a column
INVOLVED = 1e-6  # the part of a unit vector that a column must have to belong to a dependence
NEARLY = 1e-3  # the spread of a combination below which products of the columns lose too many digits


@dataclass(frozen=True)
class Columns:
    """z = (x − centre) / scale, and what is known of z.

    Attributes
    ----------
    centre : array (p,)
    scale : array (p,)
        Powers of 2.
    radius : float
        A bound on the length of any row (z, 1).
    noise : array (p,)
        The rounding of x in its dtype, in units of z.
    extreme : bool
        Whether x is so large or small that the squares of its numbers leave the dtype.
    origin : array (p,)
        Whole numbers that were taken off large integers before they became this x; coefficients are of those.
    """

    centre: Array
    scale: Array
    radius: float
    noise: Array
    extreme: bool
    origin: Array

    @property
    def flat(self) -> Array:
        """An orthonormal basis (p + 1, q) of the combinations of z and 1 that are left out, being 0 in every row."""
        return np.zeros((len(self.scale) + 1, 0))

    @property
    def hidden(self) -> Array:
        """Which coefficients of x, the intercept last, the rows do not tell, as (p + 1,)."""
        return np.zeros(len(self.scale) + 1, dtype=bool)

    @property
    def level(self) -> Array:
        """Where z is 0, among the numbers that were given."""
        return self.centre + self.origin

    @property
    def shifted(self) -> bool:
        """Whether anything is to be subtracted."""
        return bool(np.any(self.centre != 0))

    def inward(self, theta: Array) -> Array:
        """Coefficients (lines, p + 1) of z from those of x; the intercept is last."""
        coef = theta[:, :-1]
        return _beside(coef * self.scale, theta[:, -1] + coef @ self.level)

    def outward(self, theta: Array) -> Array:
        """Coefficients of x from those of z."""
        coef = theta[:, :-1] / self.scale
        return _beside(coef, theta[:, -1] - coef @ self.level)

    def change(self, delta: Array) -> float:
        """A bound on how much any logit, or difference of two, changes with coefficients (lines, p + 1)."""
        longest = float(np.max(np.linalg.vector_norm(delta, axis=1)))
        return self.radius * longest * (1.0 if len(delta) == 1 else 2.0)


@dataclass(frozen=True)
class Turned(Columns):
    """Combinations u = (z − mean) turn of columns that depend on each other, or nearly: each of spread 1, uncorrelated.

    No digits are lost in products of u, however alike the columns of z are.

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
        The combinations of z and 1 that are 0 in every row to rounding.
    """

    inner: Columns
    mean: Array
    turn: Array
    back: Array
    left_out: Array

    @property
    def flat(self) -> Array:
        """An orthonormal basis (p + 1, q) of the combinations of z and 1 that are left out, being 0 in every row."""
        return self.left_out

    @property
    def hidden(self) -> Array:
        """Which coefficients of x, the intercept last, the rows do not tell, as (p + 1,)."""
        parts = involved(self.left_out)
        move = self.left_out[:-1, :] * (self.inner.level / self.inner.scale)[:, None]
        level = self.left_out[-1, :] - np.sum(move, axis=0)
        parts[-1] = np.any(np.abs(level) > INVOLVED * (1.0 + np.sum(np.abs(move), axis=0)))
        return parts

    def inward(self, theta: Array) -> Array:
        """Coefficients of u from those of x."""
        return self.of_inner(self.inner.inward(theta))

    def outward(self, theta: Array) -> Array:
        """Coefficients of x from those of u."""
        return self.inner.outward(self.to_inner(theta))

    def of_inner(self, theta: Array) -> Array:
        """Coefficients of u from those of z."""
        coef = theta[:, :-1]
        return _beside(coef @ self.back.T, theta[:, -1] + coef @ self.mean)

    def to_inner(self, theta: Array) -> Array:
        """Coefficients of z from those of u."""
        coef = theta[:, :-1] @ self.turn.T
        return _beside(coef, theta[:, -1] - coef @ self.mean)

    def shortest(self, theta: Array) -> Array:
        """Among the coefficients of z with the same logits, those whose coefficients of x are shortest."""
        theta = self.inner.outward(theta)
        move = self.inner.outward(self.left_out.T)
        unit = np.max(np.abs(move[:, :-1]), axis=1, keepdims=True)
        move = move / np.where(unit > 0, unit, 1.0)
        parts = np.linalg.lstsq(move[:, :-1].T, theta[:, :-1].T, rcond=None)[0]
        return self.inner.inward(theta - parts.T @ move)


@dataclass(frozen=True)
class Spectrum:
    """Which combinations of the columns of z, centred and divided by their spread, are 0 or nearly so in all rows.

    Attributes
    ----------
    mean, spread : array (p,)
        Of z; the mean is 0 without an intercept, the spread 1 of a constant.
    values : array (p,)
        The singular values: the spread of each combination over the rows, whatever their weights.
    right : array (p, p)
        Its parts by column.
    rounding : array (p,)
        The spread of each combination that the rounding of the columns would explain.
    least : float
        The spread that rounding in the dtype of the computation makes.
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
        """Which combinations are 0 but for rounding."""
        return self.values <= np.maximum(self.rounding, self.least)

    @property
    def plain(self) -> bool:
        """Whether the columns do as they are."""
        if np.any(self.hidden) or np.any(self.values < NEARLY):
            return False
        if self.heavy is None:
            return True
        size = np.linalg.vector_norm(self.heavy, axis=0)
        return bool(np.linalg.svd(self.heavy / np.where(size > 0, size, 1.0), compute_uv=False)[-1] >= NEARLY)

    def turned(self, columns: Columns, kept: Array) -> Turned:
        """The combinations that are `kept`, turned so that their weighted covariance is 1."""
        some = self.right[:, kept]
        turn = some / self.values[kept] / self.spread[:, None]
        back = (some * self.values[kept]).T * self.spread
        if self.heavy is not None:
            _, size, right = np.linalg.svd(self.heavy @ turn, full_matrices=False)
            size = np.maximum(size, self.least * np.max(size, initial=1.0))
            turn, back = turn @ right.T / size, (right * size[:, None]) @ back
        # Rounding involves all columns a little, and may be large in the units of another.
        hidden = self.hidden
        rounding = float(np.max(np.maximum(self.rounding, self.least)[hidden], initial=0.0))
        null = self.right[:, hidden]
        null = np.where(involved(null, max(INVOLVED, rounding))[:, None], null, 0.0) / self.spread[:, None]
        null = np.concat([null, -(self.mean @ null)[None, :]], axis=0)
        null = np.linalg.qr(null)[0] if np.any(hidden) else null
        r = turn.shape[1]
        zero, one = np.zeros(r), np.ones(r)
        return Turned(zero, one, np.inf, zero, False, zero, columns, self.heavy_mean, turn, back, null)


def spectrum(triangle: Array, weighted: Array | None, columns: Columns, *, fit_intercept: bool, eps: float) -> Spectrum:
    """From R of QR = (1, z), or (z, 1) without an intercept, and with weights from R of the rows times √w.

    A combination counts as 0 if the rounding of the columns that take part, or of R, which is known to `eps`, would
    explain it. One column alone is constant only if all its values are equal.
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
    """The mean of z, 0 if the level is last, and H with HᵀH the covariance about it."""
    if level_first:
        return triangle[0, 1:] / triangle[0, 0], triangle[1:, 1:] / abs(triangle[0, 0])
    return np.zeros(len(triangle) - 1), triangle[:-1, :-1] / np.linalg.vector_norm(triangle[:, -1])


def unshifted(p: int) -> Columns:
    """Columns as they are."""
    zero, one = np.zeros(p), np.ones(p)
    return Columns(zero, one, np.inf, zero, False, zero)


def involved(flat: Array, least: float = INVOLVED) -> Array:
    """Which rows of a basis take part in it, as (p + 1,)."""
    return np.max(np.abs(flat), axis=1, initial=0.0) > least


def powers(values: Array, bytes_: int) -> Array:
    """The powers of 2 next to some positive numbers, within the range of a dtype; 1 for 0."""
    most = EXPONENTS[bytes_][1]
    exponent = np.round(np.log2(np.where(values > 0, values, 1.0)))
    return 2.0 ** np.clip(exponent, -most, most)


def _beside(coef: Array, intercept: Array) -> Array:
    return np.concat([coef, intercept[:, None]], axis=1)

"""The columns of x as a fit computes with them, in NumPy on the host: z = (x − centre) / scale.

z has mean near 0 and spread near 1. A shift of the columns moves the intercept alone, and a power of 2 changes no
digit. So every solver works on z, in whatever units x is and however far from 0 its columns lie. float32 keeps the
digits of x − centre.
"""

from dataclasses import dataclass

import numpy as np

from ..._array.namespace import Array

FAR = 0.3  # of a column's root mean square: a mean above this is subtracted
EXPONENTS = {4: (20, 126), 8: (200, 500)}  # by bytes: powers of 2 that squares can bear, and that scales may have
DEPENDENT = 1e-13  # the variance, of 1, below which a combination of columns is constant but for float64's rounding
ROUNDED = 0.05  # of its spread, the most that rounding may move a column
INVOLVED = 1e-6  # the part of a unit vector that a column must have to belong to a dependence


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
    """

    centre: Array
    scale: Array
    radius: float
    noise: Array
    extreme: bool

    @property
    def shifted(self) -> bool:
        """Whether anything is to be subtracted."""
        return bool(np.any(self.centre != 0))

    def inward(self, theta: Array) -> Array:
        """Coefficients (lines, p + 1) of z from those of x; the intercept is last."""
        coef = theta[:, :-1]
        return _beside(coef * self.scale, theta[:, -1] + coef @ self.centre)

    def outward(self, theta: Array) -> Array:
        """Coefficients of x from those of z."""
        coef = theta[:, :-1] / self.scale
        return _beside(coef, theta[:, -1] - coef @ self.centre)

    def change(self, delta: Array) -> float:
        """A bound on how much any logit, or difference of two, changes with coefficients (lines, p + 1)."""
        longest = float(np.max(np.linalg.vector_norm(delta, axis=1)))
        return self.radius * longest * (1.0 if len(delta) == 1 else 2.0)

    def dependences(self, gram: Array, fit_intercept: bool, eps: float) -> Array:
        """An orthonormal basis (p + 1, q) of the combinations of the columns, and of 1, that are 0 in every row.

        `gram` is Σ w (z, 1)(z, 1)ᵀ, known to `eps`. A variance counts as 0 if the rounding of the columns that take
        part, or of `gram`, would explain it. One column alone is constant only if all its values are equal.
        """
        p = len(self.scale)
        gram = gram / gram[-1, -1]
        mean = gram[-1, :-1] if fit_intercept else np.zeros(p)
        cover = gram[:-1, :-1] - mean[:, None] * mean[None, :]
        spread = np.sqrt(np.clip(np.linalg.diagonal(cover), 0.0, None))
        constant = spread == 0
        spread = np.where(constant, 1.0, spread)
        cover = np.where(constant[:, None] | constant[None, :], 0.0, cover / spread[:, None] / spread[None, :])
        values, vectors = np.linalg.eigh(cover)
        rounding = np.where(constant, 0.0, np.minimum(4.0 * self.noise / spread, ROUNDED))
        least = np.maximum(max(DEPENDENT, 8.0 * eps) * p, rounding**2 @ vectors**2)
        some = values <= least
        if not np.any(some):
            return np.zeros((p + 1, 0))
        # Rounding involves all columns a little, and may be large in the units of another.
        flat, least = vectors[:, some], float(np.max(least[some]))
        flat = np.where(involved(flat, max(INVOLVED, least**0.5))[:, None], flat, 0.0) / spread[:, None]
        return np.linalg.qr(np.concat([flat, -(mean @ flat)[None, :]], axis=0))[0]

    def shortest(self, theta: Array, flat: Array) -> Array:
        """Among the coefficients of x with the same logits as `theta`, of z, the shortest but for the intercept."""
        theta = self.outward(theta)
        move = self.outward(flat.T)
        unit = np.max(np.abs(move[:, :-1]), axis=1, keepdims=True)
        move = move / np.where(unit > 0, unit, 1.0)
        parts = np.linalg.lstsq(move[:, :-1].T, theta[:, :-1].T, rcond=None)[0]
        return theta - parts.T @ move


def unshifted(p: int) -> Columns:
    """Columns as they are."""
    zero, one = np.zeros(p), np.ones(p)
    return Columns(zero, one, np.inf, zero, False)


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

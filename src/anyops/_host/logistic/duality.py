"""The duality gap of a penalised logistic fit from sums over its rows, in NumPy on the host.

:mod:`anyops.logistic.gap` has the derivation, the notation, and the sums.
"""

import numpy as np

from ..._array.namespace import Array


def balancing_factors(levels: Array) -> Array:
    """The f of each class, at most 1, for which the residuals of each class sum to 0, as a free intercept requires.

    By the elimination of Grassmann, Taksar and Heyman [3]_, which has no subtractions, so each f is accurate.

    References
    ----------
    .. [3] Grassmann, Taksar and Heyman, Regenerative analysis and steady state distributions for Markov chains,
       Operations Research 33 (1985).
    """
    rates = np.maximum(np.asarray(levels, dtype=np.float64).T, 0.0)  # from a row's class to others
    rates = rates * (1.0 - np.eye(len(rates)))
    size = len(rates)
    out = np.zeros(size)
    for k in range(size - 1, 0, -1):
        out[k] = np.sum(rates[k, :k])
        if out[k] > 0:
            rates[:k, :k] += rates[:k, k : k + 1] * (rates[k : k + 1, :k] / out[k])
    found = np.zeros(size)
    found[0] = 1.0
    for k in range(1, size):
        into = float(np.sum(found[:k] * rates[:k, k]))
        if out[k] > 0:
            found[k] = into / out[k]
        elif into > 0:  # an absorbing class
            found[:k], found[k] = 0.0, 1.0
        found = found / np.max(found)
    return found


def shrinkage(slope: Array, weight: float, bound: Array, ridge: Array) -> float:
    """The largest s ≤ 1 for which s v is within the bounds of all coefficients without a ridge."""
    v = np.abs(slope) / weight
    beyond = (ridge == 0) & (v > bound)
    return float(np.min(bound[beyond] / v[beyond], initial=1.0))


def duality_gap(
    loss: float, divergence: float, slope: Array, weight: float, coef: Array, bound: Array, ridge: Array
) -> float:
    """P − D ≥ P − min P, from the sums of :func:`~anyops.logistic.gap.dual_sums` over all rows.

    The sums are taken at factors of one for a model without intercepts, and otherwise at :func:`balancing_factors` of
    the levels from an earlier pass. A pass at these factors times :func:`shrinkage` makes the gap smaller still.

    Parameters
    ----------
    loss, divergence : float
    slope, coef, bound, ridge : array (p,) or (K, p)
        Without intercepts. A column with neither bound nor ridge makes the gap P itself.
    weight : float
        W, the sum of the weights.
    """
    s = shrinkage(slope, weight, bound, ridge)
    v = -s * slope / weight
    over = np.maximum(np.abs(v) - bound, 0.0)
    curved = ridge > 0
    conjugate = np.where(curved, over**2 / (2.0 * np.where(curved, ridge, 1.0)), 0.0)
    # ½ ridge (|coef| − over/ridge)² and bound |coef| + … − v coef: both are at least 0.
    terms = 0.5 * ridge * coef**2 + bound * np.abs(coef) + conjugate - v * coef
    rows = s * divergence + (1.0 - s) * loss
    return float(rows / weight + np.sum(np.maximum(terms, 0.0)))

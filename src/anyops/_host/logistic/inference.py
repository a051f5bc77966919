"""Inference from coefficients and their covariance, in NumPy on the host; coefficients are (lines, p + 1)."""

import math
from statistics import NormalDist

import numpy as np

from ..._array.host import Host, on_host
from ..._array.namespace import Array


def joined(coef: Array, intercept: Array) -> Host:
    """Coefficients and intercepts of any library as (lines, p + 1), the intercept last."""
    coef, intercept = on_host(coef), on_host(intercept)
    return np.concat([np.reshape(coef, (-1, coef.shape[-1])), np.reshape(intercept, (-1, 1))], axis=1)


def parted(values: Host, rank: int) -> tuple[Host, Host]:
    """Split numbers (lines, p + 1, ...) into coefficients, whose array has `rank` axes, and intercepts."""
    values = values if rank > 1 else values[0, ...]
    return np.delete(values, -1, rank - 1), np.take(values, -1, rank - 1)


def errors_of(covariance: Host, shape: tuple[int, ...]) -> Host:
    """Standard errors from a covariance, infinite where it is NaN."""
    variance = np.reshape(np.diagonal(covariance), shape)
    return np.sqrt(np.where(np.isnan(variance), math.inf, np.maximum(variance, 0.0)))


def with_infinities(covariance: Host) -> Host:
    """The covariance with infinite variances in place of NaN."""
    return np.where(np.diag(np.isnan(np.diagonal(covariance))), math.inf, covariance)


def without_last(covariance: Host, shape: tuple[int, ...]) -> Host:
    """The covariance of coefficients (lines, p + 1) without the last one of each line."""
    kept = np.flatnonzero(np.arange(covariance.shape[0]) % shape[1] != shape[1] - 1)
    return covariance[np.ix_(kept, kept)]


def quotients(values: Host, errors: Host) -> Host:
    """Coefficients divided by their standard errors, NaN where these are infinite or 0."""
    known = (errors > 0) & (errors < math.inf)
    return np.where(known, values / np.where(known, errors, 1.0), math.nan)


def two_sided(z: Host) -> Host:
    """The probabilities that a normal variable is farther from 0 than z."""
    tails = [math.erfc(abs(value) / math.sqrt(2.0)) for value in np.reshape(z, (-1,)).tolist()]
    return np.reshape(np.asarray(tails), z.shape)


def intervals(values: Host, errors: Host, alpha: float) -> Host:
    """Intervals of the level 1 − alpha, their ends along a last axis."""
    quantile = -NormalDist().inv_cdf(0.5 * alpha) if alpha > 0 else math.inf
    with np.errstate(invalid="ignore"):  # 0 · ∞
        reach = np.where((errors > 0) & (quantile > 0), quantile * errors, 0.0)
    return np.stack([values - reach, values + reach], axis=-1)


def exponentials(coef: Array) -> Host:
    """exp(coef), infinite where it overflows."""
    with np.errstate(over="ignore"):
        return np.exp(on_host(coef))


def relative(covariance: Host, shape: tuple[int, ...], base: int) -> Host:
    """The covariance of the differences between the coefficients of each class and of the class `base`."""
    blocks = np.reshape(covariance, (*shape, *shape))
    blocks = blocks - blocks[base]
    blocks = blocks - blocks[:, :, base, None, :]
    blocks[base], blocks[:, :, base] = 0.0, 0.0
    return np.reshape(blocks, covariance.shape)


def cells(values: Host, errors: Host | None, alpha: float) -> list[list[list[float]]]:
    """The value, standard error, z, p-value and interval of each coefficient, line by line."""
    if errors is None:
        errors = np.full(values.shape, math.inf)
    z = quotients(values, errors)
    ends = np.moveaxis(intervals(values, errors, alpha), -1, 0)
    found: list[list[list[float]]] = np.stack([values, errors, z, two_sided(z), *ends], axis=-1).tolist()
    return found


def chi2_tail(x: float, df: int) -> float:
    """The probability that χ² of `df` degrees of freedom is above x [1]_: a finite sum of positive terms.

    References
    ----------
    .. [1] Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.4.4 and 26.4.5.
    """
    if df == 0 or x <= 0:
        return 0.0 if x > 0 else 1.0
    half, odd = 0.5 * x, df % 2
    first = [math.erfc(math.sqrt(half))] if odd else []
    powers = (j + 0.5 * odd for j in range(df // 2))
    terms = [math.exp(power * math.log(half) - half - math.lgamma(power + 1.0)) for power in powers]
    return min(math.fsum([*first, *terms]), 1.0)

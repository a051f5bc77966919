"""The share of each loss that comes from windows on no digit, and from the easy ones among them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import anyops

from .arrays import to_host
from .detector import class_probabilities
from .training import BACKGROUND, GAMMA, Classifier, Windows

EASY = 0.9
"""A window is well classified if the probability of its class is above this."""


HARDEST = np.logspace(-4, 0, 81)


class LossShares(NamedTuple):
    """Shares of the sum of a loss.

    Attributes
    ----------
    background
        Share of windows on no digit.
    easy
        Share of well-classified windows on no digit.
    curve
        Share of the hardest windows in the loss of all windows on no digit, by their fraction `HARDEST`; figure 4 of
        the focal loss paper, from its other end.
    """

    background: float
    easy: float
    curve: np.ndarray


def loss_shares(windows: Windows, classifier: Classifier) -> tuple[LossShares, LossShares]:
    """Return the shares of cross-entropy and of the focal loss, of one classifier."""
    labels = to_host(windows.labels)
    of_class = class_probabilities(windows.features, classifier)
    none = labels == BACKGROUND
    easy = none & (to_host(of_class)[:, BACKGROUND] > EASY)
    logits = anyops.logistic_log_proba(windows.features, classifier.coef, classifier.intercept)
    found = []
    for gamma in (0.0, GAMMA):
        loss = to_host(anyops.softmax_focal_loss(logits, windows.labels, gamma=gamma)).astype(np.float64)
        cumulative = np.concatenate([[0.0], np.cumsum(np.sort(loss[none])[::-1])])
        at = np.round(HARDEST * none.sum()).astype(int)
        total = loss.sum()
        found.append(LossShares(loss[none].sum() / total, loss[easy].sum() / total, cumulative[at] / cumulative[-1]))
    return found[0], found[1]

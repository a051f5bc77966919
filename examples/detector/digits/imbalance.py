"""What each loss looks at: the share of it that windows on no digit have, and the easy ones among them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import anyops

from .arrays import to_host
from .detector import class_probabilities
from .training import BACKGROUND, GAMMA, Classifier, Windows

EASY = 0.9
"""Probability of its class from which on a window is well classified."""


HARDEST = np.logspace(-4, 0, 81)


class LossShares(NamedTuple):
    """How the sum of a loss is made up.

    Attributes
    ----------
    background
        Share of all windows on no digit.
    easy
        Share of the windows on no digit that are well classified.
    curve
        Shares of the loss of all windows on no digit that the hardest of them have, `HARDEST` of their number;
        figure 4 of the paper of the focal loss from its other end.
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

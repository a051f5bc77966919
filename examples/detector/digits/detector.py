"""A sliding-window detector: normalised stroke features and one linear classifier of eleven classes.

Like any dense detector, it finds each object many times, so it needs non-maximum suppression.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import array_api_compat
import numpy as np

import anyops

from .arrays import Array, Ship, to_host
from .codebook import Codebook
from .scenes import Scene
from .training import BACKGROUND, Classifier, Normalisation
from .windows import View, window_features

PER_SCENE = 1000
"""Detections of a scene: the windows most likely to be on a digit."""


class Detections(NamedTuple):
    """Boxes ``(n, 4)`` as xyxy, with the number of the scene, the score and the digit of each, all ``(n,)``."""

    scenes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> Detections:
        """Return the detections at `indices`, in that order."""
        return Detections(*(field[indices] for field in self))

    def of(self, scene: int) -> Detections:
        """Return the detections of one scene."""
        return self.take(self.scenes == scene)

    @classmethod
    def concatenated(cls, parts: Iterable[Detections]) -> Detections:
        """Return all of `parts` as one."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


def detect(
    page: Array,
    codebook: Codebook,
    views: Sequence[View],
    normalisation: Normalisation,
    classifiers: Sequence[Classifier],
    *,
    scene: int = 0,
) -> list[Detections]:
    """Slide the windows of all views over a page; return, for each classifier, the most probable digits."""
    xp = array_api_compat.array_namespace(page)
    seen = [window_features(page, view, codebook.words) for view in views]
    features = anyops.batch_norm(xp.concat(seen, axis=0), *normalisation).y
    boxes = xp.concat([view.boxes for view in views], axis=0)
    found = []
    for classifier in classifiers:
        digits = class_probabilities(features, classifier)[:, :BACKGROUND]
        scores = xp.max(digits, axis=1)
        best = anyops.top_scores(scores, min(PER_SCENE, scores.shape[0])).indices
        kept = (boxes, scores, xp.argmax(digits, axis=1))
        boxes_, scores_, labels = (to_host(xp.take(each, best, axis=0)) for each in kept)
        found.append(Detections(np.full(len(labels), scene, dtype=np.int32), boxes_, scores_, labels))
    return found


def class_probabilities(features: Array, classifier: Classifier) -> Array:
    """Softmax of the logits, ``(n, 11)``."""
    return anyops.logistic_predict_proba(features, classifier.coef, classifier.intercept)


def detect_all(
    scenes: Iterable[Scene],
    codebook: Codebook,
    views: Sequence[View],
    normalisation: Normalisation,
    classifiers: Sequence[Classifier],
    ship: Ship,
) -> list[Detections]:
    """Find digits in each of `scenes`, which are numbered in order; one result for each classifier."""
    found = [
        detect(ship(scene.image), codebook, views, normalisation, classifiers, scene=number)
        for number, scene in enumerate(scenes)
    ]
    return [Detections.concatenated(each) for each in zip(*found, strict=True)]

"""The models whose boxes are fused: the model of each box, and the weight of each model."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import CommandError
from .records import Detections


class Models(NamedTuple):
    """The field that names the model of a box, if any, and the given weights, by model name or file number."""

    field: str | None
    weights: dict[str, float]

    @classmethod
    def of(cls, given: Sequence[str], files: Sequence[str], field: str | None) -> "Models":
        """Read the weights; raise unless there is one per file, or, with a field, each names its model."""
        if field is None:
            if given and len(given) != len(files):
                raise CommandError(f"--model-weight: expected {len(files)}, one for each FILE, got {len(given)}")
            pairs = [(str(number), text) for number, text in enumerate(given or ["1"] * len(files))]
        else:
            if len(files) > 1:
                raise CommandError(f"--model-field: expected one FILE with the boxes of all models, got {len(files)}")
            pairs = [_named(text) for text in given]
        weights: dict[str, float] = {}
        for name, number in pairs:
            if name in weights:
                raise CommandError(f"--model-weight: expected one for each model, got two for {name}")
            weights[name] = _weight(number)
        if weights and not any(weights.values()):
            raise CommandError("--model-weight: expected one above 0, got 0 for every model")
        return cls(field, weights)

    def numbered(self, files: Sequence[Detections]) -> tuple[NDArray[np.int64], list[float]]:
        """Return the index of the model of each box, and the weights of all models.

        Models with a weight count even if they found nothing. If no weight is given, every model found has weight 1.
        """
        if self.field is None:
            ids = np.repeat(np.arange(len(files)), [len(detections.scores) for detections in files])
            return ids, list(self.weights.values())
        (detections,) = files
        numbers = {name: number for number, name in enumerate(self.weights)}
        for index, name in enumerate(detections.models):
            if self.weights and name not in numbers:
                raise CommandError(
                    f"{detections.place(index)}: {self.field}: expected one of {', '.join(numbers)}, "
                    f"which have a --model-weight, got {name}"
                )
            numbers.setdefault(name, len(numbers))
        ids = np.asarray([numbers[name] for name in detections.models], dtype=np.int64)
        return ids, list(self.weights.values()) or [1.0] * max(len(numbers), 1)


def _named(text: str) -> tuple[str, str]:
    name, equals, number = text.rpartition("=")
    if not equals:
        raise CommandError(f"--model-weight: expected MODEL=WEIGHT with --model-field, got {text}")
    return name, number


def _weight(number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if 0 <= weight < math.inf:
        return weight
    raise CommandError(f"--model-weight: expected a finite number of at least 0, got {number}")

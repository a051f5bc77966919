"""The models whose boxes are fused: the model of each box, and the weight of each model."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import CommandError
from .records import Detections


class Models(NamedTuple):
    """Where the model of a box is told, and the weights that were given: by name in a field, by order of files."""

    field: str | None
    weights: dict[str, float]

    @classmethod
    def of(cls, given: Sequence[str], files: Sequence[str], field: str | None) -> "Models":
        """Read the weights; raise unless they fit the files, or are of named models where a field names them."""
        if field is None:
            if given and len(given) != len(files):
                raise CommandError(
                    f"--model-weight: expected one for each FILE, of which there are {len(files)}, got {len(given)}"
                )
            pairs = [(str(number), text) for number, text in enumerate(given or ["1"] * len(files))]
        else:
            if len(files) > 1:
                raise CommandError(f"--model-field: expected one FILE, each being a model otherwise, got {len(files)}")
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
        """Return the number of the model of each box, and the weights of all models by number.

        Models that have a weight count even where they have found nothing; if none has one, those found weigh 1.
        """
        if self.field is None:
            ids = np.repeat(np.arange(len(files)), [len(detections.scores) for detections in files])
            return ids, list(self.weights.values())
        (detections,) = files
        numbers = {name: number for number, name in enumerate(self.weights)}
        for index, name in enumerate(detections.models):
            if self.weights and name not in numbers:
                raise CommandError(
                    f"record {index} (counted from 0): {self.field}: expected one of {', '.join(numbers)}, "
                    f"which have a --model-weight, got {name}"
                )
            numbers.setdefault(name, len(numbers))
        ids = np.asarray([numbers[name] for name in detections.models], dtype=np.int64)
        return ids, list(self.weights.values()) or [1.0] * max(len(numbers), 1)


def _named(text: str) -> tuple[str, str]:
    name, equals, number = text.rpartition("=")
    if not equals:
        raise CommandError(f"--model-weight: expected MODEL=WEIGHT beside --model-field, got {text}")
    return name, number


def _weight(number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if 0 <= weight < math.inf:
        return weight
    raise CommandError(f"--model-weight: expected a finite number of at least 0, got {number}")

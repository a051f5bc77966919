"""Checks that the suppression ops share; each names the argument, what was expected and what came."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from .._array.arguments import check_integer, check_number
from .._array.chunked import check_known_chunks
from .._array.mode import Mode, enter, floats
from .._array.namespace import Array, Namespace, cast, check_can_order, check_dtype, default_int, namespace
from .._array.support import support
from ..boxes.formats import check_boxes
from ..boxes.iou import KINDS, check_kind
from .detections import Detections


def check_threshold(name: str, value: float, *, largest: float = math.inf) -> float:
    """Return a threshold as a float; raise unless it is a number in [0, largest]."""
    return check_number(name, value, least=0, largest=largest, finite=False)


def check_count(name: str, value: Any) -> int:
    """Return a number of results as an int; raise unless it is an integer of at least 0."""
    count = check_integer(name, value)
    if count < 0:
        raise ValueError(f"{name} must be at least 0, got {count}")
    return count


NUMBERS = "real floating", "integral"


def check_detections(detections: Detections, kind: str, labels_name: str = "labels") -> Namespace:
    """Return the namespace of a suppression op's arguments; raise unless they describe the same N boxes."""
    boxes, scores, labels, overlaps, valid = detections
    arrays = {"boxes": boxes, "scores": scores, labels_name: labels, "overlaps": overlaps, "valid": valid}
    for name in ("boxes", labels_name, "overlaps", "valid"):
        if arrays[name] is None:
            del arrays[name]
    xp = namespace(**arrays)
    check_kind(kind, KINDS)
    check_dtype(xp, "scores", scores, *NUMBERS)
    shape = tuple(scores.shape)
    if not shape:
        raise ValueError("scores must have shape (..., N), got ()")
    if boxes is None and overlaps is None:
        raise TypeError("boxes must be an array unless overlaps is given, got None for both")
    if boxes is not None:
        check_boxes("boxes", boxes)
    for name, x, dtypes, expected in (
        ("boxes", boxes, NUMBERS, (*shape, 4)),
        (labels_name, labels, NUMBERS, shape),
        ("valid", valid, ("bool",), shape),
        ("overlaps", overlaps, NUMBERS, (*shape, shape[-1])),
    ):
        if x is not None:
            check_dtype(xp, name, x, *dtypes)
            if x.shape != expected:
                check_known_chunks(xp, name, x)
                got = tuple(x.shape)
                raise ValueError(f"{name} must have shape {expected} beside scores of shape {shape}, got {got}")
    return xp


def check_index_contract(op: str, mode: Mode, scores: Array) -> None:
    """Raise where the number of results cannot be known: for batches, under a transform, in a graph."""
    static = support()[op].static
    if scores.ndim != 1:
        raise ValueError(
            f"{op} takes one scene, scores of shape (N,), got {tuple(scores.shape)}; "
            f"{static} takes batches, and so do labels that number the scenes"
        )
    if not mode.known:
        raise TypeError(
            f"{op} returns as many indices as there are boxes kept, which no traced or lazy array can have "
            f"(got {type(scores).__name__}); {'compute the array first' if mode.lazy else f'use {static}'}"
        )


class Call(NamedTuple):
    """A call whose arguments were checked: how it computes, the arrays it computes with, and its limits."""

    mode: Mode
    detections: Detections
    kind: str
    least: float | None = None  # only scores above it count
    limit: int | None = None

    def back(self, results: Iterable[Array | None]) -> tuple[Any, ...]:
        """Return results in the library and on the device of the arguments."""
        return tuple(map(self.mode.back, results))


def index_call(
    op: str,
    given: Detections,
    kind: str,
    score_threshold: float | None,
    max_output: int | None = None,
    *,
    differentiable: bool = True,
) -> Call:
    """Check the arguments that the ops of the index contract share; `differentiable` is whether any result is."""
    xp = check_detections(given, kind)
    least = None if score_threshold is None else check_threshold("score_threshold", score_threshold)
    limit = None if max_output is None else check_count("max_output", max_output)
    mode, detections = _enter(xp, given, differentiable)
    if not mode.host or detections.scores.ndim != 1:
        check_index_contract(op, mode, given.scores)
    return Call(mode, detections, kind, least, limit)


def static_call(op: str, given: Detections, kind: str, *, differentiable: bool = True) -> Call:
    """Check the arguments that the ops of the static contract share."""
    xp = check_detections(given, kind)
    check_can_order(xp, op)
    return Call(*_enter(xp, given, differentiable), kind)


def _enter(xp: Namespace, given: Detections, differentiable: bool) -> tuple[Mode, Detections]:
    mode, (boxes, scores, labels, overlaps, valid) = enter(xp, *given, differentiable=differentiable)
    if mode.host:
        boxes, scores, overlaps = floats(mode, boxes, scores, overlaps, exact=not differentiable)
    labels = None if labels is None else comparable(mode.xp, labels)
    return mode, Detections(boxes, scores, labels, overlaps, valid)


def check_choice(name: str, value: Any, known: tuple[str | None, ...]) -> None:
    """Raise ValueError unless `value` is one of `known`."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in known):
        raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")


def check_positive(name: str, value: float) -> float:
    """Return a number as a float; raise unless it is positive and finite."""
    value = check_number(name, value)
    if value <= 0:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return value


def comparable(xp: Namespace, labels: Array) -> Array:
    """Return integer labels in the index dtype: libraries lack operations on small and unsigned integers."""
    if xp.isdtype(labels.dtype, "real floating"):
        return labels
    return cast(xp, labels, default_int(xp, labels))

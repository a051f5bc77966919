"""Checks that the suppression ops share; each names the argument, what was expected and what came."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from .._array.arguments import check_integer, check_number
from .._array.mode import Mode, enter, floats
from .._array.namespace import (
    Array,
    Namespace,
    cast,
    check_can_order,
    check_dtype,
    default_int,
    is_traced,
    namespace,
)
from ..boxes.formats import check_boxes
from ..boxes.iou import KINDS, check_kind


def check_threshold(name: str, value: float, *, largest: float = math.inf) -> float:
    """Return a threshold as a float; raise unless it is a number in [0, largest]."""
    return check_number(name, value, least=0, largest=largest, finite=False)


def check_count(name: str, value: Any) -> int:
    """Return a number of results as an int; raise unless it is an integer of at least 0."""
    count = check_integer(name, value)
    if count < 0:
        raise ValueError(f"{name} must be at least 0, got {count}")
    return count


def check_suppression(
    boxes: Array | None,
    scores: Array,
    *,
    labels: Array | None,
    overlaps: Array | None,
    kind: str,
    valid: Array | None = None,
    labels_name: str = "labels",
) -> Namespace:
    """Return the namespace of a suppression op's arguments; raise unless they describe the same N boxes."""
    arrays = {"boxes": boxes, "scores": scores, labels_name: labels, "overlaps": overlaps, "valid": valid}
    for name in ("boxes", labels_name, "overlaps", "valid"):
        if arrays[name] is None:
            del arrays[name]
    xp = namespace(**arrays)
    check_kind(kind, KINDS)
    check_dtype(xp, "scores", scores, "real floating", "integral")
    shape = tuple(scores.shape)
    if not shape:
        raise ValueError("scores must have shape (..., N), got ()")
    if boxes is None and overlaps is None:
        raise TypeError("boxes must be an array unless overlaps is given, got None for both")
    if boxes is not None:
        check_boxes("boxes", boxes)
        check_dtype(xp, "boxes", boxes, "real floating", "integral")
        _check_shape("boxes", boxes, (*shape, 4), shape)
    if labels is not None:
        check_dtype(xp, labels_name, labels, "integral", "real floating")
        _check_shape(labels_name, labels, shape, shape)
    if valid is not None:
        check_dtype(xp, "valid", valid, "bool")
        _check_shape("valid", valid, shape, shape)
    if overlaps is not None:
        check_dtype(xp, "overlaps", overlaps, "real floating", "integral")
        _check_shape("overlaps", overlaps, (*shape, shape[-1]), shape)
    return xp


def _check_shape(name: str, x: Array, expected: tuple[int, ...], scores: tuple[int, ...]) -> None:
    if tuple(x.shape) != expected:
        raise ValueError(f"{name} must have shape {expected} beside scores of shape {scores}, got {tuple(x.shape)}")


def check_index_contract(op: str, static: str, scores: Array, *others: Array | None) -> None:
    """Raise where the number of results cannot be known: for batches, under a transform, in a graph."""
    if scores.ndim != 1:
        raise ValueError(
            f"{op} takes one scene, scores of shape (N,), got {tuple(scores.shape)}; "
            f"{static} takes batches, and so do labels that number the scenes"
        )
    if any(x is not None and is_traced(x) for x in (scores, *others)):
        raise TypeError(
            f"{op} returns as many indices as there are boxes kept, which no traced or lazy array can have "
            f"(got {type(scores).__name__}); use {static}, or compute the array first"
        )


class Call(NamedTuple):
    """A call whose arguments were checked: how it computes, its arrays as it computes with them, and its limits."""

    mode: Mode
    boxes: Array | None
    scores: Array
    labels: Array | None  # that compare
    overlaps: Array | None
    valid: Array | None = None
    least: float | None = None
    limit: int | None = None

    def back(self, results: Iterable[Array | None]) -> tuple[Any, ...]:
        """Return results in the library and on the device of the arguments."""
        return tuple(map(self.mode.back, results))


def index_call(
    op: str,
    static: str,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    overlaps: Array | None,
    kind: str,
    score_threshold: float | None,
    max_output: int | None = None,
    *,
    differentiable: bool = True,
) -> Call:
    """Check the arguments that the ops of the index contract share; `differentiable` is whether any result is."""
    xp = check_suppression(boxes, scores, labels=labels, overlaps=overlaps, kind=kind)
    least = None if score_threshold is None else check_threshold("score_threshold", score_threshold)
    limit = None if max_output is None else check_count("max_output", max_output)
    call = _enter(xp, boxes, scores, labels, overlaps, None, differentiable, least, limit)
    if call.scores.ndim != 1 or not call.mode.host:
        check_index_contract(op, static, scores, boxes, labels, overlaps)
    return call


def static_call(
    op: str,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    valid: Array | None,
    overlaps: Array | None,
    kind: str,
    *,
    differentiable: bool = True,
) -> Call:
    """Check the arguments that the ops of the static contract share."""
    xp = check_suppression(boxes, scores, labels=labels, overlaps=overlaps, kind=kind, valid=valid)
    check_can_order(xp, op)
    return _enter(xp, boxes, scores, labels, overlaps, valid, differentiable)


def _enter(
    xp: Namespace,
    boxes: Array | None,
    scores: Array,
    labels: Array | None,
    overlaps: Array | None,
    valid: Array | None,
    differentiable: bool,
    least: float | None = None,
    limit: int | None = None,
) -> Call:
    mode, arrays = enter(xp, boxes, scores, labels, overlaps, valid, differentiable=differentiable)
    boxes, scores, labels, overlaps, valid = arrays
    if mode.host:
        boxes, scores, overlaps = floats(mode, boxes, scores, overlaps)
    return Call(mode, boxes, scores, comparable(mode.xp, labels), overlaps, valid, least, limit)


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


def comparable(xp: Namespace, labels: Array | None) -> Array | None:
    """Return integer labels in the index dtype; small and unsigned ones lack operations, and equal ones stay equal."""
    if labels is None or xp.isdtype(labels.dtype, "real floating"):
        return labels
    return cast(xp, labels, default_int(xp, labels))

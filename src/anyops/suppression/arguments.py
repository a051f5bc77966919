"""Argument checks of the suppression ops; each error names the argument, the expectation and the given value."""

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

from .._array.arguments import check_integer, check_number, value_of
from .._array.backends import to_host
from .._array.chunked import check_known_chunks
from .._array.mode import Mode, enter, floating_of, floats
from .._array.namespace import (
    Array,
    DType,
    Namespace,
    cast,
    check_can_order,
    check_dtype,
    compute_dtype,
    default_int,
    device,
    is_array,
    is_dynamic,
    namespace,
    number_for_loops,
    result_dtype,
    working,
)
from .._array.nearest import as_compared, lowered_by, with_arithmetic
from .._array.support import support
from ..boxes.aligned import to_corners
from ..boxes.iou import beside_first, taking_part
from ..boxes.regions import FORMATS, PLANE, Measure, check_corners_held, check_regions, flat
from .detections import Detections
from .scenes import first_of_each, in_scenes


def check_threshold(
    name: str, value: float, *, largest: float = math.inf, check: Callable[..., Any] = check_number
) -> float | Array:
    """Return a threshold as a float; raise unless it is a number in [0, largest].

    Static forms pass :func:`check_parameter` as `check`, which also allows an array.
    """
    return check(name, value, least=0, largest=largest, finite=False)


def check_score_threshold(value: float, *, check: Callable[..., Any] = check_number) -> float | Array:
    """Return a score threshold as a float, integers as they are; raise unless it is a number of at least 0."""
    least = check_threshold("score_threshold", value, check=check)
    if type(value) is float or is_array(least):
        return least
    given = value_of("score_threshold", value)
    return int(given) if isinstance(given, Integral) else least


def check_count(name: str, value: Any) -> int:
    """Return a number of results as an int; raise unless it is an integer of at least 0."""
    count = check_integer(name, value)
    if count < 0:
        raise ValueError(f"{name} must be at least 0, got {count}")
    return count


NUMBERS = "real floating", "integral"
DTYPES = {"scenes": ("integral",), "valid": ("bool",)}  # of arrays that are not numbers
PUBLIC = {"threshold": "iou_threshold", "least": "score_threshold"}  # how errors name parameters
Parameters = dict[str, Any]  # numeric parameters of an op: floats, or 0-d arrays


def check_detections(
    detections: Detections, measure: Measure, labels_name: str = "labels", scenes: Array | None = None
) -> Namespace:
    """Return the namespace of a suppression op's arguments; raise unless they describe the same N boxes."""
    boxes, scores, labels, overlaps, valid = detections
    given = {"scores": scores} if boxes is None else {"boxes": boxes, "scores": scores}
    for name, x in ((labels_name, labels), ("scenes", scenes), ("overlaps", overlaps), ("valid", valid)):
        if x is not None:
            given[name] = x
    xp = namespace(**given)
    measure.check()
    check_dtype(xp, "scores", scores, *NUMBERS)
    shape = tuple(scores.shape)
    if not shape:
        raise ValueError("scores must have shape (..., N), got ()")
    axes = len(FORMATS[measure.fmt].shape)
    numbers, rows = (), ()
    # If the shape of the scores does not match the boxes, or square overlaps, the message below names both.
    if boxes is not None:
        check_regions("boxes", boxes, measure.fmt)
        beside = tuple(boxes.shape)
        name, rows, numbers = "boxes", beside[:-axes], beside[-axes:]
    elif overlaps is None:
        raise TypeError("boxes must be an array unless overlaps is given, got None for both")
    else:
        name, beside = "overlaps", tuple(overlaps.shape)
        if len(beside) > 1 and beside[-1] == beside[-2]:
            rows = beside[:-1]
    if shape[len(shape) - len(rows) :] != rows:
        check_known_chunks(xp, "scores", scores)
        check_known_chunks(xp, name, given[name])
        check_dtype(xp, name, given[name], *NUMBERS)
        raise ValueError(f"scores must have shape {rows} for {name} of shape {beside}, got {shape}")
    for name, x in given.items():
        if name == "scores":
            continue
        check_dtype(xp, name, x, *DTYPES.get(name, NUMBERS))
        expected = shape + (numbers if name == "boxes" else shape[-1:] if name == "overlaps" else ())
        if x.shape != expected:
            check_known_chunks(xp, name, x)
            got = tuple(x.shape)
            raise ValueError(f"{name} must have shape {expected} for scores of shape {shape}, got {got}")
    return xp


def check_averaged(op: str, boxes: Array | None) -> None:
    """Raise unless `boxes` are axis-aligned boxes, whose corners an op can average."""
    if boxes is None:
        raise TypeError(f"boxes must be an array for {op}, which averages them, got None")
    namespace(boxes=boxes)
    if boxes.ndim == 0 or boxes.shape[-1] != 4:
        raise ValueError(
            f"boxes must have shape (..., 4) for {op}, which averages corners, got {tuple(boxes.shape)}; rotated boxes "
            "and polygons have no such average: cluster_nms(..., fmt=...) rescores them"
        )


def check_index_form(op: str, mode: Mode, scores: Array, several: str = "scenes") -> None:
    """Raise if the number of results cannot be known: for batches, under a transform, and for lazy arrays.

    `several` is the name of the argument with scene numbers, for the message.
    """
    static = support()[op].static
    if scores.ndim != 1:
        raise ValueError(
            f"scores must have shape (N,) for {op}, which takes one scene, got {tuple(scores.shape)}; "
            f"use {static} for batches, or concatenate scenes and number them by `{several}`"
        )
    if not mode.known:
        raise TypeError(
            f"{op} returns as many indices as it keeps boxes, so scores must not be a traced or lazy array, "
            f"got {type(scores).__name__}; {'compute the array first' if mode.lazy else f'use {static}'}"
        )


class Call(NamedTuple):
    """A call with checked arguments: its mode, the arrays it computes with, and its limits."""

    mode: Mode
    detections: Detections
    measure: Measure
    least: Array | float | None = None  # threshold of the scores; an integer if scores are integers
    last: float | None = None  # threshold of the new scores
    limit: int | None = None  # maximum number of results, per scene if there are scenes
    scenes: Array | None = None  # (N,), on the host if NumPy computes the results
    origin: Array | None = None  # (..., 1, 4), subtracted from integer boxes
    dtypes: tuple[DType, DType] = (None, None)  # of new scores and boxes, if integers were given

    def first(self, indices: Array, *others: Array | None) -> tuple[Array | None, ...]:
        """Return the first results within the limit; results come best first."""
        results, limit = (indices, *others), self.limit
        if limit is None:
            return results
        if self.scenes is None:
            return tuple([x if x is None else x[: min(limit, x.shape[0]), ...] for x in results])
        xp = namespace(indices=indices)
        some = first_of_each(self.mode, xp.take(self.scenes, indices), limit)
        return results if some is None else tuple([x if x is None else xp.take(x, some, axis=0) for x in results])

    def back(
        self, indices: Array | None, scores: Array, boxes: Array | None = None
    ) -> tuple[Array | None, Array, Array | None]:
        """Return results in the library, on the device and in the dtypes of the arguments."""
        mode, (of_scores, of_boxes) = self.mode, self.dtypes
        if of_scores is not None:
            scores = cast(namespace(scores=scores), scores, of_scores)
        if boxes is not None and of_boxes is not None:
            xp = namespace(boxes=boxes)
            moved = boxes + (self.origin if xp is mode.xp else to_host(self.origin))
            boxes = cast(xp, moved, of_boxes)
        return mode.back(indices), mode.back(scores), mode.back(boxes)


def index_call(
    op: str,
    given: Detections,
    measure: Measure,
    score_threshold: float | None,
    max_output: int | None = None,
    *,
    scenes: Array | None = None,
    differentiable: bool = True,
    early: bool = True,
) -> Call:
    """Check the arguments shared by the ops of the index form; `differentiable` tells whether any result is.

    `early` tells whether boxes with scores up to the threshold are ignored, including their coordinates. With `scenes`,
    labels become numbers of (scene, label) pairs.
    """
    xp = check_detections(given, measure, scenes=scenes)
    least = None if score_threshold is None else check_score_threshold(score_threshold)
    limit = None if max_output is None else check_count("max_output", max_output)
    call = _enter(xp, given, measure, differentiable, least, limit, scenes, early=early)
    if not call.mode.host or given.scores.ndim != 1:
        check_index_form(op, call.mode, given.scores)
    return call if scenes is None else _by_scene(call)


def _by_scene(call: Call) -> Call:
    mode, scenes, detections = call.mode, call.scenes, call.detections
    if mode.padded:
        scenes = to_host(scenes)
    scenes = comparable(namespace(scenes=scenes), scenes)
    labels = in_scenes(mode, scenes, detections.labels)
    return call._replace(scenes=scenes, detections=detections._replace(labels=labels))


def static_call(
    op: str, given: Detections, measure: Measure, numbers: Parameters, *, differentiable: bool = True
) -> tuple[Call, Parameters]:
    """Check the arguments shared by the ops of the static form; return the call, and the numbers to compute with.

    Numbers are floats, or arrays in the dtype of the overlaps. Boxes with scores up to `least` are ignored.
    """
    xp = check_detections(given, measure)
    check_can_order(xp, op)
    if is_dynamic(xp, given.scores.shape[-1]):
        numbers = {name: number_for_loops(xp, x, given.scores) for name, x in numbers.items()}
    arrays = {name: x for name, x in numbers.items() if is_array(x)}
    if not arrays:
        return _enter(xp, given, measure, differentiable, numbers.get("least")), numbers
    namespace(scores=given.scores, **{PUBLIC.get(name, name): x for name, x in arrays.items()})
    call = _enter(xp, given, measure, differentiable, numbers.get("least"), beside=tuple(arrays.values()))
    if call.mode.host:
        held = {name: to_host(x).item() for name, x in arrays.items()}
    else:
        boxes, _, _, overlaps, _ = call.detections
        dtype = compute_dtype(
            xp, result_dtype(xp, boxes=boxes) if overlaps is None else result_dtype(xp, overlaps=overlaps)
        )
        held = {name: cast(xp, x, dtype) if name != "least" else x for name, x in arrays.items()}
    return call, numbers | held


def _enter(
    xp: Namespace,
    given: Detections,
    measure: Measure,
    differentiable: bool,
    last: float | None = None,
    limit: int | None = None,
    scenes: Array | None = None,
    *,
    early: bool = True,
    beside: tuple[Array, ...] = (),
) -> Call:
    mode, views = enter(xp, *given, scenes, *beside, differentiable=differentiable)
    boxes, scores, labels, overlaps, valid, scenes = views[: len(given) + 1]
    origin = of_scores = of_boxes = None
    threshold = to_host(last).item() if mode.host and is_array(last) else last
    least = last = float(threshold) if isinstance(threshold, int) else threshold
    if not is_floating(mode, scores):  # ranked as integers; lowered if the op returns no scores
        of_scores, of_integer = floating_of(mode, scores), given.scores.dtype
        scores = (as_compared if differentiable else with_arithmetic)(mode.xp, scores)
        lowered = lowered_by(mode.xp, of_integer, scores.dtype)
        least = None if threshold is None else whole(mode, threshold, scores, lowered)
    # Ignored boxes do not affect the origin, and their coordinates are not checked.
    real = scores, least if early else None, valid
    of_integers = boxes is not None and not is_floating(mode, boxes)
    if boxes is not None and measure.fmt != "xyxy":
        boxes, measure = _as_computed(mode, boxes, measure, real)
    if of_integers and not is_floating(mode, boxes):
        of_boxes = floating_of(mode, boxes)
        boxes, origin = beside_first(mode, boxes, *real)
    if overlaps is not None and mode.host:
        (overlaps,) = floats(mode, overlaps, exact=not differentiable)
    labels = None if labels is None else comparable(mode.xp, labels)
    detections = Detections(boxes, scores, labels, overlaps, valid)
    return Call(mode, detections, measure, least, last, limit, scenes, origin, (of_scores, of_boxes))


def _as_computed(mode: Mode, boxes: Array, measure: Measure, real: tuple[Any, ...]) -> tuple[Array, Measure]:
    """Return axis-aligned boxes as xyxy, and other regions as floats with all their numbers along the last axis.

    Raises ValueError if floats cannot represent the integers of the boxes that take part. `real` are the arguments of
    :func:`taking_part`.
    """
    xp, fmt = mode.xp, measure.fmt
    boxes = flat(xp, boxes, fmt)
    if fmt != "yxyx":
        if not is_floating(mode, boxes):
            dtype = floating_of(mode, boxes)
            check_corners_held(mode, "boxes", mode.prepare(_real, boxes, *real), dtype, fmt)
            boxes = cast(xp, boxes, dtype)
        boxes = working(xp, boxes)
    return (mode.prepare(to_corners, boxes, fmt=fmt), Measure(measure.kind)) if fmt in PLANE else (boxes, measure)


def _real(mode: Mode, boxes: Array, scores: Array, least: Array | float | None, valid: Array | None) -> Array:
    """Set the boxes that do not take part to 0."""
    real = taking_part(scores, least, valid)
    return boxes if real is None else mode.xp.where(real[..., None], boxes, mode.xp.zeros_like(boxes))


def is_floating(mode: Mode, x: Array) -> bool:
    """Tell whether an array is floating; on the host, without a function call."""
    return x.dtype.kind == "f" if mode.host else mode.xp.isdtype(x.dtype, "real floating")


def whole(mode: Mode, least: Array | float, scores: Array, lowered: int = 0) -> Array | float:
    """Return the largest integer that is at most a threshold, in the dtype of integer scores; else the threshold.

    As an array, because JAX converts an int to 32 bits. `lowered` is the number that was subtracted from the scores.
    """
    xp, dtype = mode.xp, scores.dtype
    if is_floating(mode, scores):
        return float(least) if isinstance(least, int) else least
    if is_array(least):
        return mode.prepare(_whole, least, dtype=dtype, lowered=lowered)
    largest = xp.iinfo(dtype).max
    return mode.constant(math.floor(least) - lowered if least < largest + lowered else largest, dtype, scores)


def _whole(mode: Mode, least: Array, *, dtype: DType, lowered: int) -> Array:
    """Return :func:`whole` of a threshold in an array."""
    xp, largest = mode.xp, mode.xp.iinfo(dtype).max
    most = xp.asarray(largest, dtype=dtype, device=device(least))
    if xp.isdtype(least.dtype, "real floating"):
        inside = least < float(largest + lowered)
        least = xp.where(inside, xp.floor(least), 0.0)
        if lowered:
            low = least < float(lowered)
            limit = cast(xp, xp.where(low, least, least - float(lowered)), dtype)  # both exact
            return xp.where(inside, xp.where(low, limit + xp.iinfo(dtype).min, limit), most)
        return xp.where(inside, cast(xp, least, dtype), most)
    if lowered:
        return with_arithmetic(xp, least) if least.dtype == xp.uint64 else cast(xp, least, dtype) + xp.iinfo(dtype).min
    inside = least <= xp.asarray(min(largest, xp.iinfo(least.dtype).max), dtype=least.dtype, device=device(least))
    return xp.where(inside, cast(xp, xp.where(inside, least, xp.zeros_like(least)), dtype), most)


def check_choice(name: str, value: Any, known: tuple[str | None, ...]) -> None:
    """Raise ValueError unless `value` is one of `known`."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in known):
        raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")


def check_positive(name: str, value: float, *, check: Callable[..., Any] = check_number) -> float | Array:
    """Return a number as a float; raise unless it is positive and finite. For `check` see :func:`check_threshold`."""
    return check(name, value, positive=True)


def comparable(xp: Namespace, labels: Array) -> Array:
    """Return integer labels in the index dtype, because libraries lack operations on small and unsigned integers."""
    if xp.isdtype(labels.dtype, "real floating"):
        return labels
    return cast(xp, labels, default_int(xp, labels))

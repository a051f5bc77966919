"""Suppression of a file's detections: the kept detections, as the text of a file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

import anyops

from .._array.backends import to_host
from ..boxes.regions import PLANE, RegionFormat
from .errors import CommandError
from .files import Format
from .methods import Method
from .models import Models
from .records import Detections, FusedRecord, Tick, fused_text, joined

Send = Callable[[NDArray[Any]], Any]
"""Sends a host array to the library that computes."""

AT_ONCE = 1 << 18  # boxes that are suppressed in one call, in whole images; more if one image has more
# Significant digits of written numbers: more than a detector has, and fewer than rounding affects.
_DIGITS = {np.dtype(np.float64): 12, np.dtype(np.float32): 7}
# Numbers that differ by at most this many rounding errors count as unchanged.
_ROUNDING = 4


class Outcome(NamedTuple):
    """The text to write, and its number of boxes."""

    text: Iterable[str]
    boxes: int


def survivors(
    detections: Detections,
    method: Method,
    options: dict[str, Any],
    send: Send,
    *,
    fmt: str = "xywh",
    class_agnostic: bool,
    max_output: int | None,
    tick: Tick,
) -> Outcome:
    """Suppress by a method that keeps records; return the kept ones in their order, with new scores and boxes."""
    if method == Method.WEIGHTED:
        _check_weigh(detections)
    if fmt not in PLANE:  # axis-aligned boxes are sent as corners
        options = options | {"fmt": fmt}
    images, labels = detections.images.codes(), None if class_agnostic else detections.categories.codes()
    parts = [np.zeros(0, np.int64)]
    for some in _scenes(images, tick):
        boxes, scores = _sent(detections, some, fmt, send)
        given = {"labels": None if labels is None else send(labels[some]), "scenes": send(images[some])}
        result: Any = getattr(anyops, method.function)(boxes, scores, max_output=max_output, **given, **options)
        rescored = isinstance(result, tuple)
        at = to_host(result.indices if rescored else result)
        kept = some[at]
        if rescored:
            _rescore(detections, kept, to_host(scores)[at], to_host(result.scores))
            if method == Method.WEIGHTED:
                _move(detections, kept, to_host(boxes)[at], to_host(result.boxes))
        parts.append(kept)
    kept = np.sort(np.concatenate(parts))
    return Outcome(detections.text(kept.tolist()), len(kept))


def fused(
    parts: Sequence[Detections],
    form: Format,
    models: Models,
    options: dict[str, Any],
    send: Send,
    *,
    max_output: int | None,
    tick: Tick,
) -> Outcome:
    """Fuse the boxes of all files into new records, by first appearance of their image, then by descending score."""
    model_ids, weights = models.numbered(parts)
    detections = joined(parts)
    classes = _classes(detections)
    first = np.unique_all(classes).indices
    images = detections.images.codes()
    image_names, category_names = detections.images.names(), detections.categories.names()
    categories = detections.categories.codes()
    results = []
    for some in _scenes(images, tick):
        boxes, scores = _sent(detections, some, "xywh", send)
        given = {"model_ids": send(model_ids[some]), "model_weights": weights}
        result = anyops.weighted_boxes_fusion(boxes, scores, send(classes[some]), **given, **options)
        results.append([to_host(x) for x in result])
    new_boxes, new_scores, labels = (np.concatenate(x) for x in zip(*results, strict=True))
    of = first[labels]  # a record of the image and category of each fused box
    best = _best(images[of], max_output)
    best = best[np.argsort(images[of][best], stable=True)]
    records = []
    for index, box, score in zip(of[best].tolist(), new_boxes[best], new_scores[best], strict=True):
        image_id, category_id = image_names[images[index]], category_names[categories[index]]
        _check_finite(image_id, box, score)
        records.append(FusedRecord(image_id, category_id, _xywh(box), _rounded(score)))
    return Outcome([fused_text(records, form, detections)], len(records))


def _classes(detections: Detections) -> NDArray[np.int64]:
    """Number each pair of an image and a category, in the order of first appearance."""
    pairs = detections.images.codes() * len(detections.categories.numbers) + detections.categories.codes()
    found = np.unique_all(pairs)
    number = np.empty_like(found.indices)
    number[np.argsort(found.indices)] = np.arange(number.shape[0])
    return number[found.inverse_indices]


def _scenes(images: NDArray[np.int64], tick: Tick) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of boxes of several images at a time, few enough to save memory."""
    order, ends = np.argsort(images, stable=True), np.cumulative_sum(np.unique_counts(images).counts)
    n, start = images.shape[0], 0
    while start < n:  # boxes of different images do not affect each other
        stop = int(ends[np.searchsorted(ends, min(start + AT_ONCE, n))])
        yield order[start:stop]
        start = stop
        tick(stop / n)
    if n == 0:
        yield order


def _sent(detections: Detections, some: NDArray[np.int64], fmt: str, send: Send) -> tuple[Any, Any]:
    boxes = detections.boxes[some, :]
    if fmt in PLANE:  # converted here: a library that compiles would compile for every length
        boxes = anyops.box_convert(boxes, cast(RegionFormat, fmt), "xyxy")
    return send(boxes), send(detections.scores[some])


def _best(images: NDArray[np.int64], max_output: int | None) -> NDArray[np.int64]:
    """Positions of the first `max_output` boxes of each image."""
    if max_output is None:
        return np.arange(len(images))
    order = np.argsort(images, stable=True)
    counts = np.unique_counts(images).counts
    ranks = np.empty_like(images)
    ranks[order] = np.arange(len(images)) - np.repeat(np.cumulative_sum(counts) - counts, counts)
    return np.flatnonzero(ranks < max_output)


def _check_weigh(detections: Detections) -> None:
    wrong = np.flatnonzero(detections.scores < 0)
    if wrong.shape[0]:
        raise CommandError(
            f"record {wrong[0]} (counted from 0): score: expected 0 or more, because weighted averages boxes by it, "
            f"got {float(detections.scores[wrong[0]])!r}"
        )


def _rescore(detections: Detections, kept: NDArray[np.int64], old: NDArray[Any], new: NDArray[Any]) -> None:
    for at in np.flatnonzero(_differs(old, new)).tolist():
        detections.replace(int(kept[at]), score=_rounded(new[at]))


def _move(detections: Detections, kept: NDArray[np.int64], old: NDArray[Any], new: NDArray[Any]) -> None:
    images, codes = detections.images.names(), detections.images.codes()
    for at in np.flatnonzero(_differs(old, new).any(axis=1)).tolist():
        index = int(kept[at])
        _check_finite(images[codes[index]], new[at])
        detections.replace(index, bbox=_xywh(new[at]))


def _differs(old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.bool]:
    """Whether numbers were changed by more than rounding; the text of unchanged numbers is kept."""
    return ~np.isclose(new, old, rtol=_ROUNDING * np.finfo(new.dtype).eps, atol=0)


def _check_finite(image_id: int | str, *values: Any) -> None:
    if not all(np.isfinite(value).all() for value in values):
        raise CommandError(f"image {image_id}: coordinates or scores are too large to be averaged")


def _xywh(box: NDArray[Any]) -> list[float]:
    x1, y1, x2, y2 = box
    return [_rounded(side) for side in (x1, y1, x2 - x1, y2 - y1)]


def _rounded(value: Any) -> float:
    return float(f"{value:.{_DIGITS[value.dtype]}g}")

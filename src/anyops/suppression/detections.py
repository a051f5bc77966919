"""Boxes with scores, labels and overlaps, of one scene or of a batch of scenes."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

from .._array.mode import Mode
from .._array.namespace import Array, Namespace
from .._array.selection import indices_of, take_along


class Detections(NamedTuple):
    """The arrays that describe N boxes."""

    boxes: Array | None  # (..., N, 4)
    scores: Array  # (..., N)
    labels: Array | None = None  # (..., N), floats or integers of the index dtype
    overlaps: Array | None = None  # (..., N, N), used instead of the overlaps of the boxes
    valid: Array | None = None  # (..., N); False for padding

    def map(self, function: Callable[[Array], Array]) -> "Detections":
        """Return the detections with a function applied to each array."""
        return Detections(*(None if x is None else function(x) for x in self))

    def take(self, xp: Namespace, index: Array) -> "Detections":
        """Return the detections at positions (..., M) of each scene."""
        boxes, scores, labels, overlaps, valid = self
        boxes, overlaps = (_along(xp, x, index, -2) for x in (boxes, overlaps))
        return Detections(boxes, *(_along(xp, x, index, -1) for x in (scores, labels, overlaps, valid)))


def _along(xp: Namespace, x: Array | None, index: Array, axis: int) -> Array | None:
    if x is None:
        return None
    if index.ndim == 1:
        return xp.take(x, index, axis=axis)
    if x.ndim > index.ndim:  # boxes or a matrix
        other = x.shape[-1] if axis == -2 else x.shape[-2]
        shape = (*index.shape, other) if axis == -2 else (*index.shape[:-1], other, index.shape[-1])
        index = xp.broadcast_to(index[..., None] if axis == -2 else index[..., None, :], shape)
    return take_along(xp, x, index, axis=axis)


Work = Callable[[Detections, tuple[int, ...], Array | None], None]


def each_scene(mode: Mode, batch: Detections, work: Work) -> None:
    """Call ``work(scene, lane, at)`` for each scene; `at` holds the positions of its valid boxes, None if all are.

    For arrays in host memory, on which the static form then costs as little as the index form.
    """
    xp = mode.xp
    for lane in product(*map(range, batch.scores.shape[:-1])):
        *arrays, valid = (None if x is None else x[lane] for x in batch)
        scene, at = Detections(*arrays), None
        if valid is not None and not xp.all(valid):
            at = indices_of(xp, valid)
            scene = scene.take(xp, at)
        work(scene, lane, at)

"""Who is measured: how each library is asked for each operation, in the form its users would ask.

A contender prepares a problem outside the timing (its own kind of array, its own box format) and gives back the call
that is timed. Every library is imported only when it is asked for something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import BATCHED_NMS, BOX_IOU, IMAGES, IMAGES_MASK, IOU_THRESHOLD, NMS, Case
from numpy.typing import NDArray
from scenes import Floats, Pair, Scene

Prepare = Callable[[Any], Callable[[], object]]


@dataclass(frozen=True)
class Contender:
    """One library: what it can do, and up to how many boxes it is worth the wait."""

    name: str
    operations: dict[str, Prepare]
    limit: int
    slow_limit: int | None = None  # the limit under --slow
    compiles: bool = False
    ours: bool = False
    note: str | None = None  # what differs by convention

    def takes(self, case: Case, *, slow: bool) -> bool:
        """Whether it takes part in a case."""
        limit = self.slow_limit if slow and self.slow_limit else self.limit
        return case.operation in self.operations and (case.operation == BOX_IOU or case.n <= limit)


# --- anyops ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """How to get into an array library, to jit there, and to wait for its result."""

    asarray: Callable[[NDArray[Any]], Any]
    jit: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function
    wait: Callable[[Any], Any] = lambda result: result


def numpy_library() -> Library:
    return Library(np.asarray)


def torch_library() -> Library:
    import torch

    return Library(torch.from_numpy)


def jax_library() -> Library:
    import jax

    return Library(jax.numpy.asarray, jax.jit, jax.block_until_ready)


def anyops_operations(library: Callable[[], Library]) -> dict[str, Prepare]:
    """All operations through anyops; batches of images go through the labels, or as one batch to the mask form."""

    def nms(scene: Scene) -> Callable[[], object]:
        import anyops

        lib = library()
        boxes, scores = lib.asarray(scene.boxes), lib.asarray(scene.scores)
        return lambda: lib.wait(anyops.nms(boxes, scores, IOU_THRESHOLD))

    def batched_nms(scene: Scene) -> Callable[[], object]:
        import anyops

        lib = library()
        boxes, scores, labels = (lib.asarray(part) for part in scene)
        return lambda: lib.wait(anyops.batched_nms(boxes, scores, labels, IOU_THRESHOLD))

    def images_mask(scene: Scene) -> Callable[[], object]:
        import anyops

        lib = library()
        boxes, scores = (lib.asarray(part) for part in by_image(scene))
        mask = lib.jit(lambda boxes, scores: anyops.nms_mask(boxes, scores, IOU_THRESHOLD))
        return lambda: lib.wait(mask(boxes, scores))

    def box_iou(pair: Pair) -> Callable[[], object]:
        import anyops

        lib = library()
        first, second = lib.asarray(pair.first), lib.asarray(pair.second)
        return lambda: lib.wait(anyops.box_iou(first, second))

    return {NMS: nms, BATCHED_NMS: batched_nms, IMAGES: batched_nms, IMAGES_MASK: images_mask, BOX_IOU: box_iou}


# --- torchvision -----------------------------------------------------------------------------------------------------


def torchvision_nms(scene: Scene) -> Callable[[], object]:
    import torch
    from torchvision.ops import nms

    boxes, scores = torch.from_numpy(scene.boxes), torch.from_numpy(scene.scores)
    return lambda: nms(boxes, scores, IOU_THRESHOLD)


def torchvision_batched_nms(scene: Scene) -> Callable[[], object]:
    import torch
    from torchvision.ops import batched_nms

    boxes, scores, labels = (torch.from_numpy(part) for part in scene)
    return lambda: batched_nms(boxes, scores, labels, IOU_THRESHOLD)


def torchvision_images(scene: Scene) -> Callable[[], object]:
    import torch
    from torchvision.ops import nms

    boxes, scores = (torch.from_numpy(part) for part in by_image(scene))
    return lambda: [nms(*image, IOU_THRESHOLD) for image in zip(boxes, scores, strict=True)]


def torchvision_box_iou(pair: Pair) -> Callable[[], object]:
    import torch
    from torchvision.ops import box_iou

    first, second = torch.from_numpy(pair.first), torch.from_numpy(pair.second)
    return lambda: box_iou(first, second)


# --- the other peers -------------------------------------------------------------------------------------------------


def opencv_nms(scene: Scene) -> Callable[[], object]:
    import cv2

    # Lists: OpenCV converts them faster than arrays. Scores equal to the score threshold would be dropped.
    boxes, scores = xywh(scene.boxes).tolist(), scene.scores.tolist()
    return lambda: cv2.dnn.NMSBoxes(boxes, scores, 0.0, IOU_THRESHOLD)


def opencv_batched_nms(scene: Scene) -> Callable[[], object]:
    import cv2

    assert scene.labels is not None
    boxes, scores, labels = xywh(scene.boxes).tolist(), scene.scores.tolist(), scene.labels.tolist()
    return lambda: cv2.dnn.NMSBoxesBatched(boxes, scores, labels, 0.0, IOU_THRESHOLD)


def supervision_nms(scene: Scene) -> Callable[[], object]:
    import supervision

    columns = [scene.boxes, scene.scores[:, None]]
    if scene.labels is not None:
        columns.append(scene.labels[:, None])
    predictions = np.concatenate(columns, axis=1)
    return lambda: supervision.box_non_max_suppression(predictions, IOU_THRESHOLD)


def pycocotools_box_iou(pair: Pair) -> Callable[[], object]:
    from pycocotools import mask

    first, second = xywh(pair.first), xywh(pair.second)
    crowd = [0] * len(second)
    return lambda: mask.iou(first, second, crowd)


TORCHVISION: dict[str, Prepare] = {
    NMS: torchvision_nms,
    BATCHED_NMS: torchvision_batched_nms,
    IMAGES: torchvision_images,
    IMAGES_MASK: torchvision_images,
    BOX_IOU: torchvision_box_iou,
}
ANY = 10**9

CONTENDERS = (
    Contender("torchvision", TORCHVISION, 100_001),
    Contender("anyops numpy", anyops_operations(numpy_library), ANY, ours=True),
    Contender("anyops torch", anyops_operations(torch_library), ANY, ours=True),
    # The static kernel compares all pairs: a million boxes would take minutes.
    Contender("anyops jax", anyops_operations(jax_library), 100_001, compiles=True, ours=True),
    Contender(
        "opencv",
        {NMS: opencv_nms, BATCHED_NMS: opencv_batched_nms},
        50_000,
        100_001,
        note="computes in float64 from x, y, width, height",
    ),
    Contender(
        "supervision",
        {NMS: supervision_nms, BATCHED_NMS: supervision_nms},
        1_000,
        10_000,
        note="returns a mask, so only the set of kept boxes is compared; the n² IoU matrix is built whole",
    ),
    Contender("pycocotools", {BOX_IOU: pycocotools_box_iou}, ANY, note="computes in float64 from x, y, width, height"),
)


# --- answers ---------------------------------------------------------------------------------------------------------


def kept(result: Any, case: Case, scene: Scene) -> NDArray[np.int64]:
    """What a contender kept, as indices in the canonical order of the case; a mask gives them ascending."""
    if isinstance(result, list):  # one array an image
        size = len(scene.boxes) // len(result)
        flat = np.concatenate([np.asarray(image) + number * size for number, image in enumerate(result)])
    else:
        flat = np.asarray(result)
    if flat.dtype == bool:
        return np.flatnonzero(flat)
    flat = flat.astype(np.int64)
    if case.operation == IMAGES:  # descending score within each image
        assert scene.labels is not None
        return flat[np.argsort(scene.labels[flat], kind="stable")]
    if case.operation == IMAGES_MASK:
        return np.sort(flat)
    return flat


def reference_order(indices: NDArray[np.int64], case: Case, scene: Scene) -> NDArray[np.int64]:
    """torchvision's batched_nms sorts its result unstably: put tied scores in the order of their indices."""
    if case.operation != BATCHED_NMS:
        return indices
    return indices[np.lexsort((indices, -scene.scores[indices]))]


def by_image(scene: Scene) -> tuple[Floats, Floats]:
    """(images, n, 4) boxes and (images, n) scores of a scene whose labels are image numbers."""
    assert scene.labels is not None
    count = int(scene.labels[-1]) + 1
    return scene.boxes.reshape(count, -1, 4), scene.scores.reshape(count, -1)


def xywh(boxes: Floats) -> NDArray[np.float64]:
    """Corner and size, in float64 so that nothing is lost."""
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

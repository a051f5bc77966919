"""Who is measured: how each library is asked for each operation, in the form its users would ask.

A contender prepares a problem outside the timing (its own kind of array, its own box format) and gives back the call
that is timed. Every library is imported only when it is asked for something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import (
    BATCH_NORM,
    BATCHED_NMS,
    BOX_IOU,
    FOCAL,
    FOCAL_COMPILED,
    FOCAL_TRAIN,
    FOCAL_TRAIN_COMPILED,
    IMAGES,
    IMAGES_MASK,
    IOU_THRESHOLD,
    NMS,
    Case,
)
from numpy.typing import NDArray
from scenes import Batch, Floats, Logits, Pair, Scene

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
    compared: bool = True  # or it computes something else, as a measure of time alone
    note: str | None = None  # what differs by convention

    def takes(self, case: Case, *, slow: bool) -> bool:
        """Whether it takes part in a case."""
        limit = self.slow_limit if slow and self.slow_limit else self.limit
        return case.operation in self.operations and (case.numeric or case.n <= limit)


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

    def batch_norm(batch: Batch) -> Callable[[], object]:
        import anyops

        lib = library()
        x, weight, bias, mean, var = (lib.asarray(part) for part in batch)
        step = lib.jit(lambda *a: anyops.batch_norm(*a, training=True))
        return lambda: lib.wait(step(x, mean, var, weight, bias))[0]

    return {
        NMS: nms,
        BATCHED_NMS: batched_nms,
        IMAGES: batched_nms,
        IMAGES_MASK: images_mask,
        BOX_IOU: box_iou,
        BATCH_NORM: batch_norm,
    }


def numpy_focal(problem: Logits) -> Callable[[], object]:
    import anyops

    return lambda: anyops.sigmoid_focal_loss(*problem)


def numpy_focal_train(problem: Logits) -> Callable[[], object]:
    """The gradient in closed form."""
    import anyops

    return lambda: anyops.sigmoid_focal_loss_and_grad(*problem, reduction="sum").dlogits


# --- losses, as each library differentiates and compiles -------------------------------------------------------------

Loss = Callable[[Any, Any], Any]


def torch_focal(loss: Callable[[], Loss]) -> dict[str, Prepare]:
    """A loss on torch tensors, forward and backward, eager and compiled."""

    def prepare(*, train: bool, compiled: bool) -> Prepare:
        def prepared(problem: Logits) -> Callable[[], object]:
            import torch

            x, t = (torch.from_numpy(part) for part in problem)
            f = torch.compile(loss()) if compiled else loss()
            if not train:
                return lambda: f(x, t)
            x.requires_grad_()
            return lambda: torch.autograd.grad(f(x, t).sum(), x)[0]

        return prepared

    return four(prepare)


def jax_focal(loss: Callable[[], Loss]) -> dict[str, Prepare]:
    """A loss on JAX arrays, jitted."""

    def prepare(*, train: bool, compiled: bool) -> Prepare:
        def prepared(problem: Logits) -> Callable[[], object]:
            import jax

            x, t = (jax.numpy.asarray(part) for part in problem)
            f = loss()
            call = jax.jit(jax.value_and_grad(lambda x, t: f(x, t).sum()) if train else f)
            if train:
                return lambda: jax.block_until_ready(call(x, t))[1]
            return lambda: jax.block_until_ready(call(x, t))

        return prepared

    return four(prepare)


def four(prepare: Callable[..., Prepare]) -> dict[str, Prepare]:
    """Forward and with the gradient, eager and compiled; on JAX both are compiled."""
    return {
        FOCAL: prepare(train=False, compiled=False),
        FOCAL_TRAIN: prepare(train=True, compiled=False),
        FOCAL_COMPILED: prepare(train=False, compiled=True),
        FOCAL_TRAIN_COMPILED: prepare(train=True, compiled=True),
    }


def anyops_focal() -> Loss:
    import anyops

    return anyops.sigmoid_focal_loss


def torchvision_focal() -> Loss:
    from torchvision.ops import sigmoid_focal_loss

    return sigmoid_focal_loss


def optax_focal() -> Loss:
    import optax

    return lambda x, t: optax.losses.sigmoid_focal_loss(x, t, alpha=0.25, gamma=2.0)


def jnp_focal() -> Loss:
    """The formula as it is usually written down."""
    import jax
    import jax.numpy as jnp

    def loss(x: Any, t: Any) -> Any:
        p = jax.nn.sigmoid(x)
        ce = jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))
        return (0.25 * t + 0.75 * (1 - t)) * (1 - (p * t + (1 - p) * (1 - t))) ** 2 * ce

    return loss


def exp_log1p(problem: Logits) -> Callable[[], object]:
    """What any evaluation of the loss has to do at least, in the cheapest way there is: into memory that is there."""
    x, room = problem.logits, np.empty_like(problem.logits)
    return lambda: np.log1p(np.exp(x, out=room), out=room)


def loss_alone(problem: Logits) -> Callable[[], object]:
    import anyops

    return lambda: anyops.sigmoid_focal_loss(*problem, reduction="sum")


# --- batch norm ------------------------------------------------------------------------------------------------------


def numpy_batch_norm(batch: Batch) -> Callable[[], object]:
    """The textbook formula."""
    x, weight, bias, mean, var = batch

    def step() -> object:
        m, v = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        y = (x - m[:, None, None]) / np.sqrt(v + 1e-5)[:, None, None] * weight[:, None, None] + bias[:, None, None]
        return y, 0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v

    return lambda: step()[0]


def torch_batch_norm(batch: Batch) -> Callable[[], object]:
    import torch

    x, weight, bias, mean, var = (torch.from_numpy(part.copy()) for part in batch)
    return lambda: torch.nn.functional.batch_norm(x, mean, var, weight, bias, training=True)


def jnp_batch_norm(batch: Batch) -> Callable[[], object]:
    import jax
    import jax.numpy as jnp

    x, weight, bias, mean, var = (jnp.asarray(part) for part in batch)

    @jax.jit
    def step(x: Any, mean: Any, var: Any, weight: Any, bias: Any) -> Any:
        m, v = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        y = (x - m[:, None, None]) / jnp.sqrt(v + 1e-5)[:, None, None] * weight[:, None, None] + bias[:, None, None]
        return y, 0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v

    return lambda: jax.block_until_ready(step(x, mean, var, weight, bias))[0]


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
    **torch_focal(torchvision_focal),
}
NUMPY_FOCAL: dict[str, Prepare] = {FOCAL: numpy_focal, FOCAL_TRAIN: numpy_focal_train}
ANY = 10**9

CONTENDERS = (
    Contender("torchvision", TORCHVISION, 100_001),
    Contender("torch kernel", {BATCH_NORM: torch_batch_norm}, ANY),
    Contender("anyops numpy", anyops_operations(numpy_library) | NUMPY_FOCAL, ANY, ours=True),
    Contender("anyops torch", anyops_operations(torch_library) | torch_focal(anyops_focal), ANY, ours=True),
    # The static kernel compares all pairs: a million boxes would take minutes.
    Contender(
        "anyops jax", anyops_operations(jax_library) | jax_focal(anyops_focal), 100_001, compiles=True, ours=True
    ),
    Contender(
        "optax", {k: v for k, v in jax_focal(optax_focal).items() if k in (FOCAL, FOCAL_TRAIN)}, ANY, compiles=True
    ),
    Contender("jnp formula", jax_focal(jnp_focal) | {BATCH_NORM: jnp_batch_norm}, ANY, compiles=True),
    Contender("numpy formula", {BATCH_NORM: numpy_batch_norm}, ANY),
    Contender("exp, log1p", {FOCAL: exp_log1p}, ANY, compared=False, note="on NumPy, into memory that is there"),
    Contender(
        "loss alone", {FOCAL_TRAIN: loss_alone}, ANY, compared=False, note="anyops on NumPy, without the gradient"
    ),
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

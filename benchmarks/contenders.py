"""The contenders: how each library is called for each operation, in the way its users would call it.

A contender prepares a problem outside the timing (its own kind of array, its own box format) and returns the call that
is timed. A library is only imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import estimation
import numpy as np
import ops
from cases import (
    BATCH_NORM,
    BATCH_NORM_GRAD,
    BATCHED_NMS,
    BOX_IOU,
    BOX_LOSSES,
    BOX_LOSSES_TRAIN,
    FAST,
    FITS,
    FOCAL,
    FOCAL_COMPILED,
    FOCAL_TRAIN,
    FOCAL_TRAIN_COMPILED,
    FUSION,
    IMAGES,
    IMAGES_MASK,
    IMAGES_MASK_JIT,
    IOU_THRESHOLD,
    KEYPOINTS,
    KINDS,
    KMEANS,
    KMEANS_ASSIGN,
    KMEANS_FIXED,
    KMEANS_SHORT,
    KMEANS_STEP,
    LOGISTIC,
    LOGISTIC_PROBA,
    MASKS,
    MATRIX,
    MERGE,
    MINIBATCH,
    NMS,
    NMS_MASK,
    PADDED,
    PADDED_JIT,
    POLYGON_IOU,
    ROTATED_GROUPS,
    ROTATED_IOU,
    ROTATED_NMS,
    SEEDS,
    SOFT,
    SOFTMAX,
    SOFTMAX_TRAIN,
    STATIC,
    Case,
)
from numpy.typing import NDArray
from scenes import SCORE_THRESHOLD, Batch, Classes, Floats, Logits, Masks, Models, Padded, Pair, Scene

Prepare = Callable[[Any], Callable[[], object]]


@dataclass(frozen=True)
class Contender:
    """One library: its operations, and the largest number of boxes it is timed on."""

    name: str
    operations: dict[str, Prepare]
    limit: int
    slow_limit: int | None = None  # the limit under --slow
    compiles: bool = False
    ours: bool = False
    compared: bool = True  # if not, it computes something else, and only its time is of interest
    note: str | None = None  # what differs by convention

    def takes(self, case: Case, *, slow: bool) -> bool:
        """Whether it takes part in a case."""
        limit = self.slow_limit if slow and self.slow_limit else self.limit
        return case.operation in self.operations and (case.numeric or case.n <= limit)


# --- anyops ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """Conversion to an array library, its jit, and waiting for its results."""

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
    """All operations with anyops; the images of a batch are labels, or are one batch of the mask form."""

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

    def box_iou(pair: Pair) -> Callable[[], object]:
        import anyops

        lib = library()
        first, second = lib.asarray(pair.first), lib.asarray(pair.second)
        return lambda: lib.wait(anyops.box_iou(first, second))

    def indices(name: str) -> Prepare:
        def prepare(scene: Scene) -> Callable[[], object]:
            import anyops

            lib, op = library(), getattr(anyops, name)
            boxes, scores = lib.asarray(scene.boxes), lib.asarray(scene.scores)
            return lambda: lib.wait(op(boxes, scores))

        return prepare

    def masks(problem: Masks) -> Callable[[], object]:
        import anyops

        lib = library()
        masks, scores = lib.asarray(problem.masks), lib.asarray(problem.scores)
        return lambda: lib.wait(anyops.matrix_nms(None, scores, overlaps=anyops.mask_iou(masks, masks)))

    def fusion(problem: Models) -> Callable[[], object]:
        import anyops

        lib = library()
        boxes, scores, labels, model_ids = (lib.asarray(part) for part in problem)
        return lambda: lib.wait(anyops.weighted_boxes_fusion(boxes, scores, labels, model_ids=model_ids))

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
        NMS_MASK: nms_mask(library, jit=True),
        IMAGES_MASK: nms_mask(library),
        PADDED: nms_mask(library),
        BOX_IOU: box_iou,
        **{name: indices(name) for name in (SOFT, FAST, MATRIX)},
        MASKS: masks,
        FUSION: fusion,
        **{name: static(name, library) for name in STATIC},
        BATCH_NORM: batch_norm,
        KMEANS: estimation.kmeans(library),
        KMEANS_FIXED: estimation.kmeans_iterations(library, estimation.ITERATIONS),
        KMEANS_SHORT: estimation.kmeans_iterations(library, estimation.FEW_ITERATIONS),
        KMEANS_STEP: estimation.kmeans_step(library),
        LOGISTIC: estimation.logistic(library),
        SEEDS: estimation.kmeans_plusplus(library),
        MINIBATCH: estimation.minibatch_kmeans(library),
        **ops.calls("anyops", library, ops.ANYOPS),
    }


def nms_mask(library: Callable[[], Library], *, jit: bool = False) -> Prepare:
    """The static form of NMS on a scene, a batch of images, or a scene with padding."""

    @cache
    def mask() -> Callable[..., Any]:
        import anyops

        def found(boxes: Any, scores: Any, valid: Any = None) -> Any:
            return anyops.nms_mask(boxes, scores, IOU_THRESHOLD, valid=valid)

        return library().jit(found) if jit else found

    def prepare(problem: Scene | Padded) -> Callable[[], object]:
        lib, call = library(), mask()
        if isinstance(problem, Padded):
            arrays: tuple[NDArray[Any], ...] = problem
        else:
            arrays = problem[:2] if problem.labels is None else by_image(problem)
        boxes, scores, *valid = (lib.asarray(part) for part in arrays)
        return lambda: lib.wait(call(boxes, scores, *valid))

    return prepare


def nms_of_valid(library: Callable[[], Library]) -> Prepare:
    """`nms` of the boxes that are not padding; selecting them is not timed."""

    def prepare(problem: Padded) -> Callable[[], object]:
        import anyops

        lib = library()
        boxes, scores = (lib.asarray(part[problem.valid]) for part in (problem.boxes, problem.scores))
        return lambda: lib.wait(anyops.nms(boxes, scores, IOU_THRESHOLD))

    return prepare


def numpy_focal(problem: Logits) -> Callable[[], object]:
    import anyops

    return lambda: anyops.sigmoid_focal_loss(*problem)


def numpy_focal_train(problem: Logits) -> Callable[[], object]:
    """The gradient in closed form."""
    import anyops

    return lambda: anyops.sigmoid_focal_loss_and_grad(*problem, reduction="sum").dlogits


# --- losses, differentiated and compiled by each library -------------------------------------------------------------

Loss = Callable[[Any, Any], Any]
# Forward and with the gradient, eager and compiled; on JAX both are compiled.
FOCALS = (FOCAL, FOCAL_TRAIN, FOCAL_COMPILED, FOCAL_TRAIN_COMPILED)
SOFTMAXES = (SOFTMAX, SOFTMAX_TRAIN)


def torch_loss(loss: Callable[[], Loss], operations: tuple[str, ...] = FOCALS) -> dict[str, Prepare]:
    """A loss on torch tensors: the first of forward, with the gradient, and both compiled, one per operation."""

    def prepare(*, train: bool, compiled: bool) -> Prepare:
        def prepared(problem: Any) -> Callable[[], object]:
            import torch

            x, t = (torch.from_numpy(part) for part in problem)
            f = torch.compile(loss()) if compiled else loss()
            if not train:
                return lambda: f(x, t)
            x.requires_grad_()
            return lambda: torch.autograd.grad(f(x, t).sum(), x)[0]

        return prepared

    return variants_of(operations, prepare)


def jax_loss(loss: Callable[[], Loss], operations: tuple[str, ...] = FOCALS) -> dict[str, Prepare]:
    """A loss on JAX arrays, jitted."""

    def prepare(*, train: bool, compiled: bool) -> Prepare:
        def prepared(problem: Any) -> Callable[[], object]:
            import jax

            x, t = (jax.numpy.asarray(part) for part in problem)
            f = loss()
            call = jax.jit(jax.value_and_grad(lambda x, t: f(x, t).sum()) if train else f)
            if train:
                return lambda: jax.block_until_ready(call(x, t))[1]
            return lambda: jax.block_until_ready(call(x, t))

        return prepared

    return variants_of(operations, prepare)


def variants_of(operations: tuple[str, ...], prepare: Callable[..., Prepare]) -> dict[str, Prepare]:
    """The operations of a loss, in the order of FOCALS."""
    variants = ((train, compiled) for compiled in (False, True) for train in (False, True))
    return {
        operation: prepare(train=train, compiled=compiled)
        for operation, (train, compiled) in zip(operations, variants, strict=False)
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
    """The textbook formula."""
    import jax
    import jax.numpy as jnp

    def loss(x: Any, t: Any) -> Any:
        p = jax.nn.sigmoid(x)
        ce = jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))
        return (0.25 * t + 0.75 * (1 - t)) * (1 - (p * t + (1 - p) * (1 - t))) ** 2 * ce

    return loss


def box_losses(make: Callable[..., dict[str, Prepare]], loss: Callable[[str], Loss]) -> dict[str, Prepare]:
    """The losses of boxes of each kind, forward and with the gradient."""
    found: dict[str, Prepare] = {}
    for kind, *operations in zip(KINDS, BOX_LOSSES, BOX_LOSSES_TRAIN, strict=True):
        found |= make(partial(loss, kind), tuple(operations))
    return found


def anyops_box_loss(kind: str) -> Loss:
    import anyops

    return partial(anyops.box_iou_loss, kind=kind)


def torchvision_box_loss(kind: str) -> Loss:
    import torchvision

    names = {"giou": "generalized_box_iou_loss", "diou": "distance_box_iou_loss", "ciou": "complete_box_iou_loss"}
    return getattr(torchvision.ops, names[kind])


def anyops_softmax() -> Loss:
    import anyops

    return anyops.softmax_focal_loss


def torch_softmax() -> Loss:
    """From the library's cross-entropy."""
    import torch

    def loss(x: Any, labels: Any) -> Any:
        ce = torch.nn.functional.cross_entropy(x, labels, reduction="none")
        return (1 - torch.exp(-ce)) ** 2 * ce

    return loss


def optax_softmax() -> Loss:
    """From the library's cross-entropy."""
    import jax.numpy as jnp
    import optax

    def loss(x: Any, labels: Any) -> Any:
        ce = optax.losses.softmax_cross_entropy_with_integer_labels(x, labels)
        return (1 - jnp.exp(-ce)) ** 2 * ce

    return loss


def scipy_softmax(problem: Classes) -> Callable[[], object]:
    from scipy.special import logsumexp

    x, labels = problem
    rows = np.arange(len(x))

    def loss() -> object:
        ce = logsumexp(x, axis=1) - x[rows, labels]
        return (1 - np.exp(-ce)) ** 2 * ce

    return loss


def exp_log1p(problem: Logits) -> Callable[[], object]:
    """The least that any evaluation of the loss has to compute, as cheaply as possible: into allocated memory."""
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


def static(name: str, library: Callable[[], Library]) -> Prepare:
    """A static form under the library's jit."""

    def prepare(scene: Scene) -> Callable[[], object]:
        import anyops

        lib, op = library(), getattr(anyops, name)
        boxes, scores = lib.asarray(scene.boxes), lib.asarray(scene.scores)
        # The penalty is what Cluster-NMS adds to nms_mask.
        options = {"penalty": "score"} if "cluster" in name else {}
        labels = (lib.asarray(np.zeros(len(scene.scores), np.int32)),) if "fusion" in name else ()
        compiled = lib.jit(lambda *given: op(*given, **options))
        return lambda: lib.wait(compiled(boxes, scores, *labels))

    return prepare


def overlap_graph(above: float) -> Prepare:
    """Only the overlap graph, the first part of Fast and Matrix NMS."""

    def prepare(scene: Scene) -> Callable[[], object]:
        from anyops._array.mode import mode_of
        from anyops.boxes.regions import Measure
        from anyops.suppression.detections import Detections
        from anyops.suppression.rescoring import rivals_of

        mode = mode_of(boxes=scene.boxes)
        return lambda: rivals_of(mode, Detections(scene.boxes, scene.scores), measure=Measure("iou"), floor=above)

    return prepare


def mask_products(problem: Masks) -> Callable[[], object]:
    """Only the n² counts of common pixels."""

    def products() -> object:
        flat = problem.masks.reshape(len(problem.masks), -1).astype(np.float32)
        return flat @ flat.T

    return products


# --- torchvision -----------------------------------------------------------------------------------------------------


def torchvision_nms(scene: Scene) -> Callable[[], object]:
    import torch
    from torchvision.ops import nms

    boxes, scores = torch.from_numpy(scene.boxes), torch.from_numpy(scene.scores)
    return lambda: nms(boxes, scores, IOU_THRESHOLD)


def torchvision_nms_of_valid(problem: Padded) -> Callable[[], object]:
    import torch
    from torchvision.ops import nms

    boxes, scores = torch.from_numpy(problem.boxes), torch.from_numpy(problem.scores)

    def kept() -> object:
        rows = torch.nonzero(scores > SCORE_THRESHOLD)[:, 0]
        return rows[nms(boxes[rows], scores[rows], IOU_THRESHOLD)]

    return kept


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


# --- peers for the other variants ------------------------------------------------------------------------------------


def soft_nms_loop(scene: Scene) -> Callable[[], object]:
    """Textbook Soft-NMS: pick the best, lower the rest, drop what is too low, one box at a time."""

    def picked() -> NDArray[np.int64]:
        columns, current = [*scene.boxes.T], scene.scores.copy()
        columns.append((columns[2] - columns[0]) * (columns[3] - columns[1]))
        index, picks = np.arange(len(current)), []
        while len(current):
            best = int(np.argmax(current))
            picks.append(index[best])
            x1, y1, x2, y2, area = columns
            width = np.maximum(np.minimum(x2, x2[best]) - np.maximum(x1, x1[best]), 0)
            inter = width * np.maximum(np.minimum(y2, y2[best]) - np.maximum(y1, y1[best]), 0)
            overlap = inter / (area + area[best] - inter)
            current = current * np.exp(-(overlap**2) / np.float32(0.5))
            current[best] = 0
            live = current > 1e-3
            columns, current, index = [column[live] for column in columns], current[live], index[live]
        return np.asarray(picks)

    return picked


def ensemble_boxes_soft(scene: Scene) -> Callable[[], object]:
    from ensemble_boxes.ensemble_boxes_nms import cpu_soft_nms_float

    def picked() -> object:
        boxes, scores = scene.boxes.copy(), scene.scores.copy()  # it works in place
        return cpu_soft_nms_float(boxes, scores, 0.3, 0.5, 1e-3, 2)

    return picked


def ensemble_boxes_fusion(problem: Models) -> Callable[[], object]:
    from ensemble_boxes import weighted_boxes_fusion

    parts = [problem.model_ids == model for model in range(int(problem.model_ids[-1]) + 1)]
    boxes, scores, labels = ([column[part] for part in parts] for column in problem[:3])
    return lambda: weighted_boxes_fusion(boxes, scores, labels, iou_thr=0.55, skip_box_thr=0.0)


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
    NMS_MASK: torchvision_nms,
    **dict.fromkeys((IMAGES_MASK, IMAGES_MASK_JIT), torchvision_images),
    **dict.fromkeys((PADDED, PADDED_JIT), torchvision_nms_of_valid),
    BOX_IOU: torchvision_box_iou,
    **torch_loss(torchvision_focal),
    **box_losses(torch_loss, torchvision_box_loss),
    **ops.calls("torchvision.ops", torch_library, ops.TORCHVISION),
}
NUMPY_LOSSES: dict[str, Prepare] = {
    FOCAL: numpy_focal,
    FOCAL_TRAIN: numpy_focal_train,
    **ops.calls("anyops", numpy_library, ops.NUMPY_LOSSES),
}
TORCH_LOSSES = {
    **torch_loss(anyops_focal),
    **torch_loss(anyops_softmax, SOFTMAXES),
    **box_losses(torch_loss, anyops_box_loss),
}
JAX_LOSSES = {
    **jax_loss(anyops_focal),
    **jax_loss(anyops_softmax, SOFTMAXES),
    **box_losses(jax_loss, anyops_box_loss),
}
JAX_MASKS = dict.fromkeys((IMAGES_MASK_JIT, PADDED_JIT), nms_mask(jax_library, jit=True))
OPTAX = {**jax_loss(optax_focal, (FOCAL, FOCAL_TRAIN)), **jax_loss(optax_softmax, SOFTMAXES)}
ANY = 10**9

CONTENDERS = (
    Contender("torchvision", TORCHVISION, 100_001),
    Contender(
        "scikit-learn",
        {
            KMEANS: estimation.sklearn_kmeans("lloyd"),
            KMEANS_SHORT: estimation.sklearn_iterations(estimation.FEW_ITERATIONS),
            KMEANS_STEP: estimation.sklearn_step,
            LOGISTIC: estimation.sklearn_logistic("newton-cholesky", 1e-4),
            SEEDS: estimation.sklearn_plusplus,
            MINIBATCH: estimation.sklearn_minibatch,
            KMEANS_ASSIGN: ops.sklearn_assign,
            LOGISTIC_PROBA: ops.sklearn_proba,
        },
        ANY,
        note="k-means by Lloyd's algorithm, logistic regression by newton-cholesky; a step of k-means is two passes",
    ),
    Contender("elkan", {KMEANS: estimation.sklearn_kmeans("elkan")}, 0, ANY, note="scikit-learn's, with --slow"),
    Contender(
        "lbfgs",
        {LOGISTIC: estimation.sklearn_logistic("lbfgs", 1e-5)},
        ANY,
        note="scikit-learn's, at the loosest tolerance that ends within 1e-6 of the least objective on these problems",
    ),
    Contender("newton-cg", {LOGISTIC: estimation.sklearn_logistic("newton-cg", 1e-4)}, ANY, note="scikit-learn's"),
    Contender(
        "faiss",
        {
            KMEANS_FIXED: estimation.faiss_kmeans(estimation.ITERATIONS),
            KMEANS_SHORT: estimation.faiss_kmeans(estimation.FEW_ITERATIONS),
            KMEANS_ASSIGN: ops.faiss_assign,
        },
        ANY,
        note="k-means without centring, a tolerance or a final assignment",
    ),
    Contender("two products", {KMEANS_STEP: estimation.two_products}, ANY, compiles=True, compared=False),
    Contender("torch kernel", {BATCH_NORM: torch_batch_norm, BATCH_NORM_GRAD: ops.torch_batch_norm_grad}, ANY),
    Contender("anyops numpy", anyops_operations(numpy_library) | NUMPY_LOSSES, ANY, ours=True),
    Contender("anyops torch", anyops_operations(torch_library) | TORCH_LOSSES, ANY, ours=True),
    # The static kernel compares all pairs: a million boxes would take minutes.
    Contender("anyops jax", anyops_operations(jax_library) | JAX_LOSSES | JAX_MASKS, 100_001, compiles=True, ours=True),
    Contender("optax", OPTAX, ANY, compiles=True),
    Contender(
        "jnp formula",
        jax_loss(jnp_focal) | {BATCH_NORM: jnp_batch_norm} | ops.calls("jax.numpy", jax_library, ops.NUMPY_FORMULAS),
        ANY,
        compiles=True,
    ),
    Contender(
        "torch formula",
        torch_loss(torch_softmax, SOFTMAXES) | ops.calls("torch", torch_library, ops.TORCH_FORMULAS),
        ANY,
    ),
    Contender(
        "numpy formula",
        {BATCH_NORM: numpy_batch_norm, SOFTMAX: scipy_softmax} | ops.calls("numpy", numpy_library, ops.NUMPY_FORMULAS),
        ANY,
    ),
    Contender("exp, log1p", {FOCAL: exp_log1p}, ANY, compared=False, note="on NumPy, into allocated memory"),
    Contender(
        "loss alone", {FOCAL_TRAIN: loss_alone}, ANY, compared=False, note="anyops on NumPy, without the gradient"
    ),
    Contender(
        "opencv",
        {
            NMS: opencv_nms,
            BATCHED_NMS: opencv_batched_nms,
        },
        50_000,
        100_001,
        note="computes in float64 from x, y, width, height",
    ),
    Contender(
        "opencv, rotated",
        {ROTATED_NMS: ops.opencv_rotated_nms},
        ANY,
        compared=False,
        note="treats a box inside another one as the same box, so it keeps fewer",
    ),
    Contender(
        "supervision",
        {
            NMS: supervision_nms,
            BATCHED_NMS: supervision_nms,
            MERGE: ops.supervision_merge,
            ROTATED_NMS: ops.supervision_rotated_nms,
            ROTATED_GROUPS: ops.supervision_rotated_merge,
        },
        1_000,
        10_000,
        note="returns a mask, so only the set of kept boxes is compared; the n² IoU matrix is built whole",
    ),
    Contender(
        "shapely",
        dict.fromkeys((ROTATED_IOU, POLYGON_IOU), ops.shapely_iou),
        ANY,
        note="computes in float64, only for pairs whose envelopes meet",
    ),
    Contender(
        "pycocotools",
        {BOX_IOU: pycocotools_box_iou, KEYPOINTS: ops.pycocotools_similarity},
        ANY,
        note="computes in float64 from x, y, width, height",
    ),
    Contender("sequential loop", {SOFT: soft_nms_loop}, ANY),
    Contender(
        "ensemble-boxes",
        {SOFT: ensemble_boxes_soft, FUSION: ensemble_boxes_fusion},
        ANY,
        compiles=True,
        note="its Soft-NMS (numba) keeps picking among boxes that have fallen below the score threshold",
    ),
    Contender("overlap graph", {FAST: overlap_graph(IOU_THRESHOLD), MATRIX: overlap_graph(0.0)}, ANY, compared=False),
    Contender("mask products", {MASKS: mask_products}, ANY, compared=False),
    Contender("nms numpy", {PADDED: nms_of_valid(numpy_library)}, ANY, compared=False),
    Contender("nms torch", {PADDED: nms_of_valid(torch_library)}, ANY, compared=False),
    Contender(
        "nms jax", dict.fromkeys((PADDED, PADDED_JIT), nms_of_valid(jax_library)), ANY, compiles=True, compared=False
    ),
    Contender("nms_mask", dict.fromkeys(STATIC, static("nms_mask", jax_library)), ANY, compiles=True, compared=False),
)


# --- answers ---------------------------------------------------------------------------------------------------------


def answer(result: Any, case: Case, problem: Any) -> NDArray[Any]:
    """The answer of a contender in a form that can be compared: numbers, or the indices of the boxes it keeps."""
    if case.operation in FITS:
        return estimation.goal(problem, result)
    if case.operation in ops.ANSWERS:
        return ops.ANSWERS[case.operation](problem, result)
    if case.operation == FUSION:  # sorted by coordinates, because the order of equal scores is arbitrary
        boxes, scores, _ = (np.asarray(part) for part in result)
        rows = np.concatenate([boxes, scores[:, None]], axis=1)
        return rows[np.lexsort(rows.T)]
    if isinstance(result, tuple):  # indices and scores, or boxes and scores
        result = result[1 if len(result) > 1 and case.numeric else 0]
    if case.numeric:
        return np.asarray(result, dtype=np.float32)
    indices = kept(result, case, problem)
    # New scores that only differ by the rounding of an exponential come in any order.
    return np.sort(indices) if case.operation in (SOFT, MATRIX, MASKS) else indices


def kept(result: Any, case: Case, scene: Scene) -> NDArray[np.int64]:
    """The indices that a contender kept, in the canonical order of the case; a mask gives them ascending."""
    if isinstance(result, list):  # one array per image
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
    if case.operation in (NMS_MASK, IMAGES_MASK, IMAGES_MASK_JIT, PADDED, PADDED_JIT, ROTATED_NMS):
        return np.sort(flat)
    return flat


def reference_order(indices: NDArray[np.int64], case: Case, scene: Scene) -> NDArray[np.int64]:
    """Indices of `batched_nms` by descending score, tied ones by their index: torchvision sorts them unstably."""
    if case.operation != BATCHED_NMS:
        return indices
    return indices[np.lexsort((indices, -scene.scores[indices]))]


def torchvision_by_class(scene: Scene) -> NDArray[np.int64]:
    """The boxes that torchvision's nms keeps, class by class.

    Its batched_nms separates classes by offsets, which round the coordinates: it keeps other boxes in two of 31 scenes
    of 1 000.
    """
    import torch
    import torchvision

    assert scene.labels is not None
    members = [np.flatnonzero(scene.labels == label) for label in np.unique(scene.labels)]
    boxes, scores = torch.from_numpy(scene.boxes), torch.from_numpy(scene.scores)
    return np.concatenate([i[torchvision.ops.nms(boxes[i], scores[i], IOU_THRESHOLD).numpy()] for i in members])


def by_image(scene: Scene) -> tuple[Floats, Floats]:
    """(images, n, 4) boxes and (images, n) scores of a scene whose labels are image numbers."""
    assert scene.labels is not None
    count = int(scene.labels[-1]) + 1
    return scene.boxes.reshape(count, -1, 4), scene.scores.reshape(count, -1)


def xywh(boxes: Floats) -> NDArray[np.float64]:
    """Corner and size, in float64 so that nothing is lost."""
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

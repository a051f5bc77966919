"""The work of a call, without a clock: the Python functions it calls, and the operations that torch dispatches.

    python benchmarks/counts.py      print the counts of every public op

Under a dispatch mode, which must see every torch operation, anyops computes with torch, as it does on a device.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import scenes
from contenders import Library, jax_library, numpy_library, torch_library
from results import ROOT

sys.path.insert(0, str(ROOT))  # the tests use the same counter

from tests.calls import counted

Call = Callable[[], object]
Arrays = tuple[Any, ...]

LIBRARIES = {"anyops numpy": numpy_library, "anyops torch": torch_library, "anyops jax": jax_library}
FEW, MANY = 200, 1_000  # boxes or samples, when counting calls, and when counting operations


# --- one call --------------------------------------------------------------------------------------------------------


def python_calls(call: Call) -> int:
    """Python functions called in this thread by a call that is not the first, without callbacks of the collector."""
    gc.disable()
    try:
        return counted(call, ("call",))[1]
    finally:
        gc.enable()


def torch_operations(call: Call) -> dict[str, int]:
    """Operations that torch dispatches in a call, and how many of them wait for a value or a length."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    waiting = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    found = {"operations": 0, "waits": 0}

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found["operations"] += 1
            found["waits"] += not waiting.isdisjoint(function.tags)
            return function(*args, **(kwargs or {}))

    with Counting():
        call()
    return found


# --- every op --------------------------------------------------------------------------------------------------------


def scene(n: int) -> scenes.Scene:
    """The scenes of the cases clustered-200 and clustered-1k."""
    return scenes.clustered(n, 20 if n == FEW else 40)


def boxes(n: int) -> Arrays:
    return (scene(n).boxes,)


def boxes_and_scores(n: int) -> Arrays:
    return scene(n)[:2]


def labelled_boxes(n: int) -> Arrays:
    return tuple(scenes.classes(scene(n)))


def sides(n: int) -> Arrays:
    (found,) = boxes(n)
    return (found[:, 2:] - found[:, :2],)


def masks(n: int) -> Arrays:
    return (scenes.masks(n // 10, 20, 30).masks,)


def batch(n: int) -> scenes.Batch:
    return scenes.batch(n // 10, 8, 5, 2)


def samples(n: int) -> Arrays:
    return tuple(scenes.mixture(n, 2, 8))


def linear(n: int) -> scenes.Linear:
    return scenes.linear(n, 5, 2)


def given(function: Any, *arrays: Any) -> Any:
    """A call with only the arrays of the problem."""
    return function(*arrays)


def halves(function: Any, x: Any, start: Any) -> Any:
    return function([x[: len(x) // 2], x[len(x) // 2 :]], len(start), init=start)


# op: its problem, as NumPy arrays, and the call
OPS: dict[str, tuple[Callable[[int], Arrays], Callable[..., Any]]] = {
    "box_area": (boxes, given),
    "box_convert": (boxes, lambda function, boxes: function(boxes, "xyxy", "cxcywh")),
    "clip_boxes": (boxes, lambda function, boxes: function(boxes, (600, 800))),
    "box_iou": (boxes, lambda function, boxes: function(boxes, boxes)),
    "masks_to_boxes": (masks, given),
    "mask_iou": (masks, lambda function, masks: function(masks, masks)),
    "nms": (boxes_and_scores, given),
    "batched_nms": (labelled_boxes, lambda function, *scene: function(*scene, 0.5)),
    "nms_mask": (boxes_and_scores, given),
    "nms_groups": (boxes_and_scores, given),
    "non_max_merge": (boxes_and_scores, lambda function, *scene: function(*scene)[:2]),
    "keypoint_similarity": (
        lambda n: scenes.poses(n // 10, n // 10),
        lambda function, *poses: function(*poses, sigmas=[0.1] * 17),
    ),
    "top_scores": (boxes_and_scores, lambda function, _, scores: function(scores, 100)),
    **dict.fromkeys(
        (
            *("soft_nms", "soft_nms_scores", "fast_nms", "fast_nms_mask", "matrix_nms", "matrix_nms_scores"),
            *("cluster_nms", "cluster_nms_scores", "weighted_cluster_nms", "weighted_cluster_nms_boxes"),
        ),
        (boxes_and_scores, given),
    ),
    "weighted_boxes_fusion": (labelled_boxes, given),
    "weighted_boxes_fusion_padded": (labelled_boxes, given),
    "sigmoid_focal_loss": (scenes.logits, given),
    "sigmoid_focal_loss_and_grad": (scenes.logits, given),
    "softmax_focal_loss": (lambda n: scenes.class_logits(n, 8), given),
    "softmax_focal_loss_and_grad": (lambda n: scenes.class_logits(n, 8), given),
    "box_iou_loss": (scenes.matched, given),
    "batch_norm": (batch, lambda function, x, weight, bias, *kept: function(x, *kept, weight, bias, training=True)),
    "batch_norm_grad": (lambda n: scenes.backward(n // 10, 8, 5, 2), given),
    "batch_stats": (batch, lambda function, x, *_: function(x)),
    "kmeans": (samples, lambda function, x, start: function(x, len(start), init=start)),
    "kmeans_plusplus": (samples, lambda function, x, start: function(x, len(start), seed=0)),
    "minibatch_kmeans": (samples, halves),
    "anchor_boxes": (sides, lambda function, sides: function(sides, 9, seed=0)),
    "kmeans_assign": (samples, given),
    "kmeans_partial": (samples, given),
    "kmeans_step": (samples, given),
    "logistic_regression": (linear, lambda function, x, y, *_: function(x, y, l2=1.0)),
    "logistic_loss": (linear, given),
    "logistic_partial": (linear, given),
    "logistic_step": (linear, given),
    "logistic_predict_proba": (linear, lambda function, x, _, *model: function(x, *model)),
    "logistic_log_proba": (linear, lambda function, x, _, *model: function(x, *model)),
}
# Ops that add two results of another op.
MERGES = {"merge_batch_stats": "batch_stats", "kmeans_merge": "kmeans_partial", "logistic_merge": "logistic_partial"}


def prepared(op: str, library: Library, n: int) -> Call:
    """The call of an op on its problem in a library, after a first call."""
    import anyops

    function = getattr(anyops, op)
    if op in MERGES:
        part = prepared(MERGES[op], library, n)()
        call = partial(function, part, part)
    else:
        make, ask = OPS[op]
        arrays = [library.asarray(part) for part in make(n)]
        call = partial(ask, function, *arrays)
    library.wait(call())
    return call


def count(op: str) -> dict[str, Any]:
    """The counts of a call: functions by library on FEW boxes or samples, torch operations on MANY."""
    found: dict[str, Any] = {"op": op, "calls": {}}
    for name, library in LIBRARIES.items():
        try:
            found["calls"][name] = python_calls(prepared(op, library(), FEW))
        except ImportError:
            traceback.print_exc()
    try:
        found |= torch_operations(prepared(op, torch_library(), MANY))
    except ImportError:
        traceback.print_exc()
    return found


def counts() -> list[dict[str, Any]]:
    """The counts of every op."""
    return [count(op) for op in (*OPS, *MERGES)]


def print_counts(found: list[dict[str, Any]]) -> None:
    for each in found:
        calls = ", ".join(f"{name.removeprefix('anyops ')} {many}" for name, many in each["calls"].items())
        torch = f"; torch dispatches {each['operations']}, waits {each['waits']}" if "operations" in each else ""
        print(f"calls: {each['op']}: {calls}{torch}")


if __name__ == "__main__":
    print_counts(counts())

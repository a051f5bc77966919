"""Detection and classic machine-learning algorithms on whatever array you have.

Every function takes arrays of one library (NumPy, CuPy, PyTorch, JAX, ...) and returns arrays of that library, on the
same device. See the documentation for the conventions that they share.
"""

from ._array.backends import Backend, backends
from ._version import __version__
from .boxes.formats import box_area, box_convert, clip_boxes, masks_to_boxes
from .boxes.iou import box_iou, mask_iou
from .losses.focal import (
    sigmoid_focal_loss,
    sigmoid_focal_loss_and_grad,
    softmax_focal_loss,
    softmax_focal_loss_and_grad,
)
from .losses.iou import box_iou_loss
from .norm import BatchStats, batch_norm, batch_norm_grad, batch_stats, merge_batch_stats
from .suppression.greedy import batched_nms, nms, nms_mask
from .suppression.select import top_scores

__all__ = [
    "Backend",
    "BatchStats",
    "__version__",
    "backends",
    "batch_norm",
    "batch_norm_grad",
    "batch_stats",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "box_iou_loss",
    "clip_boxes",
    "mask_iou",
    "masks_to_boxes",
    "merge_batch_stats",
    "nms",
    "nms_mask",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_and_grad",
    "softmax_focal_loss",
    "softmax_focal_loss_and_grad",
    "top_scores",
]

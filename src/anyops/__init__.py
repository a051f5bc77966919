"""Detection and classic machine-learning algorithms on arrays of any library.

Every function takes arrays of one library (NumPy, CuPy, PyTorch, JAX, ...) and returns arrays of that library, on the
same device. The documentation lists their common conventions.
"""

from ._array.backends import Backend, backends
from ._array.support import Support, SupportLimit, support
from ._version import __version__
from .boxes.formats import box_area, box_convert, clip_boxes, masks_to_boxes
from .boxes.iou import box_iou, mask_iou
from .boxes.keypoints import keypoint_similarity
from .cluster.anchors import AnchorResult, anchor_boxes
from .cluster.assign import (
    KMeansAssignment,
    KMeansPartial,
    KMeansStep,
    kmeans_assign,
    kmeans_merge,
    kmeans_partial,
    kmeans_step,
)
from .cluster.init import KMeansSeeds, kmeans_plusplus
from .cluster.lloyd import KMeansResult, kmeans
from .cluster.minibatch import minibatch_kmeans
from .logistic.fit import logistic_regression
from .logistic.objective import (
    LogisticLoss,
    LogisticPartial,
    LogisticStep,
    logistic_log_proba,
    logistic_loss,
    logistic_merge,
    logistic_partial,
    logistic_predict_proba,
    logistic_step,
)
from .logistic.result import LikelihoodRatio, LogisticReport, LogisticResult
from .losses.focal import (
    LossAndGrad,
    sigmoid_focal_loss,
    sigmoid_focal_loss_and_grad,
    softmax_focal_loss,
    softmax_focal_loss_and_grad,
)
from .losses.iou import box_iou_loss
from .norm import BatchNorm, BatchNormGrad, BatchStats, batch_norm, batch_norm_grad, batch_stats, merge_batch_stats
from .suppression.cluster import (
    RescoredInPlace,
    WeightedBoxes,
    cluster_nms,
    cluster_nms_scores,
    weighted_cluster_nms,
    weighted_cluster_nms_boxes,
)
from .suppression.fast import fast_nms, fast_nms_mask
from .suppression.fusion import FusedBoxes, PaddedFusedBoxes, weighted_boxes_fusion, weighted_boxes_fusion_padded
from .suppression.greedy import batched_nms, nms, nms_mask
from .suppression.groups import nms_groups
from .suppression.matrix import matrix_nms, matrix_nms_scores
from .suppression.merge import MergedBoxes, non_max_merge
from .suppression.rescoring import RescoredBoxes
from .suppression.select import TopScores, top_scores
from .suppression.soft import soft_nms, soft_nms_scores

__all__ = [
    "AnchorResult",
    "Backend",
    "BatchNorm",
    "BatchNormGrad",
    "BatchStats",
    "FusedBoxes",
    "KMeansAssignment",
    "KMeansPartial",
    "KMeansResult",
    "KMeansSeeds",
    "KMeansStep",
    "LikelihoodRatio",
    "LogisticLoss",
    "LogisticPartial",
    "LogisticReport",
    "LogisticResult",
    "LogisticStep",
    "LossAndGrad",
    "MergedBoxes",
    "PaddedFusedBoxes",
    "RescoredBoxes",
    "RescoredInPlace",
    "Support",
    "SupportLimit",
    "TopScores",
    "WeightedBoxes",
    "__version__",
    "anchor_boxes",
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
    "cluster_nms",
    "cluster_nms_scores",
    "fast_nms",
    "fast_nms_mask",
    "keypoint_similarity",
    "kmeans",
    "kmeans_assign",
    "kmeans_merge",
    "kmeans_partial",
    "kmeans_plusplus",
    "kmeans_step",
    "logistic_log_proba",
    "logistic_loss",
    "logistic_merge",
    "logistic_partial",
    "logistic_predict_proba",
    "logistic_regression",
    "logistic_step",
    "mask_iou",
    "masks_to_boxes",
    "matrix_nms",
    "matrix_nms_scores",
    "merge_batch_stats",
    "minibatch_kmeans",
    "nms",
    "nms_groups",
    "nms_mask",
    "non_max_merge",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_and_grad",
    "soft_nms",
    "soft_nms_scores",
    "softmax_focal_loss",
    "softmax_focal_loss_and_grad",
    "support",
    "top_scores",
    "weighted_boxes_fusion",
    "weighted_boxes_fusion_padded",
    "weighted_cluster_nms",
    "weighted_cluster_nms_boxes",
]

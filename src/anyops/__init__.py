"""Detection and classic machine-learning algorithms on arrays of any library.

Every function takes arrays of one library (NumPy, CuPy, PyTorch, JAX, ...) and returns arrays of that library, on the
same device. The documentation lists their common conventions.

Boxes, masks, keypoints
    box_area                      area of boxes, polygons and other regions
    box_convert                   boxes in another format
    box_iou                       overlap of boxes or other regions: IoU, GIoU, DIoU, CIoU and more
    clip_boxes                    boxes cut off at the border of the image
    mask_iou                      overlap of masks
    masks_to_boxes                the smallest box around each mask
    keypoint_similarity           object keypoint similarity (OKS) of poses

Non-maximum suppression; names in _mask, _scores, _boxes, _padded have fixed shapes, for jit, vmap and compile
    nms                           greedy NMS: the boxes that are kept
    nms_mask                      whether greedy NMS keeps each box
    batched_nms                   greedy NMS within each class, called as in torchvision
    nms_groups                    which kept box stands for each box
    non_max_merge                 each kept box merged with those that it suppresses
    soft_nms                      Soft-NMS: scores fall where boxes overlap
    soft_nms_scores               scores by Soft-NMS
    fast_nms                      Fast NMS: suppressed boxes suppress others too
    fast_nms_mask                 whether Fast NMS keeps each box
    cluster_nms                   Cluster-NMS, with or without penalties on scores
    cluster_nms_scores            scores by Cluster-NMS
    weighted_cluster_nms          Cluster-NMS that averages overlapping boxes
    weighted_cluster_nms_boxes    averaged boxes and scores by Cluster-NMS
    matrix_nms                    Matrix NMS: scores fall by the best rival
    matrix_nms_scores             scores by Matrix NMS
    weighted_boxes_fusion         boxes of one or several models averaged
    weighted_boxes_fusion_padded  averaged boxes with padding
    top_scores                    the best scores of each row, padded

Losses
    sigmoid_focal_loss            focal loss of independent binary classifications
    sigmoid_focal_loss_and_grad   with its gradient, without automatic differentiation
    softmax_focal_loss            focal loss of one class of several
    softmax_focal_loss_and_grad   with its gradient, without automatic differentiation
    box_iou_loss                  1 − overlap of predicted boxes and their targets

Batch norm
    batch_norm                    normalised channels, and the new running state
    batch_norm_grad               the gradient, without automatic differentiation
    batch_stats                   count, mean and sum of squares of each channel
    merge_batch_stats             statistics of two parts together

k-means
    kmeans                        centres and labels of samples
    minibatch_kmeans              centres of a stream of batches
    anchor_boxes                  anchor sizes for a detector
    kmeans_plusplus               samples to start from
    kmeans_assign                 the closest centre of each sample
    kmeans_step                   one step of Lloyd's iteration, in fixed shapes
    kmeans_partial                sums of a part of the samples
    kmeans_merge                  sums of two parts together

Logistic regression
    logistic_regression           coefficients, standard errors, whether classes are separated
    logistic_predict_proba        probabilities of the classes
    logistic_log_proba            logarithms of the probabilities
    logistic_loss                 mean loss and its gradient
    logistic_step                 one step of Newton's method, in fixed shapes
    logistic_partial              loss, gradient and Hessian of a part of the rows
    logistic_merge                sums of two parts together

What there is
    backends                      the array libraries that are installed
    support                       which function runs where, and why not

Submodules: anyops.estimators has KMeans and LogisticRegression with the interface of scikit-learn; anyops.onnx exports
functions of torch as ONNX models.
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

"""The suppression variants of the command, and the options of each."""

import inspect
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import anyops

from ..boxes.regions import FORMATS
from .errors import CommandError


class Method(StrEnum):
    """Variants of suppression."""

    NMS = "nms"
    SOFT = "soft"
    FAST = "fast"
    CLUSTER = "cluster"
    WEIGHTED = "weighted"
    MATRIX = "matrix"
    WBF = "wbf"

    @property
    def function(self) -> str:
        """Name in :mod:`anyops` of the function that computes it."""
        return _FUNCTIONS[self]


class OverlapKind(StrEnum):
    """Overlap measures, as in :func:`anyops.box_iou`."""

    IOU = "iou"
    IOF = "iof"
    IOS = "ios"
    GIOU = "giou"
    DIOU = "diou"
    CIOU = "ciou"
    PROBIOU = "probiou"


class BoxFormat(StrEnum):
    """The meaning of the numbers of a box, as in :func:`anyops.box_convert`."""

    XYWH = "xywh"
    XYXY = "xyxy"
    CXCYWH = "cxcywh"
    CXCYWHR = "cxcywhr"
    XYWHR = "xywhr"
    XYXYXYXY = "xyxyxyxy"


class Decay(StrEnum):
    """How Soft-NMS lowers scores, as in :func:`anyops.soft_nms`."""

    GAUSSIAN = "gaussian"
    LINEAR = "linear"
    HARD = "hard"


class Kernel(StrEnum):
    """How Matrix NMS lowers scores, as in :func:`anyops.matrix_nms`."""

    GAUSSIAN = "gaussian"
    LINEAR = "linear"


class Penalty(StrEnum):
    """How Cluster-NMS lowers scores instead of cutting boxes, as in :func:`anyops.cluster_nms`."""

    SCORE = "score"
    SCORE_DISTANCE = "score+distance"


class ConfType(StrEnum):
    """Scores of fused boxes, as in :func:`anyops.weighted_boxes_fusion`."""

    AVG = "avg"
    MAX = "max"
    BOX_AND_MODEL_AVG = "box_and_model_avg"
    ABSENT_MODEL_AWARE_AVG = "absent_model_aware_avg"


_FUNCTIONS = {
    Method.NMS: "nms",
    Method.SOFT: "soft_nms",
    Method.FAST: "fast_nms",
    Method.CLUSTER: "cluster_nms",
    Method.WEIGHTED: "weighted_cluster_nms",
    Method.MATRIX: "matrix_nms",
    Method.WBF: "weighted_boxes_fusion",
}

_ALL_BUT_WBF = tuple(method for method in Method if method != Method.WBF)

# Options of all methods are not listed.
_BELONGS_TO: dict[str, tuple[Method, ...]] = {
    "iou_threshold": tuple(method for method in Method if method != Method.MATRIX),
    "class_agnostic": _ALL_BUT_WBF,
    "kind": _ALL_BUT_WBF,
    "fmt": tuple(method for method in _ALL_BUT_WBF if method != Method.WEIGHTED),
    "decay": (Method.SOFT,),
    "sigma": (Method.SOFT, Method.CLUSTER, Method.WEIGHTED, Method.MATRIX),
    "penalty": (Method.CLUSTER, Method.WEIGHTED),
    "kernel": (Method.MATRIX,),
    "conf_type": (Method.WBF,),
    "model_weight": (Method.WBF,),
    "model_field": (Method.WBF,),
}

# Options that only have an effect for some values of another option.
_ACTS_WITH: dict[tuple[str, Method], tuple[str, tuple[str, ...]]] = {
    ("iou_threshold", Method.SOFT): ("decay", (Decay.LINEAR, Decay.HARD)),
    ("sigma", Method.SOFT): ("decay", (Decay.GAUSSIAN,)),
    ("sigma", Method.CLUSTER): ("penalty", tuple(Penalty)),
    ("sigma", Method.WEIGHTED): ("penalty", tuple(Penalty)),
    ("sigma", Method.MATRIX): ("kernel", (Kernel.GAUSSIAN,)),
}


def check_options(method: Method, given: Mapping[str, Any]) -> None:
    """Raise for options that would have no effect: of other methods, or of other decays, kernels or penalties."""
    for name in given:
        owners = _BELONGS_TO.get(name, tuple(Method))
        if method not in owners:
            raise CommandError(f"{flag(name)}: belongs to --method {_listed(owners)}, not to {method}")
        other, values = _ACTS_WITH.get((name, method), ("", ()))
        if other:
            value = given.get(other, _default(method, other))
            if value not in values:
                expected = f"{flag(other)} {_listed(values)}"
                got = "none" if value is None else value
                raise CommandError(f"{flag(name)}: with --method {method} it needs {expected}, got {got}")
    _check_measure(given.get("fmt", BoxFormat.XYWH), given)


def _check_measure(fmt: str, given: Mapping[str, Any]) -> None:
    """Raise if boxes of a format do not have the kind of overlap, or the penalty by distance."""
    geometry = FORMATS[fmt].geometry
    if given.get("kind", OverlapKind.IOU) not in geometry.kinds:
        raise CommandError(f"--kind: expected {_listed(geometry.kinds)} for --fmt {fmt}, got {given['kind']}")
    if given.get("penalty") == Penalty.SCORE_DISTANCE and geometry.distance is None:
        raise CommandError(f"--penalty: expected {Penalty.SCORE} for --fmt {fmt}, got {given['penalty']}")


def flag(name: str) -> str:
    """Name an option as it is typed."""
    return "--" + name.replace("_", "-")


def _listed(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _default(method: Method, name: str) -> Any:
    return inspect.signature(getattr(anyops, method.function)).parameters[name].default

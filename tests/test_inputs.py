"""Invalid arguments are refused at once, by an error with the argument's name, the expectation and the given value."""

import importlib.util
import re
from inspect import Parameter, signature

import numpy as np
import pytest

import anyops
from tests import scenes
from tests.backends import Backend
from tests.examples import AREAS, POSES, SIGMAS, example
from tests.suppression.family import MEMBERS

BOXES, SCORES = scenes.spread(5)
LIST = BOXES.tolist()
NAN = float("nan")
CLASSES, STATE = np.arange(5) % 4, np.ones(4, np.float32)

ALSO = {"idxs": "labels"}
STATISTICS = ("merge_batch_stats", "logistic_merge", "kmeans_merge")  # ops of partial results


def arrays_of(name):
    """The array parameters of an op, and arguments for a call."""
    op, args = getattr(anyops, name), example(name)[1:]
    parameters = signature(op).parameters
    given = CALLED[name] if name in CALLED else dict(zip(parameters, args, strict=False))
    optional = [
        p for p in ("labels", "scenes", "valid", "overlaps", "sample_weight") if p in parameters and p not in given
    ]
    return [p for p, x in given.items() if isinstance(x, np.ndarray)] + optional, given


# Ops whose example calls them with other arguments than its own.
CALLED = {
    "non_max_merge": {"boxes": BOXES, "scores": SCORES},
    "keypoint_similarity": {"keypoints1": POSES[:3], "keypoints2": POSES[3:], "areas": AREAS, "sigmas": SIGMAS},
    "batch_norm": {"x": BOXES, "running_mean": STATE, "running_var": STATE},
    "minibatch_kmeans": {"batches": [BOXES], "k": 2},
    "kmeans": {"x": BOXES, "k": 2},
    "kmeans_plusplus": {"x": BOXES, "k": 2},
    "anchor_boxes": {"wh": BOXES[:, :2] + 9, "k": 2},
}
OPEN = [(name, parameter) for name in anyops.support() if name not in STATISTICS for parameter in arrays_of(name)[0]]
NO_ARRAYS = [
    (LIST, "list"),
    (tuple(map(tuple, LIST)), "tuple"),
    ("boxes", "str"),
    (b"boxes", "bytes"),
    (1.5, "float"),
    (np.ma.masked_array(BOXES), "MaskedArray"),
    (BOXES.view(np.matrix), "matrix"),
    ({"boxes": LIST}, "dict"),
    (object(), "object"),
]


# Hints after the name of the class, for lists, and for frames and columns of pandas, polars and similar libraries.
FRAMES = {
    "pandas": (
        lambda m: m.DataFrame({"a": [1, 2], "b": ["x", None]}),
        r"pandas\.DataFrame; pass NAME\.to_numpy\(float\); anyops\.estimators take data frames$",
    ),
    "pandas column": (lambda m: m.Series([1, 2]), r"pandas\.Series; pass NAME\.to_numpy\(\)$"),
    "polars": (
        lambda m: m.DataFrame({"a": [1, 2]}),
        r"polars\.DataFrame; pass NAME\.to_numpy\(\); anyops\.estimators take data frames$",
    ),
    "polars column": (lambda m: m.Series([1, 2]), r"polars\.Series; pass NAME\.to_numpy\(\)$"),
    "builtins": (lambda m: [[1, 2]], r"list; numpy\.asarray\(NAME\) makes one$"),
}


@pytest.mark.parametrize(("library", "of"), FRAMES.items(), ids=FRAMES)
def test_frames_and_lists_are_told_what_to_write(library, of):
    value, message = of[0](pytest.importorskip(library.partition(" ")[0])), of[1]
    for name, parameter in [*OPEN, ("minibatch_kmeans", "batches")]:
        given = arrays_of(name)[1] | {parameter: [(value,)] if parameter == "batches" else value}
        if parameter == "overlaps" and "weighted" not in name:
            given["boxes"] = None
        called = "batch_0" if parameter == "batches" else f"({parameter}|{ALSO.get(parameter, parameter)})"
        with pytest.raises(TypeError, match=message.replace("NAME", called)):
            getattr(anyops, name)(**given)


def test_a_frame_of_dask_is_told_what_to_write():
    class DataFrame:
        to_dask_array = None

    with pytest.raises(TypeError, match=r"got tests\.DataFrame; pass x\.to_dask_array\(lengths=True\)$"):
        anyops.kmeans(DataFrame(), 2)


def test_a_frame_is_no_stream_of_batches():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match=r"batches must be an iterable of .* got pandas\.DataFrame; pass \.to_numpy"):
        anyops.minibatch_kmeans(pandas.DataFrame(BOXES), 2)


@pytest.mark.parametrize(("value", "came"), NO_ARRAYS, ids=[came for _, came in NO_ARRAYS])
@pytest.mark.parametrize(("name", "parameter"), OPEN)
def test_no_array(name, parameter, value, came):
    given = arrays_of(name)[1] | {parameter: value}
    if parameter == "overlaps" and "weighted" not in name:
        given["boxes"] = None
    with pytest.raises(TypeError, match=rf"(?s)\b({parameter}|{ALSO.get(parameter, parameter)})\b.*{came}"):
        getattr(anyops, name)(**given)


@pytest.mark.parametrize(("name", "parameter"), OPEN)
def test_tensors_of_other_layouts(name, parameter):
    """Sparse and nested tensors are refused; a tensor with the negative bit works."""
    torch = pytest.importorskip("torch")
    given = {k: torch.asarray(x) if isinstance(x, np.ndarray) else x for k, x in arrays_of(name)[1].items()}
    if "batches" in given:
        given["batches"] = [torch.asarray(x) for x in given["batches"]]
    if parameter not in given:
        given[parameter] = torch.eye(8)
    match = rf"\b({parameter}|{ALSO.get(parameter, parameter)})\b.* must be a dense tensor, got a"
    x = given[parameter]
    if parameter == "overlaps" and "weighted" not in name:
        given["boxes"] = None
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged)
    for wrong in (torch.zeros(x.shape).to_sparse(), nested):
        with pytest.raises(TypeError, match=match):
            getattr(anyops, name)(**given | {parameter: wrong})
    if parameter in arrays_of(name)[1] and x.is_floating_point():
        seed = {"seed": 0} if "seed" in signature(getattr(anyops, name)).parameters else {}
        results = [getattr(anyops, name)(**given | seed | {parameter: y}) for y in (x, torch._neg_view(-x))]
        first = [y[0] if isinstance(y, tuple) else y for y in results]
        torch.testing.assert_close(*first)


REQUIRED = [
    (name, parameter)
    for name, parameter in OPEN
    if signature(getattr(anyops, name)).parameters[parameter].default is Parameter.empty
]


@pytest.mark.parametrize(("name", "parameter"), REQUIRED)
def test_none_is_no_array(name, parameter):
    with pytest.raises(TypeError, match=rf"\b({parameter}|{ALSO.get(parameter, parameter)})\b.*(None|NoneType)"):
        getattr(anyops, name)(**arrays_of(name)[1] | {parameter: None})


@pytest.mark.parametrize("name", STATISTICS)
def test_only_partial_results_are_merged(name):
    _, *arrays = example({"merge_batch_stats": "batch_stats"}.get(name, name.replace("merge", "partial")))
    part = {
        "merge_batch_stats": lambda: anyops.batch_stats(*arrays),
        "logistic_merge": lambda: anyops.logistic_partial(*arrays),
        "kmeans_merge": lambda: anyops.kmeans_partial(*arrays),
    }[name]()
    for wrong in (None, tuple(part), [part], arrays[0]):
        for given, which in (((wrong, part), "a"), ((part, wrong), "b")):
            with pytest.raises(
                TypeError, match=rf"^{which} must be a {type(part).__name__}, got {type(wrong).__name__}"
            ):
                getattr(anyops, name)(*given)


# (call with the backend's arrays b, s; error; text in the message)
CALLS = {
    "area of (5, 3)": (lambda b, s: anyops.box_area(b[:, :3]), "boxes", "(5, 3)"),
    "area of a scalar": (lambda b, s: anyops.box_area(b[0, 0]), "boxes", "()"),
    "convert (5, 3)": (lambda b, s: anyops.box_convert(b[:, :3], "xyxy", "xywh"), "boxes", "(5, 3)"),
    "in_fmt": (lambda b, s: anyops.box_convert(b, "xxyy", "xywh"), "in_fmt", "xxyy"),
    "out_fmt": (lambda b, s: anyops.box_convert(b, "xyxy", "ltrb"), "out_fmt", "ltrb"),
    "clip (5, 3)": (lambda b, s: anyops.clip_boxes(b[:, :3], (3, 4)), "boxes", "(5, 3)"),
    "size of three": (lambda b, s: anyops.clip_boxes(b, (3, 4, 5)), "size", "3, 4, 5"),
    "size negative": (lambda b, s: anyops.clip_boxes(b, (-3, 4)), "size", "-3"),
    "size of a bool": (lambda b, s: anyops.clip_boxes(b, (3, b[0, 0] > 0)), "size", "bool"),
    "size complex": (lambda b, s: anyops.clip_boxes(b, (3, 1j)), "size", "complex"),
    "size NaN": (lambda b, s: anyops.clip_boxes(b, (NAN, 4)), "size", "nan"),
    "masks of rank 2": (lambda b, s: anyops.masks_to_boxes(b > 0), "masks", "(5, 4)"),
    "iou of (5, 3)": (lambda b, s: anyops.box_iou(b[:, :3], b), "boxes1", "(5, 3)"),
    "iou with (5, 3)": (lambda b, s: anyops.box_iou(b, b[:, :3]), "boxes2", "(5, 3)"),
    "pairwise iou of one box": (lambda b, s: anyops.box_iou(b[0, :], b), "boxes1", "(4,)"),
    "pairwise iou with one box": (lambda b, s: anyops.box_iou(b, b[0, :]), "boxes2", "(4,)"),
    "iou of 5 and 3": (lambda b, s: anyops.box_iou(b, b[:3, :], pairwise=False), "boxes2", "(5,) and (3,)"),
    "iou batches": (lambda b, s: anyops.box_iou(_stack(b, 2), _stack(b, 3)), "boxes2", "(2,) and (3,)"),
    "kind": (lambda b, s: anyops.box_iou(b, b, kind="siou"), "kind", "siou"),
    "kind upper": (lambda b, s: anyops.box_iou(b, b, kind="IoU"), "kind", "IoU"),
    "mask ranks": (lambda b, s: anyops.mask_iou(b > 0, b > 0), "masks1", "(5, 4)"),
    "mask sizes": (lambda b, s: anyops.mask_iou(_stack(b, 2) > 0, _stack(b[:3, :], 2) > 0), "masks2", "(2, 3, 4)"),
    "mask kind": (lambda b, s: anyops.mask_iou(_stack(b, 2) > 0, _stack(b, 2) > 0, kind="giou"), "kind", "giou"),
    "poses (5, 4)": (
        lambda b, s: anyops.keypoint_similarity(b, _stack(b, 2)[:, :, :2], s[:2], sigmas=[1] * 5),
        "keypoints1",
        "(5, 4)",
    ),
    "poses of four numbers": (
        lambda b, s: anyops.keypoint_similarity(_stack(b, 2)[:, :, :2], _stack(b, 2), s[:2], sigmas=[1] * 5),
        "keypoints2",
        "(2, 5, 4)",
    ),
    "poses of 3 keypoints": (lambda b, s: _poses_compared(b[:3, :], b, s[:2]), "keypoints2", "got 5"),
    "areas of the first": (lambda b, s: _poses_compared(b, b, s), "areas", "(5,)"),
    "batches of poses": (
        lambda b, s: anyops.keypoint_similarity(
            _stack(_stack(b[:, :2], 1), 3), _stack(_stack(b[:, :2], 1), 2), _stack(s[:1], 2), sigmas=[1] * 5
        ),
        "keypoints2",
        "(3,) and (2,)",
    ),
    "sigmas (3,)": (lambda b, s: _poses_compared(b, b, s[:2], [1, 1, 1]), "sigmas", "(3,)"),
    "sigmas of 0": (lambda b, s: _poses_compared(b, b, s[:2], [1, 1, 0, 1, 1]), "sigmas", "0.0"),
    "sigmas NaN": (lambda b, s: _poses_compared(b, b, s[:2], [1, NAN, 1, 1, 1]), "sigmas", "nan"),
    "nms of (5, 3)": (lambda b, s: anyops.nms(b[:, :3], s), "boxes", "(5, 3)"),
    "nms of one box": (lambda b, s: anyops.nms(b[0, :], s), "boxes", "(4,)"),
    "nms N": (lambda b, s: anyops.nms(b, s[:3]), "scores", "(3,)"),
    "nms scores (5, 1)": (lambda b, s: anyops.nms(b, s[:, None]), "scores", "(5, 1)"),
    "nms labels": (lambda b, s: anyops.nms(b, s, labels=_ints(s)[:3]), "labels", "(3,)"),
    "scenes of a batch": (
        lambda b, s: anyops.nms(_stack(b, 2), _stack(s, 2), scenes=_ints(_stack(s, 2))),
        "scenes",
        "(2, 5",
    ),
    "merged scenes": (lambda b, s: anyops.non_max_merge(b, s, scenes=_ints(s)[:3]), "scenes", "(3,)"),
    "nms batch": (lambda b, s: anyops.nms(_stack(b, 2), _stack(s, 2)), "nms_mask", "(2, 5"),
    "nms batch of overlaps": (lambda b, s: anyops.nms(None, _stack(s, 2), overlaps=_square(b, 2)), "nms_mask", "(2, 5"),
    "batched_nms batch": (
        lambda b, s: anyops.batched_nms(_stack(b, 2), _stack(s, 2), _ints(_stack(s, 2)), 0.5),
        "nms_mask",
        "(2, 5",
    ),
    "batched_nms idxs": (lambda b, s: anyops.batched_nms(b, s, _ints(s)[:3], 0.5), "idxs", "(3,)"),
    "overlaps (5, 4)": (lambda b, s: anyops.nms(None, s, overlaps=b), "overlaps", "(5, 4)"),
    "overlaps (4, 4)": (lambda b, s: anyops.nms(None, s, overlaps=b[:4, :]), "overlaps", "(4, 4)"),
    "threshold negative": (lambda b, s: anyops.nms(b, s, -0.1), "iou_threshold", "-0.1"),
    "threshold 1.5": (lambda b, s: anyops.nms(b, s, 1.5), "iou_threshold", "1.5"),
    "threshold 50": (lambda b, s: anyops.nms(b, s, 50), "iou_threshold", "50"),
    "threshold NaN": (lambda b, s: anyops.nms(b, s, NAN), "iou_threshold", "nan"),
    "threshold inf": (lambda b, s: anyops.nms(b, s, float("inf")), "iou_threshold", "inf"),
    "score_threshold NaN": (lambda b, s: anyops.nms(b, s, score_threshold=NAN), "score_threshold", "nan"),
    "score_threshold negative": (lambda b, s: anyops.nms(b, s, score_threshold=-0.5), "score_threshold", "-0.5"),
    "max_output": (lambda b, s: anyops.nms(b, s, max_output=-1), "max_output", "-1"),
    "nms kind": (lambda b, s: anyops.nms(b, s, kind="soft"), "kind", "soft"),
    "mask of (5, 3)": (lambda b, s: anyops.nms_mask(b[:, :3], s), "boxes", "(5, 3)"),
    "boxes without the batch": (lambda b, s: anyops.nms_mask(b, _stack(s, 3)), "boxes", "(5, 4)"),
    "labels without the batch": (
        lambda b, s: anyops.nms_mask(_stack(b, 3), _stack(s, 3), labels=_ints(s)),
        "labels",
        "(5,)",
    ),
    "mask N": (lambda b, s: anyops.nms_mask(b, s[:3]), "scores", "(3,)"),
    "mask labels": (lambda b, s: anyops.nms_mask(b, s, labels=_ints(s)[:3]), "labels", "(3,)"),
    "mask valid": (lambda b, s: anyops.nms_mask(b, s, valid=s[:3] > 0), "valid", "(3,)"),
    "mask overlaps": (lambda b, s: anyops.nms_mask(None, s, overlaps=b), "overlaps", "(5, 4)"),
    "mask threshold": (lambda b, s: anyops.nms_mask(b, s, 1.01), "iou_threshold", "1.01"),
    "mask threshold NaN": (lambda b, s: anyops.nms_mask(b, s, NAN), "iou_threshold", "nan"),
    "nms_mask kind": (lambda b, s: anyops.nms_mask(b, s, kind=""), "kind", "''"),
    "batched_nms threshold": (lambda b, s: anyops.batched_nms(b, s, _ints(s), -1), "iou_threshold", "-1"),
    "top k > N": (lambda b, s: anyops.top_scores(s, 6), "max_output", "6"),
    "top k < 0": (lambda b, s: anyops.top_scores(s, -1), "max_output", "-1"),
    "top of a scalar": (lambda b, s: anyops.top_scores(s[0], 1), "scores", "()"),
    "focal shapes": (anyops.sigmoid_focal_loss, "targets", "(5,)"),
    "focal alpha": (lambda b, s: anyops.sigmoid_focal_loss(b, b, alpha=1.5), "alpha", "1.5"),
    "focal alpha negative": (lambda b, s: anyops.sigmoid_focal_loss_and_grad(b, b, alpha=-1), "alpha", "-1"),
    "focal gamma": (lambda b, s: anyops.sigmoid_focal_loss(b, b, gamma=-0.5), "gamma", "-0.5"),
    "focal gamma NaN": (lambda b, s: anyops.sigmoid_focal_loss(b, b, gamma=NAN), "gamma", "nan"),
    "focal gamma inf": (lambda b, s: anyops.sigmoid_focal_loss(b, b, gamma=float("inf")), "gamma", "inf"),
    "focal reduction": (lambda b, s: anyops.sigmoid_focal_loss(b, b, reduction="avg"), "reduction", "avg"),
    "focal weights": (lambda b, s: anyops.sigmoid_focal_loss(b, b, sample_weight=s), "sample_weight", "(5,)"),
    "focal pos_weight": (lambda b, s: anyops.sigmoid_focal_loss(b, b, pos_weight=-0.5), "pos_weight", "-0.5"),
    "focal pos_weights": (lambda b, s: anyops.sigmoid_focal_loss_and_grad(b, b, pos_weight=s), "pos_weight", "(5,)"),
    "softmax weights": (
        lambda b, s: anyops.softmax_focal_loss(b, _ints(s), sample_weight=b),
        "sample_weight",
        "(5, 4)",
    ),
    "box loss weights": (lambda b, s: anyops.box_iou_loss(b, b, sample_weight=s[:4]), "sample_weight", "(4,)"),
    "softmax labels": (lambda b, s: anyops.softmax_focal_loss(b, _ints(s)[:3]), "labels", "(3,)"),
    "softmax labels of the other axis": (
        lambda b, s: anyops.softmax_focal_loss(b, _ints(s), axis=0),
        "labels",
        "(5,)",
    ),
    "softmax probabilities": (anyops.softmax_focal_loss, "labels", "(5,)"),
    "softmax of a scalar": (lambda b, s: anyops.softmax_focal_loss(s[0], _ints(s)[0]), "logits", "()"),
    "softmax of no class": (lambda b, s: anyops.softmax_focal_loss(b[:, :0], _ints(s)), "logits", "(5, 0)"),
    "softmax axis": (lambda b, s: anyops.softmax_focal_loss(b, _ints(s), axis=2), "axis", "2"),
    "softmax alpha": (lambda b, s: anyops.softmax_focal_loss(b, _ints(s), alpha=2), "alpha", "2"),
    "softmax alphas": (lambda b, s: anyops.softmax_focal_loss(b, _ints(s), alpha=s), "alpha", "(5,)"),
    "softmax three alphas": (lambda b, s: anyops.softmax_focal_loss(b, _ints(s), alpha=[1, 1, 1]), "alpha", "(3,)"),
    "softmax alpha below 0": (lambda b, s: anyops.softmax_focal_loss(b, _ints(s), alpha=(1, 1, -1, 1)), "alpha", "-1"),
    "softmax gamma": (lambda b, s: anyops.softmax_focal_loss_and_grad(b, _ints(s), gamma=-1), "gamma", "-1"),
    "softmax smoothing": (
        lambda b, s: anyops.softmax_focal_loss(b, _ints(s), label_smoothing=1.1),
        "label_smoothing",
        "1.1",
    ),
    "softmax reduction": (lambda b, s: anyops.softmax_focal_loss(b, _ints(s), reduction=""), "reduction", "''"),
    "softmax ignores probabilities": (
        lambda b, s: anyops.softmax_focal_loss(b, b, ignore_index=3),
        "ignore_index",
        "3",
    ),
    "box loss shapes": (lambda b, s: anyops.box_iou_loss(b, b[:3, :]), "target", "(3, 4)"),
    "box loss (5, 3)": (lambda b, s: anyops.box_iou_loss(b[:, :3], b[:, :3]), "pred", "(5, 3)"),
    "box loss kind": (lambda b, s: anyops.box_iou_loss(b, b, kind="l1"), "kind", "l1"),
    "box loss reduction": (lambda b, s: anyops.box_iou_loss(b, b, reduction="max"), "reduction", "max"),
    "norm of a scalar": (lambda b, s: anyops.batch_norm(s[0], s, s), "x", "()"),
    "norm axis": (lambda b, s: anyops.batch_norm(b, b[0, :], b[0, :], axis=2), "axis", "2"),
    "norm axis of a vector": (lambda b, s: anyops.batch_norm(s, s, s), "axis", "1"),
    "norm mean": (lambda b, s: anyops.batch_norm(b, s, b[0, :]), "running_mean", "(5,)"),
    "norm var": (lambda b, s: anyops.batch_norm(b, b[0, :], s), "running_var", "(5,)"),
    "norm integer state": (lambda b, s: anyops.batch_norm(b, _ints(b[0, :]), b[0, :]), "running_mean", "int32"),
    "norm weight": (lambda b, s: anyops.batch_norm(b, b[0, :], b[0, :], s), "weight", "(5,)"),
    "norm bias": (lambda b, s: anyops.batch_norm(b, b[0, :], b[0, :], None, b), "bias", "(5, 4)"),
    "norm eps": (lambda b, s: anyops.batch_norm(b, b[0, :], b[0, :], eps=-1e-5), "eps", "-1e-05"),
    "norm momentum": (lambda b, s: anyops.batch_norm(b, b[0, :], b[0, :], momentum=NAN), "momentum", "nan"),
    "norm correction": (lambda b, s: anyops.batch_norm(b, b[0, :], b[0, :], correction=-1), "correction", "-1"),
    "norm weights": (lambda b, s: anyops.batch_norm(b, b[0, :], b[0, :], sample_weight=s[:4]), "sample_weight", "(4,)"),
    "norm weights of channels": (lambda b, s: anyops.batch_stats(b, sample_weight=b), "sample_weight", "(5, 4)"),
    "norm scalar weight": (lambda b, s: anyops.batch_stats(b, sample_weight=s[0]), "sample_weight", "()"),
    "norm grad": (lambda b, s: anyops.batch_norm_grad(b[:3, :], b), "dy", "(3, 4)"),
    "norm grad state": (lambda b, s: anyops.batch_norm_grad(b, b, training=False), "running_mean", "None"),
    "stats of other channels": (
        lambda b, s: anyops.merge_batch_stats(anyops.batch_stats(b), anyops.batch_stats(b[:, :3])),
        "channels",
        "(3,)",
    ),
    "top threshold NaN": (lambda b, s: anyops.top_scores(s, 1, score_threshold=NAN), "score_threshold", "nan"),
}


# Each op of the index form, with its static form, and the arguments after boxes and scores.
WORDS = {
    "decay": ("gaussian", "linear", "hard"),
    "kernel": ("gaussian", "linear"),
    "penalty": ("score", "score+distance"),
}
FAMILY = {m.index: anyops.support()[m.index].static for m in MEMBERS if m.index != "nms"}
VALUES = {
    "iou_threshold": (-0.1, 1.5, 50, NAN, float("inf")),
    "sigma": (0, 0.0, -1, NAN),
    "score_threshold": (-0.5, NAN),
    "max_output": (-1,),
    "kind": ("soft", "IoU", ""),
    "decay": ("exponential", "Linear", ""),
    "kernel": ("hard", "Gaussian", ""),
    "penalty": ("distance", "Score", ""),
}
TYPES = {
    "iou_threshold": ("0.5", None),
    "sigma": ("0.5", None, True),
    "score_threshold": ("0",),
    "max_output": (2.5, "2"),
    "kind": (None, 3),
    "decay": (None, 3),
    "kernel": (None, 3),
    "penalty": (False, 3),
}
BOTH = [*FAMILY, *(static for static in FAMILY.values() if static != "nms_mask")]
OPTIONS = {name: VALUES.keys() & signature(getattr(anyops, name)).parameters.keys() for name in BOTH}
BY_NAME = pytest.mark.parametrize(("name", "options"), OPTIONS.items(), ids=BOTH)


def refused(argument, came, call):
    """The call raises at once, with the argument's name and the given value."""
    with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b") as error:
        call()
    assert came in str(error.value)
    return str(error.value)


@BY_NAME
def test_wrong_options_of_the_family(name, options):
    op = getattr(anyops, name)
    for option in options:
        for value in VALUES[option]:
            said = refused(option, str(value), lambda option=option, value=value: op(BOXES, SCORES, **{option: value}))
            assert all(word in said for word in WORDS.get(option, ()))
        for value in TYPES[option]:
            came = str(value) if option in ("kind", *WORDS) else type(value).__name__
            refused(option, came, lambda option=option, value=value: op(BOXES, SCORES, **{option: value}))
    for foreign in {"decay", "kernel", "penalty", "sigma", "max_output"} - options:
        with pytest.raises(TypeError, match=foreign):
            op(BOXES, SCORES, **{foreign: 1})


@BY_NAME
def test_wrong_shapes_of_the_family(backend, name, options):
    op, b, s = getattr(anyops, name), backend.asarray(BOXES), backend.asarray(SCORES)
    refused("boxes", "(5, 3)", lambda: op(b[:, :3], s))
    refused("boxes", "(4,)", lambda: op(b[0, :], s))
    refused("boxes", "None", lambda: op(None, s))
    refused("scores", "(3,)", lambda: op(b, s[:3]))
    refused("scores", "()", lambda: op(b, s[0]))
    column = r"scores must have shape \(5,\) for {} of shape \(5, {}\), got \(5, 1\)"
    with pytest.raises(ValueError, match=column.format("boxes", 4)):
        op(b, s[:, None], labels=_ints(s)[:, None])
    if "weighted" not in name:
        with pytest.raises(ValueError, match=column.format("overlaps", 5)):
            op(None, s[:, None], overlaps=s[:, None] * s)
    for argument, x in {"labels": _ints(s), **({} if name in FAMILY else {"valid": s > 0})}.items():
        said = refused(argument, "(5, 1)", lambda argument=argument, x=x: op(b, s, **{argument: x[:, None]}))
        assert said.startswith(f"{argument} must have shape (5,)")
    refused("labels", "(3,)", lambda: op(b, s, labels=_ints(s)[:3]))
    if name in FAMILY:
        refused("scenes", "(3,)", lambda: op(b, s, scenes=_ints(s)[:3]))
        refused("scenes", "float32", lambda: op(b, s, scenes=s))
    refused("overlaps", "(5, 4)", lambda: op(b, s, overlaps=b))
    refused("overlaps", "(4, 4)", lambda: op(b, s, overlaps=b[:4, :]))
    if name not in FAMILY:
        refused("valid", "(3,)", lambda: op(b, s, valid=s[:3] > 0))
        refused("valid", "float32", lambda: op(b, s, valid=s))
        refused("boxes", "(5, 4)", lambda: op(b, _stack(s, 3)))


@pytest.mark.parametrize("name", FAMILY)
def test_batches_belong_to_the_static_form(backend, name):
    op, static = getattr(anyops, name), FAMILY[name]
    boxes, scores = _stack(backend.asarray(BOXES), 2), _stack(backend.asarray(SCORES), 2)
    refused(static, "(2, 5", lambda: op(boxes, scores))
    if "weighted" not in name:
        refused(static, "(2, 5", lambda: op(None, scores, overlaps=_square(boxes[0, ...], 2)))


@pytest.mark.parametrize("name", FAMILY)
def test_under_a_transform_the_error_names_the_static_form(backend, name):
    op, static = getattr(anyops, name), FAMILY[name]
    b, s = backend.asarray(BOXES), backend.asarray(SCORES)
    match backend.library:
        case "jax":
            import jax

            with pytest.raises(TypeError, match=static):
                jax.jit(op)(b, s)
        case "torch":
            import torch

            with pytest.raises(TypeError, match=static):
                torch.func.vmap(op)(_stack(b, 2), _stack(s, 2))
        case "dask":  # static forms do not support it either
            with pytest.raises(TypeError, match="compute the array first"):
                op(b, s)
        case _:
            pytest.skip(f"{backend.library} has no transform")


def test_without_boxes_there_is_nothing_to_fuse_and_no_distance(backend):
    s = backend.asarray(SCORES)
    overlaps = s[:, None] * s
    for op in (anyops.weighted_cluster_nms, anyops.weighted_cluster_nms_boxes):
        refused("boxes", "None", lambda op=op: op(None, s, overlaps=overlaps))
    for op in (anyops.cluster_nms, anyops.cluster_nms_scores):
        refused("boxes", "None", lambda op=op: op(None, s, overlaps=overlaps, penalty="score+distance"))


def _xp(x):
    import array_api_compat

    return array_api_compat.array_namespace(x)


def _stack(x, n):
    return _xp(x).stack([x] * n)


def _poses_compared(one, other, areas, sigmas=(1, 1, 1, 1, 1)):
    """Two poses per argument, with a keypoint for each row."""
    return anyops.keypoint_similarity(_stack(one[:, :2], 2), _stack(other[:, :2], 2), areas, sigmas=sigmas)


def _square(b, n):
    return _stack(_xp(b).concat([b, b[:, :1]], axis=1), n)


def _ints(s):
    return _xp(s).astype(s * 10, _xp(s).int32)


@pytest.mark.parametrize(("call", "argument", "came"), CALLS.values(), ids=CALLS)
def test_wrong_shape_or_value(backend, call, argument, came):
    b, s = backend.asarray(BOXES), backend.asarray(SCORES)
    with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b") as error:
        call(b, s)
    assert came in str(error.value)


WRONG_TYPES = {
    "kind None": (lambda: anyops.box_iou(BOXES, BOXES, kind=None), "kind", "None"),
    "threshold str": (lambda: anyops.nms(BOXES, SCORES, "0.5"), "iou_threshold", "0.5|str"),
    "threshold None": (lambda: anyops.nms(BOXES, SCORES, None), "iou_threshold", "None"),
    "threshold array": (lambda: anyops.nms(BOXES, SCORES, SCORES), "iou_threshold", "array"),
    "threshold mask str": (lambda: anyops.nms_mask(BOXES, SCORES, "0.5"), "iou_threshold", "0.5|str"),
    "score_threshold str": (lambda: anyops.nms(BOXES, SCORES, score_threshold="0"), "score_threshold", "0|str"),
    "max_output float": (lambda: anyops.nms(BOXES, SCORES, max_output=2.5), "max_output", "2.5|float"),
    "top max_output float": (lambda: anyops.top_scores(SCORES, 2.0), "max_output", "2.0|float"),
    "top max_output None": (lambda: anyops.top_scores(SCORES, None), "max_output", "None"),
    "size int": (lambda: anyops.clip_boxes(BOXES, 5), "size", "5|int"),
    "complex boxes": (lambda: anyops.box_area(BOXES + 0j), "boxes", "complex"),
    "complex scores": (lambda: anyops.nms(BOXES, SCORES + 0j), "scores", "complex"),
    "strings": (lambda: anyops.box_area(BOXES.astype(str)), "boxes", "<U|str"),
    "objects": (lambda: anyops.box_area(BOXES.astype(object)), "boxes", "object"),
    "focal alpha str": (lambda: anyops.sigmoid_focal_loss(SCORES, SCORES, alpha="balanced"), "alpha", "str"),
    "focal alphas": (lambda: anyops.sigmoid_focal_loss(SCORES, SCORES, alpha=SCORES), "alpha", "ndarray"),
    "focal gamma None": (lambda: anyops.sigmoid_focal_loss(SCORES, SCORES, gamma=None), "gamma", "None"),
    "focal gamma huge": (lambda: anyops.sigmoid_focal_loss(SCORES, SCORES, gamma=10**400), "gamma", "1329 bits"),
    "focal reduction None": (lambda: anyops.sigmoid_focal_loss(SCORES, SCORES, reduction=None), "reduction", "None"),
    "focal complex": (lambda: anyops.sigmoid_focal_loss(SCORES + 0j, SCORES), "logits", "complex"),
    "softmax bool labels": (lambda: anyops.softmax_focal_loss(BOXES, SCORES > 0), "labels", "bool"),
    "softmax axis float": (lambda: anyops.softmax_focal_loss(BOXES, CLASSES, axis=1.0), "axis", "float"),
    "softmax axis bool": (lambda: anyops.softmax_focal_loss(BOXES, CLASSES, axis=True), "axis", "bool"),
    "softmax ignore float": (
        lambda: anyops.softmax_focal_loss(BOXES, CLASSES, ignore_index=1.0),
        "ignore_index",
        "1|float",
    ),
    "softmax alpha str": (lambda: anyops.softmax_focal_loss(BOXES, CLASSES, alpha="0.5"), "alpha", "str"),
    "softmax alphas str": (lambda: anyops.softmax_focal_loss(BOXES, CLASSES, alpha=["1"] * 4), "alpha", "str"),
    "norm training None": (lambda: anyops.batch_norm(BOXES, STATE, STATE, training=None), "training", "None"),
    "norm training int": (lambda: anyops.batch_norm(BOXES, STATE, STATE, training=1), "training", "1"),
    "norm momentum None": (lambda: anyops.batch_norm(BOXES, STATE, STATE, momentum=None), "momentum", "None"),
    "norm state None": (lambda: anyops.batch_norm(BOXES, None, STATE, training=True), "running_mean", "None"),
    "valid float": (lambda: anyops.nms_mask(BOXES, SCORES, valid=SCORES), "valid", "float32"),
}


@pytest.mark.parametrize(("call", "argument", "came"), WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_wrong_type(call, argument, came):
    with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b") as error:
        call()
    assert re.search(came, str(error.value))


# Options that are positional in other libraries, so that torchvision's calls run unchanged.
BY_POSITION = {"iou_threshold", "weight", "bias", "alpha", "gamma", "reduction"}


@pytest.mark.parametrize("name", anyops.support())
def test_options_are_keyword_only(name):
    op = getattr(anyops, name)
    places = [p for p in signature(op).parameters.values() if p.kind is not Parameter.KEYWORD_ONLY]
    assert {p.name for p in places if p.default is not Parameter.empty} <= BY_POSITION
    with pytest.raises(TypeError, match="positional"):
        op(*[BOXES] * (len(places) + 1))


TWO = {
    "box_iou": (anyops.box_iou, ("boxes1", "boxes2"), (BOXES, BOXES)),
    "mask_iou": (anyops.mask_iou, ("masks1", "masks2"), (BOXES[None] > 0, BOXES[None] > 0)),
    "keypoint_similarity": (
        lambda k, a: anyops.keypoint_similarity(k, k, a, sigmas=SIGMAS),
        ("keypoints1", "areas"),
        (POSES, np.ones(7, np.float32)),
    ),
    "nms": (anyops.nms, ("boxes", "scores"), (BOXES, SCORES)),
    "nms labels": (
        lambda s, i: anyops.nms(None, s, labels=i, overlaps=s[:, None] * s),
        ("scores", "labels"),
        (SCORES, np.arange(5)),
    ),
    "nms_mask": (anyops.nms_mask, ("boxes", "scores"), (BOXES, SCORES)),
    "soft_nms": (anyops.soft_nms, ("boxes", "scores"), (BOXES, SCORES)),
    "fast_nms_mask": (anyops.fast_nms_mask, ("boxes", "scores"), (BOXES, SCORES)),
    "weighted_cluster_nms": (anyops.weighted_cluster_nms, ("boxes", "scores"), (BOXES, SCORES)),
    "matrix_nms_scores": (anyops.matrix_nms_scores, ("boxes", "scores"), (BOXES, SCORES)),
    "sigmoid_focal_loss": (anyops.sigmoid_focal_loss, ("logits", "targets"), (SCORES, SCORES)),
    "softmax_focal_loss": (anyops.softmax_focal_loss, ("logits", "labels"), (BOXES, CLASSES)),
    "box_iou_loss": (anyops.box_iou_loss, ("pred", "target"), (BOXES, BOXES)),
    "batch_norm": (lambda x, m: anyops.batch_norm(x, m, m), ("x", "running_mean"), (BOXES, STATE)),
    "batch_norm_grad": (anyops.batch_norm_grad, ("dy|x", "x|dy"), (BOXES, BOXES)),
    "nms_mask valid": (
        lambda s, v: anyops.nms_mask(None, s, overlaps=s[:, None] * s, valid=v),
        ("scores", "valid"),
        (SCORES, SCORES > 0),
    ),
}


@pytest.mark.parametrize(("op", "names", "arrays"), TWO.values(), ids=TWO)
@pytest.mark.parametrize("other", [Backend.NUMPY, Backend.STRICT, Backend.TORCH_CPU, Backend.JAX_CPU, Backend.DASK])
def test_mixed_libraries(backend, op, names, arrays, other):
    if backend.library == other.library:
        pytest.skip("one library")
    if why := other.why_unavailable():
        pytest.skip(why)
    first, second = arrays
    with pytest.raises(TypeError, match=rf"(?s){'.*'.join(names)}.*librar"):
        op(backend.asarray(first), other.asarray(second))


def other_device(backend, x):
    """`x` on a second device of its library, or None if there is only one here."""
    match backend.library:
        case "strict":
            import array_api_strict

            return x.to_device(array_api_strict.Device("device2"))
        case "torch":
            return x.to("meta")
        case "jax":
            import jax

            others = [d for d in jax.devices("cpu") + jax.devices() if d != backend.device]
            return jax.device_put(x, others[0]) if others else None
        case "cupy":
            import cupy

            if cupy.cuda.runtime.getDeviceCount() > 1:
                with cupy.cuda.Device(1):
                    return cupy.asarray(x)


@pytest.mark.parametrize(("op", "names", "arrays"), TWO.values(), ids=TWO)
def test_mixed_devices(backend, op, names, arrays):
    first, second = map(backend.asarray, arrays)
    if backend.library in ("numpy", "dask"):
        pytest.skip("the library has one device")
    if (moved := other_device(backend, second)) is None:
        pytest.skip("one device here")
    with pytest.raises(ValueError, match=rf"(?s){'.*'.join(names)}.*device"):
        op(first, moved)


# Dtypes of a library that no op supports.
FOREIGN = {
    "numpy": ("longdouble", "complex64", "bfloat16", "float8_e4m3fn", "int4"),
    "torch": ("float8_e4m3fn", "complex64"),
    "jax": ("float8_e4m3fn", "int4"),
}
OPTIONAL = {
    "labels": np.zeros(5, np.float32),
    "scenes": np.zeros(5, np.int32),
    "overlaps": np.eye(5, dtype=np.float32),
    "valid": SCORES > 0,
}


def every_array(name):
    """Each array parameter of an op, with arguments for a call that includes it."""
    parameters, given = arrays_of(name)
    rows = len(next((given[p] for p in ("x", "boxes") if p in given), SCORES))
    for parameter in parameters:
        known = dict(given)
        if parameter not in given:
            known[parameter] = np.ones(rows, np.float32) if parameter == "sample_weight" else OPTIONAL[parameter]
        if parameter == "overlaps" and "weighted" not in name:
            known["boxes"] = None
        yield parameter, known


@pytest.mark.parametrize(("library", "dtype"), [(b, d) for b, known in FOREIGN.items() for d in known])
def test_foreign_dtypes(library, dtype):
    """Long doubles, 8-bit floats, 4-bit integers: refused by every op for every argument, with our own message."""
    module = pytest.importorskip({"jax": "jax.numpy"}.get(library, library))
    asarray = module.tensor if library == "torch" else module.asarray
    if library == "numpy" and not hasattr(np, dtype):
        dtype = getattr(pytest.importorskip("ml_dtypes"), dtype)

    def there(x):
        return [there(y) for y in x] if isinstance(x, list) else asarray(x) if isinstance(x, np.ndarray) else x

    for name in anyops.support():
        if name in STATISTICS or (library == "jax" and name == "kmeans_plusplus"):
            continue
        for parameter, given in every_array(name):
            arguments = {k: there(x) for k, x in given.items()}
            x = arguments[parameter]
            arguments[parameter] = x.to(getattr(module, dtype)) if library == "torch" else x.astype(dtype)
            with pytest.raises(TypeError, match=rf"\b({ALSO.get(parameter, parameter)}|{parameter})\b.* dtype, got"):
                getattr(anyops, name)(**arguments)


def test_foreign_dtypes_are_told_what_to_pass():
    with pytest.raises(TypeError, match="floats have 16, 32 or 64 bits here, pass float64"):
        anyops.box_area(BOXES.astype(np.longdouble))
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype, words in (("bfloat16", "no bfloat16 arithmetic, pass float32"), ("float8_e5m2", "pass float32")):
        with pytest.raises(TypeError, match=words):
            anyops.nms(BOXES.astype(getattr(ml_dtypes, dtype)), SCORES)
    with pytest.raises(TypeError, match="integers have 8, 16, 32 or 64 bits here"):
        anyops.nms(BOXES.astype(ml_dtypes.int4), SCORES)


def test_bytes_in_either_order():
    """Arrays with the byte order of other machines."""
    for name in anyops.support():
        if name in STATISTICS:
            continue
        f, *arguments = example(name)
        swapped = [x.astype(x.dtype.newbyteorder()) if isinstance(x, np.ndarray) else x for x in arguments]
        results = f(*arguments), f(*swapped)
        for got, want in zip(*((r if isinstance(r, tuple) else (r,)) for r in results), strict=True):
            np.testing.assert_array_equal(got, want, err_msg=name)
            assert got.dtype.isnative


# Fits and their parts, for x (12, 3), labels y, centres (2, 3) and coefficients.
OF_NUMBERS = {
    "kmeans": lambda x, y, c, *b: anyops.kmeans(x, 2, init="k-means||", seed=0),
    "kmeans init": lambda x, y, c, *b: anyops.kmeans(x, 2, init=c),
    "kmeans cosine": lambda x, y, c, *b: anyops.kmeans(x, 2, init=c, metric="cosine"),
    "kmeans_plusplus": lambda x, y, c, *b: anyops.kmeans_plusplus(x, 2, seed=0),
    "kmeans_assign": lambda x, y, c, *b: anyops.kmeans_assign(x, c),
    "kmeans_partial": lambda x, y, c, *b: anyops.kmeans_partial(x, c),
    "kmeans_step": lambda x, y, c, *b: anyops.kmeans_step(x, c),
    "minibatch_kmeans": lambda x, y, c, *b: anyops.minibatch_kmeans([x[:6, :], (x[6:, :],)], 2, init=c),
    "logistic_regression": lambda x, y, c, *b: anyops.logistic_regression(x, y, l2=1.0)[:5],
    "logistic_loss": lambda x, y, c, *b: anyops.logistic_loss(x, y, *b),
    "logistic_partial": lambda x, y, c, *b: anyops.logistic_partial(x, y, *b),
    "logistic_step": lambda x, y, c, *b: anyops.logistic_step(x, y, *b),
    "logistic_predict_proba": lambda x, y, c, *b: anyops.logistic_predict_proba(x, *b),
    "logistic_log_proba": lambda x, y, c, *b: anyops.logistic_log_proba(x, *b),
}
NOT_ON_DASK = ("kmeans_plusplus", "kmeans_step", "logistic_step")


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_bools_are_numbers(backend, name):
    """As columns of ``pandas.get_dummies`` are; the result is as for the integers 0 and 1."""
    if backend.library == "dask" and name in NOT_ON_DASK:
        pytest.skip("not on dask")
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 2, (12, 3)), np.arange(12) % 2
    results = []
    for dtype in (bool, np.int32):
        samples, centers = x.astype(dtype), np.asarray([[0, 0, 1], [1, 1, 0]], dtype)
        at = np.asarray([0.5, -1.0, 0.25], np.float32), np.asarray(0.25, np.float32)
        arrays = map(backend.asarray, (samples, y, centers, *at))
        found = OF_NUMBERS[name](*arrays)
        results.append(found if isinstance(found, tuple) else (found,))
    for got, want in zip(*results, strict=True):
        if want is not None:  # 32-bit integers are rounded, or compared relative to one of them
            pair = (backend.to_numpy(x) if backend.owns(x) else np.asarray(x) for x in (got, want))
            np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-6)


def fits(backend):
    """Every fit as a function of its samples, and its name for them."""
    x = np.random.default_rng(0).normal(size=(30, 2))
    y, start = backend.asarray((x[:, 0] > 0) * 1), backend.asarray(x[:2])
    weight = backend.asarray(np.ones(30))
    found = {
        "logistic_regression": (lambda x: anyops.logistic_regression(x, y), "x"),
        "logistic_regression weighted": (lambda x: anyops.logistic_regression(x, y, sample_weight=weight), "x"),
        "kmeans": (lambda x: anyops.kmeans(x, 2, init="k-means||", seed=0), "x"),
        "kmeans weighted": (lambda x: anyops.kmeans(x, 2, init="k-means||", seed=0, sample_weight=weight), "x"),
        "kmeans_plusplus": (lambda x: anyops.kmeans_plusplus(x, 2, seed=0), "x"),
        "minibatch_kmeans": (lambda x: anyops.minibatch_kmeans([x], 2, seed=0), "batch 0"),
        "anchor_boxes": (lambda x: anyops.anchor_boxes(x, 2, center="mean", seed=0), "wh"),
        "init": (lambda x: anyops.kmeans(start, 2, init=x[:2, ...]), "init"),
    }
    if importlib.util.find_spec("sklearn"):
        from anyops.estimators import KMeans, LogisticRegression

        model = LogisticRegression().fit(backend.asarray(x), y)
        centers = KMeans(2, init="k-means||", random_state=0).fit(start)
        found |= {
            "LogisticRegression": (lambda x: LogisticRegression().fit(x, y), "X"),
            "KMeans": (lambda x: KMeans(2, init="k-means||", random_state=0).fit(x), "X"),
        }
        if backend.library == "dask":
            del found["kmeans_plusplus"]  # it refuses dask
        else:  # dask computes later, chunk by chunk
            found |= {
                "LogisticRegression.predict_proba": (model.predict_proba, "X"),
                "KMeans.predict": (centers.predict, "X"),
                "KMeans.score": (centers.score, "X"),
            }
    return found


@pytest.mark.parametrize(("value", "name"), [(NAN, "NaN"), (np.inf, "infinity"), (-np.inf, "-infinity")])
def test_what_is_not_finite_is_found(backend, value, name):
    x = np.random.default_rng(1).normal(size=(30, 2)) ** 2
    for op, (call, argument) in fits(backend).items():
        row = 1 if op == "init" else 17
        wrong = x.copy()
        wrong[row, 1] = wrong[row + 5, 0] = value
        with pytest.raises(ValueError, match=rf"{argument} must be finite, got {name} in row {row}, column 1$"):
            call(backend.asarray(wrong))


def test_what_is_not_finite_is_looked_for_among_samples_that_count(backend):
    x = np.random.default_rng(1).normal(size=(30, 2))
    weight = np.ones(30)
    x[3, 0], weight[3], x[20, 1] = NAN, 0.0, NAN
    y = backend.asarray(np.arange(30) % 2)
    x, w = backend.asarray(x), backend.asarray(weight)
    for call in (
        lambda: anyops.logistic_regression(x, y, sample_weight=w),
        lambda: anyops.kmeans(x, 2, init="k-means||", sample_weight=w, seed=0),
    ):
        with pytest.raises(ValueError, match="got NaN in row 20, column 1"):
            call()


def test_objects_of_a_frame_are_told_what_to_write():
    x = np.asarray([[1.5, True], [2.0, False]], dtype=object)
    with pytest.raises(TypeError, match=r"x must have .*, got object; .* pass numbers: \.to_numpy\(float\) in pandas$"):
        anyops.kmeans(x, 2)

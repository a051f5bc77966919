"""Published numbers, tests/vectors/*.json, for ops with the same conventions."""

import json
from pathlib import Path

import numpy as np
import pytest

import anyops
from tests.backends import Backend, Transform

FILES = [Path(__file__).with_name("vectors") / name for name in ("detection.json", "ml.json")]
VECTORS = [entry for file in FILES for entry in json.loads(file.read_text(encoding="utf-8"))]


def floats(value):
    return np.array(value, np.float32).reshape(-1, 4)


def xyxy(run, boxes, fmt):
    return boxes if fmt == "xyxy" else run(anyops.box_convert, boxes, fmt, "xyxy")


def iou(kind, pairwise=True):
    def check(run, e):
        a, b = (xyxy(run, floats(v), e["params"].get("fmt", "xyxy")) for v in list(e["inputs"].values())[:2])
        got = run(anyops.box_iou, a, b, kind=kind, pairwise=pairwise)
        np.testing.assert_allclose(got, e["expected"], atol=max(e.get("tol", 0), 1e-6))

    return check


def loss(kind):
    def check(run, e):
        a, b = (floats(e["inputs"][name]) for name in ("boxes1", "boxes2"))
        got = run(anyops.box_iou_loss, a, b, kind=kind, reduction=e["params"]["reduction"])
        np.testing.assert_allclose(got, e["expected"], atol=e.get("tol", 1e-6))

    return check


def sigmoid_focal(run, e):
    p, x = e["params"], np.float32(e["inputs"]["logits"])
    t = np.float32(e["inputs"]["targets"]) if "targets" in e["inputs"] else np.eye(x.shape[1])[e["inputs"]["labels"]]
    got, grad = run(anyops.sigmoid_focal_loss_and_grad, x, np.float32(t), alpha=p["alpha"], gamma=p["gamma"])
    compare_focal(e, got, grad)


def softmax_focal(run, e):
    p, labels = e["params"], np.array(e["inputs"]["labels"])
    got, grad = run(
        anyops.softmax_focal_loss_and_grad,
        np.float32(e["inputs"]["logits"]),
        labels,
        alpha=p["alpha"],
        gamma=p["gamma"],
    )
    compare_focal(e, got, grad)


def compare_focal(e, got, grad):
    want, rows = e["expected"], len(got)
    if isinstance(want, dict):
        np.testing.assert_allclose(got.sum() / rows, want["loss"], atol=e["tol"])
        np.testing.assert_allclose(grad / rows, want["grad"], atol=e["tol"])
    else:
        np.testing.assert_allclose(got, want, atol=e["tol"])


def monai(run, e):
    p, x, labels = e["params"], np.float32(e["inputs"]["logits_NCHW"]), np.array(e["inputs"]["labels_N1HW"])[:, 0]
    if p["mode"] == "softmax":
        each = run(anyops.softmax_focal_loss, x, labels, alpha=p["alpha_vector"], gamma=p["gamma"], axis=1)
        got = each.sum() / x.size
    else:
        t = np.moveaxis(np.eye(x.shape[1], dtype=np.float32)[labels], -1, 1)
        each = run(anyops.sigmoid_focal_loss, x, t, alpha=p.get("alpha"), gamma=p["gamma"])
        each = each * np.reshape(p.get("class_weight", [1.0]), (1, -1, 1, 1))
        got = each if p["reduction"] == "none" else each.mean()
    np.testing.assert_allclose(got, e["expected"], atol=e["tol"])


def half_binomial(run, e):
    """Focal loss with γ = 0; in float64, as the published numbers."""
    y, x, *want = (np.array(column) for column in zip(*e["expected"]["rows"], strict=True))
    dtype = np.float64 if run.backend.has_dtype("float64") else np.float32
    got = run(anyops.sigmoid_focal_loss_and_grad, x.astype(dtype), y.astype(dtype), alpha=None, gamma=0)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(got[0], want[0].astype(float), rtol=8 * eps, atol=8 * eps)
    known = [v is not None for v in want[1]]
    # Upstream stores the gradient at (1, 37) with the wrong sign, but it is within the tolerance.
    np.testing.assert_allclose(got[1][known], want[1][known].astype(float), rtol=8 * eps, atol=8 * eps)


def half_multinomial(run, e):
    labels, logits, want = zip(*e["expected"]["rows"], strict=True)
    dtype = np.float64 if run.backend.has_dtype("float64") else np.float32
    got = run(anyops.softmax_focal_loss, np.array(logits, dtype), np.array(labels), gamma=0)
    np.testing.assert_allclose(got, want, rtol=1e-14 if dtype is np.float64 else 1e-6)


def norm(run, e):
    """torch's convention: momentum of the new value, unbiased running variance."""
    p, x = e["params"], np.array(e["inputs"]["x"], np.float64)
    c, exact = x.shape[1], run.backend.has_dtype("float64")
    given = [e["inputs"].get(name) for name in ("running_mean", "running_var", "weight", "bias")]
    mean, var, weight, bias = (
        default if value is None else np.array(value, np.float64)
        for value, default in zip(given, (np.zeros(c), np.ones(c), None, None), strict=True)
    )
    options = {"training": p.get("training", True), "eps": p.get("eps", 1e-5)}
    y, mean, var = run(
        anyops.batch_norm, x, mean, var, weight, bias, momentum=1.0 - p["momentum"], correction=1, **options
    )
    got = {"y": y, "running_mean": mean, "running_var": var}
    if "grad_x" in e["expected"]:
        dy = np.sin(np.arange(x.size, dtype=np.float64)).reshape(x.shape)
        slopes = run(anyops.batch_norm_grad, dy, x, weight, eps=options["eps"])
        got |= dict(zip(("grad_x", "grad_weight", "grad_bias"), slopes, strict=True))
    if "biased_std" in e["expected"]:
        _, _, biased = run(anyops.batch_norm, x, np.zeros(c), np.ones(c), training=True, momentum=0.0)
        got["biased_std"] = np.sqrt(biased)
    if "y_row0_ch0" in e["expected"]:
        got["y_row0_ch0"] = y[0, 0]
    published = e["tol"] == "1e-4"
    for name, want in e["expected"].items():
        atol = 1e-4 if published else 1e-10 if exact else 2e-4 * (1 + np.abs(want).max())
        np.testing.assert_allclose(got[name], want, atol=atol, err_msg=name)


def masked_norm(run, e):
    x, mask = np.float32(e["inputs"]["x"]), np.array(e["inputs"]["mask"], bool)
    _, mean, var = run(
        anyops.batch_norm,
        x,
        np.zeros(2, np.float32),
        np.ones(2, np.float32),
        training=True,
        momentum=e["params"]["momentum_keras"],
        axis=-1,
        sample_weight=mask,
    )
    np.testing.assert_allclose(mean, e["expected"]["moving_mean"], atol=1e-6)
    np.testing.assert_allclose(var, e["expected"]["moving_variance"], atol=1e-6)


def masked_norm_with_nan(run, e):
    x, mask = np.random.default_rng(0).normal(2, 3, (4, 3, 2)).astype(np.float32), np.arange(12).reshape(4, 3) % 3 > 0
    momentum = e["params"]["momentum_flax"]
    hidden = np.where(mask[..., None], x, np.float32(np.nan))
    y, mean, var = run(
        anyops.batch_norm,
        hidden,
        np.zeros(2, np.float32),
        np.ones(2, np.float32),
        training=True,
        momentum=momentum,
        axis=-1,
        sample_weight=mask,
    )
    np.testing.assert_allclose(y[mask].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(y[mask].var(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(mean, 0.1 * x[mask].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(var, 0.9 + 0.1 * x[mask].var(axis=0), rtol=1e-5)


def offset_norm(run, e):
    x = (np.float32(1e4) + np.arange(4096, dtype=np.float32) % 128 / 64)[:, None]
    _, _, var = run(anyops.batch_norm, x, np.zeros(1, np.float32), np.ones(1, np.float32), training=True, momentum=0.0)
    np.testing.assert_allclose(var, e["expected"]["float64_var"], rtol=1e-3)


def ioa2(run, e):
    got = run(anyops.box_iou, floats(e["inputs"]["boxes2"]), floats(e["inputs"]["boxes1"]), kind="iof")
    np.testing.assert_allclose(got.T, e["expected"], atol=e["tol"])


def convert(run, e):
    got = run(anyops.box_convert, np.array(e["inputs"]["boxes"]), **e["params"])
    np.testing.assert_array_equal(got, e["expected"])


def area(run, e):
    p = e["params"]
    for dtype in p.get("dtypes", [p.get("dtype")]):
        if not run.backend.has_dtype(dtype):
            continue
        got = run(anyops.box_area, np.array(e["inputs"]["boxes"], dtype))
        np.testing.assert_allclose(got, e["expected"], atol=e["tol"])


def indices(run, e):
    p, (boxes, scores) = e["params"], e["inputs"].values()
    for dtype in ("float32", "float16") if "dtype" in p else ("float32",):
        if not run.backend.has_dtype(dtype):
            continue
        got = run(
            anyops.nms,
            xyxy(run, floats(boxes), p.get("fmt", "xyxy")).astype(dtype),
            np.array(scores, dtype),
            p["iou_threshold"],
            max_output=p.get("max_output"),
        ).tolist()
        want = e["expected"]
        assert (len(got) == want["num_kept"]) if isinstance(want, dict) else (got == want)


def keep_mask(run, e):
    boxes, scores, ids = e["inputs"].values()
    got = run(
        anyops.nms_mask, floats(boxes), np.float32(scores), e["params"]["iou_threshold"], labels=np.array(ids, np.int32)
    )
    np.testing.assert_array_equal(got, np.array(e["expected"], bool))


def mask_keep_mask(run, e):
    masks = np.zeros((2, *e["inputs"]["mask_shape"]), bool)
    for mask, (r0, c0, r1, c1) in zip(masks, e["inputs"]["masks_rects_rc"], strict=True):
        mask[r0:r1, c0:c1] = True
    overlaps = run(anyops.mask_iou, masks, masks)
    got = run(anyops.nms_mask, None, np.float32(e["inputs"]["scores"]), e["params"]["iou_threshold"], overlaps=overlaps)
    np.testing.assert_array_equal(got, np.array(e["expected"], bool))


def padded(run, e):
    p = e["params"]
    boxes, scores = xyxy(run, floats(e["inputs"]["boxes"]), p["fmt"]), np.float32(e["inputs"]["scores"])
    keep = run(anyops.nms_mask, boxes, scores, p["iou_threshold"])
    scores = np.where(keep, scores, np.float32(np.nan))
    chosen, valid = run(anyops.top_scores, scores, p["max_output"], score_threshold=p["score_threshold"])
    assert valid.sum() == e["expected"]["num_valid"]
    assert np.where(valid, chosen, p["pad_value"]).tolist() == e["expected"]["indices"]


def onnx(run, e):
    p, rows = e["params"], []
    for image, (boxes, classes) in enumerate(zip(e["inputs"]["boxes"], e["inputs"]["scores"], strict=True)):
        b = xyxy(run, floats(boxes), "cxcywh" if p["center_point_box"] else "yxyx")
        for label, scores in enumerate(classes):
            kept = run(
                anyops.nms,
                b,
                np.float32(scores),
                p["iou_threshold"],
                score_threshold=p["score_threshold"],
                max_output=p["max_output_boxes_per_class"],
            )
            rows += [[image, label, int(i)] for i in kept]
    assert rows == e["expected"]


def soft(run, e):
    """Their Gaussian divides by sigma, TensorFlow's by 2 sigma; mmcv's `>=` does not matter, as no overlap is equal."""
    p, (boxes, scores) = e["params"], e["inputs"].values()
    got = run(
        anyops.soft_nms,
        xyxy(run, floats(boxes), p.get("fmt", "xyxy")),
        np.float32(scores),
        decay={"naive": "hard"}.get(p["method"], p["method"]),
        sigma=p["sigma"] * (2 if "2*sigma" in p["gaussian_weight"] else 1),
        iou_threshold=p.get("iou_threshold", 0.3),
        score_threshold=p["min_score"],
        max_output=p.get("max_output"),
    )
    assert got[0].tolist() == e["expected"]["indices"]
    np.testing.assert_allclose(got[1], e["expected"]["scores"], atol=e["tol"])


def soft_scores(run, e):
    """Decayed in a single pass, which suffices for two boxes."""
    boxes, scores, labels = e["inputs"].values()
    got = run(
        anyops.soft_nms_scores, floats(boxes), np.float32(scores), labels=np.int32(labels), sigma=e["params"]["sigma"]
    )
    np.testing.assert_allclose(got, e["expected"], atol=e["tol"])


def groups(run, e):
    """As sets, because ties choose another head. With `>=`, so the threshold is the next lower number."""
    assert e["params"]["compare"] == ">="
    below = float(np.nextafter(np.float32(e["params"]["iou_threshold"]), np.float32(0)))
    got = run(anyops.nms_groups, floats(e["inputs"]["boxes"]), np.float32(e["inputs"]["scores"]), below)
    if isinstance(e["expected"], dict):
        assert sorted({*got.tolist()}) == e["expected"]["heads"]
    else:
        assert {frozenset(np.flatnonzero(got == head)) for head in got} == set(map(frozenset, e["expected"]))


def fusion(run, e):
    """Their lists per model are concatenated; no score equals their score threshold."""
    p, (boxes, scores, labels) = e["params"], ([x for of_model in v for x in of_model] for v in e["inputs"].values())
    models = [k for k, of_model in enumerate(e["inputs"]["scores_list"]) for _ in of_model]
    got = run(
        anyops.weighted_boxes_fusion,
        floats(boxes),
        np.float32(scores),
        np.int32(labels),
        model_ids=np.int32(models),
        model_weights=p["weights"],
        iou_threshold=p["iou_thr"],
        score_threshold=p.get("skip_box_thr", 0.0),
        conf_type=p["conf_type"],
    )
    np.testing.assert_allclose(got[0], e["expected"]["boxes"], atol=e["tol"])
    np.testing.assert_allclose(got[1], e["expected"]["scores"], atol=e["tol"])
    assert got[2].tolist() == e["expected"]["labels"]


# op of the entry: how it is compared with ours, or why it is not
OPS = {
    "box_iou": iou("iou"),
    "generalized_box_iou": iou("giou"),
    "distance_box_iou": iou("diou"),
    "complete_box_iou": iou("ciou"),
    "generalized_box_iou_aligned": iou("giou", pairwise=False),
    "box_ios": iou("ios"),
    "box_ioa2": ioa2,
    "box_iou_crowd": iou("iou"),  # it has no crowd boxes
    "generalized_box_iou_loss": loss("giou"),
    "distance_box_iou_loss": loss("diou"),
    "complete_box_iou_loss": loss("ciou"),
    "box_convert": convert,
    "box_area": area,
    "nms": indices,
    "nms_keep_mask": keep_mask,
    "mask_nms_keep_mask": mask_keep_mask,
    "nms_padded": padded,
    "onnx_nms": onnx,
    "soft_nms": soft,
    "soft_nms_single_pass": soft_scores,
    "nms_match": groups,
    "non_max_merge_groups": groups,
    "wbf": fusion,
    "box_iou_aligned": "its boxes include their last pixel: widths are one larger (offset 1)",
    "sigmoid_focal_loss": sigmoid_focal,
    "softmax_focal_loss": softmax_focal,
    "monai_focal_loss": monai,
    "binary_focal_crossentropy_probs": "takes probabilities",
    "nmw": "no op of ours: non-maximum weighted",
    "half_binomial_loss_pointwise": half_binomial,
    "half_multinomial_loss_pointwise": half_multinomial,
    "batch_norm": norm,
    "batch_norm_running_var": norm,
    "batch_norm_running_stats": norm,
    "batch_norm_masked": masked_norm,
    "batch_norm_masked_nan": masked_norm_with_nan,
    "batch_norm_float32_offset": offset_norm,
    "batch_norm_single_value": "an error in torch; here one value per channel gives the bias",
    **dict.fromkeys(
        (
            *("logit_fit_unpenalized", "logit_fit_l1", "logreg_fit_l2", "multinomial_logreg_fit_l2", "logreg_fit_l1"),
            *("logit_separable", "property"),
        ),
        "used in tests/logistic/test_published.py",
    ),
    "multinomial_logit_fit_unpenalized": "its data ship with statsmodels, which the tests do not install",
    **dict.fromkeys(
        (
            *("kmeans_fit", "kmeans_fit_empty_cluster", "kmeans_relocate_step", "kmeans_fit_empty_cluster_weighted"),
            *("kmeans_more_clusters_than_points", "kmeans_labels_consistent", "kmeans_inertia_float32_cancellation"),
            *("kmeans_optimum", "kmeans_anchors_iou"),
        ),
        "used in tests/kmeans/test_kmeans.py",
    ),
    "kmeans_anchors_iou_published": "its data, the boxes of VOC 2007, are not here",
    "minibatch_update_rule": "used in tests/kmeans/test_minibatch.py",
    "bisecting_kmeans_fit": "an op that is not here yet",
}
# Part of the source: why this entry is not used although its op is
EXCEPT = {
    ("wbf", "test_avg"): "allows_overflow: scores are sums over boxes, not limited by the number of models",
    ("box_iou", "mmcv tests/test_ops/test_bbox.py"): "legacy +1 widths (offset 1)",
    ("onnx_nms", "flipped_coordinates"): "ONNX swaps inverted corners; here an inverted box overlaps nothing",
}


def why_not(entry):
    for (op, source), reason in EXCEPT.items():
        if entry["op"] == op and source in entry["source"]:
            return reason
    row = OPS[entry["op"]]
    return row if isinstance(row, str) else None


USED = [e for e in VECTORS if why_not(e) is None]


def test_every_entry_is_used_or_has_a_reason():
    assert {e["op"] for e in VECTORS} == set(OPS)
    assert all(any(e["op"] == op and source in e["source"] for e in VECTORS) for op, source in EXCEPT)
    assert len(VECTORS) == 123
    assert len(USED) == 86


@pytest.mark.op("nms", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("entry", USED, ids=lambda e: f"{VECTORS.index(e)}-{e['op']}")
def test_published(run, backend, entry):
    if backend is Backend.JAX_X64:
        pytest.skip("the numbers go in as float32: jax:cpu computes the same")
    OPS[entry["op"]](run, entry)

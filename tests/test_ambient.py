"""The result depends on the arguments alone: each op under each setting of a library equals the op without it."""

from contextlib import contextmanager

import numpy as np
import pytest

import anyops
from tests import record
from tests.examples import example


@contextmanager
def restored(set_to, value, before):
    set_to(value)
    try:
        yield
    finally:
        set_to(before)


def numpy_raises():
    return np.errstate(all="raise")


def autocast(name):
    def setting():
        import torch

        return torch.autocast("cpu", dtype=getattr(torch, name))

    return setting


def default_dtype(name):
    def setting():
        import torch

        return restored(torch.set_default_dtype, getattr(torch, name), torch.get_default_dtype())

    return setting


def default_device():
    import torch

    return torch.device("meta")


def torch_context(name):
    def setting():
        import torch

        return getattr(torch, name)()

    return setting


def deterministic():
    import torch

    return restored(torch.use_deterministic_algorithms, True, False)


def jax_setting(name, value):
    def setting():
        import jax

        return restored(lambda v: jax.config.update(name, v), value, jax.config._read(name))

    return setting


SETTINGS = {
    ("numpy", "errstate raise"): numpy_raises,
    ("torch", "autocast bfloat16"): autocast("bfloat16"),
    ("torch", "autocast float16"): autocast("float16"),
    ("torch", "default dtype bfloat16"): default_dtype("bfloat16"),
    ("torch", "default dtype float64"): default_dtype("float64"),
    ("torch", "default device meta"): default_device,
    ("torch", "inference mode"): torch_context("inference_mode"),
    ("torch", "no grad"): torch_context("no_grad"),
    ("torch", "deterministic algorithms"): deterministic,
    ("jax", "rank promotion raise"): jax_setting("jax_numpy_rank_promotion", "raise"),
    ("jax", "debug nans"): jax_setting("jax_debug_nans", True),
    ("jax", "matmul precision"): jax_setting("jax_default_matmul_precision", "bfloat16"),
}


# Masks have no floating dtype: their results are of the default one.
OF_DEFAULT_DTYPE = ("masks_to_boxes", "mask_iou")


def arrays_of(library, arguments):
    if library == "numpy":
        return arguments
    module = pytest.importorskip(library)
    asarray = module.numpy.asarray if library == "jax" else module.asarray
    return [asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]


def numbers(results):
    return [np.asarray(x) for x in (results if isinstance(results, tuple) else (results,))]


@pytest.mark.parametrize("op", record.OPS)
@pytest.mark.parametrize(("library", "setting"), SETTINGS, ids=lambda each: each.replace(" ", "-"))
def test_settings_change_nothing(library, setting, op):
    if "default dtype" in setting and op in OF_DEFAULT_DTYPE:
        pytest.skip("the dtype of the result is the default one")
    f, *given = example(op)
    arguments = arrays_of(library, given)
    without = numbers(f(*arguments))
    with SETTINGS[library, setting]():
        found = f(*arguments)
    for x, y in zip(numbers(found), without, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_underflow_and_overflow_are_no_news(scale):
    """Values of the size that underflows or overflows in products, where NumPy is told to raise."""
    rng = np.random.default_rng(0)
    boxes = np.cumsum(rng.random((9, 2, 2)), axis=1).reshape(9, 4).astype(np.float32) * np.float32(scale)
    scores = rng.random(9).astype(np.float32)
    logits = (rng.normal(size=(9, 4)) * 200).astype(np.float32)
    calls = {
        "softmax": lambda: anyops.softmax_focal_loss(logits, np.arange(9) % 4),
        "softmax, soft": lambda: anyops.softmax_focal_loss_and_grad(logits, np.float32(np.eye(4)[np.arange(9) % 4])),
        "sigmoid": lambda: anyops.sigmoid_focal_loss_and_grad(logits, np.float32(logits > 0)),
        "soft": lambda: anyops.soft_nms(boxes, scores, sigma=1e-3).scores,
        "matrix": lambda: anyops.matrix_nms(boxes, scores, sigma=50.0).scores,
        "cluster": lambda: anyops.cluster_nms(boxes, scores).indices,
        "nms": lambda: anyops.nms(boxes, scores),
        "mask": lambda: anyops.nms_mask(boxes, scores),
        "batch": lambda: anyops.batch_norm(boxes, boxes[0] * 0, boxes[0] * 0 + 1, training=True).y,
        **{kind: lambda kind=kind: anyops.box_iou(boxes, boxes, kind=kind) for kind in ("iou", "giou", "diou", "ciou")},
    }
    for name, call in calls.items():
        without = numbers(call())
        with np.errstate(all="raise"):
            found = numbers(call())
        for x, y in zip(found, without, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=name)

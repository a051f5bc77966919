"""Results depend only on arguments: each op under each setting of a library equals the op without the setting."""

import locale
import os
import subprocess
import sys
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

import anyops
from anyops._array.compiled import as_written
from anyops.suppression.detections import Detections
from tests import record
from tests.backends import optimized
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


def one_thread():
    import torch

    return restored(torch.set_num_threads, 1, torch.get_num_threads())


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
    ("torch", "one thread"): one_thread,
    ("jax", "rank promotion raise"): jax_setting("jax_numpy_rank_promotion", "raise"),
    ("jax", "debug nans"): jax_setting("jax_debug_nans", True),
    ("jax", "matmul precision"): jax_setting("jax_default_matmul_precision", "bfloat16"),
    ("jax", "x64"): jax_setting("jax_enable_x64", True),
}


# Masks have no floating dtype, so their results have the default one.
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
    if ("default dtype" in setting or setting == "x64") and op in OF_DEFAULT_DTYPE:
        pytest.skip("the dtype of the result is the default one")
    f, *given = example(op)
    arguments = arrays_of(library, given)
    with optimized(False) if library == "jax" else nullcontext():
        without = numbers(f(*arguments))
        with SETTINGS[library, setting]():
            found = f(*arguments)
    # With x64, indices have 64 bits, and sums are float64.
    rtol = 1e-5 if setting == "x64" else 0
    for x, y in zip(numbers(found), without, strict=True):
        assert x.dtype == y.dtype or (setting == "x64" and x.dtype.kind == y.dtype.kind == "i")
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("wrapped", [tuple, list, lambda x: Detections(*x)], ids=["tuple", "list", "detections"])
def test_kernels_run_as_written_wherever_their_tensors_are(wrapped):
    """For tensors in a tuple, autocast is off on their device, and unchanged on other devices."""
    torch = pytest.importorskip("torch")

    def kernel(_):
        return torch.is_autocast_enabled("cpu")

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not as_written(kernel, wrapped([None, torch.zeros(2)]))
        assert as_written(kernel, wrapped([None, torch.zeros(2, device="meta")]))


@pytest.mark.parametrize("name", ["de_DE.UTF-8", "C.UTF-8"])
def test_the_locale_changes_nothing(name):
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        pytest.skip(f"no locale {name} here")
    try:
        for op in record.OPS:
            f, *arguments = example(op)
            for x in numbers(f(*arguments)):
                assert x.dtype.kind in "biuf"
        result = anyops.logistic_regression(np.asarray([[0.0], [1.0], [2.0], [3.0]]), np.asarray([0, 1, 0, 1]))
        assert f"{result.loss:.3f}" == "0.587"
        assert "0.908184" in str(result)
    finally:
        locale.setlocale(locale.LC_ALL, before)


ELSEWHERE = """
import importlib.util, sys
import numpy as np, jax, anyops
from tests import examples, record

here, there = jax.devices()[1:3]
jax.config.update("jax_default_device", there)
moved = lambda a: jax.device_put(a, here) if isinstance(a, np.ndarray) else a

def check(name, results):
    for i, x in enumerate(jax.tree.leaves(results)):
        if isinstance(x, jax.Array) and x.devices() != {here}:
            print(name, i, x.devices())

found = {}
for op in record.OPS:
    f, *arguments = examples.example(op)
    results = f(*map(moved, arguments))
    found |= {f"{op} {i}": np.asarray(x) for i, x in enumerate(results if isinstance(results, tuple) else (results,))}
    check(op, results if op not in NUMBERS_OF_HOST else ())
np.savez(sys.argv[1], **found)

x, y, *model = map(moved, examples.MODEL)
w, batch = moved(np.ones(12, np.float32)), moved(examples.BATCH)
fit = anyops.logistic_regression(x, y)
check("logistic_regression", fit)
check("inference", (fit.zvalues, fit.pvalues, fit.conf_int(), fit.covariance, fit.odds_ratios))
for weights in (None, w):
    check("kmeans", anyops.kmeans(x, 2, seed=0, sample_weight=weights))
    check("kmeans_plusplus", anyops.kmeans_plusplus(x, 2, seed=0, sample_weight=weights))
    check("kmeans_partial", anyops.kmeans_partial(x, x[:3], sample_weight=weights))
    check("logistic_partial", anyops.logistic_partial(x, y, *model, sample_weight=weights))
check("batch_stats", anyops.merge_batch_stats(anyops.batch_stats(batch), anyops.batch_stats(batch)))
check("minibatch_kmeans", anyops.minibatch_kmeans([x], 2, seed=0))
check("alpha", anyops.softmax_focal_loss(*map(moved, (examples.LOGITS, examples.LABELS)), alpha=[1.0, 2.0, 3.0]))
if importlib.util.find_spec("sklearn"):
    from anyops.estimators import KMeans, LogisticRegression

    for model in (KMeans(2, random_state=0).fit(x), LogisticRegression(C=np.inf).fit(x, examples.CLASSES)):
        check(type(model).__name__, (vars(model), model.predict(x), getattr(model, "stderr_", None)))
"""
# Ops whose examples create JAX arrays from numbers on the host.
NUMBERS_OF_HOST = ("batch_stats", "merge_batch_stats", "logistic_partial", "logistic_merge", "kmeans_partial")


def test_results_are_where_the_arguments_are(tmp_path):
    """Arguments on the second of three JAX devices, with another default device; one thread, another locale."""
    pytest.importorskip("jax")
    settings = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=3 --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C", "PYTHONUTF8": "1"},
    }
    code = ELSEWHERE.replace("NUMBERS_OF_HOST", repr(NUMBERS_OF_HOST))
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "found.npz")]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.stdout == "", done.stdout
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(tmp_path / "found.npz")
    for op in record.OPS:
        f, *given = example(op)
        for i, want in enumerate(numbers(f(*arrays_of("jax", given)))):
            np.testing.assert_allclose(found[f"{op} {i}"], want, rtol=1e-5, atol=1e-6, err_msg=op)


def test_threads_change_nothing_but_rounding():
    """Enough rows for each core to get a share."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300_000, 8)).astype(np.float32) + 3 * rng.integers(0, 2, (300_000, 1)).astype(np.float32)
    y, zero, one = (x[:, 0] + rng.normal(size=len(x)) > 0), np.zeros(8, np.float32), np.ones(8, np.float32)
    x, y, zero, one = map(torch.asarray, (x, y, zero, one))
    calls = {
        "batch_norm": lambda: anyops.batch_norm(x, zero, one, training=True),
        "batch_norm_grad": lambda: anyops.batch_norm_grad(x * x, x),
        "box_iou": lambda: anyops.box_iou(x[:1500, :4], x[:1500, 4:]),
        "kmeans": lambda: anyops.kmeans(x, 2, init=x[:2], max_iter=5)[:2],
        "logistic_regression": lambda: anyops.logistic_regression(x, y)[:2],
        "sigmoid_focal_loss": lambda: anyops.sigmoid_focal_loss(x, (x > 0) * 1),
    }
    for name, call in calls.items():
        found = []
        for threads in (1, 4):
            with restored(torch.set_num_threads, threads, torch.get_num_threads()):
                found.append(numbers(call()))
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_underflow_and_overflow_are_no_news(scale):
    """Values whose products underflow or overflow, while NumPy is set to raise."""
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

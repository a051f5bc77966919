"""The matrix itself: the capability table is true and published, and what was not tested is said."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import array_api_compat
import numpy as np
import pytest

import anyops
from tests import capabilities, scenes
from tests.backends import Backend, Run, Transform, is_due, is_thinned

ROOT = Path(__file__).parents[1]
BOXES, SCORES = scenes.clustered(8)
BOXES[-1, 2:] = BOXES[-1, :2]  # a point
IDS = np.arange(8, dtype=np.int32) % 2
MASKS = np.random.default_rng(0).random((3, 4, 5)) < 0.5


def fused(b, s):
    """Boxes and scores in one array, of which there is a gradient."""
    boxes, scores = anyops.weighted_cluster_nms_boxes(b, s)
    return boxes * scores[..., None]


LOGITS = np.float32([[0.5, -1, 2], [0, 3, -2], [1, 1, 1], [-4, 0, 4]])
LABELS = np.array([2, 0, 1, 2], np.int32)
BATCH = np.random.default_rng(1).normal(size=(4, 3, 2)).astype(np.float32)
CHANNELS = np.float32([1, 2, -1])

ROWS = np.random.default_rng(2).normal(size=(12, 2)).astype(np.float32)
CLASSES = np.array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0], np.int32)
COEF, INTERCEPT = np.float32([0.5, -0.25]), np.array(0.25, np.float32)


def here(x, results):
    """Statistics as arrays of the library of `x`: those of dask arrays are NumPy's."""
    xp = array_api_compat.array_namespace(x)
    return tuple(xp.asarray(y) if isinstance(y, (np.ndarray, np.generic)) else y for y in results)


def as_one(results):
    """What to differentiate of an op with several results."""
    return sum((y**3).sum() for y in results) if isinstance(results, tuple) else results


EXAMPLES = {
    "box_area": (anyops.box_area, BOXES),
    "box_convert": (anyops.box_convert, BOXES, "xyxy", "cxcywh"),
    "clip_boxes": (anyops.clip_boxes, BOXES, (3, 4)),
    "masks_to_boxes": (anyops.masks_to_boxes, MASKS),
    "box_iou": (anyops.box_iou, BOXES, BOXES[:5]),
    "mask_iou": (anyops.mask_iou, MASKS, MASKS),
    "sigmoid_focal_loss": (anyops.sigmoid_focal_loss, LOGITS, (LOGITS > 0) * 1),
    "sigmoid_focal_loss_and_grad": (anyops.sigmoid_focal_loss_and_grad, LOGITS, (LOGITS > 0) * 1),
    "softmax_focal_loss": (anyops.softmax_focal_loss, LOGITS, LABELS),
    "softmax_focal_loss_and_grad": (anyops.softmax_focal_loss_and_grad, LOGITS, LABELS),
    "box_iou_loss": (anyops.box_iou_loss, BOXES, BOXES[::-1].copy()),
    "batch_norm": (lambda x, w: anyops.batch_norm(x, 0 * w, 0 * w + 1, w, w, training=True), BATCH, CHANNELS),
    "batch_norm_grad": (anyops.batch_norm_grad, BATCH**2, BATCH, CHANNELS),
    "batch_stats": (lambda x: here(x, anyops.batch_stats(x)), BATCH),
    "merge_batch_stats": (
        lambda x: here(x, anyops.merge_batch_stats(anyops.batch_stats(x[:1, ...]), anyops.batch_stats(x[1:, ...]))),
        BATCH,
    ),
    "logistic_loss": (lambda x, c, b, y: anyops.logistic_loss(x, y, c, b, l2=0.5), ROWS, COEF, INTERCEPT, CLASSES),
    "logistic_partial": (
        lambda x, c, b, y: here(x, anyops.logistic_partial(x, y, c, b)),
        *(ROWS, COEF, INTERCEPT, CLASSES),
    ),
    "logistic_merge": (
        lambda x, c, b, y: here(
            x,
            anyops.logistic_merge(
                *(anyops.logistic_partial(x[rows, ...], y[rows], c, b) for rows in (slice(0, 5), slice(5, 12)))
            ),
        ),
        *(ROWS, COEF, INTERCEPT, CLASSES),
    ),
    "logistic_step": (lambda x, c, b, y: anyops.logistic_step(x, y, c, b, l2=0.5), ROWS, COEF, INTERCEPT, CLASSES),
    "logistic_predict_proba": (anyops.logistic_predict_proba, ROWS, COEF, INTERCEPT),
    "logistic_log_proba": (anyops.logistic_log_proba, ROWS, COEF, INTERCEPT),
    "logistic_regression": (lambda x, y: here(x, anyops.logistic_regression(x, y)[:2]), ROWS, CLASSES),
    "kmeans": (lambda x: here(x, anyops.kmeans(x, 2, init="k-means||", seed=0)[:1]), ROWS),
    "kmeans_plusplus": (lambda x: anyops.kmeans_plusplus(x, 2, seed=0), ROWS),
    "minibatch_kmeans": (
        lambda x: here(x, anyops.minibatch_kmeans([x[:6, ...], x[6:, ...]], 2, seed=0)[:1]),
        ROWS,
    ),
    "anchor_boxes": (lambda x: here(x, anyops.anchor_boxes(x, 2, center="mean", seed=0)[:1]), np.exp(ROWS)),
    "kmeans_assign": (anyops.kmeans_assign, ROWS, ROWS[:3]),
    "kmeans_partial": (lambda x, c: here(x, anyops.kmeans_partial(x, c)), ROWS, ROWS[:3]),
    "kmeans_merge": (
        lambda x, c: here(x, anyops.kmeans_merge(anyops.kmeans_partial(x, c), anyops.kmeans_partial(x, c))),
        *(ROWS, ROWS[:3]),
    ),
    "kmeans_step": (anyops.kmeans_step, ROWS, ROWS[:3]),
    "nms": (anyops.nms, BOXES, SCORES),
    "batched_nms": (anyops.batched_nms, BOXES, SCORES, IDS, 0.5),
    "nms_mask": (anyops.nms_mask, BOXES, SCORES),
    "top_scores": (anyops.top_scores, SCORES, 3),
    "soft_nms": (anyops.soft_nms, BOXES, SCORES),
    "soft_nms_scores": (anyops.soft_nms_scores, BOXES, SCORES),
    "fast_nms": (anyops.fast_nms, BOXES, SCORES),
    "fast_nms_mask": (anyops.fast_nms_mask, BOXES, SCORES),
    "cluster_nms": (partial(anyops.cluster_nms, penalty="score"), BOXES, SCORES),
    "cluster_nms_scores": (partial(anyops.cluster_nms_scores, penalty="score"), BOXES, SCORES),
    "weighted_cluster_nms": (anyops.weighted_cluster_nms, BOXES, SCORES),
    "weighted_cluster_nms_boxes": (fused, BOXES, SCORES),
    "matrix_nms": (anyops.matrix_nms, BOXES, SCORES),
    "matrix_nms_scores": (anyops.matrix_nms_scores, BOXES, SCORES),
    "nms_groups": (anyops.nms_groups, BOXES, SCORES),
    "weighted_boxes_fusion": (lambda b, s, i: anyops.weighted_boxes_fusion(b, s, i).boxes, BOXES, SCORES, IDS),
    "weighted_boxes_fusion_padded": (
        lambda b, s, i: anyops.weighted_boxes_fusion_padded(b, s, i).boxes,
        *(BOXES, SCORES, IDS),
    ),
}


@pytest.mark.parametrize("op", capabilities.OPS)
def test_table_is_true(backend, op):
    """What the table promises runs; what it denies raises, so that no entry outlives its reason."""
    if is_thinned(backend):
        pytest.skip("`nox -s jax` runs the examples under x64")
    f, *args = EXAMPLES[op]
    for transform in Transform:
        if not is_due(backend, transform):
            continue
        reason = capabilities.why_not(op, backend, transform)
        if transform is Transform.JIT and capabilities.why_not(op, backend, Transform.VMAP) is reason is None:
            continue  # the lanes of a vmap are compared with a jit

        def example(transform=transform):
            if transform is not Transform.GRAD:
                return Run(backend, transform).raw(f, *args)
            arrays = [a for a in args if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
            rest = [a for a in args if not (isinstance(a, np.ndarray) and a.dtype.kind == "f")]
            if not arrays:
                arrays, rest = [args[0].astype(np.float32)], args[1:]
            rest = [backend.asarray(a) if isinstance(a, np.ndarray) else a for a in rest]
            grads = backend.gradient(lambda *xs: as_one(f(*xs, *rest)), *arrays)
            assert all(np.any(g != 0) for g in grads)
            return grads

        if reason is None:
            example()
        else:
            with pytest.raises(Exception):  # noqa: B017, PT011
                example()


@pytest.mark.parametrize(
    "op",
    [  # one of each kind: outside a jit, JAX compiles every operation on its own
        *("box_iou", "nms_mask", "soft_nms_scores", "cluster_nms_scores"),
        *("sigmoid_focal_loss", "batch_norm", "kmeans_step", "logistic_loss"),
    ],
)
def test_vmap_without_jit(op):
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    f, *args = EXAMPLES[op]
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    rest = args[len(arrays) :]
    with Backend.JAX_CPU.active():
        got = jax.vmap(lambda *xs: f(*xs, *rest))(*(Backend.JAX_CPU.asarray(np.stack([a, a])) for a in arrays))
        want = f(*map(Backend.JAX_CPU.asarray, arrays), *rest)
    for lanes, one in zip(*((r if isinstance(r, tuple) else (r,)) for r in (got, want)), strict=True):
        np.testing.assert_allclose(np.array(lanes), np.stack([one, one]), rtol=1e-6, atol=1e-6)


def test_every_op_of_the_table_has_an_example():
    assert set(EXAMPLES) == set(capabilities.OPS)


def test_unknown_op_is_an_error():
    with pytest.raises(KeyError, match="capability table"):
        capabilities.why_not("nms3d", Backend.NUMPY, Transform.EAGER)


def test_every_row_of_the_table_excludes_something():
    for ops, places, transforms, _ in capabilities.UNSUPPORTED:
        cells = [(b, t) for b in Backend for t in transforms if {b.value, b.library} & set(places) and t.belongs_to(b)]
        assert set(ops) <= set(capabilities.OPS)
        assert cells


def test_support_table_is_not_stale():
    path = ROOT / "docs" / "support.md"
    assert path.read_text(encoding="utf-8") == capabilities.render(), (
        "run: python -m tests.capabilities > docs/support.md"
    )


def test_support_table_rests_on_runs():
    """Each op was run on each backend that the record names; `python -m tests.record -k OP` runs what is new."""
    known = capabilities.load()
    assert {"numpy", "strict", "torch:cpu", "jax:cpu", "dask"} <= set(known)
    missing = {backend: lost for backend, entry in known.items() if (lost := set(capabilities.OPS) - set(entry["ops"]))}
    assert not missing, f"run `python -m tests.record`, for {missing}"


def test_support_table_is_well_formed():
    rows = [line for line in capabilities.render().splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert [re.findall(r"`(\w+)`", row)[0] for row in rows[2:]] == list(capabilities.OPS)


def pytest_run(*args, **environment):
    """A run of one small test file without a GPU, on NumPy and on two backends that need one."""
    settings = {"CUDA_VISIBLE_DEVICES": "", "ANYOPS_BACKENDS": "numpy,torch:gpu,cupy", "ANYOPS_REQUIRE_BACKENDS": ""}
    environment = (
        {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))} | settings | environment
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/_array/test_random.py", *args]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_absent_backends_are_counted_and_listed(workers):
    done = pytest_run(*workers, "-k", "goes_on or below_one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"2 passed, 4 skipped", done.stdout), done.stdout
    assert re.search(r"NOT TESTED: torch:gpu \(.+\): 2 tests", done.stdout)
    assert re.search(r"NOT TESTED: cupy \(.+\): 2 tests", done.stdout)
    assert "numpy (" not in done.stdout
    assert "left out by ANYOPS_BACKENDS" in done.stdout


@pytest.mark.parametrize(
    ("required", "message"),
    [
        ("cupy,numpy", r"cannot test cupy \(.+\)\n"),
        ("cupy, torch:gpu", r"cannot test cupy \(.+\), torch:gpu \(.+\)\n"),
        ("strict", r"cannot test strict \(.+\)\n"),  # absent, or left out by ANYOPS_BACKENDS
        ("numpi", "names numpi; the backends are numpy, "),
    ],
)
def test_a_required_backend_that_is_absent_is_an_error(required, message):
    done = pytest_run(ANYOPS_REQUIRE_BACKENDS=required)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert re.search(rf"ANYOPS_REQUIRE_BACKENDS:? {message}", done.stderr + done.stdout), done.stderr
    assert "passed" not in done.stdout


def test_a_required_backend_that_is_there_is_none():
    done = pytest_run("-k", "below_one", ANYOPS_REQUIRE_BACKENDS="numpy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_backend_that_does_not_exist_cannot_be_selected():
    done = pytest_run(ANYOPS_BACKENDS="torch")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ANYOPS_BACKENDS names torch" in done.stderr + done.stdout


def test_backends_put_inputs_where_libraries_do_not(backend):
    """The devices and flags that the matrix is there for are in force."""
    x = backend.asarray(np.zeros(2, np.float32))
    assert backend.owns(x)
    match backend:
        case Backend.NUMPY_READONLY:
            with pytest.raises(ValueError, match="read-only"):
                x[0] = 1
        case Backend.STRICT | Backend.STRICTEST:
            assert x.device != backend.xp.zeros(2).device
            if backend is Backend.STRICTEST:
                with pytest.raises(RuntimeError):
                    backend.xp.nonzero(x)
        case Backend.JAX_CPU | Backend.JAX_X64:
            assert backend.default("indexing") == ("int64" if backend is Backend.JAX_X64 else "int32")
        case Backend.TORCH_CUDA:
            assert x.device.type == "cuda"


def test_a_modified_input_is_noticed():
    def spoil(x):
        x += 1
        return x

    with pytest.raises(AssertionError, match="modified"):
        Run(Backend.NUMPY, Transform.EAGER)(spoil, BOXES)
    with pytest.raises(ValueError, match="read-only"):
        Run(Backend.NUMPY_READONLY, Transform.EAGER)(spoil, BOXES)


def test_a_result_of_another_kind_is_noticed():
    with pytest.raises(AssertionError, match="came back"):
        Run(Backend.NUMPY, Transform.EAGER)(lambda x: x.tolist(), BOXES)

"""Rows in parts: on several JAX devices, on the workers of a cluster, on all cores; and the number of passes."""

import os
import subprocess
import sys

import numpy as np
import pytest

import anyops
from tests.backends import Backend

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 5))
W = RNG.random(400)
R = X @ RNG.normal(size=(5, 3))
LABELS = {"two": (R[:, 0] + RNG.logistic(size=400) > 0) * 1, "three": np.argmax(R + RNG.gumbel(size=R.shape), axis=1)}

SHARDED = """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import anyops
from jax.sharding import Mesh, NamedSharding, PartitionSpec
rng = np.random.default_rng(0)
x, w = rng.normal(size=(160, 3)), rng.random(160)
place = NamedSharding(Mesh(np.asarray(jax.devices()), ("rows",)), PartitionSpec("rows"))
assert len(jax.devices()) == 8
for k, shape in ((2, (3,)), (4, (4, 3))):
    y = rng.integers(0, k, 160)
    coef, level = rng.normal(size=shape), rng.normal(size=shape[:-1])
    rows = [jax.device_put(a, place) for a in (x, y, w)]
    there = jax.numpy.asarray(coef), jax.numpy.asarray(level)
    for f in (anyops.logistic_partial, lambda *a, **o: anyops.logistic_step(*a, l2=0.5, **o)):
        got = jax.jit(lambda x, y, w: f(x, y, *there, sample_weight=w))(*rows)
        for g, v in zip(got, f(x, y, coef, np.asarray(level), sample_weight=w), strict=True):
            assert np.allclose(g, v, rtol=1e-10, atol=1e-10), (k, g, v)
    got = anyops.logistic_regression(rows[0], rows[1], sample_weight=rows[2], l2=0.1)
    want = anyops.logistic_regression(x, y, sample_weight=w, l2=0.1)
    assert got.converged and len(got.coef.sharding.device_set) == 8
    for g, v in zip(got[:2], want[:2], strict=True):
        assert np.allclose(g, v, rtol=1e-9, atol=1e-10), (k, g, v)
print("same")
"""


def test_sharded_over_eight_devices_of_jax():
    pytest.importorskip("jax")
    settings = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", SHARDED]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr[-2000:]


def chunked(names):
    da = pytest.importorskip("dask.array")
    return [da.from_array(a, chunks=(90, 2)[: a.ndim]) for a in names]


@pytest.mark.parametrize("classes", LABELS)
@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_a_graph_is_computed_once_an_iteration(classes, solver):
    """More passes find the labels, the scales, the initial curvature of L-BFGS, and whether it has converged."""
    callbacks = pytest.importorskip("dask.callbacks")
    x, y = chunked([X, LABELS[classes]])
    graphs = []
    with callbacks.Callback(start=graphs.append):
        got = anyops.logistic_regression(x, y, l2=1.0, solver=solver)
    assert got.converged
    assert got.n_iter + 1 <= len(graphs) <= got.n_iter + (4 if solver == "newton" else 7)
    want = anyops.logistic_regression(X, LABELS[classes], l2=1.0, solver=solver)
    np.testing.assert_allclose(got.coef, want.coef, rtol=1e-6, atol=1e-8)


def test_on_the_workers_of_a_cluster():
    distributed = pytest.importorskip("distributed")
    x, y, w = chunked([X, LABELS["three"], W])
    with (
        distributed.LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        got = anyops.logistic_regression(x, y, sample_weight=w)
    want = anyops.logistic_regression(X, LABELS["three"], sample_weight=W)
    assert got.converged
    for name in ("coef", "intercept", "loss"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.stderr[0], want.stderr[0], rtol=1e-9)


# --- many rows, which are split over cores and sampled for a start ----------------------------------------------------


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(20_000, 12))
    x[:, 3] *= np.isin(np.arange(20_000), np.arange(1, 200, 2))  # a column that is 0 in the rows of the start
    r = x @ rng.normal(size=(12, 4))
    return x, np.argmax(r + rng.gumbel(size=r.shape), axis=1), rng.random(20_000)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_gradient_is_zero_at_the_fit(backend, many, solver, fit_intercept, l2):
    x, y, w = many
    if backend.library in ("strict", "dask") or not backend.has_dtype("float64"):
        pytest.skip("one thread, or no thinning; or rounding: the other cells tell")
    options = {"l2": l2, "solver": solver, "fit_intercept": fit_intercept, "tol": 1e-9}
    got = anyops.logistic_regression(
        backend.asarray(x), backend.asarray(y), sample_weight=backend.asarray(w), **options
    )
    coef, level = backend.to_numpy(got.coef), backend.to_numpy(got.intercept)
    r = x @ coef.T + level
    p = np.exp(r - r.max(axis=1, keepdims=True))
    miss = w[:, None] * (p / p.sum(axis=1, keepdims=True) - np.eye(4)[y])
    np.testing.assert_allclose(miss.T @ x + l2 * coef, 0, atol=1e-4)
    assert np.all(level == 0) if not fit_intercept else np.allclose(miss.sum(axis=0), 0, atol=1e-4)


WRONG = {
    "2": [0, 1, 2, 0],
    "negative": [0, 1, -1, 0],
    "between": [0, 1, 0.5, 0],
    "NaN": [0, 1, float("nan"), 0],
    "3 of 3": [0, 1, 3, 2],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["logistic_loss", "logistic_partial", "logistic_step"])
@pytest.mark.parametrize("place", [Backend.NUMPY, Backend.STRICT, Backend.TORCH_CPU, Backend.JAX_CPU], ids=str)
def test_labels_that_are_no_classes(place, name, wrong):
    if why := place.why_unavailable():
        pytest.skip(why)
    call = getattr(anyops, name)
    y = np.asarray(WRONG[wrong])
    y = y.astype(np.float32 if y.dtype.kind == "f" else np.int32)
    shape = (3, 5) if wrong == "3 of 3" else (5,)
    rows = X[:4].astype(np.float32), y, np.zeros(shape, np.float32), np.zeros(shape[:-1], np.float32)
    fine = name == "logistic_loss" and wrong == "between"
    with place.active():
        x, y, *at = map(place.asarray, rows)
        if fine:
            call(x, y, *at)
        else:
            with pytest.raises(ValueError, match=r"y must be (0 or 1|in \[0, [12]\]), got"):
                call(x, y, *at)
        weights = place.asarray(np.asarray([1, 1, 0, 1], np.float32))
        known = [call(x, y, *at, sample_weight=weights)]
        hidden = []
        if wrong in ("negative", "between", "NaN"):  # a transform compiles, and one of each kind is enough
            pass
        elif place is Backend.TORCH_CPU:
            import torch

            hidden = torch.func.vmap(lambda y: tuple(call(x, y, *at)))(y[None, :])
            known += [torch.func.vmap(lambda y: tuple(call(x, y, *at, sample_weight=weights)))(y[None, :])]
        elif place is Backend.JAX_CPU:
            import jax

            hidden = jax.jit(call)(x, y, *at)
        hidden, known = [place.to_numpy(a) for a in hidden], [place.to_numpy(a) for found in known for a in found]
    assert all(np.all(np.isnan(a)) for a in hidden) or fine
    assert all(np.all(np.isfinite(a)) for a in known)


@pytest.mark.parametrize("op", ["kmeans", "kmeans_plusplus", "anchor_boxes"])
def test_no_rows_are_named(op):
    with pytest.raises(ValueError, match=r"(x|wh) must hold at least one (sample|box), got shape \(0, 2\)"):
        getattr(anyops, op)(X[:0, :2], 2)
    with pytest.raises(ValueError, match=r"x must have at least one row, got shape \(0, 5\)"):
        anyops.logistic_regression(X[:0], LABELS["two"][:0])


def test_a_lazy_start_is_named():
    lazy = pytest.importorskip("dask.array").from_array
    with pytest.raises(TypeError, match=r"init\[0\] must have values, got an array of dask, .*\.compute"):
        anyops.logistic_regression(X, LABELS["two"], init=(lazy(np.zeros(5)), lazy(np.zeros(()))))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_unsigned_labels_of_torch(dtype):
    torch = pytest.importorskip("torch")
    y = torch.asarray([0, 1, 1]).to(getattr(torch, dtype))
    found = anyops.logistic_loss(torch.ones(3, 2), y, torch.ones(2), torch.tensor(0.0))
    want = (np.log1p(np.exp(2)) + 2 * np.log1p(np.exp(-2))) / 3
    np.testing.assert_allclose(float(found.loss), want, rtol=1e-6)
    with pytest.raises(ValueError, match=r"y must be in \[0, 1\], got"):
        anyops.logistic_loss(
            torch.ones(3, 2),
            y + y + y if dtype == "uint8" else (y.to(torch.int64) * 3).to(y.dtype),
            torch.ones(2),
            torch.tensor(0.0),
        )

"""Fits on every library: published numbers, and a plain Newton iteration in float64 as the reference."""

import json
from pathlib import Path

import numpy as np
import pytest

import anyops
from tests.backends import Backend

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ml.json").read_text(encoding="utf-8"))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 4))
Y = (X @ np.array([1, -1, 0.5, 0]) + RNG.logistic(size=500) > 0).astype(np.int64)
W = RNG.random(500)


def reference(x, y, w, l2):
    """Coefficients, the intercept last, by Newton's method as it is written down."""
    rows, ridge = np.column_stack([x, np.ones(len(x))]), np.diag([l2] * x.shape[1] + [0.0])
    beta = np.zeros(rows.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-rows @ beta))
        hessian = rows.T @ ((w * p * (1 - p))[:, None] * rows) + ridge
        beta -= np.linalg.solve(hessian, rows.T @ (w * (p - y)) + ridge @ beta)
    return beta, np.sqrt(np.diag(np.linalg.inv(hessian)))


def host(backend, x):
    return x if backend is Backend.DASK else backend.to_numpy(x)


@pytest.mark.parametrize("solver", ["auto", "newton", "lbfgs"])
@pytest.mark.parametrize("l2", [0.0, 2.0])
def test_optimum(backend, solver, l2):
    got = anyops.logistic_regression(
        *map(backend.asarray, (X, Y)), sample_weight=backend.asarray(W), l2=l2, solver=solver
    )
    want, errors = reference(X, Y, W, l2)
    rtol = 1e-6 if backend.has_dtype("float64") else 2e-5
    np.testing.assert_allclose(host(backend, got.coef), want[:-1], rtol=rtol, atol=rtol)
    np.testing.assert_allclose(host(backend, got.intercept), want[-1], rtol=rtol, atol=rtol)
    assert got.converged
    assert not got.separated
    if l2:
        assert got.stderr is None
    else:
        np.testing.assert_allclose(host(backend, got.stderr[0]), errors[:-1], rtol=rtol)


def test_spector(backend):
    entry = VECTORS[0]
    x, y = np.array(entry["inputs"]["X"])[:, :3], np.array(entry["inputs"]["y"])
    got = anyops.logistic_regression(backend.asarray(x), backend.asarray(y))
    rtol = 1e-6 if backend.has_dtype("float64") else 1e-3
    want = entry["expected"]
    np.testing.assert_allclose(host(backend, got.coef), want["params"][:3], rtol=rtol)
    np.testing.assert_allclose(host(backend, got.stderr[0]), want["bse"][:3], rtol=rtol)
    np.testing.assert_allclose(got.report.log_likelihood, want["llf"], rtol=rtol)


@pytest.mark.parametrize("x", [[-2.0, -1.0, 1.0, 2.0], [-1.0, 0.0, 0.0, 1.0]], ids=["complete", "quasi-complete"])
def test_separated(backend, x):
    got = anyops.logistic_regression(backend.asarray(np.array(x)[:, None]), backend.asarray(np.array([0, 0, 1, 1])))
    assert got.separated
    assert np.all(np.isfinite(host(backend, got.coef)))
    assert got.stderr is None

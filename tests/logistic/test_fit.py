"""Fits on every library: published numbers, and a plain Newton iteration in float64 as the reference."""

import json
from pathlib import Path

import numpy as np
import pytest

import anyops
from anyops._host.logistic import lbfgs, solve
from anyops._host.logistic.dataset import Dataset
from tests.backends import Backend
from tests.fit_fuzz import Problem

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ml.json").read_text(encoding="utf-8"))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 4))
Y = (X @ np.array([1, -1, 0.5, 0]) + RNG.logistic(size=500) > 0).astype(np.int64)
W = RNG.random(500)


def reference(x, y, w, l2):
    """Coefficients, the intercept last, by textbook Newton's method."""
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


@pytest.mark.parametrize("scale", [1e-60, 2.0**-149, 1e39, 1e200])
@pytest.mark.parametrize("options", [{}, {"l2": 2.0}, {"l1": 2.0}, {"solver": "lbfgs"}, {"class_weight": "balanced"}])
def test_weights_beyond_the_dtype_of_x(scale, options):
    """Weights and penalties times a factor give the same model; log-likelihood and errors change by the factor."""
    x = X.astype(np.float32)
    want = anyops.logistic_regression(x, Y, sample_weight=W, **options)
    scaled = {k: v * scale if k in ("l1", "l2") else v for k, v in options.items()}
    got = anyops.logistic_regression(x, Y, sample_weight=W * scale, **scaled)
    np.testing.assert_allclose(got.coef, want.coef, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-5)
    np.testing.assert_allclose(got.report.weight, want.report.weight * scale, rtol=1e-6)
    np.testing.assert_allclose(got.report.log_likelihood, want.report.log_likelihood * scale, rtol=1e-5)
    if want.stderr is not None and scale == 2.0**-149:
        np.testing.assert_allclose(got.stderr[0], want.stderr[0] / scale**0.5, rtol=1e-4)


def test_weights_without_a_sum():
    with pytest.raises(ValueError, match=r"sample_weight.*finite sum"):
        anyops.logistic_regression(X, Y, sample_weight=np.full(500, 1e308))


# --- columns far from 0 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l1", [0.5, 0.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_l1_of_columns_far_from_zero(backend, classes, l1):
    """The conditions of a minimum, for columns shifted back: |gradient| ≤ l1, and = −l1 sign(coef) if coef ≠ 0."""
    rng = np.random.default_rng(0)
    near, y = rng.normal(size=(40, 5)), rng.integers(0, classes, 40)
    x, w = (near + 100).astype(np.float32), rng.random(40)  # the same numbers on every library
    w[3], bad = 0.0, x.copy()
    bad[3, 0] = np.nan  # an ignored row
    got = anyops.logistic_regression(
        *map(backend.asarray, (bad, y)), sample_weight=backend.asarray(w), l1=l1, solver="proximal"
    )
    assert got.converged
    assert got.n_iter < 15
    coef = np.reshape(host(backend, got.coef).astype(np.float64), (-1, 5))
    moved = x.astype(np.float64) - 100
    r = moved @ coef.T + np.ravel(host(backend, got.intercept)).astype(np.float64) + 100 * coef.sum(axis=1)
    r = np.column_stack([0 * r, r]) if classes == 2 else r
    p = np.exp(r) / np.exp(r).sum(axis=1, keepdims=True)
    grad = ((p - np.eye(classes)[y]) * w[:, None])[:, -len(coef) :].T @ np.column_stack([moved, np.ones(40)])
    atol = 2e-3  # in float32 an intercept of 200 has steps of 2e-5, and a logit is 100 coefficients
    np.testing.assert_allclose(grad[:, -1], 0, atol=atol)
    zero = coef == 0
    assert np.all(np.abs(grad[:, :-1][zero]) <= l1 + atol)
    np.testing.assert_allclose(grad[:, :-1][~zero], -l1 * np.sign(coef[~zero]), atol=atol)


def test_proximal_of_columns_far_from_zero():
    """A narrow column, a constant one, one near 0, a start, and standard errors, as by Newton's method."""
    rng = np.random.default_rng(0)
    x = np.column_stack([2000 + 20 * rng.random(300), np.full(300, 0.1), rng.normal(size=300)])
    y = (x[:, 0] + 8 * rng.normal(size=300) > 2010).astype(int)
    near = x - np.asarray([2010, 0, 0])
    for start in (None, (np.asarray([0.2, 0.0, 0.0]), np.asarray(-402.0))):
        got = anyops.logistic_regression(x, y, l1=1.0, init=start)
        want = anyops.logistic_regression(near, y, l1=1.0)
        np.testing.assert_allclose(got.coef, want.coef, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(got.intercept, want.intercept - 2010 * want.coef[0], rtol=1e-5)
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-9)
        assert got.converged
    plain = [0, 2]
    got = anyops.logistic_regression(x[:, plain], y, solver="proximal")
    beta, errors = reference(near[:, plain], y, np.ones(300), 0.0)
    np.testing.assert_allclose(got.coef, beta[:-1], rtol=1e-5)
    np.testing.assert_allclose(got.stderr[0], errors[:-1], rtol=1e-4)
    variance = np.linalg.inv(_information(near[:, plain], beta))
    move = np.asarray([-2010, 0, 1])
    np.testing.assert_allclose(got.stderr[1], np.sqrt(move @ variance @ move), rtol=1e-4)
    got = anyops.logistic_regression(x, y, solver="proximal")
    assert np.abs(got.coef[1]) < 1e4  # a constant, not its rounding, which would be divided by


def _information(x, beta):
    rows = np.column_stack([x, np.ones(len(x))])
    p = 1 / (1 + np.exp(-rows @ beta))
    return rows.T @ ((p * (1 - p))[:, None] * rows)


def test_l1_of_very_many_columns_far_from_zero():
    rng = np.random.default_rng(0)
    near = rng.normal(size=(200, 1100))
    y = (near[:, 0] - near[:, 1] + rng.normal(size=200) > 0).astype(int)
    got, want = (anyops.logistic_regression(x, y, l1=5.0) for x in (near + 100, near))
    assert got.converged
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-9)
    np.testing.assert_allclose(got.coef, want.coef, atol=1e-4)


def test_lbfgs_from_a_start_with_rare_classes():
    # With so many coefficients the curvature is only estimated: at coefficients of 0 it is far too small here.
    rng = np.random.default_rng(0)
    n, p, classes = 6_000, 200, 11
    y = np.where(rng.random(n) < 0.01, rng.integers(0, classes - 1, n), classes - 1)
    x = rng.normal(size=(n, 8)) @ rng.normal(size=(8, p)) + 0.5 * rng.normal(size=(n, p))
    x += 1.5 * rng.normal(size=(classes, p))[y] * (y < classes - 1)[:, None]
    options = {"solver": "lbfgs", "l2": 1.0, "max_iter": 40}
    want = anyops.logistic_regression(x, y, **options)
    got = anyops.logistic_regression(x, y, init=(np.zeros((classes, p)), np.zeros(classes)), **options)
    assert got.loss < 1.1 * want.loss


def test_l1_of_columns_that_are_nearly_one():
    """Without an intercept columns are not shifted, so coordinate descent would be slow. Checks the conditions."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)) + 100, rng.integers(0, 2, 40)
    got = anyops.logistic_regression(x, y, l1=0.5, fit_intercept=False)
    assert got.converged
    assert got.n_iter < 15
    grad = x.T @ (1 / (1 + np.exp(-x @ got.coef)) - y)
    zero = got.coef == 0
    assert np.all(np.abs(grad[zero]) <= 0.5 + 1e-3)
    np.testing.assert_allclose(grad[~zero], -0.5 * np.sign(got.coef[~zero]), atol=1e-3)


def test_a_fit_that_goes_on_in_float64_makes_no_hessian_beyond_its_means(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 8)).astype(np.float32)
    y = (x[:, 0] + rng.logistic(size=500) > 0) * 1
    asked = []
    sums, descend = Dataset.sums, solve.descend

    def noted(self, theta, curvature):
        asked.append((self.dtype, curvature))
        return sums(self, theta, curvature)

    def stalled(objective, *args, **options):
        return descend(objective, *args, **options)._replace(converged=not objective.narrow)

    monkeypatch.setattr(lbfgs, "AFFORDED", 0)
    monkeypatch.setattr(solve, "descend", stalled)
    monkeypatch.setattr(Dataset, "sums", noted)
    got = anyops.logistic_regression(x, y, l2=1.0, solver="lbfgs")
    assert got.converged
    assert {curvature for dtype, curvature in asked if dtype == np.float64} == {"diagonal", "none"}


@pytest.mark.parametrize("options", [{}, {"l2": 1.0, "solver": "lbfgs"}, {"l1": 1.0}], ids=str)
@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint8", "float16", "bfloat16"])
@pytest.mark.parametrize("place", [Backend.NUMPY, Backend.TORCH_CPU, Backend.JAX_CPU], ids=str)
def test_samples_of_whole_numbers(place, dtype, options):
    if why := place.why_unavailable():
        pytest.skip(why)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (200, 3)), rng.integers(0, 2, 200)
    penalties = {name: value for name, value in options.items() if name != "solver"}
    want = Problem(0, 0, x.astype(np.float64), y, {"fit_intercept": True} | penalties).reference.value
    with place.active():
        if not place.has_dtype(dtype):
            pytest.skip(f"{place} has no {dtype}")
        x = place.xp.astype(place.asarray(x), getattr(place.xp, dtype))
        got = anyops.logistic_regression(x, place.asarray(y), **options)
    assert got.converged
    np.testing.assert_allclose(got.loss, want, rtol=1e-6)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "auto"])
@pytest.mark.parametrize(("level", "dtype"), [(1e7, "float32"), (1.6e7, "float32"), (1000, "float16")])
def test_a_column_whose_digits_end_at_its_spread(level, dtype, solver):
    """Its values are exact, so it is not a constant, and does not make another column dependent."""
    rng = np.random.default_rng(0)
    d, z = rng.integers(0, 2, 2000), rng.normal(size=2000)
    y = (rng.random(2000) < 1 / (1 + np.exp(1 - 2 * d))) * 1
    wide = np.stack([level + d, z, z], axis=1).astype(dtype)
    for columns, dependent in (([0], ()), ([0, 1], ()), ([0, 1, 2], (1, 2))):
        got = anyops.logistic_regression(wide[:, columns], y, solver=solver)
        exact = np.stack([d, wide[:, 1].astype(np.float64)], axis=1)[:, columns[:2]]
        want = Problem(0, 0, exact, y, {"fit_intercept": True}).reference.value
        assert got.converged
        assert got.report.dependent == dependent
        np.testing.assert_allclose(got.loss, want, rtol=1e-5)
    apart = np.where(d == 1, 1, y)
    assert anyops.logistic_regression(wide[:, :2], apart, solver=solver).separated


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e-160, 1e-150, 1e150, 1e200, 1e307])
def test_units_that_float64_cannot_square(unit):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = (x[:, 0] + rng.normal(size=300) > 0) * 1
    if abs(np.log10(unit)) > 155:
        with pytest.raises(ValueError, match="x must have columns whose spread is from"):
            anyops.logistic_regression(x * unit, y)
    else:
        want, got = (anyops.logistic_regression(a, y) for a in (x, x * unit))
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-9)
        np.testing.assert_allclose(got.stderr[0] * unit, want.stderr[0], rtol=1e-6)


def test_no_columns_are_refused():
    with pytest.raises(ValueError, match=r"x must have at least one column, got shape \(4, 0\)"):
        anyops.logistic_regression(np.zeros((4, 0)), np.asarray([0, 1, 0, 1]))

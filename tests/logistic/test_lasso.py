"""The l1 subproblem by its optimality conditions, l1 fits by their duality gap, the gap by reference optima."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anyops
from anyops._array.mode import mode_of
from anyops._host.logistic.duality import balancing_factors, duality_gap, shrinkage
from anyops._host.logistic.lasso import lasso, lasso_by_products
from anyops.logistic.gap import dual_sums
from anyops.logistic.objective import row_sums
from tests.backends import Backend
from tests.calls import counted

MODE = mode_of(x=np.zeros(1))
MOST = 300_000  # function calls; coordinate descent alone made tens of millions

seeds = st.integers(0, 2**32 - 1)


def excess(h, g, bound, x):
    """The violation of the conditions of a minimum, relative to the largest number in them."""
    slope = g + h @ x
    off = np.where(x != 0, np.abs(slope + bound * np.sign(x)), np.maximum(np.abs(slope) - bound, 0))
    largest = np.max(np.abs(g)) + np.max(bound) + np.max(np.abs(h) @ np.abs(x))
    return float(np.max(off) / largest)


def objective(h, g, bound, x):
    return g @ x + 0.5 * x @ h @ x + bound @ np.abs(x)


def problem(rng, n, p, rank, noise, share):
    """A quadratic of n rows and p columns; if there are enough, one is 0, one a copy and one unpenalised."""
    a = rng.normal(size=(n, min(rank, p))) @ rng.normal(size=(min(rank, p), p)) / np.sqrt(rank)
    a = a + noise * rng.normal(size=(n, p))
    if p > 4:
        a[:, 1], a[:, 2], a[:, 3] = 0.0, a[:, 0], -2.0 * a[:, 4]
    h = a.T @ a / n
    g = -a.T @ (a[:, 0] + rng.normal(size=n)) / n
    bound = share * np.max(np.abs(g)) * rng.uniform(0.5, 1.5, size=p)
    if p > 4:
        bound[0] = 0.0
    return h, g, bound


# --- the quadratic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1e-4, 1e-2, 0.1, 0.5])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3, 0.1])
def test_conditions_of_correlated_columns(noise, share):
    rng = np.random.default_rng(7)
    h, g, bound = problem(rng, 400, 300, 10, noise, share)
    x, calls = counted(lambda: lasso(h, g, bound, np.zeros(300)))
    assert calls < MOST  # coordinate descent alone took a minute
    assert excess(h, g, bound, x) < 1e-11


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 40), st.integers(1, 60), st.integers(1, 8), st.sampled_from([0, 1e-9, 1e-3, 1.0]))
def test_conditions_from_any_start(seed, n, p, rank, noise):
    rng = np.random.default_rng(seed)
    h, g, bound = problem(rng, n, p, rank, noise, 10 ** rng.uniform(-4, 0))
    for start in (np.zeros(p), rng.normal(size=p), 1e3 * rng.normal(size=p) * (rng.random(p) < 0.2)):
        before = start.copy()
        x = lasso(h, g, bound, start)
        assert np.array_equal(start, before)
        assert excess(h, g, bound, x) < 1e-11
        low, high = objective(h, g, bound, x), objective(h, g, bound, start)
        assert low <= high + 1e-12 * (abs(low) + abs(high))
        again = lasso(h, g, bound, x)
        assert objective(h, g, bound, again) <= low + 1e-14 * (abs(low) + bound @ np.abs(x))


def test_soft_threshold_of_a_diagonal():
    bound, g = np.asarray([1.0, 1.0, 0.0, 2.0]), np.asarray([3.0, 0.5, -1.0, -4.0])
    h = np.diag([2.0, 1.0, 4.0, 1.0])
    assert lasso(h, g, bound, np.zeros(4)).tolist() == [-1.0, 0.0, 0.25, 2.0]


def test_no_coefficients():
    nothing = np.zeros(0)
    assert lasso(np.zeros((0, 0)), nothing, nothing, nothing).shape == (0,)
    assert lasso_by_products(nothing, np.zeros((0, 0)), np.zeros((0, 0)), nothing, nothing, nothing).shape == (0,)


def test_rows_of_zeros_lose_what_is_penalised():
    h, g = np.diag([1.0, 0.0, 0.0, 0.0]), np.asarray([-2.0, 0.0, 0.0, 0.5])
    bound = np.asarray([1.0, 1.0, 0.0, 1.0])
    assert lasso(h, g, bound, np.asarray([0.0, 3.0, 4.0, -5.0])).tolist() == [1.0, 0.0, 4.0, 0.0]


def test_copies_share_without_ending_in_a_loop():
    h, g, bound = np.ones((50, 50)), np.full(50, -3.0), np.full(50, 1.0)
    for start in (np.zeros(50), np.tile([5.0, -5.0], 25), np.full(50, 100.0)):
        x = lasso(h, g, bound, start)
        assert np.all(x >= 0)
        np.testing.assert_allclose(np.sum(x), 2.0, rtol=1e-12)


@pytest.mark.parametrize("share", [1e-3, 0.1])
def test_rounding_of_float32_makes_no_endless_loop(share):
    """A Hessian summed in float32 is indefinite by 1e-7."""
    rng = np.random.default_rng(3)
    a = (rng.normal(size=(400, 10)) @ rng.normal(size=(10, 300))).astype(np.float32)
    h = (a.T @ a).astype(np.float64) / 400
    h = h + 1e-7 * np.abs(h).max() * np.diag(rng.normal(size=300))
    assert np.linalg.eigvalsh(h)[0] < -1e-6
    g = -h[:, 0] - 0.1 * rng.normal(size=300)
    bound = np.full(300, share * np.max(np.abs(g)))
    x, calls = counted(lambda: lasso(h, g, bound, np.zeros(300)))
    assert calls < MOST
    assert objective(h, g, bound, x) < 0
    assert np.all(np.isfinite(x))
    assert excess(h, g, bound, x) < 1e-3


def test_without_a_minimum_it_ends_no_higher():
    h, g, bound = np.zeros((3, 3)), np.asarray([1.0, -1.0, 0.0]), np.asarray([0.0, 0.5, 1.0])
    x = lasso(h, g, bound, np.ones(3))
    assert np.all(np.isfinite(x))
    assert objective(h, g, bound, x) <= objective(h, g, bound, np.ones(3))
    h = np.asarray([[1.0, 1.0], [1.0, 1.0]])
    x = lasso(h, np.asarray([-1.0, 1.0]), np.zeros(2), np.zeros(2))
    assert np.all(np.isfinite(x))


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e120])
def test_units(scale):
    h, g, bound = problem(np.random.default_rng(5), 60, 30, 30, 0.1, 0.1)
    want = lasso(h, g, bound, np.zeros(30))
    got = lasso(h * scale, g * scale, bound * scale, np.zeros(30))
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 80), st.integers(0, 10))
def test_conditions_by_products(seed, p, pairs):
    rng = np.random.default_rng(seed)
    base = 10 ** rng.uniform(-2, 2, size=p)
    # Less than the diagonal is subtracted along a few directions, so that B stays positive definite.
    directions = np.linalg.qr(rng.normal(size=(p, min(pairs, p))))[0]
    thin = np.sqrt(base)[:, None] * directions
    core = np.diag(rng.uniform(-50, 0.999, size=thin.shape[1]))
    h = np.diag(base) - thin @ core @ thin.T
    g, start = rng.normal(size=p), rng.normal(size=p) * (rng.random(p) < 0.5)
    bound = rng.uniform(0, 0.5, size=p) * (rng.random(p) < 0.9)
    x = lasso_by_products(base, thin, core, g, bound, start)
    shifted = g - h @ start
    assert excess(h, shifted, bound, x) < 1e-11
    assert objective(h, shifted, bound, x) <= objective(h, shifted, bound, start) + 1e-12


# --- whole fits ------------------------------------------------------------------------------------------------------


def correlated(seed, noise):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, 10)) @ rng.normal(size=(10, 300)) + noise * rng.normal(size=(400, 300))
    logits = x[:, :5] @ rng.normal(size=5)
    return x, (logits / np.std(logits) + rng.logistic(size=400) > 0).astype(np.int64)


@pytest.mark.parametrize("share", [1e-3, 1e-2, 0.1, 0.5])
@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-2, 0.1])
def test_fit_of_correlated_columns(noise, share):
    x, y = correlated(11, noise)
    x = x.astype(np.float32)
    wide = x.astype(np.float64)
    l1 = share * float(np.max(np.abs(wide.T @ (y - np.mean(y)))))
    exact, calls = counted(lambda: anyops.logistic_regression(wide, y, l1=l1))
    rounded, more = counted(lambda: anyops.logistic_regression(x, y, l1=l1))
    assert max(calls, more) < MOST
    assert exact.converged
    assert rounded.converged
    problem = wide, 2.0 * y - 1.0, np.ones(400)
    bound, ridge = np.full(300, l1 / 400), np.zeros(300)
    best = primal(*problem, exact.coef, exact.intercept, bound, ridge)
    assert gap_at(*problem, exact.coef, exact.intercept, bound, ridge, 2, True) < 1e-9 * best
    single = primal(*problem, rounded.coef.astype(np.float64), np.float64(rounded.intercept), bound, ridge)
    assert single < best * (1 + 2e-6)


# --- the duality gap -------------------------------------------------------------------------------------------------


def primal(x, target, w, coef, intercept, bound, ridge):
    if coef.ndim == 1:
        loss = np.logaddexp(0, -target * (x @ coef + intercept))
    else:
        r = x @ coef.T + intercept
        loss = np.logaddexp.reduce(r, 1) - r[np.arange(len(x)), target]
    return np.sum(w * loss) / np.sum(w) + np.sum(0.5 * ridge * coef**2 + bound * np.abs(coef))


def optimum(x, target, w, bound, ridge, classes, fit_intercept):
    """By L-BFGS-B in the positive and negative parts of the coefficients, independent of the package."""
    minimize = pytest.importorskip("scipy.optimize").minimize
    n, p = x.shape
    lines, mass = 1 if classes == 2 else classes, np.sum(w)
    size = lines * p
    flat_bound, flat_ridge = bound.reshape(-1), ridge.reshape(-1)

    def value(z):
        coef = z[:size] - z[size : 2 * size]
        theta, level = coef.reshape(lines, p), z[2 * size :] * fit_intercept
        if classes == 2:
            u = target * (x @ theta[0] + level[0])
            loss, slope = np.logaddexp(0, -u), (-target * np.exp(-np.logaddexp(0, u)))[:, None]
        else:
            r = x @ theta.T + level
            top = np.logaddexp.reduce(r, 1)
            loss, slope = top - r[np.arange(n), target], np.exp(r - top[:, None])
            slope[np.arange(n), target] -= 1
        slope = slope * w[:, None] / mass
        grad = (slope.T @ x).reshape(-1) + flat_ridge * coef
        penalty = 0.5 * np.sum(flat_ridge * coef**2) + np.sum(flat_bound * (z[:size] + z[size : 2 * size]))
        return (
            np.sum(w * loss) / mass + penalty,
            np.concatenate([flat_bound + grad, flat_bound - grad, fit_intercept * np.sum(slope, 0)]),
        )

    z = np.zeros(2 * size + lines)
    limits = [(0, None)] * (2 * size) + [(None, None)] * lines
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0, "gtol": 1e-13, "maxcor": 30}
    for _ in range(3):
        z = minimize(value, z, jac=True, method="L-BFGS-B", bounds=limits, options=options).x
    coef, level = (z[:size] - z[size : 2 * size]).reshape(lines, p), z[2 * size :] * fit_intercept
    return (coef[0], level[0]) if classes == 2 else (coef, level)


def gap_at(x, target, w, coef, intercept, bound, ridge, classes, fit_intercept, rows=None):
    """The gap by the passes of a fit, over chunks of `rows` whose sums are added."""
    rows = len(x) if rows is None else rows
    mass = np.sum(w)

    def read(factors):
        parts = [
            dual_sums(
                MODE, x[i : i + rows], target[i : i + rows], w[i : i + rows], coef, intercept, factors, wide=np.float64
            )
            for i in range(0, len(x), rows)
        ]
        return [sum(each) for each in zip(*parts, strict=True)]

    factors = np.ones(classes)
    if fit_intercept:
        factors = balancing_factors(read(factors)[3])
        assert np.all((factors >= 0) & (factors <= 1))
    loss, divergence, slope, levels = read(factors)
    if fit_intercept:
        assert np.max(np.abs(np.sum(levels, axis=1))) <= 1e-12 * mass
    gap = duality_gap(float(loss), float(divergence), slope, mass, coef, bound, ridge)
    loss, divergence, slope, _ = read(factors * shrinkage(slope, mass, bound, ridge))
    tighter = duality_gap(float(loss), float(divergence), slope, mass, coef, bound, ridge)
    assert tighter <= gap * (1 + 1e-9) + 1e-15
    return tighter


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_gap_bounds_the_distance_to_the_optimum(classes, fit_intercept):
    rng = np.random.default_rng(classes)
    for _ in range(8):
        n, p = int(rng.integers(6, 60)), int(rng.integers(1, 10))
        x = rng.normal(size=(n, p)) + rng.normal(size=p)
        y = rng.integers(0, classes, n)
        y[:classes] = np.arange(classes)
        target = 2.0 * y - 1.0 if classes == 2 else y
        w = rng.exponential(size=n)
        w[classes:][rng.random(n - classes) < 0.1] = 0
        shape = (p,) if classes == 2 else (classes, p)
        bound, ridge = rng.uniform(0.01, 0.2, size=shape), rng.choice([0, 0.1], size=shape)
        ridge_only = rng.random(shape) < 0.2
        bound, ridge = np.where(ridge_only, 0, bound), np.where(ridge_only, 0.1, ridge)
        coef, intercept = optimum(x, target, w, bound, ridge, classes, fit_intercept)
        best = primal(x, target, w, coef, intercept, bound, ridge)
        assert gap_at(x, target, w, coef, intercept, bound, ridge, classes, fit_intercept, rows=7) < 1e-6
        for far in (1e-4, 1e-2, 0.3, 3, 30, 1000):
            at = coef + far * rng.normal(size=shape) * (rng.random(shape) < 0.7)
            level = intercept + fit_intercept * far * rng.normal(size=np.shape(intercept))
            above = primal(x, target, w, at, level, bound, ridge) - best
            gap = gap_at(x, target, w, at, level, bound, ridge, classes, fit_intercept)
            assert np.isfinite(gap)
            assert gap >= above * (1 - 1e-12) - 1e-14


def test_gap_vanishes_where_all_coefficients_are_0():
    """Beyond the largest useful bound the null model is the minimum, whose dual is known in closed form."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)), np.arange(50) % 5 == 0
    level = np.log(10 / 40)
    bound = np.full(4, 1.01 * np.max(np.abs(x.T @ (y - 0.2))) / 50)
    gap = gap_at(x, 2.0 * y - 1.0, np.ones(50), np.zeros(4), level, bound, np.zeros(4), 2, True)
    assert 0 <= gap < 1e-15


def test_gap_of_a_column_without_a_penalty_is_the_objective():
    x, target = np.asarray([[1.0], [2.0], [-1.0]]), np.asarray([1.0, -1.0, 1.0])
    coef, nothing = np.asarray([0.3]), np.zeros(1)
    gap = gap_at(x, target, np.ones(3), coef, 0.0, nothing, nothing, 2, False)
    np.testing.assert_allclose(gap, primal(x, target, np.ones(3), coef, 0.0, nothing, nothing), rtol=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_dual_sums_are_the_gradient_at_factors_of_one(classes):
    rng = np.random.default_rng(classes)
    x, y, w = rng.normal(size=(30, 3)), rng.integers(0, classes, 30), rng.exponential(size=30)
    target = 2.0 * y - 1.0 if classes == 2 else y
    shape = () if classes == 2 else (classes,)
    coef, intercept = rng.normal(size=(*shape, 3)), rng.normal(size=shape)
    loss, divergence, slope, levels = dual_sums(MODE, x, target, w, coef, intercept, np.ones(classes), wide=np.float64)
    _, want, grad, level = row_sums(MODE, x, target, w, coef, intercept, curvature="none", wide=np.float64)
    np.testing.assert_allclose(loss, want, rtol=1e-12)
    np.testing.assert_allclose(slope, grad, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(np.sum(levels, axis=1)[-1], np.atleast_1d(level)[-1], rtol=1e-12, atol=1e-13)
    assert divergence == 0


def test_balancing_factors_of_chains_that_fall_apart():
    assert balancing_factors(np.asarray([[0.0, 0.0], [0.0, -0.0]])).tolist() == [1.0, 0.0]
    got = balancing_factors(np.asarray([[-1e-30, 1e-3], [1e-30, -1e-3]]))
    np.testing.assert_allclose(got, [1.0, 1e-27], rtol=1e-12)
    # Rows of class 2 are certain, so the class is absorbing.
    levels = np.asarray([[-1.0, 0.5, 0.0], [0.5, -1.0, 0.0], [0.5, 0.5, 0.0]])
    assert balancing_factors(levels).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("classes", [2, 3])
def test_dual_sums_on_every_library(backend, classes):
    if backend is Backend.DASK:
        pytest.skip("kernels see chunks, which are NumPy's")
    rng = np.random.default_rng(classes)
    x, y, w = rng.normal(size=(20, 3)), rng.integers(0, classes, 20), rng.exponential(size=20)
    x, w = x.astype(np.float32), w.astype(np.float32)
    w[3], x[3] = 0, np.nan
    target = (2 * y - 1).astype(np.float32) if classes == 2 else y
    shape = () if classes == 2 else (classes,)
    at = [rng.normal(size=(*shape, 3)), rng.normal(size=shape), rng.uniform(0, 1, size=classes)]
    arrays = [x, target, w, *(a.astype(np.float32) for a in at)]
    shipped = [backend.asarray(a) for a in arrays]
    mode = mode_of(x=shipped[0])
    got = dual_sums(mode, *shipped, wide=mode.xp.float32)
    want = dual_sums(MODE, *(a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays), wide=np.float64)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(backend.to_numpy(one), other, rtol=2e-5, atol=2e-6)

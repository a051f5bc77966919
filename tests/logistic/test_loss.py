"""The loss and its parts, against formulas in high precision and differences; and errors."""

import tracemalloc

import numpy as np
import pytest
from mpmath import mp, mpf

import anyops
from tests.backends import Transform

RNG = np.random.default_rng(3)
X, Y, W = RNG.normal(size=(40, 3)), RNG.integers(0, 2, 40), RNG.random(40)
LABELS = RNG.integers(0, 4, 40)
COEF, COEFS = RNG.normal(size=3), RNG.normal(size=(4, 3))
LEVEL, LEVELS = np.asarray(0.3), RNG.normal(size=4)


def plain_loss(x, y, coef, intercept, w, l2):
    """The mean loss by the textbook formula, in float64."""
    r = x @ coef.T + intercept
    rows = np.arange(len(y))
    each = np.logaddexp(0, r) - y * r if coef.ndim == 1 else np.log(np.exp(r).sum(axis=1)) - r[rows, y]
    return ((w * each).sum() + l2 / 2 * (coef**2).sum()) / w.sum()


def differences(f, at, step=1e-6):
    grad = np.zeros_like(at)
    for i in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[i] += step
        down[i] -= step
        grad[i] = (f(up) - f(down)) / (2 * step)
    return grad


MODELS = {"two classes": (Y, COEF, LEVEL), "four classes": (LABELS, COEFS, LEVELS)}


@pytest.mark.op("logistic_loss", transforms=(Transform.EAGER, Transform.JIT, Transform.COMPILE))
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients(run, name):
    y, coef, level = MODELS[name]
    x, w, c, b = (a.astype(np.float32) for a in (X, W, coef, np.asarray(level)))
    got = run(lambda x, y, c, b, w: anyops.logistic_loss(x, y, c, b, sample_weight=w, l2=0.7), x, y, c, b, w)
    x, w, c, b = (a.astype(np.float64) for a in (x, w, c, b))
    close = {"rtol": 2e-5, "atol": 2e-6}
    np.testing.assert_allclose(got[1], plain_loss(x, y, c, b, w, 0.7), **close)
    np.testing.assert_allclose(got[2], differences(lambda c: plain_loss(x, y, c, b, w, 0.7), c), **close)
    np.testing.assert_allclose(got[3], differences(lambda b: plain_loss(x, y, c, b, w, 0.7), b), **close)
    r = x @ c.T + b
    probs = 1 / (1 + np.exp(-r)) if c.ndim == 1 else np.exp(r) / np.exp(r).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got[0], probs, **close)


@pytest.mark.op("logistic_loss", transforms=(Transform.EAGER, Transform.JIT))
@pytest.mark.parametrize("r", [-1e4, -100.0, -30.0, 0.0, 30.0, 100.0, 1e4])
@pytest.mark.parametrize("y", [0, 1])
def test_extreme_logits(run, r, y):
    x, labels = np.array([[r]], np.float32), np.array([y])
    got = run(anyops.logistic_loss, x, labels, np.ones(1, np.float32), np.zeros((), np.float32))
    with mp.workdps(60):
        p = 1 / (1 + mp.exp(-mpf(r)))
        loss, slope = (-mp.log(p), p - 1) if y else (-mp.log(1 / (1 + mp.exp(mpf(r)))), p)
        want = [float(v) for v in (p, loss, slope * r, slope)]
    for g, v in zip(got, want, strict=True):
        np.testing.assert_allclose(np.ravel(g), v, rtol=2e-6, atol=1e-37)


@pytest.mark.op("logistic_log_proba", transforms=(Transform.EAGER, Transform.JIT))
def test_log_proba_in_the_tails(run):
    x = np.array([[-200.0], [-20.0], [20.0], [200.0]], np.float32)
    got = run(anyops.logistic_log_proba, x, np.ones(1, np.float32), np.zeros((), np.float32))
    with mp.workdps(120):
        want = [float(-mp.log1p(mp.exp(-mpf(float(v))))) for v in x[:, 0]]
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-37)  # below it float32 underflows
    coef = np.array([[1.0], [0.0], [-1.0]], np.float32)
    got = run(anyops.logistic_log_proba, x, coef, np.zeros(3, np.float32))
    with mp.workdps(240):
        rows = [[mpf(float(v)), mpf(0), -mpf(float(v))] for v in x[:, 0]]
        want = [[float(r - mp.log(sum(mp.exp(s) for s in row))) for r in row] for row in rows]
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-37)


@pytest.mark.op("logistic_loss", transforms=(Transform.EAGER, Transform.JIT))
@pytest.mark.parametrize("name", MODELS)
def test_weight_zero_is_no_row(run, name):
    y, coef, level = MODELS[name]
    x, c, b = (np.asarray(a, np.float32) for a in (X, coef, level))
    w = (np.arange(40) % 3 > 0).astype(np.float32)
    holed = np.where(w[:, None] > 0, x, np.float32(np.nan))
    got = run(lambda x, y, c, b, w: anyops.logistic_loss(x, y, c, b, sample_weight=w)[1:], holed, y, c, b, w)
    there = w > 0
    want = run(lambda x, y, c, b: anyops.logistic_loss(x, y, c, b)[1:], x[there].copy(), y[there].copy(), c, b)
    for g, v in zip(got, want, strict=True):
        np.testing.assert_allclose(g, v, rtol=1e-5, atol=1e-6)


@pytest.mark.op("logistic_partial", transforms=(Transform.EAGER, Transform.JIT))
@pytest.mark.parametrize("name", MODELS)
def test_hessian(run, name):
    if run.backend.library == "dask":
        pytest.skip("sums of dask arrays are NumPy's: test_dask_in_chunks")
    y, coef, level = MODELS[name]
    x, w, c, b = (np.asarray(a, np.float32) for a in (X, W, coef, level))
    _, _, hessian, weight = run(
        lambda x, y, c, b, w: anyops.logistic_partial(x, y, c, b, sample_weight=w), x, y, c, b, w
    )
    x, w, c, b = (a.astype(np.float64) for a in (x, w, c, b))
    k = 1 if c.ndim == 1 else len(c)
    theta = np.concatenate([c.reshape(k, -1), b.reshape(k, 1)], axis=1)

    def gradient(theta):
        at = theta[:, :-1].reshape(c.shape), theta[:, -1].reshape(b.shape)
        probs = x @ at[0].T + at[1]
        probs = 1 / (1 + np.exp(-probs)) if k == 1 else np.exp(probs) / np.exp(probs).sum(axis=1, keepdims=True)
        miss = (probs - y)[:, None] if k == 1 else probs - np.eye(k)[y]
        return ((w[:, None] * miss).T @ np.column_stack([x, np.ones(len(x))])).ravel()

    want = np.zeros((theta.size, theta.size))
    for j in range(theta.size):
        step = np.zeros(theta.size)
        step[j] = 1e-5
        step = step.reshape(theta.shape)
        want[j] = (gradient(theta + step) - gradient(theta - step)) / 2e-5
    np.testing.assert_allclose(hessian, want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(weight, w.sum(), rtol=1e-6)


@pytest.mark.op("logistic_step", transforms=(Transform.EAGER, Transform.JIT, Transform.VMAP, Transform.FUNC_VMAP))
def test_steps_end_at_the_fit(run):
    x, w = X.astype(np.float32), W.astype(np.float32)
    want = anyops.logistic_regression(x.astype(float), Y, sample_weight=w.astype(float), l2=0.5)
    start = (want.coef + 0.05).astype(np.float32)  # so that two steps are enough, which jit unrolls

    def fit(x, y, w, c):
        b = 0 * c[0]
        for _ in range(2):
            c, b, *_ = anyops.logistic_step(x, y, c, b, sample_weight=w, l2=0.5)
        return c, b

    got = run(fit, x, Y, w, start)
    np.testing.assert_allclose(got[0], want.coef, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], want.intercept, rtol=1e-4, atol=1e-5)


# --- dask ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [Y, LABELS, np.array(["no", "yes"])[Y]], ids=["two", "four", "text"])
def test_dask_in_chunks(labels):
    da = pytest.importorskip("dask.array")
    x, w = da.from_array(X, chunks=(17, 2)), da.from_array(W, chunks=11)
    y = labels if labels.dtype.kind == "U" else da.from_array(labels, chunks=9)
    options = {"class_weight": "balanced", "l2": 0.1}
    got = anyops.logistic_regression(x, y, sample_weight=w, **options)
    want = anyops.logistic_regression(X, labels, sample_weight=W, **options)
    assert isinstance(got.coef, np.ndarray)
    for name in ("coef", "intercept", "loss"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(got.classes, want.classes)
    proba = anyops.logistic_predict_proba(x, got.coef, got.intercept)
    assert isinstance(proba, da.Array)
    np.testing.assert_allclose(
        proba.compute(), anyops.logistic_predict_proba(X, want.coef, want.intercept), rtol=1e-8, atol=1e-12
    )


def test_dask_partial_in_chunks():
    da = pytest.importorskip("dask.array")
    got = anyops.logistic_partial(da.from_array(X, chunks=(17, 3)), da.from_array(Y, chunks=17), COEF, LEVEL)
    for g, v in zip(got, anyops.logistic_partial(X, Y, COEF, LEVEL), strict=True):
        assert isinstance(g, np.ndarray | np.generic)
        np.testing.assert_allclose(g, v, rtol=1e-12)


def test_dask_of_unknown_chunks():
    da = pytest.importorskip("dask.array")
    x, y = da.from_array(X, chunks=(17, 3)), da.from_array(Y, chunks=17)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        anyops.logistic_regression(x[x[:, 0] > 0], y[x[:, 0] > 0])


# --- bad input -------------------------------------------------------------------------------------------------------

BAD = {
    "one class": ((X, 0 * Y), {}, ValueError, "two classes"),
    "NaN in x": ((np.where(X[3, 1] == X, np.nan, X), Y), {}, ValueError, "finite"),
    "inf in x": ((np.where(X[3, 1] == X, np.inf, X), Y), {}, ValueError, "finite"),
    "NaN in y": ((X, np.where(np.arange(40) == 3, np.nan, Y)), {}, ValueError, "y must be finite, got nan in row 3$"),
    "inf in y": ((X, np.where(np.arange(40) == 3, np.inf, Y)), {}, ValueError, "y must be finite, got inf in row 3$"),
    "NaN of a weight": (
        (X, Y),
        {"sample_weight": np.where(np.arange(40) == 3, np.nan, W)},
        ValueError,
        "sample_weight",
    ),
    "negative weight": ((X, Y), {"sample_weight": W - 0.5}, ValueError, "sample_weight"),
    "no weight": ((X, Y), {"sample_weight": 0 * W}, ValueError, "two classes"),
    "weights of another length": ((X, Y), {"sample_weight": W[:5]}, ValueError, "sample_weight"),
    "labels of another length": ((X, Y[:5]), {}, ValueError, "y must have shape"),
    "x of one axis": ((X[:, 0], Y), {}, ValueError, "x must have shape"),
    "list x": ((X.tolist(), Y), {}, TypeError, "x"),
    "solver": ((X, Y), {"solver": "sag"}, ValueError, "solver"),
    "l1 by newton": ((X, Y), {"solver": "newton", "l1": 1.0}, ValueError, "proximal"),
    "l1 of four classes by lbfgs": ((X, LABELS), {"solver": "lbfgs", "l1": 1.0}, ValueError, "proximal"),
    "l2 of NaN": ((X, Y), {"l2": np.nan}, ValueError, "l2"),
    "negative l2": ((X, Y), {"l2": -1.0}, ValueError, "l2"),
    "negative l1": ((X, Y), {"l1": -1.0}, ValueError, "l1"),
    "tol": ((X, Y), {"tol": -1.0}, ValueError, "tol"),
    "max_iter": ((X, Y), {"max_iter": -1}, ValueError, "max_iter"),
    "class_weight": ((X, Y), {"class_weight": "even"}, ValueError, "class_weight"),
    "weight of no class": ((X, Y), {"class_weight": {7: 1.0}}, ValueError, "class_weight"),
    "init": ((X, Y), {"init": (COEF[:2], LEVEL)}, ValueError, "init"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    args, options, error, message = BAD[name]
    with pytest.raises(error, match=message):
        anyops.logistic_regression(*args, **options)


@pytest.mark.parametrize(
    "labels",
    [np.int8([-100, 0, 100]), np.uint8([0, 128, 255]), np.uint64([2**63 + 1, 2**63 + 2, 2**63 + 3])],
    ids=["int8", "uint8", "uint64"],
)
def test_labels_at_the_ends_of_their_dtype(labels):
    got = anyops.logistic_regression(X[:39], np.repeat(labels, 13), l2=1.0)
    np.testing.assert_array_equal(got.classes, labels)
    assert got.classes.dtype == labels.dtype
    want = anyops.logistic_regression(X[:39], np.repeat(np.asarray(["a", "b", "c"]), 13), l2=1.0)
    np.testing.assert_array_equal(got.coef, want.coef)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_columns_that_depend_on_each_other(solver):
    got = anyops.logistic_regression(np.column_stack([X, X[:, 0]]), Y, solver=solver)
    want = anyops.logistic_regression(X, Y)
    np.testing.assert_allclose(got.coef[[0, 3]], want.coef[0] / 2, rtol=1e-6)  # the minimum-norm solution
    np.testing.assert_allclose(got.coef[1:3], want.coef[1:], rtol=1e-6)
    assert np.all(np.isinf(got.stderr[0][[0, 3]]))  # x does not determine them
    np.testing.assert_allclose(got.stderr[0][1:3], want.stderr[0][1:], rtol=1e-5)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("classes", [2, 3])
def test_more_columns_than_rows(solver, classes):
    x, y = RNG.normal(size=(12, 30)), np.arange(12) % classes
    got = anyops.logistic_regression(x, y, solver=solver)
    assert got.separated
    assert got.stderr is None
    assert np.all(np.isfinite(got.coef))
    proba = anyops.logistic_predict_proba(x, got.coef, got.intercept)
    np.testing.assert_array_equal(proba > 0.5 if classes == 2 else np.argmax(proba, axis=1), y)


# --- l1 of very many coefficients -------------------------------------------------------------------------------------


def sparse(n, p, k):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n, p))
    r = x[:, :10] @ rng.normal(size=(10, k))
    return x, np.argmax(r + rng.gumbel(size=r.shape), axis=1)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("k", [2, 3])
def test_l1_of_very_many_coefficients(k, fit_intercept):
    """No Hessian in memory, and the conditions of a minimum: |gradient| ≤ l1, and = −l1 sign(coef) if coef ≠ 0."""
    x, y = sparse(300, 3_000 // (k - 1), k)
    l1 = 12.0
    tracemalloc.start()
    got = anyops.logistic_regression(x, y, l1=l1, fit_intercept=fit_intercept)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.converged
    assert peak < 0.2 * 8 * x.shape[1] ** 2
    p = anyops.logistic_predict_proba(x, got.coef, got.intercept)
    miss = p - y if k == 2 else p - np.eye(k)[y]
    grad = miss.T @ x
    assert 5 < np.count_nonzero(got.coef) < 0.1 * got.coef.size
    assert np.max(np.abs(grad)) < l1 * (1 + 1e-3)
    there = got.coef != 0
    np.testing.assert_allclose(grad[there], -l1 * np.sign(got.coef[there]), rtol=1e-3)
    np.testing.assert_allclose(miss.sum(axis=0) if fit_intercept else got.intercept, 0, atol=0.01)


def test_l1_of_very_many_coefficients_as_liblinear():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = sparse(300, 1_500, 2)
    peer = linear_model.LogisticRegression(C=1 / 8.0, l1_ratio=1.0, solver="liblinear", tol=1e-8, fit_intercept=False)
    coef = peer.fit(x, y).coef_[0]
    best = np.logaddexp(0, np.where(y == 1, -1, 1) * (x @ coef)).sum() + 8.0 * np.abs(coef).sum()
    got = anyops.logistic_regression(x, y, l1=8.0, fit_intercept=False)
    np.testing.assert_allclose(got.loss * len(x), best, rtol=1e-6)

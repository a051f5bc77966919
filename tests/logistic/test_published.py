"""Published fits, and scikit-learn's to 1e-12, on every library."""

import json
from pathlib import Path

import numpy as np
import pytest

import anyops

datasets = pytest.importorskip("sklearn.datasets")
VECTORS = Path(__file__).parents[1] / "vectors"
ENTRIES = json.loads((VECTORS / "ml.json").read_text(encoding="utf-8"))
SPECTOR, SPECTOR_L1, SPECTOR_SWEEP, ANES96, TEMPERATURE, CARS, GLMNET, GLMNET_3 = ENTRIES[:8]


def fit(backend, x, y, *, sample_weight=None, **options):
    """The coefficients, the intercepts last, and their errors if there are any, on the host."""
    w = None if sample_weight is None else backend.asarray(sample_weight)
    got = anyops.logistic_regression(backend.asarray(x), backend.asarray(y), sample_weight=w, **options)
    assert got.converged

    def joined(coef, intercept):
        coef, intercept = (v if isinstance(v, np.ndarray) else backend.to_numpy(v) for v in (coef, intercept))
        return np.concatenate([coef, np.asarray(intercept)[..., None]], axis=-1)

    return joined(got.coef, got.intercept), None if got.stderr is None else joined(*got.stderr), got


def data(entry):
    return np.array(entry["inputs"]["X"], float), np.array(entry["inputs"]["y"], int)


def near(backend, atol):
    """The rounding error of a number printed to some decimals; more for float32 data."""
    return {"rtol": 1e-6, "atol": atol} if backend.has_dtype("float64") else {"rtol": 5e-3, "atol": max(atol, 1e-3)}


def test_spector_with_errors(backend):
    x, y = data(SPECTOR)
    got, errors, result = fit(backend, x[:, :3], y)
    np.testing.assert_allclose(got, SPECTOR["expected"]["params"], **near(backend, 5e-6))
    np.testing.assert_allclose(errors, SPECTOR["expected"]["bse"], **near(backend, 1e-6))
    assert f"{SPECTOR['expected']['params'][0]:.3f}" in str(result)


def test_anes96(backend):
    """Stata's and R's mlogit of the party that 944 voters feel near to; the first of seven classes is their base.

    The data is that of statsmodels.datasets.anes96, in the public domain.
    """
    if not backend.has_dtype("float64"):
        pytest.skip("printed to seven digits: float32 does not reach them")
    table = np.loadtxt(VECTORS / "anes96.csv", delimiter=",", skiprows=1)
    x = np.column_stack([np.log(table[:, 0] + 0.1), table[:, 1:5]])
    got, errors, result = fit(backend, x, table[:, 5].astype(int), tol=1e-8)
    want = ANES96["expected"]
    np.testing.assert_allclose(got[1:] - got[0], want["params"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(result.report.log_likelihood, want["llf"], rtol=1e-9)
    np.testing.assert_allclose(result.report.null_log_likelihood, want["llnull"], rtol=1e-9)
    # Our coefficients sum to 0 over the classes; the published ones are differences from the first class.
    place = (backend.asarray(v) for v in (x, table[:, 5].astype(np.int32), got[:, :-1], got[:, -1]))
    information = anyops.logistic_partial(*place).hessian
    if not isinstance(information, np.ndarray):
        information = backend.to_numpy(information)
    covariance = np.linalg.pinv(information, rcond=1e-10)
    np.testing.assert_allclose(errors.ravel(), np.diag(covariance) ** 0.5, rtol=1e-5)
    base = got.shape[1]
    difference = np.kron([[-1.0]] * (len(got) - 1), np.eye(base)), np.eye(len(information) - base)
    difference = np.concatenate(difference, axis=1)
    between = np.diag(difference @ covariance @ difference.T).reshape(-1, base) ** 0.5
    np.testing.assert_allclose(between, want["bse"], rtol=1e-6)


@pytest.mark.parametrize("entry", [TEMPERATURE, CARS], ids=["temperature", "mtcars"])
def test_r_glm(backend, entry):
    if not backend.has_dtype("float64"):
        pytest.skip("columns of different sizes, and printed to five decimals: float32 does not reach them")
    x, y = data(entry)
    got, errors, result = fit(backend, x[:, 1:], y)
    want = entry["refined_here"]
    np.testing.assert_allclose(np.roll(got, 1), want["params"], rtol=1e-6)
    np.testing.assert_allclose(np.roll(got, 1), entry["expected"]["params"], atol=5.1e-6)
    np.testing.assert_allclose(np.roll(errors, 1), want["bse"], rtol=1e-6)
    np.testing.assert_allclose(-2 * result.report.log_likelihood, want["residual_deviance"], rtol=1e-6)


def test_spector_l1(backend):
    x, y = data(SPECTOR)
    got, *_ = fit(backend, x[:, :3], y, l1=3.0)
    want = np.roll(SPECTOR_L1["expected"]["params"], -1)
    np.testing.assert_allclose(got, want, **near(backend, 5e-5))
    np.testing.assert_array_equal(got == 0, want == 0)


def test_spector_l1_of_each_column_its_own(backend):
    """α_j |b_j| is |α_j b_j|: columns divided by their α."""
    x, y = data(SPECTOR)
    alpha = np.array(SPECTOR_SWEEP["params"]["alpha"])
    got, *_ = fit(backend, np.roll(x, 1, axis=1) / alpha, y, l1=1.0, fit_intercept=False)
    np.testing.assert_allclose(got[:-1] / alpha, SPECTOR_SWEEP["expected"]["params"], **near(backend, 5e-4))


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("entry", [GLMNET, GLMNET_3], ids=["two classes", "three classes"])
def test_glmnet(backend, entry, solver):
    x, y = data(entry)
    tol = 1e-9 if backend.has_dtype("float64") else 1e-6
    got, errors, _ = fit(backend, x, y, l2=1 / entry["params"]["C"], solver=solver, tol=tol)
    want = np.concatenate([entry["expected"]["coef"], np.array(entry["expected"]["intercept"])[..., None]], axis=-1)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-8 if backend.has_dtype("float64") else 1e-5)
    assert errors is None


@pytest.mark.parametrize("entry", ENTRIES[11:15], ids=["C=0.01", "weights", "wine", "l1"])
def test_scikit_learn(backend, entry):
    loaded = getattr(datasets, entry["dataset"].rpartition(".")[2])()
    x, p, want = loaded.data, entry["params"], entry["expected"]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    w = 1.0 + np.arange(len(x)) % 3 if p.get("sample_weight") else None
    penalty = {"l1" if entry["op"] == "logreg_fit_l1" else "l2": 1 / p["C"]}
    free = p.get("fit_intercept", True)
    got, *_ = fit(backend, x, loaded.target, sample_weight=w, fit_intercept=free, **penalty)
    if not free:
        got = got[:-1]
        assert np.count_nonzero(got) == want["nnz"]
        np.testing.assert_allclose(got, want["coef"], atol=1e-5 if backend.has_dtype("float64") else 1e-3)
        return
    wanted = np.concatenate([want["coef"], np.array(want["intercept"])[..., None]], axis=-1)
    np.testing.assert_allclose(got, wanted, atol=1e-6 if backend.has_dtype("float64") else 1e-3)


def test_classes_sum_to_zero(backend):
    x, y = datasets.load_iris(return_X_y=True)
    got, *_ = fit(backend, (x - x.mean(axis=0)) / x.std(axis=0), y, l2=1 / 150)
    np.testing.assert_allclose(got.sum(axis=0), 0, atol=1e-10 if backend.has_dtype("float64") else 1e-4)


def test_separable_until_it_is_penalised(backend):
    x, y = data(ENTRIES[15])
    got, errors, result = fit(backend, x, y)
    assert result.separated
    assert errors is None
    assert np.all(np.isfinite(got))
    np.testing.assert_array_equal(x @ got[:-1] + got[-1] > 0, y)
    *_, result = fit(backend, x, y, l2=1.0)
    assert not result.separated

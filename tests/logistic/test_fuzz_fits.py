"""Fits that cannot be silently wrong: a seeded fuzz, the order of the rows, starts, offsets, units and separation.

References are minima in float64, certified, of the data as they are given (tests/fit_fuzz.py).
"""

from collections import Counter

import numpy as np
import pytest

import anyops
from tests.backends import Backend
from tests.calls import counted
from tests.fit_fuzz import Problem, attempt, problem

MOST = 300_000  # function calls; coordinate descent alone made tens of millions

CONVERGED = ("above", "above at coef", "below", "separation invented", "NaN or inf", "shape", "stderr off")


def host(backend, x):
    return x if backend is Backend.DASK else backend.to_numpy(x)


def dtype_of(backend):
    return "float64" if backend.has_dtype("float64") else "float32"


def given(backend, x, y, dtype=None, **options):
    """A problem in the dtype of the backend, and its result there."""
    x = np.asarray(x, dtype or dtype_of(backend))
    problem = Problem(0, 0, x, np.asarray(y), {"fit_intercept": True, "max_iter": 100, **options})
    put = {k: backend.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    if "init" in put:
        init = (np.asarray(v, x.dtype) for v in options["init"])
        put["init"] = tuple(v if backend is Backend.DASK else backend.asarray(v) for v in init)
    return problem, anyops.logistic_regression(backend.asarray(x), backend.asarray(problem.y), **put)


def assert_minimum(backend, problem, got, rtol=None):
    """The objective is as low as the reference's, and is reported correctly."""
    assert got.converged
    assert not got.separated
    rtol = rtol or (1e-6 if problem.dtype == "float64" else 1e-4)
    np.testing.assert_allclose(got.loss, problem.reference.value, rtol=rtol)


def logistic(rng, x, coef, intercept=0.0):
    return (x @ coef + intercept + rng.logistic(size=len(x)) > 0).astype(np.int64)


# --- the fuzz --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fuzz(dtype):
    """``python -m tests.fit_fuzz`` is the long version."""
    pytest.importorskip("scipy")
    faults, separated = Counter(), 0
    for index in range(60):
        one = problem(7, index, dtype)
        with np.errstate(all="ignore"):
            separated += one.reference.kind == "separated"
        names = [fault.name for fault in attempt(one)[1]]
        assert not set(names) & set(CONVERGED), (index, str(one), names)
        assert not [n for n in names if n.startswith(("error", "warning"))], (index, str(one), names)
        faults.update(names)
    assert separated > 10
    missed = faults["separation missed"] + faults["separation missed, limit"]
    assert missed <= 0.01 * separated, faults


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_quasi_separated_tables(solver, dtype):
    """The first column separates the classes, except in the rows in which it is 0."""
    rng, missed = np.random.default_rng(1), []
    for index in range(100):
        n, p = int(rng.integers(8, 60)), int(rng.integers(1, 5))
        x = rng.integers(-2, 3, size=(n, p)).astype(dtype)
        x[:4, 0] = (-1, 1, 0, 0)
        y = np.where(x[:, 0] == 0, rng.integers(0, 2, size=n), x[:, 0] > 0)
        y[2:4] = (0, 1)
        got = anyops.logistic_regression(x * 10.0 ** rng.integers(-3, 4), y, solver=solver)
        missed += [] if got.separated else [index]
    assert len(missed) <= 1, missed


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_dummy_whose_rows_are_of_one_class(backend, solver, dtype):
    """The rows that the direction improves are far from the boundary, and the others are on it."""
    x = np.zeros(311)
    x[::4] = 1
    y = ((np.arange(311) % 3 > 0) | (x == 1)).astype(np.int64)
    _, got = given(backend, x[:, None], y, dtype if backend.has_dtype(dtype) else None, solver=solver)
    assert got.separated
    y[0] = 0
    one, got = given(backend, x[:, None], y, dtype if backend.has_dtype(dtype) else None, solver=solver)
    assert_minimum(backend, one, got)


def test_lbfgs_of_the_estimator_warns_of_separation():
    pytest.importorskip("sklearn")
    from sklearn.exceptions import ConvergenceWarning

    from anyops.estimators import LogisticRegression

    x = np.asarray([[-1.0], [0.0], [0.0], [1.0], [2.0]])
    with pytest.warns(ConvergenceWarning, match="separated"):
        LogisticRegression(C=np.inf, solver="lbfgs").fit(x, [0, 0, 1, 1, 1])


# --- the order of the rows -------------------------------------------------------------------------------------------


def orders(rng, x, y):
    yield "shuffled", rng.permutation(len(y))
    yield "by y", np.argsort(y, kind="stable")
    yield "by a column", np.argsort(x[:, 0], kind="stable")
    by_y = np.argsort(y, kind="stable")
    for period in (2, 3, 4, 7, 8, 16, 24, 32, 64):
        yield f"period {period}", np.concatenate([by_y[i :: -(-len(y) // period)] for i in range(-(-len(y) // period))])


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_no_order_of_rows_matters(backend, solver):
    rng = np.random.default_rng(2)
    n = 6000 if backend.is_fast else 600
    x = rng.normal(size=(n, 3))
    y = logistic(rng, x, [1.0, -1.0, 0.5], -2.0)
    one, want = given(backend, x, y, solver=solver)
    assert_minimum(backend, one, want)
    rtol = 1e-5 if one.dtype == "float64" else 2e-3
    for name, order in orders(rng, x, y):
        _, got = given(backend, x[order], y[order], solver=solver)
        assert got.converged, name
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-9 if one.dtype == "float64" else 1e-5, err_msg=name)
        np.testing.assert_allclose(host(backend, got.coef), host(backend, want.coef), rtol=rtol, err_msg=name)


def test_measurements_of_every_third_hour(backend):
    if not backend.is_fast:
        pytest.skip("40 000 rows")
    rng = np.random.default_rng(3)
    n = 40_000
    angle = 2 * np.pi * np.arange(n) / 8
    x = np.column_stack([np.sin(angle), np.cos(angle), rng.normal(size=(n, 3))])
    y = logistic(rng, x, [1.0, -0.5, 0.5, 0.2, 0.0])
    one, got = given(backend, x, y)
    assert_minimum(backend, one, got)
    theta = one.reference.theta[0]
    np.testing.assert_allclose(host(backend, got.coef), theta[:-1], rtol=1e-4, atol=1e-4)


def test_one_positive_to_fifteen_negatives_in_turn():
    rng = np.random.default_rng(4)
    n = 80_000
    x = rng.normal(size=(n, 80)).astype(np.float32)
    y = (np.arange(n) % 16 == 0).astype(np.int64)
    x[y == 1] += 0.1
    got = anyops.logistic_regression(x, y, l2=1.0)
    order = rng.permutation(n)
    want = anyops.logistic_regression(x[order], y[order], l2=1.0)
    assert got.converged
    assert want.converged
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-5)
    np.testing.assert_allclose(got.intercept, want.intercept, rtol=1e-3)
    assert -4 < float(got.intercept) < -2.5
    np.testing.assert_allclose(
        got.loss, Problem(0, 0, x, y, {"fit_intercept": True, "l2": 1.0}).reference.value, rtol=1e-4
    )


# --- starts and weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("l2", [0.0, 1.0])
@pytest.mark.parametrize(
    "init",
    [([0.0, 0.0], -3.0), ([0.0, 0.0], -1000.0), ([1e4, 1e4], 1e4), ([0.0, 0.0], 0.0), ([-50.0, 50.0], 20.0)],
    ids=["-3", "-1000", "1e4", "0", "50"],
)
def test_far_starts(backend, solver, l2, init):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 2))
    y = (rng.random(400) < 0.92).astype(np.int64)
    one, got = given(backend, x, y, solver=solver, l2=l2, init=tuple(np.asarray(v) for v in init))
    assert_minimum(backend, one, got)


@pytest.mark.parametrize("l2", [1e-3, 180.0, 1e4])
def test_far_starts_of_three_classes(backend, l2):
    """The Hessian at a start that is not used says nothing about other points."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(33, 7))
    y = np.argmax(x @ rng.normal(size=(7, 3)), axis=1)
    init = (np.zeros((3, 7)), np.asarray([-1000.0, 0.0, 0.0]))
    one, got = given(backend, x, y, solver="lbfgs", l2=l2, init=init)
    assert_minimum(backend, one, got)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("l2", [0.0, 1.0])
def test_extreme_weights_of_classes(backend, solver, l2):
    if backend is Backend.STRICTEST:
        pytest.skip("with float32 alone such weights do not converge, and say so")
    rng = np.random.default_rng(6)
    x = rng.normal(size=(600, 3))
    y = np.argmax(x @ rng.normal(size=(3, 3)) + rng.gumbel(size=(600, 3)), axis=1)
    options = {"class_weight": {0: 1e-4, 1: 1.0, 2: 1e4}, "solver": solver, "l2": l2, "max_iter": 1000}
    one, got = given(backend, x, y, **options)
    assert_minimum(backend, one, got)


# --- offsets, units, dependent columns -------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize(
    ("mean", "spread"),
    [(2010.0, 6.0), (5.4e6, 3e3), (288.0, 8.0), (1e4, 1.0)],
    ids=["year", "UTM", "Kelvin", "z + 1e4"],
)
def test_columns_far_from_zero_in_float32(backend, solver, mean, spread):
    rng = np.random.default_rng(7)
    z = rng.normal(size=(500, 2))
    y = logistic(rng, z, [1.0, -0.7])
    one, got = given(backend, np.column_stack([mean + spread * z[:, 0], z[:, 1]]), y, "float32", solver=solver)
    assert_minimum(backend, one, got)
    want = one.reference
    np.testing.assert_allclose(host(backend, got.coef), want.theta[0, :-1], rtol=1e-3)
    np.testing.assert_allclose(host(backend, got.intercept), want.theta[0, -1], rtol=1e-3)
    np.testing.assert_allclose(host(backend, got.stderr[0]), want.errors[0, :-1], rtol=1e-3)
    np.testing.assert_allclose(host(backend, got.stderr[1]), want.errors[0, -1], rtol=1e-3)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("units", [(1e-25, 1.0, 1e25), (1e-6, 1e-5, 2e5), (1e25,) * 3, (1e-25,) * 3], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_units(backend, solver, units, dtype):
    rng = np.random.default_rng(8)
    z = rng.normal(size=(500, 3))
    y = logistic(rng, z, [1.0, -0.7, 0.3])
    one, got = given(backend, z * units, y, dtype if backend.has_dtype(dtype) else None, solver=solver)
    assert_minimum(backend, one, got)
    want, rtol = one.reference, 1e-5 if one.dtype == "float64" else 5e-3
    np.testing.assert_allclose(host(backend, got.coef), want.theta[0, :-1], rtol=rtol)
    np.testing.assert_allclose(host(backend, got.stderr[0]), want.errors[0, :-1], rtol=rtol)


def check_dependent(backend, got, dependent, direction):
    """Minimum-norm coefficients have no part along the null direction."""
    assert got.converged
    assert not got.separated
    assert tuple(got.report.dependent) == dependent
    coef, errors = (np.asarray(host(backend, a), np.float64) for a in (got.coef, got.stderr[0]))
    direction = np.asarray(direction) / np.linalg.norm(direction)
    assert abs(coef @ direction) < 1e-4 * np.linalg.norm(coef)
    at = np.zeros(len(coef), bool)
    at[list(dependent)] = True
    np.testing.assert_array_equal(np.isinf(errors), at)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("seed", range(4))
def test_dummies_of_all_categories(backend, solver, seed):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, size=300)
    x = np.column_stack([group == 0, group == 1, group == 2, rng.normal(size=300)]).astype(np.float64)
    y = logistic(rng, x, [1.0, 0.0, -1.0, 0.5])
    one, got = given(backend, x, y, solver=solver)
    np.testing.assert_allclose(got.loss, one.reference.value, rtol=1e-6 if one.dtype == "float64" else 1e-4)
    check_dependent(backend, got, (0, 1, 2), [1.0, 1.0, 1.0, 0.0])
    assert np.isinf(host(backend, got.stderr[1]))


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("factor", "shift"), [(1e-3, 0.0), (2.0, 1.0), (1.0, 0.0), (-3.0, 1e3)])
def test_a_column_that_is_another_in_other_units(backend, solver, dtype, factor, shift):
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(2, 300))
    y = logistic(rng, np.column_stack([a, b]), [1.0, 0.5])
    x = np.column_stack([a, factor * a + shift, b])
    one, got = given(backend, x, y, dtype if backend.has_dtype(dtype) else None, solver=solver)
    np.testing.assert_allclose(got.loss, one.reference.value, rtol=1e-6 if one.dtype == "float64" else 1e-4)
    check_dependent(backend, got, (0, 1), [factor, -1.0, 0.0])


def test_shortest_coefficients_in_units_far_apart():
    """Rounding in columns outside the dependence is not multiplied by their units."""
    rng = np.random.default_rng(10)
    z = rng.normal(size=(300, 3))
    y = logistic(rng, z, [1.0, 0.5, 0.0])
    z[:, 1] = 2 * z[:, 0] + 1
    one = Problem(0, 0, z * [1e12, 1e18, 1e-22], y, {"fit_intercept": True, "max_iter": 100})
    got, faults = attempt(one)
    assert not faults
    np.testing.assert_allclose(one.reference.full.value_of_x(got.coef, got.intercept), one.reference.value, rtol=1e-6)


# --- l1 --------------------------------------------------------------------------------------------------------------


def test_l1_of_columns_of_low_rank():
    rng = np.random.default_rng(11)
    x = rng.normal(size=(400, 10)) @ rng.normal(size=(10, 300))
    y = logistic(rng, x, np.r_[np.ones(5), np.zeros(295)] / 5)
    got, calls = counted(lambda: anyops.logistic_regression(x, y, l1=1.0))
    assert calls < MOST  # it took 84 s
    assert got.converged
    assert 0 <= got.report.gap < 1e-6 * got.loss
    one = Problem(0, 0, x, y, {"fit_intercept": True, "l1": 1.0})
    np.testing.assert_allclose(got.loss, one.reference.value, rtol=1e-6)

"""Linearly dependent columns, or nearly so: one rule for all solvers, and the loss of x as given."""

import numpy as np
import pytest

import anyops
from anyops._array.mode import mode_of
from anyops._array.solve import triangle
from anyops._host.logistic import lbfgs
from anyops._host.logistic.columns import unshifted
from anyops._host.logistic.dataset import Dataset
from tests.backends import Backend
from tests.fit_fuzz import KINDS, Problem, attempt, hard, judge, problem

PLACES = [Backend.NUMPY, Backend.TORCH_CPU, Backend.JAX_CPU]
WRONG = ("above", "above at coef", "below", "separation invented", "separation missed", "stderr off", "stderr infinite")

# Problems that the fuzz found: what was wrong.
MENDED = {
    "a loss above that of the rows, float32 columns far from 0": (31, 197),
    "standard errors by the Hessian before the end": (16, 1318),
    "L-BFGS in a dependence": (15, 1459),
    "L-BFGS where the loss is linear": (16, 814),
    "dummies whose Hessian has a negative inverse": (15, 666),
    "a sum whose Hessian has a negative inverse": (31, 150),
    "a start that all classes share": (31, 932),
    "a start that leaves no digits": (17, 1034),
    "a start without curvature": (15, 1233),
    "a penalty that drowns in rounding": (15, 462),
    "l1 in units far apart": (15, 1342),
    "l1 and a ridge in units far apart": (15, 767),
    "a step so long that its part has no slope": (31, 315),
    "a dependence seen in heavy rows alone": (15, 1865),
}
MENDED["roots of narrow weights"] = (17, 989)
MENDED_HARD = {"an outlier of three classes": (2, 676), "an outlier without an intercept": (2, 1472)}


@pytest.fixture(params=PLACES, ids=str)
def place(request):
    if why := request.param.why_unavailable():
        pytest.skip(why)
    with request.param.active():
        yield request.param


def fit(place, given, **options):
    """The result of a problem, with its arrays on the backend."""
    put = {k: place.asarray(v) if isinstance(v, np.ndarray) else v for k, v in (given.options | options).items()}
    if "init" in put:
        put["init"] = tuple(place.asarray(v) for v in put["init"])
    return anyops.logistic_regression(place.asarray(given.x), place.asarray(given.y), **put)


@pytest.mark.parametrize("name", [*MENDED, *MENDED_HARD])
def test_problems_that_were_at_fault(place, name):
    pytest.importorskip("scipy")
    make, (seed, index) = (problem, MENDED[name]) if name in MENDED else (hard, MENDED_HARD[name])
    given = make(seed, index, ("float64", "float32")[index % 2])
    if not place.has_dtype("float64") and (given.dtype == "float64" or "sample_weight" in given.options):
        pytest.skip(f"{place} has no float64")
    with np.errstate(all="ignore"):
        assert given.reference.kind in ("minimum", "separated")
    got = fit(place, given)
    assert got.converged
    assert not judge(got, given)


@pytest.mark.parametrize(("seed", "index"), [(16, 677), (17, 1747)])
def test_columns_whose_digits_end_at_their_spread(place, seed, index):
    """float32 values are exact: the loss and the errors are as for the same numbers in float64."""
    pytest.importorskip("scipy")
    given = problem(seed, index, "float32")
    if not place.has_dtype("float64") and "sample_weight" in given.options:
        pytest.skip(f"{place} has no float64")
    want = Problem(0, 0, given.x.astype(np.float64), given.y, given.options).reference
    got = fit(place, given)
    np.testing.assert_allclose(got.loss, want.value, rtol=1e-4)
    np.testing.assert_allclose(place.to_numpy(got.stderr[0]), want.errors[0, :-1], rtol=5e-2)


def test_no_certainty_where_rounding_decides():
    """One row nearly alone determines the difference of two columns far from 0, without an intercept."""
    pytest.importorskip("scipy.optimize", reason="the reference solves linear programs")
    for seed, index in ((17, 170), (31, 336)):
        got, _ = attempt(problem(seed, index, "float64"))
        assert not got.converged
        assert not got.separated


def test_fuzz_of_kinds():
    """``python -m tests.fit_fuzz --hard`` is the long version."""
    pytest.importorskip("scipy")
    seen = set()
    for index in range(80):
        one = hard(7, index, ("float64", "float32")[index % 2])
        with np.errstate(all="ignore"):
            names = [fault.name for fault in attempt(one)[1]]
        assert not [n for n in names if n in WRONG or n.startswith(("error", "warning"))], (index, str(one), names)
        seen.add(one.tags[0])
    assert len(seen) == len(KINDS)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6, 1e-8, 3e-10])
def test_nearly_equal_columns_are_two(place, apart, classes):
    """In float64 every solver resolves the difference; its coefficient is large, and has a standard error."""
    if not place.has_dtype("float64"):
        pytest.skip(f"{place} has no float64")
    rng = np.random.default_rng(12)
    z = rng.normal(size=(300, 3))
    y = np.argmax(2 * z @ rng.normal(size=(3, classes)) + rng.gumbel(size=(300, classes)), axis=1)
    z[:, 1] = z[:, 0] + apart * z[:, 1]
    # The same model, in columns that are easy to tell apart.
    easy = Problem(0, 0, np.column_stack([z[:, 0], (z[:, 1] - z[:, 0]) / apart, z[:, 2]]), y, {"fit_intercept": True})
    want = easy.reference
    for solver in ("newton", "lbfgs"):
        got = fit(place, Problem(0, 0, z, y, {"fit_intercept": True}), solver=solver)
        assert got.converged
        assert got.report.dependent == ()
        np.testing.assert_allclose(got.loss, want.value, rtol=1e-7)
        errors = np.reshape(place.to_numpy(got.stderr[0]), (-1, 3))[:, 1] * apart
        np.testing.assert_allclose(errors, want.errors[:, 1], rtol=1e-3)
        coef, level = (np.asarray(place.to_numpy(a), np.float64) for a in (got.coef, got.intercept))
        r = z @ np.reshape(coef, (-1, 3)).T + level
        r = np.column_stack([0 * r, r]) if classes == 2 else r
        loss = np.mean(np.log(np.exp(r).sum(axis=1)) - r[np.arange(300), y])
        np.testing.assert_allclose(got.loss, loss, rtol=1e-6)


def test_nearly_equal_columns_of_float32_are_one(place):
    """Columns that float32 has rounded are named; the reported loss is the loss at the coefficients."""
    rng = np.random.default_rng(13)
    a = rng.normal(size=400)
    y = (a + rng.logistic(size=400) > 0) * 1
    x = np.column_stack([a + 300, 2 * a - 300, rng.normal(size=400)]).astype(np.float32)
    for solver in ("newton", "lbfgs"):
        given = Problem(0, 0, x, y, {"fit_intercept": True, "solver": solver, "max_iter": 100})
        got = fit(place, given)
        assert got.converged
        assert got.report.dependent == (0, 1)
        assert not judge(got, given)


def test_columns_that_only_light_rows_tell_apart(place):
    if not place.has_dtype("float64"):
        pytest.skip(f"{place} has no float64")
    rng = np.random.default_rng(14)
    x = rng.normal(size=(200, 2))
    x[:180, 1] = x[:180, 0]
    y, w = rng.integers(0, 2, size=200), np.where(np.arange(200) < 180, 1.0, 1e-16)
    for solver in ("newton", "lbfgs"):
        given = Problem(0, 0, x, y, {"fit_intercept": True, "solver": solver, "sample_weight": w})
        got = fit(place, given)
        assert got.report.dependent == ()
        part = Problem(0, 0, x[:180, :1], y[:180], {"fit_intercept": True})
        np.testing.assert_allclose(got.loss, part.reference.value, rtol=1e-9)


def test_hessian_of_narrow_weights_in_a_wide_dtype(place):
    """The squares of rounded roots of weights: in float32 they would give a null direction curvature."""
    if not place.has_dtype("float64"):
        pytest.skip(f"{place} has no float64")
    rng = np.random.default_rng(18)
    x, w, theta = rng.normal(size=(50, 2)), rng.random(50).astype(np.float32), rng.normal(size=(3, 3))
    x, number = place.asarray(x), place.asarray(np.arange(50) % 3)
    got, want = (
        Dataset(mode_of(x=x), x, number, place.asarray(a), 3, place.xp.float64, unshifted(2), False).sums(theta, "full")
        for a in (w, w.astype(np.float64))
    )
    np.testing.assert_allclose(got.curvature, want.curvature, rtol=1e-12, atol=1e-12)


def test_columns_without_any_spread(place):
    """Only the intercept can be fitted."""
    y = np.arange(30) % 3
    for fit_intercept, want in ((True, np.log(3)), (False, np.log(3))):
        for solver in ("newton", "lbfgs"):
            given = Problem(0, 0, np.zeros((30, 2)), y, {"fit_intercept": fit_intercept, "solver": solver})
            got = fit(place, given)
            assert got.converged
            assert got.report.dependent == (0, 1)
            np.testing.assert_allclose(got.loss, want, rtol=1e-6)
            assert np.all(place.to_numpy(got.coef) == 0)
            assert np.all(np.isinf(place.to_numpy(got.stderr[0])))


def test_triangle(backend):
    """RᵀR = aᵀa, also by reflections, for libraries without linalg."""
    if backend.library == "dask":
        pytest.skip("chunks are NumPy arrays")
    rng = np.random.default_rng(15)
    for n, p in ((7, 3), (3, 3), (2, 4), (1, 1)):
        a = rng.normal(size=(n, p)).astype("float64" if backend.has_dtype("float64") else "float32")
        a[:, -1] = 0 if p == 4 else a[:, -1]
        got = backend.to_numpy(triangle(backend.xp, backend.asarray(a)))
        assert got.shape == (p, p)
        np.testing.assert_allclose(got.T @ got, a.T @ a, atol=1e-5 if a.dtype == np.float32 else 1e-13)
        np.testing.assert_allclose(np.tril(got, -1), 0, atol=1e-6)


def test_penalised_fits_make_no_hessian_for_errors(monkeypatch):
    asked = []
    sums = Dataset.sums

    def noted(self, theta, curvature):
        asked.append((self.x.shape[0], curvature))
        return sums(self, theta, curvature)

    monkeypatch.setattr(lbfgs, "AFFORDED", 0)
    monkeypatch.setattr(Dataset, "sums", noted)
    rng = np.random.default_rng(16)
    x = rng.normal(size=(3000, 400))
    y = (x[:, 0] + rng.logistic(size=3000) > 0) * 1
    counts = []
    for l2 in (1.0, 0.0):  # the first one is where the descent starts
        asked.clear()
        got = anyops.logistic_regression(x, y, solver="lbfgs", l2=l2)
        counts.append(asked.count((3000, "full")))
        assert (got.stderr is None) == (l2 > 0)
    assert counts[0] == 1 < counts[1]


@pytest.mark.parametrize(("classes", "columns", "views"), [(2, 40, True), (2, 4, False), (3, 40, False)])
def test_which_large_arrays_jax_reads_itself(monkeypatch, classes, columns, views):
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    from anyops._array import host

    modes = []
    scaled = Dataset.scaled

    def noted(self, fit_intercept):
        modes.append(self.mode.host)
        return scaled(self, fit_intercept)

    monkeypatch.setattr(host, "WORTH_COMPILING", 0)
    monkeypatch.setattr(Dataset, "scaled", noted)
    rng = np.random.default_rng(17)
    with Backend.JAX_CPU.active():
        x = Backend.JAX_CPU.asarray(rng.normal(size=(300, columns)))
        anyops.logistic_regression(x, Backend.JAX_CPU.asarray(rng.integers(0, classes, size=300)), l2=1.0)
    assert modes == [views]


@pytest.mark.parametrize("lazy", ["jax", "dask"])
def test_dependent_columns_of_arrays_that_are_not_views(monkeypatch, lazy):
    """Whitened columns are computed by the library itself."""
    from anyops._array import host

    place = Backend.JAX_CPU if lazy == "jax" else Backend.DASK
    if why := place.why_unavailable():
        pytest.skip(why)
    monkeypatch.setattr(host, "WORTH_COMPILING", 0)
    rng = np.random.default_rng(19)
    z = rng.normal(size=(300, 3))
    x = np.column_stack([z, 2 * z[:, 0] + 1])
    y, w = np.argmax(x[:, :3] + rng.gumbel(size=(300, 3)), axis=1), rng.random(300)
    for solver in ("newton", "lbfgs"):
        want = anyops.logistic_regression(x, y, sample_weight=w, solver=solver)
        with place.active():
            put = [place.asarray(a) for a in (x, y, w)]
            got = anyops.logistic_regression(*put[:2], sample_weight=put[2], solver=solver)
            coef, errors = np.asarray(got.coef), np.asarray(got.stderr[0])
        assert got.report.dependent == want.report.dependent == (0, 3)
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-6)
        np.testing.assert_allclose(coef, want.coef, atol=1e-4)
        np.testing.assert_allclose(errors, want.stderr[0], rtol=1e-3)


def test_the_table_names_columns_that_depend_on_each_other():
    rng = np.random.default_rng(0)
    x = np.c_[rng.normal(size=200), np.eye(3)[rng.integers(0, 3, 200)]]
    table = anyops.logistic_regression(x, rng.random(200) < 0.5).summary(["age", "a", "b", "c"])
    assert "linearly dependent and have no standard errors: a, b, c." in table
    assert "depend" not in anyops.logistic_regression(x[:, :3], rng.random(200) < 0.5).summary()


@pytest.mark.parametrize("library", ["numpy", "torch", "jax.numpy"])
@pytest.mark.parametrize("start", [-1000.0, 1000.0])
def test_a_step_without_curvature_is_no_sign_of_the_minimum(library, start):
    """Far from the data p(1 − p) underflows: the decrement must not say that the minimum is reached."""
    xp = pytest.importorskip(library)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)).astype(np.float32), (rng.random(60) < 0.5).astype(np.int32)
    there = [xp.asarray(a) for a in (x, y, np.zeros(2, np.float32), np.asarray(start, np.float32))]
    *_, loss, decrement = anyops.logistic_step(*there)
    assert float(loss) > 100
    assert float(decrement) > 1
    *_, decrement = anyops.logistic_step(*there[:3], xp.asarray(np.asarray(0.0, np.float32)))
    assert 0 <= float(decrement) < 1


@pytest.mark.parametrize("library", ["numpy", "torch", "jax.numpy"])
def test_a_step_of_integers_is_right_or_refused(library):
    xp = pytest.importorskip(library)
    rng = np.random.default_rng(0)
    y = (rng.random(40) < 0.5).astype(np.int32)
    at = xp.asarray(np.zeros(1, np.float32)), xp.asarray(np.zeros((), np.float32))
    for base, wide in ((2000, False), (1_700_000_000, True)):
        x = xp.asarray(np.arange(base, base + 40, dtype=np.int32)[:, None])
        if wide and library != "numpy":
            with pytest.raises(ValueError, match=r"x must hold integers that .*float32 can tell apart"):
                anyops.logistic_step(x, xp.asarray(y), *at)
        else:
            coef = anyops.logistic_step(x, xp.asarray(y), *at).coef
            z = np.arange(40) - 19.5
            np.testing.assert_allclose(np.asarray(coef), [z @ (y - 0.5) / (z @ z * 0.25)], rtol=2e-2)

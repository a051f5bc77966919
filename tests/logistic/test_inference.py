"""Inference against Stata and statsmodels; copies and pickles of results; errors for unavailable numbers."""

import copy
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

import anyops
from anyops._host.logistic.inference import chi2_tail
from tests.backends import Backend

VECTORS = Path(__file__).parents[1] / "vectors"
SPECTOR, _, _, ANES96 = json.loads((VECTORS / "ml.json").read_text(encoding="utf-8"))[:4]


def spector():
    x, y = np.asarray(SPECTOR["inputs"]["X"], float)[:, :3], np.asarray(SPECTOR["inputs"]["y"], np.int32)
    return x, y


def together(backend, pair):
    """The numbers of coef, and then of the intercept, on the host."""
    coef, intercept = (a if isinstance(a, np.ndarray | np.generic) else backend.to_numpy(a) for a in pair)
    return np.concatenate([coef, np.asarray(intercept)[None]])


def test_spector(backend):
    x, y = spector()
    want = SPECTOR["expected"]
    rtol = 2e-6 if backend.has_dtype("float64") else 2e-3
    got = anyops.logistic_regression(backend.asarray(x), backend.asarray(y))
    for pair in (got.zvalues, got.pvalues, got.conf_int()):
        for part in pair:
            assert isinstance(part, np.ndarray | np.generic) if backend is Backend.DASK else backend.owns(part)
    np.testing.assert_allclose(together(backend, got.zvalues), want["z"], rtol=rtol)
    np.testing.assert_allclose(together(backend, got.pvalues), want["pvalues"], rtol=2 * rtol)
    np.testing.assert_allclose(together(backend, got.conf_int()), want["conf_int_95"], rtol=rtol, atol=1e-6)
    cov = got.covariance if isinstance(got.covariance, np.ndarray) else backend.to_numpy(got.covariance)
    np.testing.assert_allclose(cov, want["cov_params"], rtol=2 * rtol)
    ratios = got.odds_ratios if isinstance(got.odds_ratios, np.ndarray) else backend.to_numpy(got.odds_ratios)
    np.testing.assert_allclose(ratios, np.exp(want["params"][:3]), rtol=2 * rtol)
    numbers = {
        "llf": got.log_likelihood,
        "llnull": got.null_log_likelihood,
        "prsquared": got.pseudo_r2,
        "aic": got.aic,
        "bic": got.bic,
        "llr": got.likelihood_ratio.statistic,
        "llr_pvalue": got.likelihood_ratio.pvalue,
    }
    rtol = 1e-6 if backend.has_dtype("float64") else 1e-4
    for name, number in numbers.items():
        np.testing.assert_allclose(number, want[name], rtol=rtol, err_msg=name)
    assert got.likelihood_ratio.df == 3


def test_spector_level():
    """statsmodels 0.15.0: Logit(y, add_constant(x, prepend=False)).fit(method="newton", tol=1e-12).conf_int(0.1)."""
    got = anyops.logistic_regression(*spector()).conf_int(0.1)
    want = [[0.74875939, 4.9034658], [-0.13767829, 0.32799361], [0.62763528, 4.12974003]]
    np.testing.assert_allclose(got[0], want, rtol=1e-7)
    np.testing.assert_allclose(got[1], [-21.13265338, -4.91004034], rtol=1e-7)


def test_anes96():
    """Relative to the first class, as Stata and R print a model of seven classes."""
    table = np.loadtxt(VECTORS / "anes96.csv", delimiter=",", skiprows=1)
    x = np.column_stack([np.log(table[:, 0] + 0.1), table[:, 1:5]])
    got = anyops.logistic_regression(x, table[:, 5].astype(int), tol=1e-9)
    moved, want = got.relative_to(0), ANES96["expected"]

    def rows(pair):
        return np.concatenate([pair[0], pair[1][:, None]], axis=1)

    np.testing.assert_allclose(rows((moved.coef, moved.intercept))[1:], want["params"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(rows(moved.stderr)[1:], want["bse"], rtol=1e-6)
    np.testing.assert_allclose(rows(moved.zvalues)[1:], np.divide(want["params"], want["bse"]), rtol=1e-5)
    assert np.all(np.isnan(rows(moved.zvalues)[0]))
    assert not np.any(rows(moved.stderr)[0])
    for name, number in {"aic": got.aic, "bic": got.bic, "prsquared": got.pseudo_r2}.items():
        np.testing.assert_allclose(number, want[name], rtol=1e-9)
    np.testing.assert_allclose(got.likelihood_ratio.statistic, want["llr"], rtol=1e-9)
    assert got.likelihood_ratio.df == 30
    p, q = (anyops.logistic_predict_proba(x, r.coef, r.intercept) for r in (got, moved))
    np.testing.assert_allclose(p, q, rtol=1e-12)
    assert "class 0, which the others are relative to" in moved.summary()
    with pytest.raises(ValueError, match=r"label.*\[0, 1, 2, 3, 4, 5, 6\], got 7"):
        got.relative_to(7)


def test_weights_are_frequencies():
    x, y = spector()
    w = 1 + np.arange(32) % 3
    got, want = (
        anyops.logistic_regression(x, y, sample_weight=w),
        anyops.logistic_regression(x.repeat(w, 0), y.repeat(w)),
    )
    np.testing.assert_allclose(got.covariance, want.covariance, rtol=1e-9)
    for name in ("log_likelihood", "null_log_likelihood", "aic", "bic", "pseudo_r2", "likelihood_ratio"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-9, err_msg=name)


def test_dependent_columns_count_once():
    x, y = spector()
    got, want = anyops.logistic_regression(np.c_[x, x[:, 0]], y), anyops.logistic_regression(x, y)
    for name in ("aic", "bic", "likelihood_ratio"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-9, err_msg=name)
    assert np.isnan(got.zvalues[0]).tolist() == np.isnan(got.pvalues[0]).tolist() == [True, False, False, True]
    assert got.conf_int()[0][0].tolist() == [-math.inf, math.inf]
    np.testing.assert_array_equal(np.diagonal(got.covariance)[[0, 3]], math.inf)
    np.testing.assert_allclose(got.covariance[1:3, 1:3], want.covariance[1:3, 1:3], rtol=1e-6)


def test_without_intercept():
    """Against the Hessian by its definition."""
    x, y = spector()
    got = anyops.logistic_regression(x, y, fit_intercept=False)
    p = 1 / (1 + np.exp(-x @ got.coef))
    np.testing.assert_allclose(got.covariance, np.linalg.inv((x.T * p * (1 - p)) @ x), rtol=1e-6)
    assert got.covariance.shape == (3, 3)
    assert got.likelihood_ratio.df == got.report.parameters == 3
    np.testing.assert_allclose(got.null_log_likelihood, 32 * math.log(0.5))


def survivals():
    def tree(result):
        jax = pytest.importorskip("jax")
        x, y = spector()
        result = anyops.logistic_regression(jax.numpy.asarray(x), jax.numpy.asarray(y))
        return jax.tree.map(np.asarray, result)

    return {
        "replace": lambda r: r._replace(loss=0.5),
        "pickle": lambda r: pickle.loads(pickle.dumps(r)),
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "tree_map": tree,
    }


@pytest.mark.parametrize("way", survivals())
def test_a_result_survives(way):
    want = anyops.logistic_regression(*spector())
    got = survivals()[way](want)
    assert type(got) is type(want)
    assert "x3" in str(got)
    np.testing.assert_allclose(got.pvalues[0], want.pvalues[0], rtol=1e-3)
    np.testing.assert_allclose(got.aic, want.aic, rtol=1e-5)


NUMBERS = ("covariance", "zvalues", "pvalues", "aic", "bic", "likelihood_ratio")


@pytest.mark.parametrize(
    ("options", "why"),
    [({"l2": 1.0}, "penalised, l1 = 0 and l2 = 1"), ({"l1": 0.5}, "penalised, l1 = 0.5 and l2 = 0")],
    ids=["l2", "l1"],
)
def test_why_a_penalised_fit_has_no_inference(options, why):
    got = anyops.logistic_regression(*spector(), **options)
    for name in NUMBERS:
        with pytest.raises(ValueError, match=why):
            getattr(got, name)
    with pytest.raises(ValueError, match=why):
        got.conf_int()
    assert f"No standard errors: the coefficients are {why}." in str(got)
    assert got.log_likelihood < 0 < got.pseudo_r2


def test_why_many_coefficients_have_no_standard_errors(monkeypatch):
    monkeypatch.setattr("anyops._host.logistic.solve.HESSIAN_LIMIT", 3)
    monkeypatch.setattr("anyops._host.logistic.lbfgs.HESSIAN_LIMIT", 3)
    got = anyops.logistic_regression(*spector(), solver="lbfgs")
    assert got.stderr is None
    with pytest.raises(ValueError, match=r"the Hessian is computed for at most \d+ coefficients, got 4"):
        got.conf_int()
    assert "No standard errors: the Hessian is computed for at most" in str(got)
    np.testing.assert_allclose(got.aic, SPECTOR["expected"]["aic"], rtol=1e-6)


def separated():
    """Columns, labels, options, and which columns separate: by construction."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 60))
    y = a + b > 0
    three = np.where(b < -0.5, "low", rng.choice(["mid", "top"], 60))
    return {
        "a dummy": (np.c_[a, y & (b > 0)], y, {}, "this column: x2"),
        "a cut": (np.c_[b, np.where(y, 5 + abs(a), 5 - abs(a))], y, {}, "this column: x2"),
        "two alone": (np.c_[y, b, 3.0 - y], y, {}, "each of these columns: x1, x3"),
        "together": (np.c_[a, b, rng.normal(size=60)], y, {}, "these columns together: x1, x2"),
        "no intercept": (np.c_[a, np.where(y, 5.0, -3.0)], y, {"fit_intercept": False}, "this column: x2"),
        "one of three classes": (np.c_[a, b], three, {}, "this column: x2"),
    }


@pytest.mark.parametrize("case", separated())
def test_the_columns_that_separate_are_named(case, backend):
    if case == "one of three classes" and backend.library != "numpy":
        pytest.skip("text stays with NumPy, as in the first case")
    x, y, options, which = separated()[case]
    got = anyops.logistic_regression(backend.asarray(x), y if y.dtype.kind == "U" else backend.asarray(y), **options)
    assert got.separated
    if case == "together" and backend is Backend.DASK:
        assert got.report.separating == ()  # each trial would read all chunks
        assert "separated by" not in str(got)
        return
    assert f"They are separated by {which}." in str(got)
    for name in NUMBERS:
        with pytest.raises(ValueError, match="the classes are separated"):
            getattr(got, name)


def test_a_cut_needs_an_intercept():
    """Both classes on one side of 0: a column that separates them only with an intercept is not named without."""
    rng = np.random.default_rng(0)
    b = rng.normal(size=40)
    y = b > 0
    got = anyops.logistic_regression(np.c_[np.where(y, 7.0, 5.0), b], y, fit_intercept=False)
    assert got.separated
    assert got.report.separating == ((1,),)


# Abramowitz and Stegun, table 26.8: probability, degrees of freedom, χ².
@pytest.mark.parametrize(
    ("probability", "df", "x"),
    [
        (0.05, 1, 3.84146),
        (0.05, 2, 5.99147),
        (0.05, 5, 11.0705),
        (0.001, 10, 29.588),
        (0.005, 3, 12.8381),
        (0.995, 30, 13.7867),
        (0.05, 100, 124.342),
    ],
)
def test_chi_squared(probability, df, x):
    assert chi2_tail(x, df) == pytest.approx(probability, rel=2e-4)


def test_chi_squared_at_its_ends():
    assert chi2_tail(0.0, 5) == 1.0
    assert chi2_tail(1e5, 4) == 0.0
    assert chi2_tail(0.0, 0) == 1.0
    assert chi2_tail(4000.0, 4000) == pytest.approx(0.5, abs=0.01)


def test_fractions_are_not_taken_for_classes(backend):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    with pytest.raises(ValueError, match="y must hold class labels, got 60 distinct numbers in 60 rows"):
        anyops.logistic_regression(backend.asarray(x), backend.asarray(rng.normal(size=60)))
    few = np.float32([0.5, 1.25])[rng.integers(0, 2, 60)]
    assert anyops.logistic_regression(backend.asarray(x), backend.asarray(few)).coef.shape == (2,)


def test_intervals_at_the_ends_of_alpha():
    got = anyops.logistic_regression(*spector())
    np.testing.assert_array_equal(got.conf_int(1)[0], np.stack([got.coef, got.coef], axis=-1))
    assert np.all(np.isinf(got.conf_int(0)[0]))
    for alpha in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            got.conf_int(alpha)


def test_intervals_of_any_width():
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    found = anyops.logistic_regression(x, np.array([0, 1, 0, 1]))
    widths = [float(np.ptp(np.asarray(found.conf_int(alpha)[0]))) for alpha in (0.05, 1e-17, 1e-300)]
    assert 0 < widths[0] < widths[1] < widths[2] < np.inf


def test_no_criteria_of_a_fit_that_has_not_converged():
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    found = anyops.logistic_regression(x, np.array([0, 1, 0, 1]), max_iter=0)
    assert not found.converged
    for what in ("aic", "bic", "likelihood_ratio"):
        with pytest.raises(ValueError, match=f"{what} needs .* but the fit has not converged"):
            getattr(found, what)
    assert "AIC" not in found.summary()


def test_the_null_model_without_an_intercept_is_named():
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    found = anyops.logistic_regression(x, np.array([0, 1, 0, 1]), fit_intercept=False)
    assert ", even odds" in found.summary()


def three_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 2))
    return x, np.argmax(rng.normal(size=(90, 3)) + np.c_[x, -x[:, 0]], axis=1)


def test_covariance_of_classes_without_intercept():
    """Its diagonal is the squared standard errors, class by class."""
    got = anyops.logistic_regression(*three_classes(), fit_intercept=False)
    assert got.covariance.shape == (6, 6)
    np.testing.assert_allclose(np.sqrt(np.diagonal(got.covariance)), got.stderr[0].reshape(-1), rtol=1e-12)
    assert np.all(np.diagonal(got.covariance) > 0)


@pytest.mark.parametrize("options", [{"l2": 1.0}, {"l1": 0.5}], ids=["l2", "l1"])
def test_a_penalised_fit_relative_to_a_class_names_the_base(options):
    got = anyops.logistic_regression(*three_classes(), **options)
    text = got.relative_to(1).summary()
    assert "class 1, which the others are relative to" in text
    lines = text.splitlines()
    assert [sum(line.startswith(f"{name} ") for line in lines) for name in ("x1", "x2", "intercept")] == [2, 2, 2]
    assert "relative to" not in got.summary()


def test_a_separated_fit_relative_to_a_class_names_the_base():
    x, y = three_classes()
    got = anyops.logistic_regression(np.c_[x, y == 2], y)
    assert got.separated
    assert "class 0, which the others are relative to" in got.relative_to(0).summary()


def test_a_label_may_be_of_the_library():
    got = anyops.logistic_regression(*three_classes())
    assert got.relative_to(got.classes[1]).summary() == got.relative_to(1).summary()
    assert got.relative_to(np.asarray(1)).summary() == got.relative_to(1).summary()
    with pytest.raises(TypeError, match=r"label must be one of the classes \[0, 1, 2\], got an array of shape \(3,\)"):
        got.relative_to(got.classes)


@pytest.mark.parametrize("names", [3, 2.5, "abc"])
def test_names_that_are_none_are_refused(names):
    with pytest.raises(TypeError, match="names must be a sequence of 3 names, got"):
        anyops.logistic_regression(*spector()).summary(names)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ["32 rows, "]),
        ({"sample_weight": np.full(32, 2.0)}, ["32 rows of total weight 64, ", "Weights count as numbers of rows."]),
        ({"class_weight": "balanced"}, ["32 rows, ", "Weights count as numbers of rows."]),
        ({"max_iter": 1}, ["1 iteration, not converged", "The fit has not converged:"]),
    ],
    ids=["plain", "weights", "balanced", "one step"],
)
def test_the_table_says_what_its_errors_mean(options, said):
    text = anyops.logistic_regression(*spector(), **options).summary()
    assert [words for words in said if words not in text] == []
    assert ("Weights count" in text) == ("Weights count as numbers of rows." in said)
    assert ("not converged" in text) == ("max_iter" in options)


def test_errors_taken_away_are_named_as_that():
    got = anyops.logistic_regression(*spector())._replace(stderr=None)
    assert "No standard errors: stderr is None" in got.summary()
    assert "too many" not in got.summary()


def test_a_name_of_a_column_stays_in_its_line():
    x, y = spector()
    got = anyops.logistic_regression(x, y)
    text = got.summary(["gpa\nof all", "a\tb", "\u2028c"])
    assert len(text.splitlines()) == len(got.summary().splitlines())
    assert "gpa\\nof all" in text
    named = anyops.logistic_regression(x, np.asarray(["a\nb", "c", "d"])[np.arange(32) % 3])
    assert r"class a\nb" in named.summary()


@pytest.mark.parametrize("names", [("no", "yes"), ("no\n", "y\tes")])
def test_the_table_of_two_classes_names_the_class_of_the_coefficients(names):
    x, y = spector()
    got = anyops.logistic_regression(x, np.asarray(names)[y.astype(int)])
    lines = got.summary().splitlines()
    first, second = ("no", "yes") if names[0] == "no" else (r"no\n", r"y\tes")
    assert f"log-odds of class {second} against class {first}" in lines


def test_text_labels_of_dask_are_refused_with_the_way():
    da = pytest.importorskip("dask.array")
    x, y = spector()
    for labels in (y.astype(str), y.astype(str).astype(object), y.astype("S")):
        lazy = da.from_array(labels, chunks=8)
        with pytest.raises(TypeError, match=r"y must have a numeric dtype in dask, got .*; pass text as a NumPy array"):
            anyops.logistic_regression(da.from_array(x, chunks=(8, 3)), lazy)
        got = anyops.logistic_regression(da.from_array(x, chunks=(8, 3)), lazy.compute())
        assert got.classes.tolist() == np.unique(labels).tolist()

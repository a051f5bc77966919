"""The estimators compared with scikit-learn's, and on every library."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import anyops
from tests.backends import Backend

pytest.importorskip("sklearn")

import sklearn.cluster
import sklearn.linear_model
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from anyops.estimators import KMeans, LogisticRegression

SETS = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer, "digits": load_digits}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3)) + np.repeat([[0, 0, 0], [3, 0, 1], [0, 4, -1]], 30, axis=0)
Y = np.repeat([2, 5, 9], 30)
W = RNG.integers(0, 4, size=90)
START = X[[0, 30, 60], :]


def samples(name):
    x, y = SETS[name](return_X_y=True)
    return np.round(scale(x), 12), y


def host(backend, x):
    """An attribute on the host; for dask it already is."""
    return np.asarray(x) if isinstance(x, np.ndarray | np.generic | float | int) else backend.to_numpy(x)


def precise(backend):
    return 1e-9 if backend.has_dtype("float64") else 2e-4


# --- beside scikit-learn ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_kmeans_is_that_of_scikit_learn(name):
    x, _ = samples(name)
    k = 8
    start = x[np.random.default_rng(0).choice(len(x), k, replace=False), :]
    ours = KMeans(k, init=start, tol=0).fit(x)
    theirs = sklearn.cluster.KMeans(k, init=start, tol=0, n_init=1).fit(x)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-9, atol=1e-12)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-12)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.transform(x), theirs.transform(x), rtol=1e-9, atol=1e-7)
    np.testing.assert_array_equal(ours.predict(x[:99]), theirs.predict(x[:99]))
    assert ours.score(x) == pytest.approx(theirs.score(x), rel=1e-12)
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())


@pytest.mark.parametrize("C", [0.1, 1.0])
@pytest.mark.parametrize("name", SETS)
def test_logistic_regression_is_that_of_scikit_learn(name, C):
    x, y = samples(name)
    if name == "digits":
        x, y = x[:500, 2::5], y[:500]
    ours = LogisticRegression(C=C, tol=1e-8).fit(x, y)
    theirs = sklearn.linear_model.LogisticRegression(C=C, tol=1e-10, solver="newton-cholesky", max_iter=1000).fit(x, y)
    for attribute in ("coef_", "intercept_"):
        want = getattr(theirs, attribute)
        np.testing.assert_allclose(getattr(ours, attribute), want, rtol=1e-5, atol=1e-6 * np.max(np.abs(want)))
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        np.testing.assert_allclose(getattr(ours, method)(x), getattr(theirs, method)(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    assert ours.score(x, y) == theirs.score(x, y)


@pytest.mark.parametrize("l1_ratio", [0.4, 1.0])
@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_l1_is_that_of_scikit_learn(name, l1_ratio):
    x, y = samples(name)
    x = x[:, ::5]
    ours = LogisticRegression(C=0.1, l1_ratio=l1_ratio, tol=1e-8).fit(x, y)
    theirs = sklearn.linear_model.LogisticRegression(
        C=0.1, l1_ratio=l1_ratio, tol=1e-10, solver="saga", max_iter=100_000, random_state=0
    ).fit(x, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "solver", ["auto", "newton", "lbfgs", "proximal", "newton-cg", "newton-cholesky", "sag", "saga"]
)
@pytest.mark.parametrize("classes", [2, 3])
def test_solvers_agree(solver, classes):
    keep = classes * 30
    got = LogisticRegression(solver=solver, tol=1e-8).fit(X[:keep], Y[:keep])
    want = LogisticRegression(tol=1e-8).fit(X[:keep], Y[:keep])
    np.testing.assert_allclose(got.coef_, want.coef_, rtol=1e-5, atol=1e-7)
    assert got.coef_.shape == ((1, 3) if classes == 2 else (3, 3))
    assert got.n_iter_.shape == (1,)


# --- every library ---------------------------------------------------------------------------------------------------


def check_copies(backend, model, x):
    """Pickling and cloning keep results and parameters."""
    if backend is not Backend.DASK:  # its labels_ are a graph, which pickle does not support
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(host(backend, again.predict(x)), host(backend, model.predict(x)))
    assert not hasattr(clone(model), "n_iter_")


def check_refusals(backend, model, x, y):
    with pytest.raises(ValueError, match=r"Expected 2D|X must have shape"):
        clone(model).fit(x[0, :], y)
    with pytest.raises(ValueError, match="sample_weight"):
        clone(model).fit(x, y, sample_weight=W[:5])
    with pytest.raises(ValueError, match="has 2 features, but"):
        model.predict(x[:, :2])
    if backend.library not in ("numpy", "dask"):
        with pytest.raises(ValueError, match=r"\.predict\(\) must use the same namespace"):
            model.predict(X)


@pytest.mark.op("kmeans")
def test_kmeans_on_every_library(backend):
    x = backend.asarray(X)
    got = KMeans(3, init=START, tol=0).fit(x, sample_weight=W)
    want = sklearn.cluster.KMeans(3, init=START, n_init=1, tol=0).fit(X, sample_weight=W)
    np.testing.assert_array_equal(backend.to_numpy(got.labels_), want.labels_)
    np.testing.assert_allclose(host(backend, got.cluster_centers_), want.cluster_centers_, rtol=precise(backend))
    np.testing.assert_array_equal(backend.to_numpy(got.predict(x)), want.labels_)
    np.testing.assert_allclose(backend.to_numpy(got.transform(x)), want.transform(X), rtol=precise(backend))
    assert got.score(x, sample_weight=W) == pytest.approx(want.score(X, sample_weight=W), rel=precise(backend))
    assert all(backend.owns(a) for a in (got.labels_, got.predict(x), got.transform(x)))
    check_copies(backend, got, x)
    check_refusals(backend, got, x, None)
    if backend is not Backend.DASK:  # its k-means++ reads the data again for every draw
        assert backend.owns(got.cluster_centers_)
        drawn = KMeans(3, init="random", n_init=2, random_state=7).fit(x)
        by_function = anyops.kmeans(x, 3, init="random", n_init=2, seed=7)
        np.testing.assert_array_equal(backend.to_numpy(drawn.labels_), backend.to_numpy(by_function.labels))
        assert drawn.inertia_ == by_function.inertia


@pytest.mark.parametrize(("classes", "text"), [(2, False), (3, True)], ids=["two numbers", "three texts"])
def test_logistic_regression_on_every_library(backend, classes, text):
    keep = classes * 30
    x, y, weight = X[:keep], Y[:keep], W[:keep]
    named = np.asarray(["b", "a", "c"])[np.searchsorted([2, 5, 9], y)] if text else y
    given = named if text else backend.asarray(y)
    model = LogisticRegression(C=2.0, tol=1e-8).fit(backend.asarray(x), given, sample_weight=weight)
    want = sklearn.linear_model.LogisticRegression(C=2.0, tol=1e-10, solver="newton-cholesky")
    want.fit(x, named, sample_weight=weight)
    rtol = max(precise(backend), 1e-5)
    for attribute in ("coef_", "intercept_"):
        got = getattr(model, attribute)
        assert backend is Backend.DASK or backend.owns(got)
        np.testing.assert_allclose(host(backend, got), getattr(want, attribute), rtol=rtol, atol=rtol)
    np.testing.assert_array_equal(host(backend, model.classes_), want.classes_)
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        got = getattr(model, method)(backend.asarray(x))
        assert backend.owns(got)
        np.testing.assert_allclose(backend.to_numpy(got), getattr(want, method)(x), rtol=10 * rtol, atol=10 * rtol)
    labels = model.predict(backend.asarray(x))
    np.testing.assert_array_equal(host(backend, labels), want.predict(x))
    assert model.score(backend.asarray(x), given) == pytest.approx(want.score(x, named))
    check_copies(backend, model, backend.asarray(x))
    if classes == 2:
        check_refusals(backend, model, backend.asarray(x), given)
        with pytest.raises(ValueError, match="Unknown label type"):
            LogisticRegression().fit(backend.asarray(x), x[:, 0])


# --- scikit-learn's tests --------------------------------------------------------------------------------------------


def test_page_names_the_tests_that_are_left_out():
    from tests.estimators import test_theirs_kmeans, test_theirs_logistic  # skipped with other versions

    page = (Path(__file__).parents[2] / "docs" / "estimators.md").read_text(encoding="utf-8")
    for module in (test_theirs_kmeans, test_theirs_logistic):
        for reason, names in module.LEFT_OUT.items():
            row = next(line for line in page.splitlines() if line.startswith(f"| {reason} |"))
            assert [name.strip(" `") for name in row.split("|")[2].split(",")] == [
                n.removeprefix("test_") for n in names
            ]


# --- conventions -----------------------------------------------------------------------------------------------------


def test_pipeline_and_grid():
    x, y = load_wine(return_X_y=True)
    grid = GridSearchCV(
        make_pipeline(StandardScaler(), KMeans(4, random_state=0), LogisticRegression()),
        {"kmeans__n_clusters": [2, 6], "logisticregression__C": [0.1, 10.0]},
        cv=3,
    ).fit(x, y)
    assert grid.best_params_["kmeans__n_clusters"] == 6
    assert grid.score(x, y) > 0.9


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = KMeans(3, init=START).fit(frame)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    out = model.set_output(transform="pandas").transform(frame)
    assert list(out.columns) == ["kmeans0", "kmeans1", "kmeans2"]
    model.set_output(transform="default").fit(X)
    assert not hasattr(model, "feature_names_in_")
    labels = pandas.Series(Y, dtype="int64")
    assert LogisticRegression().fit(frame, labels).score(frame, labels) > 0.8


def test_weight_is_repetition():
    many, labels = np.repeat(X, W, axis=0), np.repeat(Y, W)
    one = KMeans(3, init=START).fit(X, sample_weight=W)
    all_ = KMeans(3, init=START).fit(many)
    np.testing.assert_allclose(one.cluster_centers_, all_.cluster_centers_, rtol=1e-12)
    assert one.inertia_ == pytest.approx(all_.inertia_)
    assert one.score(X, sample_weight=W) == pytest.approx(all_.score(many))
    one, all_ = LogisticRegression().fit(X, Y, sample_weight=W), LogisticRegression().fit(many, labels)
    np.testing.assert_allclose(one.coef_, all_.coef_, rtol=1e-9)
    assert one.score(X, Y, sample_weight=W) == pytest.approx(all_.score(many, labels))


def test_log_proba_in_the_tails(backend):
    model = LogisticRegression(C=np.inf, fit_intercept=False)
    x = np.asarray([[-1.0], [1.0], [1.0], [-1.0], [1.0]])
    model.fit(backend.asarray(x), backend.asarray(np.asarray([0, 1, 1, 1, 0])))
    slope = np.log(1.5)  # three of five are on the side of their class
    got = backend.to_numpy(model.predict_log_proba(backend.asarray(np.asarray([[-1000.0], [100.0]]))))
    rtol = max(precise(backend), 1e-6)
    np.testing.assert_allclose(got[0], [0.0, -1000 * slope], rtol=rtol, atol=1e-30)
    np.testing.assert_allclose(got[1], [-100 * slope, -np.exp(-100 * slope)], rtol=100 * rtol)


def test_callable_start_and_best_of_several():
    calls = []

    def init(x, k, random_state):
        calls.append(random_state.randint(100))
        return START + random_state.normal(size=START.shape)

    model = KMeans(3, init=init, n_init=4, random_state=0).fit(X)
    assert len(set(calls)) > 1
    assert model.inertia_ == pytest.approx(KMeans(3, init=START).fit(X).inertia_, rel=0.02)


def test_other_metrics():
    x = np.abs(X) + 0.1
    for metric in ("cosine", "iou"):
        given = x if metric == "cosine" else x[:, :2]
        model = KMeans(3, init=given[[0, 30, 60], :], metric=metric).fit(given)
        labels, distances = anyops.kmeans_assign(given, model.cluster_centers_, metric=metric)
        np.testing.assert_allclose(np.min(model.transform(given), axis=1), distances, atol=1e-12)
        np.testing.assert_array_equal(model.predict(given), labels)
        assert model.score(given) == pytest.approx(-np.sum(distances))
    model = KMeans(3, init=START, center="median").fit(X)
    members = X[model.labels_ == 1, :]
    np.testing.assert_allclose(model.cluster_centers_[1, :], np.median(members, axis=0), rtol=1e-12)


def test_ties_are_the_same_when_predicted():
    """With whole numbers, samples are often midway between centres."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 6, size=(40, 2)).astype(float)
        model = KMeans(3, init=x[rng.choice(40, 3, replace=False), :] + [[0, 0], [0, 1], [1, 0]]).fit(x)
        np.testing.assert_array_equal(model.predict(x), model.labels_)


def test_warm_start():
    model = LogisticRegression(warm_start=True, tol=1e-8).fit(X, Y)
    steps = int(model.n_iter_[0])
    assert int(model.fit(X, Y).n_iter_[0]) < steps
    with pytest.raises(ValueError, match=r"y must have the classes of the last fit, \[2, 5, 9\].* got \[2, 5\]"):
        model.fit(X[:60], Y[:60])


def test_class_weight_of_classes_that_a_part_lacks():
    weight = {2: 1.0, 5: 3.0, 9: 2.0}
    got = LogisticRegression(class_weight=weight).fit(X[:60], Y[:60])
    want = LogisticRegression().fit(X[:60], Y[:60], sample_weight=np.where(Y[:60] == 5, 3.0, 1.0))
    np.testing.assert_allclose(got.coef_, want.coef_, rtol=1e-9)
    with pytest.raises(ValueError, match="class_weight"):
        LogisticRegression(class_weight={2: 1.0, 7: 3.0}).fit(X, Y)


def test_warnings():
    with pytest.warns(ConvergenceWarning, match="newton failed to converge after 1 iter"):
        LogisticRegression(max_iter=1, tol=1e-12).fit(X, Y)


@pytest.mark.parametrize("solver", ["auto", "newton", "lbfgs", "proximal", "newton-cg", "saga"])
@pytest.mark.parametrize("x", [[-2.0, -1.0, 1.0, 2.0], [-1.0, 0.0, 0.0, 1.0]], ids=["complete", "quasi-complete"])
def test_separation_is_told_by_every_solver(backend, solver, x):
    x = backend.asarray(np.asarray(x)[:, None])
    with pytest.warns(ConvergenceWarning, match="the classes are separated"):
        model = LogisticRegression(C=np.inf, solver=solver).fit(x, [0, 0, 1, 1])
    assert np.all(np.isfinite(host(backend, model.coef_)))


def test_verbose(capsys):
    LogisticRegression(verbose=1).fit(X, Y)
    assert capsys.readouterr().out.startswith("newton: ")
    KMeans(3, init=START, verbose=1, tol=0).fit(X)
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["Initialization complete", told[1]]
    assert told[1].startswith("Iteration 1, inertia ")
    assert told[-1].endswith("strict convergence.")


@pytest.mark.parametrize(
    ("estimator", "error", "match"),
    [
        (KMeans(0), ValueError, "n_clusters"),
        (KMeans(2.0), TypeError, "n_clusters"),
        (KMeans(91), ValueError, "n_samples=90 should be >= n_clusters=91"),
        (KMeans(algorithm="full"), ValueError, "algorithm"),
        (KMeans(n_init=0), ValueError, "n_init"),
        (KMeans(max_iter=0), ValueError, "max_iter"),
        (KMeans(tol=-1.0), ValueError, "tol"),
        (KMeans(init="k-means"), ValueError, "init"),
        (KMeans(3, init=START[:, :2]), ValueError, "does not match the number of features"),
        (KMeans(metric="manhattan"), ValueError, "metric"),
        (KMeans(random_state=-1), ValueError, "seed"),
        (LogisticRegression(C=0), ValueError, "C must be above 0"),
        (LogisticRegression(C=float("nan")), ValueError, "C must be a number, got nan"),
        (LogisticRegression(C="1"), TypeError, "C must be a number"),
        (LogisticRegression(l1_ratio=2), ValueError, "l1_ratio"),
        (LogisticRegression(penalty="l3"), ValueError, "penalty"),
        (LogisticRegression(solver="liblinear"), ValueError, "penalises the intercept"),
        (LogisticRegression(solver="newton", l1_ratio=0.5), ValueError, "Solver newton supports only"),
        (LogisticRegression(max_iter=-1), ValueError, "max_iter"),
        (LogisticRegression(class_weight="even"), ValueError, "class_weight"),
    ],
    ids=str,
)
def test_wrong_options(estimator, error, match):
    with pytest.raises(error, match=match):
        estimator.fit(X, Y)


def test_options_that_are_not_here():
    with pytest.raises(TypeError, match="copy_x"):
        KMeans(copy_x=False)
    with pytest.raises(TypeError, match="dual"):
        LogisticRegression(dual=True)


# --- inference -------------------------------------------------------------------------------------------------------


def test_standard_errors_and_summary(backend):
    y = (Y > 2).astype(np.int32)
    x = RNG.normal(size=(90, 3)) + 0.5 * y[:, None]
    want = anyops.logistic_regression(x, y, tol=1e-8)
    model = LogisticRegression(C=np.inf, tol=1e-8).fit(backend.asarray(x), backend.asarray(y))
    assert model.stderr_[0].shape == model.coef_.shape
    assert model.stderr_[1].shape == model.intercept_.shape
    np.testing.assert_allclose(host(backend, model.stderr_[0])[0], want.stderr[0], rtol=10 * precise(backend))
    np.testing.assert_allclose(host(backend, model.stderr_[1])[0], want.stderr[1], rtol=10 * precise(backend))
    np.testing.assert_allclose(model.result_.aic, want.aic, rtol=10 * precise(backend))
    assert "AIC" in model.summary()
    penalised = LogisticRegression(C=0.5).fit(backend.asarray(x), backend.asarray(y))
    assert penalised.stderr_ is None
    assert "penalised, l1 = 0 and l2 = 2" in penalised.summary()


def test_summary_has_the_names_of_columns():
    pandas = pytest.importorskip("pandas")
    model = LogisticRegression(C=np.inf, tol=1e-6)
    frame = pandas.DataFrame(X, columns=["length", "width", "height"])
    rng = np.random.default_rng(1)
    table = model.fit(frame, rng.integers(0, 3, len(X))).summary(alpha=0.1)
    assert [line.split()[0] for line in table.splitlines()[7:11]] == ["length", "width", "height", "intercept"]
    assert "0.95]" in table
    assert pickle.loads(pickle.dumps(model)).summary(alpha=0.1) == table
    others = model.summary(["a", "b", "c"], alpha=0.1)
    assert [line.split()[0] for line in others.splitlines()[7:11]] == ["a", "b", "c", "intercept"]


def test_continuous_targets_are_refused(backend):
    y = backend.asarray(RNG.normal(size=90))
    with pytest.raises(ValueError, match=r"(Unknown label type: continuous|y must hold class labels)"):
        LogisticRegression().fit(backend.asarray(X), y)


@pytest.mark.parametrize(
    "call", [lambda model: model.stderr_, lambda model: model.summary()], ids=["stderr_", "summary"]
)
def test_inference_before_a_fit_says_so(call):
    with pytest.raises(NotFittedError, match="LogisticRegression instance is not fitted yet"):
        call(LogisticRegression())

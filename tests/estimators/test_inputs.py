"""Labels of every type, shapes that would broadcast, warm starts and transforms: accepted, or named in an error."""

import importlib
import warnings

import numpy as np
import pytest

from tests.backends import Backend

pytest.importorskip("sklearn")

from sklearn.exceptions import DataConversionWarning

from anyops.estimators import KMeans, LogisticRegression

RNG = np.random.default_rng(11)
X = RNG.normal(size=(96, 3))
SCORES = X @ np.array([1.0, -1.0, 0.5]) + RNG.logistic(size=96)
Y = (SCORES > 0).astype(np.int64)
THREE = np.digitize(SCORES, [-1.0, 1.0])
W = RNG.integers(0, 3, size=96).astype(np.float64)

# Two labels, the dtype of X, and the libraries that would change or merge them.
BEYOND = {
    "a label above int32": (np.int64([3, 10_000_000_001]), np.float64, {"jax"}),
    "labels apart by 2^32": (np.int64([5, 5 + 2**32]), np.float64, {"jax"}),
    "a label above int64": (np.uint64([7, 2**63 + 5]), np.float64, {"jax", "torch", "strict"}),
    "floats at 2^24": (np.float64([2**24, 2**24 + 1]), np.float32, {"jax", "torch", "strict"}),
}


def host(backend, x):
    """An attribute or labels on the host; some already are."""
    return np.asarray(x) if isinstance(x, np.ndarray | np.generic | float) else backend.to_numpy(x)


def fitted(backend, y=Y, **options):
    return LogisticRegression(**options).fit(backend.asarray(X), backend.asarray(y))


def accuracy(model, backend, y, weight=None):
    """The share of right predictions, by NumPy alone."""
    return np.average(host(backend, model.predict(backend.asarray(X))) == y, weights=weight)


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "dtype", "libraries"), BEYOND.values(), ids=BEYOND)
def test_labels_that_the_library_cannot_hold(backend, labels, dtype, libraries):
    x, y = backend.asarray(X.astype(dtype)), labels[Y]
    model = LogisticRegression().fit(x, y)
    np.testing.assert_array_equal(host(backend, model.classes_), labels)
    predicted = model.predict(x)
    numbers = host(backend, LogisticRegression().fit(x, backend.asarray(Y)).predict(x))
    np.testing.assert_array_equal(host(backend, predicted), labels[numbers])
    assert model.score(x, y) == pytest.approx(np.mean(numbers == Y))
    assert 0.5 < model.score(x, y) < 1
    if backend.library in libraries and backend is not Backend.JAX_X64:
        assert isinstance(model.classes_, np.ndarray)
        assert isinstance(predicted, np.ndarray)
        assert model.classes_.dtype == labels.dtype
    weighted = LogisticRegression(class_weight={labels[0].item(): 2.0, labels[1].item(): 1.0}).fit(x, y)
    want = LogisticRegression(class_weight={0: 2.0, 1: 1.0}).fit(x, backend.asarray(Y))
    np.testing.assert_array_equal(host(backend, weighted.coef_), host(backend, want.coef_))


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32"])
@pytest.mark.parametrize("beside", [True, False], ids=["of the library", "of NumPy"])
def test_types_of_labels(backend, dtype, beside):
    y = Y.astype(dtype)
    given = backend.asarray(y) if beside else y
    model = LogisticRegression().fit(backend.asarray(X), given)
    predicted = model.predict(backend.asarray(X))
    assert backend.owns(predicted)
    if beside:
        assert predicted.dtype == given.dtype
    if dtype == "bool":
        assert host(backend, predicted).dtype == bool
        assert host(backend, model.classes_).dtype == bool
    want = LogisticRegression().fit(X, Y)
    assert np.mean(host(backend, predicted).astype(int) == want.predict(X)) > 0.98  # the rest is rounding
    assert model.score(backend.asarray(X), given) == pytest.approx(accuracy(model, backend, y))


def test_unsigned_labels_beyond_int64(backend):
    labels = np.uint64([3, 2**63 + 5])
    if not backend.has_dtype("int64"):
        pytest.skip("the library has no such labels")
    model = fitted(backend, labels[Y])
    np.testing.assert_array_equal(np.unique(host(backend, model.predict(backend.asarray(X)))), labels)


def test_bfloat16_labels(backend):
    if backend.library not in ("torch", "jax"):
        pytest.skip("the library has no bfloat16")
    y = backend.asarray(Y.astype(np.float32), "bfloat16")
    model = LogisticRegression().fit(backend.asarray(X), y)
    assert model.predict(backend.asarray(X)).dtype == y.dtype
    assert model.score(backend.asarray(X), y) > 0.7


@pytest.mark.parametrize(
    ("dtype", "want"),
    [
        ("Int64", "int64"),
        ("UInt8", "uint8"),
        ("boolean", "bool"),
        ("Float64", "float64"),
        ("string", "object"),
        ("category", "int64"),
        ("str", "object"),
    ],
)
def test_labels_of_pandas(backend, dtype, want):
    pandas = pytest.importorskip("pandas")
    plain = Y.astype(str) if dtype in ("string", "str") else Y.astype(bool) if dtype == "boolean" else Y
    given = pandas.Series(plain).astype(dtype)
    x = backend.asarray(X)
    model = LogisticRegression().fit(x, given)
    if backend.library == "numpy":
        assert model.classes_.dtype == want
    np.testing.assert_array_equal(host(backend, model.classes_), np.unique(plain))
    assert model.score(x, given) == pytest.approx(accuracy(model, backend, plain))
    categories = given.astype("category")
    np.testing.assert_array_equal(host(backend, LogisticRegression().fit(x, categories).classes_), np.unique(plain))
    frame = given.to_frame("label")
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model = LogisticRegression().fit(x, frame)
    np.testing.assert_array_equal(host(backend, model.classes_), np.unique(plain))


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "Float64", "string", "object", "category", "datetime64[ns]"])
def test_missing_labels_of_pandas(backend, dtype):
    pandas = pytest.importorskip("pandas")
    plain = Y.astype(bool) if dtype == "boolean" else Y.astype(str) if dtype in ("string", "object") else Y
    given = pandas.Series(plain).astype(dtype)
    given[7] = None
    model = fitted(backend)
    for call in (LogisticRegression().fit, model.score):
        with pytest.raises(ValueError, match=r"y must have no missing labels, got (<NA>|NaT|None|nan) in row 7"):
            call(backend.asarray(X), given)


@pytest.mark.parametrize("missing", ["None", "nan", "NA"])
@pytest.mark.parametrize("text", [False, True], ids=["numbers", "text"])
def test_missing_labels_in_a_list(backend, missing, text):
    """NumPy converts NaN in an array of text to the text 'nan'."""
    label = pytest.importorskip("pandas").NA if missing == "NA" else {"None": None, "nan": float("nan")}[missing]
    given = [str(y) for y in Y] if text else Y.tolist()
    given[7] = label
    with pytest.raises(ValueError, match=r"y must have no missing labels, got (<NA>|None|nan) in row 7"):
        LogisticRegression().fit(backend.asarray(X), given)


def test_class_of_weight_0_is_ignored(backend):
    """As in scikit-learn's tests, such a class is not predicted, whether the weight is by class or by sample."""
    x, y = backend.asarray(X), backend.asarray(THREE)
    by_class = LogisticRegression(class_weight={0: 1, 1: 0, 2: 1}, tol=1e-8).fit(x, y)
    by_sample = LogisticRegression(tol=1e-8).fit(x, y, sample_weight=backend.asarray((THREE != 1).astype(np.float64)))
    without = LogisticRegression(tol=1e-8).fit(X[THREE != 1], THREE[THREE != 1])
    rtol = 1e-9 if backend.has_dtype("float64") else 1e-4
    for model in (by_class, by_sample):
        np.testing.assert_array_equal(host(backend, model.classes_), [0, 2])
        np.testing.assert_allclose(host(backend, model.coef_), without.coef_, rtol=rtol)
        np.testing.assert_allclose(host(backend, model.intercept_), without.intercept_, rtol=rtol)
        assert set(host(backend, model.predict(x)).tolist()) == {0, 2}
        assert model.predict_proba(x).shape == (96, 2)
    with pytest.raises(ValueError, match="two classes of weight above zero"):
        LogisticRegression(class_weight={0: 1, 1: 0}).fit(x, backend.asarray(Y))


# --- shapes ----------------------------------------------------------------------------------------------------------


def test_score_of_a_column_of_labels(backend):
    """A column would broadcast against a row to n × n pairs."""
    model, column = fitted(backend), Y[:, None]
    want = accuracy(model, backend, Y)
    with pytest.warns(DataConversionWarning):
        assert model.score(backend.asarray(X), column) == pytest.approx(want)  # on the host, as scikit-learn
    if backend.library != "numpy":
        with pytest.raises(ValueError, match=r"y must have shape \(96,\), .* got \(96, 1\)"):
            model.score(backend.asarray(X), backend.asarray(column))
        with pytest.raises(ValueError, match=r"y must have shape \(96,\), .* got \(96, 1\)"):
            LogisticRegression().fit(backend.asarray(X), backend.asarray(column))


@pytest.mark.parametrize("n", [1, 5, 97])
def test_labels_of_another_length(backend, n):
    model, y = fitted(backend), np.resize(Y, n)
    for given in (y, backend.asarray(y), y.astype(str), y.tolist()):
        for call in (LogisticRegression().fit, model.score):
            with pytest.raises(ValueError, match=rf"y must have shape \(96,\), .* got \({n},\)"):
                call(backend.asarray(X), given)


def check_weights_of_another_shape(backend, model, shape):
    x, y, weight = backend.asarray(X), backend.asarray(Y), np.ones(shape)
    model.fit(x, y)
    for given in (weight, backend.asarray(weight)):
        for call in (model.fit, model.score):
            with pytest.raises(ValueError, match=rf"sample_weight must have shape \(96,\), got \({shape[0]},"):
                call(x, y, sample_weight=given)


@pytest.mark.parametrize("shape", [(96, 1), (1, 96), (5,), (1,)], ids=str)
def test_weights_of_another_shape(backend, shape):
    check_weights_of_another_shape(backend, LogisticRegression(), shape)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("shape", [(96, 1), (1, 96), (5,), (1,)], ids=str)
def test_weights_of_another_shape_for_kmeans(backend, shape):
    check_weights_of_another_shape(backend, KMeans(2, init=X[:2]), shape)


def test_weights_of_a_score(backend):
    model, x, y = fitted(backend), backend.asarray(X), backend.asarray(Y)
    want = accuracy(model, backend, Y, W)
    assert model.score(x, y, sample_weight=W) == pytest.approx(want)
    assert model.score(x, y, sample_weight=backend.asarray(W)) == pytest.approx(want)
    assert model.score(x, y, sample_weight=2) == pytest.approx(accuracy(model, backend, Y))
    assert model.score(x, y, sample_weight=backend.asarray(W * 2.0**100)) == pytest.approx(want)
    for wrong, came in ((-W, "-[12]"), (0 * W, "none")):
        with pytest.raises(ValueError, match=f"sample_weight must be .* got {came}"):
            model.score(x, y, sample_weight=backend.asarray(wrong))
    with pytest.raises(ValueError, match="sample_weight"):
        model.score(x, y, sample_weight=np.full(96, np.nan))


@pytest.mark.parametrize("scale", [2.0**130, 1e-60])
def test_weights_beyond_the_dtype_of_the_samples(backend, scale):
    """In float32 they would be infinite, or 0."""
    x, y = backend.asarray(X.astype(np.float32)), backend.asarray(Y)
    model = LogisticRegression(C=1 / scale)
    if backend.has_dtype("float64"):
        got = model.fit(x, y, sample_weight=np.full(96, scale))
        want = LogisticRegression().fit(X, Y)
        np.testing.assert_allclose(host(backend, got.coef_), want.coef_, rtol=1e-4)
    else:
        with pytest.raises(ValueError, match=r"sample_weight must hold numbers in the range of .*float32, got 1"):
            model.fit(x, y, sample_weight=np.full(96, scale))


def test_score_without_labels_and_of_others(backend):
    model, x = fitted(backend), backend.asarray(X)
    with pytest.raises(ValueError, match="y must be an array of labels, got None"):
        model.score(x, None)
    with pytest.raises(ValueError, match="y must hold labels of the type of classes_"):
        model.score(x, Y.astype(str))


@pytest.mark.parametrize("model", [LogisticRegression(), KMeans(2, init=X[:2])], ids=["logistic", "k-means"])
def test_no_columns_and_no_rows(backend, model):
    with pytest.raises(ValueError, match=r"0 feature\(s\) \(shape=\(96, 0\)\) while a minimum of 1 is required by"):
        model.fit(backend.asarray(X[:, :0]), backend.asarray(Y))
    with pytest.raises(ValueError, match=r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required by"):
        model.fit(backend.asarray(X[:0]), backend.asarray(Y[:0]))


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("C", [1e-310, 5e-324])
def test_strength_whose_inverse_is_infinite(backend, C, l1_ratio):
    with pytest.raises(ValueError, match=rf"C must be at least 5.6e-309, .* got {C}"):
        LogisticRegression(C=C, l1_ratio=l1_ratio).fit(backend.asarray(X), backend.asarray(Y))
    model = LogisticRegression(C=1e-300, l1_ratio=l1_ratio).fit(backend.asarray(X), backend.asarray(Y))
    assert float(np.max(np.abs(host(backend, model.coef_)))) < 1e-290


def test_warm_start_of_another_problem(backend):
    x = backend.asarray(X)
    model = fitted(backend, warm_start=True)
    for y in (THREE, Y + 5, Y.astype(str)):
        with pytest.raises(ValueError, match=r"y must have the classes of the last fit, \[0, 1\], for a warm"):
            model.fit(x, y)
    with pytest.raises(ValueError, match="X must have the 3 features of the last fit for a warm start, got 2"):
        model.fit(x[:, :2], backend.asarray(Y))
    model = fitted(backend, y=THREE, warm_start=True, class_weight={0: 1, 1: 0, 2: 1})
    model.fit(x, backend.asarray(THREE))
    np.testing.assert_array_equal(host(backend, model.classes_), [0, 2])


def test_what_is_not_finite_is_named(backend):
    x = X.copy()
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"\bX\b"):
        LogisticRegression().fit(backend.asarray(x), backend.asarray(Y))


def test_chunks_of_unknown_sizes():
    dask = pytest.importorskip("dask.array")
    x, y = (dask.from_array(a, chunks=32) for a in (X, Y))
    some = x[y >= 0]
    model = LogisticRegression().fit(x, y)
    for name, call in {
        "X": lambda: LogisticRegression().fit(some, y),
        "y": lambda: model.score(x, y[y >= 0]),
        "sample_weight": lambda: model.score(x, y, sample_weight=some[:, 0]),
    }.items():
        with pytest.raises(ValueError, match=f"{name} must have chunks of known sizes"):
            call()


# --- transforms ------------------------------------------------------------------------------------------------------


def transforms(backend):
    """Calls of a function of an array under each transform of a library."""
    xp = backend.xp

    def summed(f):
        return lambda z: xp.sum(f(z))

    if backend.library == "jax":
        jax = importlib.import_module("jax")
        return {
            "jit": lambda f, x: jax.jit(f)(x),
            "vmap": lambda f, x: jax.vmap(f)(xp.stack([x, x])),
            "grad": lambda f, x: jax.grad(summed(f))(x),
        }
    func = importlib.import_module("torch").func
    return {
        "vmap": lambda f, x: func.vmap(f)(xp.stack([x, x])),
        "grad": lambda f, x: func.grad(summed(f))(x),
    }


def test_estimators_under_a_transform(backend):
    if backend.library not in ("torch", "jax"):
        pytest.skip("the library has no transforms")
    x, y = backend.asarray(X), backend.asarray(Y)
    w = backend.asarray(W.astype(np.float32))
    model, text = fitted(backend), LogisticRegression().fit(x, Y.astype(str))
    clusters = KMeans(2, init=X[:2]).fit(x)
    refused = {
        "fit X": (lambda z: LogisticRegression().fit(z, y).coef_, x),
        "fit text": (lambda z: LogisticRegression().fit(z, Y.astype(str)).coef_, x),
        "fit weight": (lambda z: LogisticRegression().fit(x, y, sample_weight=z).coef_, w),
        "fit weight beside NumPy": (lambda z: LogisticRegression().fit(X, Y, sample_weight=z).coef_, w),
        "fit y": (lambda z: LogisticRegression().fit(x, z).coef_, w),
        "fit y beside NumPy": (lambda z: LogisticRegression().fit(X, z).coef_, w),
        "score X": (lambda z: model.score(z, y), x),
        "score y": (lambda z: model.score(x, z), w),
        "score weight": (lambda z: model.score(x, y, sample_weight=z), w),
        "predict text": (text.predict, x),
        "k-means fit": (lambda z: KMeans(2, init=X[:2]).fit(z).cluster_centers_, x),
        "k-means fit weight": (lambda z: KMeans(2, init=X[:2]).fit(x, sample_weight=z).cluster_centers_, w),
        "k-means score": (clusters.score, x),
    }
    for transform, call in transforms(backend).items():
        for name, (f, given) in refused.items():
            with pytest.raises(TypeError, match=r"(X|y|sample_weight) must have values, got an array under") as error:
                call(f, given)
            assert type(error.value) is TypeError, (transform, name)


@pytest.mark.parametrize("method", ["decision_function", "predict_proba", "predict_log_proba", "predict"])
def test_predictions_under_a_transform(backend, method):
    """Methods that read no values run under transforms."""
    if backend.library not in ("torch", "jax"):
        pytest.skip("the library has no transforms")
    x, model = backend.asarray(X), fitted(backend, Y.astype(np.uint8))
    want = backend.to_numpy(getattr(model, method)(x))
    for name, call in transforms(backend).items():
        if name != "grad":
            got = backend.to_numpy(call(getattr(model, method), x))
            np.testing.assert_allclose(got, np.stack([want, want]) if name == "vmap" else want, rtol=1e-5)


def test_fit_within_torch_compile():
    torch = pytest.importorskip("torch")
    x, y = torch.asarray(X), torch.asarray(Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(lambda z: LogisticRegression().fit(z, y).coef_, backend="eager")
        with pytest.raises(TypeError, match="X must have values, got an array under a transform"):
            compiled(x)

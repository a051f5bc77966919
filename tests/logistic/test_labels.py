"""Class labels: of weight 0, not representable in the library of x, missing; and transforms that hide values."""

import importlib

import numpy as np
import pytest

import anyops
from tests.backends import Backend

RNG = np.random.default_rng(3)
X = RNG.normal(size=(120, 3))
SCORES = X @ np.array([1.0, -1.0, 0.5]) + RNG.logistic(size=120)
Y = (SCORES > 0).astype(np.int64)
THREE = np.digitize(SCORES, [-1.0, 1.0])

# Two labels, the dtype of x, and the libraries whose int32, int64 or float32 would change or merge them.
BEYOND = {
    "a label above int32": (np.int64([3, 10_000_000_001]), np.float64, {"jax"}),
    "labels apart by 2^32": (np.int64([5, 5 + 2**32]), np.float64, {"jax"}),
    "labels below int32": (np.int64([-(2**40), 7]), np.float64, {"jax"}),
    "a label above int64": (np.uint64([7, 2**63 + 5]), np.float64, {"jax", "torch", "strict"}),
    "floats at 2^24": (np.float64([2**24, 2**24 + 1]), np.float32, {"jax", "torch", "strict"}),
}


def host(backend, x):
    return np.asarray(x) if isinstance(x, np.ndarray | np.generic) else backend.to_numpy(x)


def on_the_host(backend, libraries):
    """Whether a case of `BEYOND` applies to a backend."""
    return backend.library in libraries and backend is not Backend.JAX_X64


@pytest.mark.parametrize(("labels", "dtype", "libraries"), BEYOND.values(), ids=BEYOND)
def test_labels_that_the_library_cannot_hold(backend, labels, dtype, libraries):
    x = backend.asarray(X.astype(dtype))
    if not on_the_host(backend, libraries):
        pytest.skip("the library holds them")
    got = anyops.logistic_regression(x, labels[Y], l2=1.0)
    want = anyops.logistic_regression(x, backend.asarray(Y), l2=1.0)
    np.testing.assert_array_equal(got.classes, labels)
    assert isinstance(got.classes, np.ndarray)
    assert got.classes.dtype == labels.dtype
    np.testing.assert_array_equal(host(backend, got.coef), host(backend, want.coef))


def test_labels_that_the_library_can_hold_are_of_the_library(backend):
    if backend.library == "numpy":
        pytest.skip("one library")
    for y in (Y, Y.astype(bool), Y.astype(np.float64)):
        with pytest.raises(TypeError, match="x and y must be arrays of one library"):
            anyops.logistic_regression(backend.asarray(X), y)


def test_a_class_of_class_weight_0_is_ignored(backend):
    x, y = backend.asarray(X), backend.asarray(THREE)
    got = anyops.logistic_regression(x, y, l2=1.0, class_weight={0: 2.0, 1: 0.0})
    kept = THREE != 1
    want = anyops.logistic_regression(X[kept], THREE[kept], l2=1.0, class_weight={0: 2.0})
    np.testing.assert_array_equal(host(backend, got.classes), [0, 2])
    rtol = 1e-9 if backend.has_dtype("float64") else 1e-4
    np.testing.assert_allclose(host(backend, got.coef), want.coef, rtol=rtol)
    np.testing.assert_allclose(host(backend, got.intercept), want.intercept, rtol=rtol)
    assert got.loss == pytest.approx(want.loss, rel=rtol)
    assert got.report.log_likelihood == pytest.approx(want.report.log_likelihood, rel=rtol)


@pytest.mark.parametrize("labels", [np.asarray(["a", "b", "c"]), np.asarray(["a", "b", "c"], object)], ids=["U", "O"])
def test_a_text_class_of_class_weight_0_is_ignored(labels):
    got = anyops.logistic_regression(X, labels[THREE], l2=1.0, class_weight={"b": 0.0})
    want = anyops.logistic_regression(X[THREE != 1], THREE[THREE != 1], l2=1.0)
    assert got.classes.tolist() == ["a", "c"]
    np.testing.assert_allclose(got.coef, want.coef, rtol=1e-9)


@pytest.mark.parametrize(
    ("class_weight", "error", "match"),
    [
        ({0: 0.0}, ValueError, "two classes of weight above zero, got 1 class"),
        ({0: 0.0, 1: 0.0}, ValueError, "two classes of weight above zero, got none"),
        ({0: -1.0}, ValueError, "class_weight must be finite and at least 0, got -1 for class 0"),
        ({1: np.nan}, ValueError, "class_weight must be finite and at least 0, got nan for class 1"),
        ({1: np.inf}, ValueError, "class_weight must be finite and at least 0, got inf for class 1"),
        ({1: "two"}, TypeError, "class_weight must hold numbers, got 'two' for class 1"),
        ({1: None}, TypeError, "class_weight must hold numbers, got None for class 1"),
    ],
    ids=str,
)
def test_class_weights_that_cannot_be(backend, class_weight, error, match):
    with pytest.raises(error, match=match):
        anyops.logistic_regression(backend.asarray(X), backend.asarray(Y), class_weight=class_weight)


@pytest.mark.parametrize("options", [{"class_weight": {0: 1e-60}}, {"sample_weight": np.where(Y == 0, 1e-60, 1.0)}])
def test_a_class_of_a_weight_that_the_dtype_cannot_hold(options):
    """The class was lost, and the fit came back as separated."""
    with pytest.raises(ValueError, match="got 1e-60 for a class"):
        anyops.logistic_regression(X.astype(np.float32), Y, **options)
    assert not anyops.logistic_regression(X, Y, **options).separated


@pytest.mark.parametrize("missing", [None, float("nan")], ids=str)
def test_missing_labels(backend, missing):
    y = np.where(Y == 1, "b", "a").astype(object)
    y[17] = missing
    with pytest.raises(ValueError, match=r"y must have no missing labels, got (None|nan)$"):
        anyops.logistic_regression(backend.asarray(X), y)


def test_missing_dates():
    y = np.asarray(["2020-01-01", "2021-01-01"], "datetime64[D]")[Y]
    assert anyops.logistic_regression(X, y).classes.dtype == y.dtype
    y[4] = np.datetime64("NaT", "D")
    with pytest.raises(ValueError, match=r"y must have no missing labels, got .*NaT"):
        anyops.logistic_regression(X, y)


def test_a_missing_label_of_weight_0_is_ignored(backend):
    y = np.where(Y == 1, "b", "a").astype(object)
    y[17] = None
    weight = np.ones(len(Y))
    weight[17] = 0.0
    got = anyops.logistic_regression(backend.asarray(X), y, l2=1.0, sample_weight=backend.asarray(weight))
    want = anyops.logistic_regression(np.delete(X, 17, axis=0), np.delete(Y, 17), l2=1.0)
    np.testing.assert_allclose(host(backend, got.coef), want.coef, rtol=1e-9 if backend.has_dtype("float64") else 1e-4)


def test_masked_text():
    with pytest.raises(TypeError, match=r"y must be a plain array, got numpy\.MaskedArray"):
        anyops.logistic_regression(X, np.ma.masked_array(np.where(Y == 1, "b", "a")))


# --- transforms that hide the values ---------------------------------------------------------------------------------

FITS = {
    "logistic_regression": lambda x: anyops.logistic_regression(x, _like(x, Y)).coef,
    "logistic_regression of text": lambda x: anyops.logistic_regression(x, Y.astype(str)).coef,
    "kmeans": lambda x: anyops.kmeans(x, 2, seed=0).centers,
    "kmeans from centres": lambda x: anyops.kmeans(x, 2, init=x[:2, :]).centers,
    "minibatch_kmeans": lambda x: anyops.minibatch_kmeans([x], 2, seed=0).centers,
    "kmeans_plusplus": lambda x: anyops.kmeans_plusplus(x, 2, seed=0).centers,
}


def _like(x, values):
    return importlib.import_module("torch" if "torch" in type(x).__module__ else "jax.numpy").asarray(values)


def transforms(backend):
    """Calls of a function under each transform of a library."""
    x = backend.asarray(X.astype(np.float32))
    xp, twice = backend.xp, backend.xp.stack([x, x])
    if backend.library == "jax":
        jax = importlib.import_module("jax")
        return {
            "jit": lambda f: jax.jit(f)(x),
            "vmap": lambda f: jax.vmap(f)(twice),
            "grad": lambda f: jax.grad(lambda z: xp.sum(f(z)))(x),
            "jit around constants": lambda f: jax.jit(lambda z: xp.sum(f(x)) * z)(1.0),
        }
    func = importlib.import_module("torch").func
    return {
        "vmap": lambda f: func.vmap(f)(twice),
        "grad": lambda f: func.grad(lambda z: xp.sum(f(z)))(x),
        "jvp": lambda f: func.jvp(f, (x,), (x,)),
        "functionalize": lambda f: func.functionalize(f)(x),
        "grad around constants": lambda f: func.grad(lambda z: xp.sum(f(x)) * z)(xp.asarray(1.0)),
    }


# A warning of torch at the first forward-mode derivative.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_fits_under_a_transform_are_refused(backend, fit):
    if backend.library not in ("torch", "jax"):
        pytest.skip("the library has no transforms")
    for name, call in transforms(backend).items():
        with pytest.raises(TypeError, match=r"by values.*(logistic|kmeans)_step") as error:
            call(fit)
        assert type(error.value) is TypeError, name


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
def test_weights_under_a_transform_are_refused(backend):
    if backend.library not in ("torch", "jax"):
        pytest.skip("the library has no transforms")
    x, y = backend.asarray(X), backend.asarray(Y)
    for name, call in transforms(backend).items():
        with pytest.raises(TypeError, match=r"(sample_weight|x) must have values, .*by values") as error:
            call(lambda z: anyops.logistic_regression(x, y, sample_weight=z[:, 0] ** 2).coef)
        assert type(error.value) is TypeError, name


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
def test_starts_and_weights_of_kmeans_under_a_transform_are_refused(backend):
    if backend.library not in ("torch", "jax"):
        pytest.skip("the library has no transforms")
    x, y = backend.asarray(X), backend.asarray(Y)
    level = backend.asarray(np.asarray(0.0))
    calls = (
        lambda z: anyops.logistic_regression(x, y, init=(z[0, :], level)).coef,
        lambda z: anyops.kmeans(x, 2, sample_weight=z[:, 0] ** 2, seed=0).centers,
    )
    for name, call in transforms(backend).items():
        for f in calls:
            with pytest.raises(TypeError, match="by values") as error:
                call(f)
            assert type(error.value) is TypeError, name


def test_a_fit_of_constants_in_a_vmap(backend):
    """Closed-over arrays are not hidden."""
    if backend.library not in ("torch", "jax"):
        pytest.skip("the library has no transforms")
    x, y = backend.asarray(X), backend.asarray(Y)
    want = backend.to_numpy(anyops.logistic_regression(x, y).coef)
    got = transforms(backend)["vmap"](
        lambda z: z[0, :] * 0 + backend.xp.astype(anyops.logistic_regression(x, y).coef, z.dtype)
    )
    np.testing.assert_allclose(backend.to_numpy(got), [want, want], rtol=1e-6)

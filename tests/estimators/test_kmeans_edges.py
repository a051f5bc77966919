"""`KMeans` at the edges of dtypes, and its distances to many centres."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from anyops.estimators import KMeans
from tests.backends import Backend
from tests.estimators.test_inputs import transforms

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(30, 3)) + at for at in ((0, 0, 0), (9, 0, 0))])


@pytest.fixture(autouse=True)
def _can_fit(backend):
    if str(backend) == "strict:strictest":
        pytest.skip("bounds of k-means select by values, which these flags forbid")


def host(backend, x):
    return x if isinstance(x, np.ndarray) else backend.to_numpy(x)


def test_distances(backend):
    model = KMeans(2, init=X[[0, 30]]).fit(backend.asarray(X))
    got = host(backend, model.transform(backend.asarray(X)))
    want = np.linalg.norm(X[:, None, :] - host(backend, model.cluster_centers_), axis=2)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_distances_of_halves(backend):
    if not backend.has_dtype("float16"):
        pytest.skip("no float16")
    x = (X * 60).astype(np.float16)
    model = KMeans(2, init=x[[0, 30]]).fit(backend.asarray(x))
    got = host(backend, model.transform(backend.asarray(x))).astype(np.float64)
    centers = host(backend, model.cluster_centers_).astype(np.float64)
    want = np.linalg.norm(x.astype(np.float64)[:, None, :] - centers, axis=2)
    np.testing.assert_allclose(got, want, rtol=2e-3)


@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1e37, 1e38])
def test_score_of_weights(backend, scale):
    x, w = X.astype(np.float32), np.linspace(0.5, 1, len(X)).astype(np.float32)
    model = KMeans(2, init=x[[0, 30]]).fit(backend.asarray(x))
    want, got = (model.score(backend.asarray(x), sample_weight=backend.asarray(w * np.float32(s))) for s in (1, scale))
    np.testing.assert_allclose(got / scale, want, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-60, 1e38])
def test_score_of_double_weights(backend, scale):
    if not backend.has_dtype("float64"):
        pytest.skip("no float64, which such weights need")
    w = np.linspace(0.5, 1, len(X))
    model = KMeans(2, init=X[[0, 30]]).fit(backend.asarray(X))
    got = model.score(backend.asarray(X), sample_weight=backend.asarray(w * scale))
    near = np.min(np.sum((X[:, None] - host(backend, model.cluster_centers_)) ** 2, axis=2), axis=1)
    np.testing.assert_allclose(got / scale, -np.sum(w * near), rtol=1e-12)


def test_score_of_a_column_of_weights(backend):
    model = KMeans(2, init=X[[0, 30]]).fit(backend.asarray(X))
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(60,\), got \(60, 1\)"):
        model.score(backend.asarray(X), sample_weight=backend.asarray(np.ones((60, 1))))


@pytest.mark.parametrize("method", ["predict", "transform"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_refused(backend, method, value):
    model = KMeans(2, init=X[[0, 30]]).fit(backend.asarray(X))
    bad = X.copy()
    bad[3, 1] = value
    with pytest.raises(ValueError, match=r"X (contains|must be finite, got) (NaN|infinity)"):
        host(backend, getattr(model, method)(backend.asarray(bad)))  # a lazy array is checked when it is computed


# --- distances -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("near", [1e-2, 1e-5])
def test_distances_of_near_points(backend, offset, near):
    """As accurate as differences of numbers of the dtype, wherever the points are."""
    rng = np.random.default_rng(0)
    centers = (rng.normal(size=(8, 5)) + offset).astype(np.float32)
    x = np.concatenate([centers + near * rng.normal(size=(8, 5)), rng.normal(size=(30, 5)) + offset, centers])
    x = x.astype(np.float32)
    model = KMeans(8, init=centers, max_iter=1).fit(backend.asarray(x))
    got = host(backend, model.transform(backend.asarray(x))).astype(np.float64)
    at = host(backend, model.cluster_centers_).astype(np.float64)
    want = np.sqrt(np.sum((x.astype(np.float64)[:, None] - at) ** 2, axis=2))
    np.testing.assert_allclose(got, want, rtol=8 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_distances_of_samples_far_beyond_the_centers(backend, scale):
    """Squares of the samples overflow float32; squares of their distances from the centres do not."""
    centers = (np.asarray([[0.0, 1.0], [3.0, 5.0], [-7.0, 2.0]]) * scale).astype(np.float32)
    model = KMeans(3, init=centers, max_iter=1).fit(backend.asarray(centers))
    x = np.concatenate([centers, centers + np.float32(scale), np.float32([[3e37, -1e36], [-1e30, 2e20], [1e19, 1e25]])])
    got = host(backend, model.transform(backend.asarray(x))).astype(np.float64)
    at = host(backend, model.cluster_centers_).astype(np.float64)
    want = np.sqrt(np.sum((x.astype(np.float64)[:, None] - at) ** 2, axis=2))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_distances_beyond_halves_are_infinite(backend):
    if not backend.has_dtype("float16"):
        pytest.skip("no float16")
    x = np.asarray([[-6e4], [-5.9e4], [0.0], [5.9e4], [6e4]], np.float16)
    model = KMeans(2, init=x[[0, 4]]).fit(backend.asarray(x))
    got = host(backend, model.transform(backend.asarray(x)))
    assert got.dtype == np.float16
    centers = host(backend, model.cluster_centers_).astype(np.float64)
    want = np.abs(x.astype(np.float64) - centers[:, 0])
    np.testing.assert_allclose(got, np.where(want > 65504, np.inf, want), rtol=2e-3)


@pytest.mark.parametrize("fitted", ["float16", "float32", "float64"])
@pytest.mark.parametrize("given", ["float16", "float32", "float64"])
def test_a_lazy_result_has_the_dtype_that_it_says(backend, fitted, given):
    if backend is not Backend.DASK:
        pytest.skip("only dask is lazy")
    model = KMeans(2, init=X[[0, 30]].astype(fitted)).fit(backend.asarray(X, fitted))
    got = model.transform(backend.asarray(X, given))
    assert got.dtype == got.compute().dtype == np.result_type(fitted, given)


# --- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "metric"), [("predict", "euclidean"), ("predict", "iou"), ("transform", "cosine")])
def test_what_follows_a_fit_can_be_transformed(backend, method, metric):
    if backend.library not in ("torch", "jax"):
        pytest.skip("the library has no transforms")
    x = backend.asarray(np.abs(X[:, :2]).astype(np.float32) + 1)
    model = KMeans(2, init=x[:2, :], metric=metric).fit(x)
    want = backend.to_numpy(getattr(model, method)(x))
    for name, call in transforms(backend).items():
        if name != "grad":
            got = backend.to_numpy(call(getattr(model, method), x))
            np.testing.assert_allclose(
                got, np.stack([want, want]) if name == "vmap" else want, rtol=1e-5, atol=1e-6, err_msg=name
            )


def test_the_gradient_of_distances(backend):
    if backend.library not in ("torch", "jax"):
        pytest.skip("the library has no gradients")
    x = backend.asarray(X)
    model = KMeans(2, init=X[[0, 30]]).fit(x)
    away = X[:, None] - host(backend, model.cluster_centers_)
    want = np.sum(away / np.linalg.norm(away, axis=2, keepdims=True), axis=1)
    got = transforms(backend)["grad"](model.transform, x)
    np.testing.assert_allclose(backend.to_numpy(got), want, rtol=1e-4, atol=1e-5)
    if backend.library == "torch":
        z = x.clone().requires_grad_()
        model.transform(z).sum().backward()
        np.testing.assert_allclose(backend.to_numpy(z.grad), want, rtol=1e-4, atol=1e-5)


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["k-means++", lambda X, k, random_state: X[:k]])
def test_a_random_state_of_another_library_is_named(backend, init):
    torch = pytest.importorskip("torch")
    x = backend.asarray(X)
    with pytest.raises(ValueError, match=r"random_state must be an integer, .* or None, got torch.Generator"):
        KMeans(2, init=init, random_state=torch.Generator()).fit(x)
    with pytest.raises(ValueError, match=r"random_state must be .*, got str"):
        KMeans(2, init=init, random_state="0").fit(x)


def test_a_generator_beside_a_callable():
    drawn = []

    def init(X, k, random_state):
        drawn.append(random_state.randint(1_000_000))
        return X[[0, 30]]

    for _ in range(2):
        KMeans(2, init=init, n_init=2, random_state=np.random.default_rng(3)).fit(X)
    assert drawn[:2] == drawn[2:]
    assert drawn[0] != drawn[1]


def test_no_columns(backend):
    with pytest.raises(ValueError, match=r"0 feature\(s\) \(shape=\(60, 0\)\)"):
        KMeans(2).fit(backend.asarray(X[:, :0]))
    model = KMeans(2, init=X[[0, 30]]).fit(backend.asarray(X))
    with pytest.raises(ValueError, match="0 feature"):
        model.predict(backend.asarray(X[:, :0]))

"""`KMeans` at the edges of dtypes, and its distances to many centres."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from anyops.estimators import KMeans

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


@pytest.mark.parametrize("scale", [1e-30, 1e37])
def test_score_of_weights(backend, scale):
    if backend.library == "dask" and scale > 1:
        pytest.skip("parts of a lazy array are summed in its dtype")
    x, w = X.astype(np.float32), np.linspace(0.5, 1, len(X)).astype(np.float32)
    model = KMeans(2, init=x[[0, 30]]).fit(backend.asarray(x))
    want, got = (model.score(backend.asarray(x), sample_weight=backend.asarray(w * np.float32(s))) for s in (1, scale))
    np.testing.assert_allclose(got / scale, want, rtol=1e-4)


def test_nan_is_refused(backend):
    if backend.library == "dask":
        pytest.skip("a lazy array is not looked at")
    model = KMeans(2, init=X[[0, 30]]).fit(backend.asarray(X))
    bad = X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"X (contains|must be finite, got) NaN"):
        model.predict(backend.asarray(bad))

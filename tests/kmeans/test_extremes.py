"""k-means of very small, very large and far samples, of extreme weights, and of iterations that do not descend."""

import numpy as np
import pytest

import anyops

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(40, 2)) + at for at in ((0, 0), (10, 0), (0, 10))])
START = X[[0, 40, 80]]


def host(backend, x):
    return x if isinstance(x, np.ndarray) else backend.to_numpy(x)


def shipped(backend, *arrays):
    return [backend.asarray(a.astype(np.float32)) for a in arrays]


def lloyd(x, centers, iterations=50):
    """Labels and inertia in float64, as the iteration is written down."""
    for _ in range(iterations):
        squares = ((x[:, None, :] - centers) ** 2).sum(axis=2)
        labels = squares.argmin(axis=1)
        centers = np.stack([x[labels == j].mean(axis=0) for j in range(len(centers))])
    return labels, squares.min(axis=1).sum(), centers


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("unit", [1e-30, 1e-25, 1e-20, 1e20, 1e25, 1e30])
def test_units(backend, unit):
    labels, inertia, centers = lloyd(X, START)
    got = anyops.kmeans(*shipped(backend, X * unit), 3, init=shipped(backend, START * unit)[0])
    np.testing.assert_array_equal(host(backend, got.labels), labels)
    np.testing.assert_allclose(got.inertia / unit / unit, inertia, rtol=1e-5)
    np.testing.assert_allclose(host(backend, got.centers).astype(np.float64) / unit, centers, rtol=1e-4, atol=1e-5)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("offset", [1e3, 1e4, 1e5])
def test_offsets(backend, offset):
    """As float64 finds it for the numbers that float32 holds."""
    x, start = (X + offset).astype(np.float32), (START + offset).astype(np.float32)
    labels, inertia, _ = lloyd(x.astype(np.float64), start.astype(np.float64))
    got = anyops.kmeans(backend.asarray(x), 3, init=backend.asarray(start))
    np.testing.assert_array_equal(host(backend, got.labels), labels)
    np.testing.assert_allclose(got.inertia, inertia, rtol=1e-3)


@pytest.mark.op("kmeans_assign")
@pytest.mark.parametrize("unit", [1e-30, 1e-25, 1e25, 1e30])
def test_parts_in_units(backend, unit):
    x, start = shipped(backend, X * unit, START * unit)
    want = ((X[:, None, :] - START) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(host(backend, anyops.kmeans_assign(x, start).labels), want)
    if backend.library == "dask":
        return
    step = anyops.kmeans_step(x, start)
    sums = np.stack([X[want == j].mean(axis=0) for j in range(3)])
    np.testing.assert_allclose(host(backend, step.centers).astype(np.float64) / unit, sums, rtol=1e-4, atol=1e-5)
    drawn = host(backend, anyops.kmeans_plusplus(x, 3, seed=0).indices)
    assert sorted(drawn // 40) == [0, 1, 2]


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_boxes_in_units(backend, unit):
    wh, start = np.abs(X) + 1, np.abs(START) + 1
    want = anyops.kmeans(wh, 3, init=start, metric="iou")
    got = anyops.kmeans(*shipped(backend, wh * unit), 3, init=shipped(backend, start * unit)[0], metric="iou")
    np.testing.assert_allclose(got.inertia, want.inertia, rtol=1e-4)


@pytest.mark.op("kmeans")
def test_nearly_parallel_rows(backend):
    """Directions that differ by 1e-4, whose cosines float32 rounds to a few values: the two groups are found."""
    rng = np.random.default_rng(1)
    group = np.arange(200) % 2
    x = np.asarray([1, 2, 3]) / 14**0.5 + 1e-4 * (0.3 * rng.normal(size=(200, 3)) + 3 * group[:, None] * [1, -1, 0])
    x, start = shipped(backend, x, x[:2])
    got = anyops.kmeans(x, 2, init=start, metric="cosine")
    np.testing.assert_array_equal(host(backend, got.labels), group)
    np.testing.assert_array_equal(host(backend, anyops.kmeans_assign(x, start, metric="cosine").labels), group)


@pytest.mark.op("kmeans_assign")
def test_directions_of_zero(backend):
    """0 is at a distance of 1 from every direction, and a centre of 0 from every sample."""
    x = np.asarray([[0.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    centers = np.asarray([[1.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    got = anyops.kmeans_assign(backend.asarray(x), backend.asarray(centers), metric="cosine")
    np.testing.assert_array_equal(host(backend, got.labels), [0, 0, 1])
    np.testing.assert_allclose(host(backend, got.distances), [1, 1 - 1 / 1.01**0.5, 1], rtol=1e-4)


@pytest.mark.op("kmeans")
def test_whole_numbers_are_computed_exactly_or_refused(backend):
    seconds = np.asarray([[0], [2], [9000], [9004]]) + 1_700_000_000
    x = backend.asarray(seconds)
    if backend.xp.__array_namespace_info__().default_dtypes()["real floating"] == backend.xp.float32:
        with pytest.raises(ValueError, match=r"x must hold integers up to 16777216.*1700009004"):
            anyops.kmeans(x, 2, init=x[:2, :])
        return
    got = anyops.kmeans(x, 2, init=backend.asarray(seconds[[0, 2]].astype(float)))
    assert got.inertia == 10


@pytest.mark.op("kmeans")
@pytest.mark.parametrize(("metric", "center"), [("iou", "mean"), ("iou", "median"), ("euclidean", "median")])
def test_the_best_seen_is_returned(backend, metric, center):
    if backend.library == "dask" and center == "median":
        pytest.skip("medians need all samples at once")
    x = np.exp(np.random.default_rng(5).normal(size=(150, 2)))
    seen = []
    got = anyops.kmeans(
        backend.asarray(x), 6, init=backend.asarray(x[:6]), metric=metric, center=center,
        callback=lambda _, inertia, __: seen.append(inertia),
    )  # fmt: skip
    assert got.inertia <= min(seen) * (1 + 1e-5)


@pytest.mark.op("kmeans")
def test_more_centres_than_points_end(backend):
    x = np.repeat(np.random.default_rng(0).normal(size=(3, 2)), 5, axis=0)
    got = anyops.kmeans(backend.asarray(x), 6, init=backend.asarray(x[:6]), tol=0.0)
    assert got.converged
    assert got.n_iter < 20
    np.testing.assert_allclose(got.inertia, 0, atol=1e-10)


@pytest.mark.op("kmeans_step")
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_weights_of_a_step(backend, scale):
    w = np.random.default_rng(2).random(120)
    x, start, weight = shipped(backend, X, START, w * scale)
    got = anyops.kmeans_step(x, start, sample_weight=weight)
    want = anyops.kmeans_step(X, START, sample_weight=w)
    np.testing.assert_allclose(host(backend, got.centers), want.centers, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(float(got.inertia) / scale, want.inertia, rtol=1e-4)


@pytest.mark.op("minibatch_kmeans")
@pytest.mark.parametrize("scale", [1e-60, 1e-30, 1e37])
def test_weights_of_batches(backend, scale):
    if scale == 1e-60 and not backend.has_dtype("float64"):
        pytest.skip("float32 does not hold these weights")
    w = np.random.default_rng(2).random(120) + 0.5
    order = np.random.default_rng(3).permutation(120)

    def batches(factor):
        for part in np.split(order, 4):
            weight = (w[part] * factor).astype(np.float64 if scale == 1e-60 else np.float32)
            yield shipped(backend, X[part])[0], backend.asarray(weight)

    start = START.astype(np.float32)
    options = {"init": start if backend.library == "dask" else backend.asarray(start), "seed": 0}
    want, got = (anyops.minibatch_kmeans(batches(factor), 3, **options) for factor in (1.0, scale))
    np.testing.assert_allclose(host(backend, got.centers), host(backend, want.centers), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.inertia / scale, want.inertia, rtol=1e-4)


def test_batches_of_a_loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data
    x = torch.asarray(X)
    got = anyops.minibatch_kmeans(data.DataLoader(data.TensorDataset(x), batch_size=30), 3, seed=0)
    want = anyops.minibatch_kmeans(x.split(30), 3, seed=0)
    assert torch.equal(got.centers, want.centers)
    labelled = data.DataLoader(data.TensorDataset(x, torch.zeros(120, dtype=torch.int64)), batch_size=30)
    with pytest.raises(TypeError, match=r"batch 0.*labels"):
        anyops.minibatch_kmeans(labelled, 3, seed=0)
    with pytest.raises(TypeError, match=r"seed.*torch\.Generator"):
        anyops.kmeans(x, 3, seed=torch.Generator())


def test_shapes_in_the_words_of_the_user(backend):
    x = backend.asarray(X)
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(120,\).*\(120, 1\)"):
        anyops.kmeans(x, 3, sample_weight=backend.asarray(np.ones((120, 1))), init=backend.asarray(START))
    with pytest.raises(ValueError, match=r"x must have shape \(n, d\) with at least one column, got \(4, 0\)"):
        anyops.kmeans(backend.asarray(np.ones((4, 0))), 2, init="k-means||")


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("order", ["shuffled", "by a column", "period 3", "period 40"])
def test_order_of_rows(backend, order):
    rng = np.random.default_rng(4)
    index = {
        "shuffled": rng.permutation(120),
        "by a column": np.argsort(X[:, 0]),
        "period 3": np.arange(120).reshape(3, 40).T.ravel(),
        "period 40": np.arange(120).reshape(40, 3).T.ravel(),
    }[order]
    want, got = (anyops.kmeans(backend.asarray(x), 3, init=backend.asarray(START)) for x in (X, X[index]))
    np.testing.assert_array_equal(host(backend, got.labels), host(backend, want.labels)[index])
    np.testing.assert_allclose(host(backend, got.centers), host(backend, want.centers), rtol=1e-5, atol=1e-5)

"""k-means at every unit, offset, weight, order and shape: against float64, or by a property."""

import warnings

import numpy as np
import pytest

import anyops
from tests.backends import Backend, Transform
from tests.reference import distance_to_centers, lloyd

UNITS = [1e-25, 1e-20, 1e-3, 1e3, 1e17, 1e25]


def real(backend):
    return "float64" if backend.has_dtype("float64") else "float32"


def host(backend, value):
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else backend.to_numpy(value)


def groups(n=120, d=3, k=4, seed=0, spread=0.3):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, d)) * 4
    return centers[np.arange(n) % k] + rng.normal(size=(n, d)) * spread


def kmeans(backend, x, k, dtype="float32", **options):
    on = {n: backend.asarray(v, dtype) if isinstance(v, np.ndarray) else v for n, v in options.items()}
    got = anyops.kmeans(backend.asarray(x, dtype), k, **on)
    return got._replace(centers=host(backend, got.centers).astype(np.float64), labels=host(backend, got.labels))


def truth(x, labels, k):
    """Centres and inertia of a grouping in float64."""
    x = np.asarray(x, np.float64)
    centers = np.stack([x[labels == j].mean(axis=0) for j in range(k)])
    return centers, float(np.sum((x - centers[labels]) ** 2))


# --- units and offsets -----------------------------------------------------------------------------------------------


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("init", ["array", "k-means||", "k-means++"])
def test_no_fit_depends_on_the_unit(backend, unit, init):
    if backend is Backend.DASK and init == "k-means++":
        pytest.skip("every candidate would read all of the data again")
    x = (groups() * unit).astype(np.float32)
    options = {"init": x[:4]} if init == "array" else {"init": init, "seed": 3, "n_init": 4}
    got = kmeans(backend, x, 4, **options)
    want, inertia = truth(x, np.arange(120) % 4, 4)
    order = got.labels[:4]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_array_equal(got.labels, order[np.arange(120) % 4])
    np.testing.assert_allclose(got.centers[order], want, rtol=1e-5, atol=1e-6 * unit)
    np.testing.assert_allclose(got.inertia, inertia, rtol=1e-4)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("unit", [1e-160, 1e-120, 1e150])
def test_units_whose_squares_leave_float64(backend, unit):
    if not backend.has_dtype("float64"):
        pytest.skip("it has no float64")
    x = groups() * unit
    got = kmeans(backend, x, 4, "float64", init=x[:4])
    np.testing.assert_array_equal(got.labels, np.arange(120) % 4)
    np.testing.assert_allclose(got.centers, truth(x, got.labels, 4)[0], rtol=1e-9)
    want = truth(x / unit, got.labels, 4)[1]
    np.testing.assert_allclose(
        got.inertia / unit / unit if got.inertia else 0.0, want if got.inertia else 0.0, rtol=1e-3
    )


@pytest.mark.op("kmeans_assign", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "iou"])
@pytest.mark.parametrize("unit", UNITS)
def test_labels_do_not_depend_on_the_unit(run, metric, unit):
    x = np.abs(groups(d=2, seed=5)).astype(np.float32) * np.float32(unit)
    centers = x[[0, 1, 2, 3]]
    labels, _ = run(anyops.kmeans_assign, x, centers, metric=metric)
    want = distance_to_centers(x.astype(np.float64) / unit, centers.astype(np.float64) / unit, metric).argmin(axis=1)
    np.testing.assert_array_equal(labels, want)


@pytest.mark.op("kmeans_step", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("unit", UNITS)
def test_a_step_does_not_depend_on_the_unit(run, unit):
    x = groups(seed=1).astype(np.float32)
    far = (x * np.float32(unit)).astype(np.float32)
    got, want = run(anyops.kmeans_step, far, far[:4]), run(anyops.kmeans_step, x, x[:4])
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_allclose(np.float64(got[0]) / unit, want[0], rtol=1e-5, atol=1e-6)


@pytest.mark.op("kmeans_plusplus")
@pytest.mark.parametrize("unit", UNITS)
def test_draws_do_not_depend_on_the_unit(backend, unit):
    x = groups(seed=2)
    indices = [
        host(backend, anyops.kmeans_plusplus(backend.asarray(x * one, "float32"), 4, seed=0).indices)
        for one in (2.0 ** np.round(np.log2(unit)), 1.0)
    ]
    np.testing.assert_array_equal(*indices)


@pytest.mark.op("minibatch_kmeans")
@pytest.mark.parametrize("unit", UNITS)
def test_no_stream_depends_on_the_unit(backend, unit):
    x = groups(600, seed=3)
    unit = 2.0 ** np.round(np.log2(unit))
    got, want = (
        anyops.minibatch_kmeans((backend.asarray(b * one, "float32") for b in np.split(x, 6)), 4, seed=0)
        for one in (unit, 1.0)
    )
    np.testing.assert_allclose(np.float64(host(backend, got.centers)) / unit, host(backend, want.centers), rtol=1e-5)
    np.testing.assert_allclose(got.inertia / unit**2, want.inertia, rtol=1e-5)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("offset", [1e3, 1e4, 1e5])
def test_columns_far_from_zero(backend, offset):
    x = (groups(spread=0.2, seed=6) + offset * np.asarray([1.0, -2.0, 0.5])).astype(np.float32)
    got = kmeans(backend, x, 4, init=x[:4])
    centers, inertia = truth(x, np.arange(120) % 4, 4)
    np.testing.assert_array_equal(got.labels, np.arange(120) % 4)
    np.testing.assert_allclose(got.centers, centers, rtol=1.2e-7)  # one unit in the last place
    np.testing.assert_allclose(got.inertia, inertia, rtol=1e-3)


SECONDS = 1_700_000_001 + np.asarray([[0], [1], [2], [100], [102], [104]])  # inertia 2 and 8


@pytest.mark.op("kmeans")
def test_integers_are_exact_or_refused(backend):
    x = backend.asarray(SECONDS, "int32")
    try:
        got = anyops.kmeans(x, 2, init=SECONDS[::3] if backend is Backend.DASK else x[::3, :])
    except ValueError as error:
        assert "x must hold integers whose centres" in str(error)  # noqa: PT017
        assert not backend.has_dtype("float64") or backend.library == "torch"
    else:
        assert got.inertia == 10.0
        np.testing.assert_array_equal(host(backend, got.labels), [0, 0, 0, 1, 1, 1])


@pytest.mark.op("kmeans_step")
@pytest.mark.parametrize("spread", [1, 10**6])
def test_a_step_of_integers_is_exact_or_refused(backend, spread):
    if backend is Backend.DASK:
        pytest.skip("a step is not lazy")
    x = ((SECONDS - SECONDS[0]) * spread + SECONDS[0]).astype(np.int32)
    given = backend.asarray(x)
    if backend.default("real floating") != "float64" and spread == 1:
        with pytest.raises(ValueError, match="x must hold integers whose centres"):
            anyops.kmeans_step(given, given[::3, :])
    else:
        got = backend.to_numpy(anyops.kmeans_step(given, given[::3, :]).centers)
        np.testing.assert_allclose(got[:, 0], [x[:3].mean(), x[3:].mean()], rtol=1e-6)


def test_a_stream_of_integers_is_exact_or_refused(backend):
    x = np.asarray([[0], [1], [2], [10], [11], [12]]) + 1_700_000_000
    batches = [backend.asarray(x.astype(np.int32))] * 3
    if backend.default("real floating") == "float64":
        got = anyops.minibatch_kmeans(batches, 2, seed=0)
        np.testing.assert_array_equal(np.sort(host(backend, got.centers)[:, 0]), [1_700_000_001, 1_700_000_011])
    else:
        with pytest.raises(ValueError, match="batches must hold integers whose centres"):
            anyops.minibatch_kmeans(batches, 2, seed=0)


@pytest.mark.op("kmeans_assign")
def test_distances_of_integers_are_exact(run):
    labels, distances = run(anyops.kmeans_assign, SECONDS.astype(np.int32), SECONDS[[1, 4]].astype(np.int32))
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(distances, [1, 0, 1, 4, 0, 4])


def test_integers_beyond_float64_are_exact():
    big = 2**60 + np.asarray([[0], [1], [2], [100_000], [100_001], [100_002]])
    labels, distances = anyops.kmeans_assign(big, big[[1, 4]])
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(distances, [1, 0, 1, 1, 0, 1])
    ends = np.asarray([[np.iinfo(np.int64).min], [np.iinfo(np.int64).max]])
    np.testing.assert_array_equal(anyops.kmeans_assign(ends, ends).labels, [0, 1])
    np.testing.assert_array_equal(anyops.kmeans_assign(ends.astype(np.uint64), ends.astype(np.uint64)).labels, [0, 1])


# --- directions ------------------------------------------------------------------------------------------------------


def nearly_parallel():
    rng = np.random.default_rng(0)
    base, sides = np.asarray([1.0, 2.0, 3.0, 4.0]), rng.normal(size=(3, 4)) * 3e-3
    which = np.arange(150) % 3
    return (base + sides[which] + rng.normal(size=(150, 4)) * 2e-4) * rng.uniform(0.5, 2, (150, 1)), which


@pytest.mark.op("kmeans")
def test_nearly_parallel_directions(backend):
    x, which = nearly_parallel()
    got = kmeans(backend, x, 3, init=x[:3], metric="cosine", tol=0.0)
    want = lloyd(x.astype(np.float32), x[:3], metric="cosine", tol=0)
    np.testing.assert_array_equal(got.labels, which)
    assert got.inertia == pytest.approx(want.inertia, rel=0.02)


@pytest.mark.op("kmeans_step")
def test_a_step_of_nearly_parallel_directions(run):
    x, which = nearly_parallel()
    _, labels, inertia, _ = run(anyops.kmeans_step, x.astype(np.float32), x[:3].astype(np.float32), metric="cosine")
    np.testing.assert_array_equal(labels, which)
    want = distance_to_centers(x, x[:3], "cosine").min(axis=1).sum()
    np.testing.assert_allclose(inertia, want, rtol=0.02)


@pytest.mark.op("kmeans_assign")
def test_what_has_no_direction(run):
    x = np.asarray([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.1], [1.0, 1.0]])
    centers = np.asarray([[0.5, 0.5], [0.0, 0.0], [1.0, 0.0]])
    labels, distances = run(anyops.kmeans_assign, x, centers, metric="cosine")
    np.testing.assert_array_equal(labels, [0, 2, 1, 0])
    np.testing.assert_allclose(distances, [1, 0, 1, 0], atol=1e-6)


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.op("kmeans_step", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("unit", [1e-36, 1e38])
def test_a_step_in_any_unit_of_weights(run, unit):
    x, w = groups(seed=4).astype(np.float32), np.random.default_rng(0).uniform(0.5, 1, 120)
    got = run(anyops.kmeans_step, x, x[:4], sample_weight=(w * unit).astype(np.float32))
    want = run(anyops.kmeans_step, x, x[:4], sample_weight=w.astype(np.float32))
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-5)


@pytest.mark.op("kmeans_step", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_by_weights_below_the_normal_range(run, dtype):
    """XLA flushes such numbers to 0. Other lanes of the vmap have other weights, some of them 0."""
    if not run.backend.has_dtype(dtype):
        pytest.skip(f"it has no {dtype}")
    x, w = groups(seed=4).astype(dtype), np.random.default_rng(0).integers(0, 40, (3, 120)).astype(dtype)
    x, least = np.stack([x, x, x]), np.finfo(dtype).smallest_subnormal
    units = np.asarray([least, 1, 2.0**40 * least], dtype)[:, None]
    got = run(anyops.kmeans_step, x, x[:, :4], sample_weight=w * units)
    want = run(anyops.kmeans_step, x, x[:, :4], sample_weight=w)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got[3], want[3], rtol=1e-4)


@pytest.mark.op("minibatch_kmeans")
@pytest.mark.parametrize("unit", [1e-300, 1e-60, 1e38, 1e290])
def test_sums_are_in_the_unit_of_the_weights(run, unit):
    if not run.backend.has_dtype("float64"):
        pytest.skip("it has no float64, which such weights need")
    x = groups().astype(np.float32)
    w = np.random.default_rng(1).uniform(1, 2, 120)
    given = [run.backend.asarray(v) for v in (x, x[:4], w, w * unit)]
    want = anyops.kmeans_partial(*given[:2], sample_weight=given[2])
    got = anyops.kmeans_partial(*given[:2], sample_weight=given[3])
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(host(run.backend, one) / unit, host(run.backend, other), rtol=1e-4, atol=1e-4)
    if run.backend is not Backend.DASK:
        step = [anyops.kmeans_step(*given[:2], sample_weight=v) for v in given[2:]]
        one, other = (float(host(run.backend, found.inertia)) for found in step)
        np.testing.assert_allclose(other / unit, one, rtol=1e-4)


@pytest.mark.parametrize("unit", [1e-60, 1e-30, 1e30, 1e38, 1e200])
def test_a_stream_in_any_unit_of_weights(backend, unit):
    dtype = "float64" if backend.has_dtype("float64") else "float32"
    if dtype == "float32" and not 1e-38 < unit < 1e39:
        pytest.skip("it has no float64, which such weights need")
    x, w = groups(600, seed=3), np.random.default_rng(0).uniform(0.5, 1, 600)

    def fit(unit):
        pairs = zip(np.split(x, 6), np.split(w * unit, 6), strict=True)
        batches = ((backend.asarray(b, "float32"), backend.asarray(v, dtype)) for b, v in pairs)
        return anyops.minibatch_kmeans(batches, 4, seed=0)

    got, want = fit(unit), fit(1.0)
    np.testing.assert_allclose(host(backend, got.centers), host(backend, want.centers), rtol=1e-5)
    np.testing.assert_allclose(got.inertia / unit, want.inertia, rtol=1e-5)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("unit", [1e-30, 1e38])
def test_the_score_in_any_unit(backend, unit):
    estimators = pytest.importorskip("anyops.estimators")
    x = backend.asarray(groups(seed=4), "float32")
    w = backend.asarray(np.full(120, unit), "float32")
    model = estimators.KMeans(4, init="k-means||", random_state=0).fit(x)
    np.testing.assert_allclose(model.score(x, sample_weight=w), -model.inertia_ * unit, rtol=1e-5)
    far = backend.asarray(groups(seed=4) * 1e25, "float32")
    model = estimators.KMeans(4, init="k-means||", random_state=0).fit(far)
    np.testing.assert_allclose(model.score(far), -model.inertia_, rtol=1e-5)


# --- order -----------------------------------------------------------------------------------------------------------

ORDERS = {
    "shuffled": lambda x: np.random.default_rng(9).permutation(len(x)),
    "sorted": lambda x: np.argsort(x[:, 0]),
    **{f"period {p}": lambda x, p=p: np.argsort(np.arange(len(x)) % p, kind="stable") for p in (2, 3, 8, 64)},
}


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_no_fit_depends_on_the_order(backend, order, metric):
    x = groups(512, k=6, seed=7, spread=1.5)
    index = ORDERS[order](x)
    options = {"init": x[:6].copy(), "metric": metric, "dtype": real(backend)}
    want, got = kmeans(backend, x, 6, **options), kmeans(backend, x[index], 6, **options)
    np.testing.assert_array_equal(got.labels, want.labels[index])
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-4, atol=1e-5)


# --- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.op("kmeans")
@pytest.mark.parametrize(("metric", "center"), [("euclidean", "mean"), ("euclidean", "median"), ("iou", "mean")])
@pytest.mark.parametrize("seed", [7, 8, 17, 26])
def test_empty_clusters_take_the_same_samples_in_every_order(backend, seed, metric, center):
    if backend is Backend.DASK and center == "median":
        pytest.skip("a median needs all samples at once")
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 7, (120, 2)).astype(float)  # with many equal distances, and copies
    init = x[rng.permutation(120)[:8]]
    init[5:] = init[0]

    def inertia(x):
        on = init.astype(np.float32) if backend is Backend.DASK else init
        if backend is Backend.DASK:
            return anyops.kmeans(backend.asarray(x, "float32"), 8, init=on, metric=metric, tol=0.0).inertia
        return kmeans(backend, x, 8, init=init, metric=metric, center=center, tol=0.0).inertia

    want = inertia(x)
    for order in ORDERS.values():
        np.testing.assert_allclose(inertia(x[order(x)]), want, rtol=1e-5)
    np.testing.assert_allclose(inertia(x[::-1]), want, rtol=1e-5)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "iou"])
@pytest.mark.parametrize("seed", range(3))
def test_more_centers_than_distinct_points_end(backend, metric, seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.1, 9, (5, 2))
    x = points[rng.integers(5, size=300)]
    for dtype in {"float32", real(backend)}:
        got = kmeans(backend, x, 9, dtype, init="k-means||", seed=seed, tol=0.0, metric=metric)
        assert got.converged
        assert got.n_iter < 20
        assert got.inertia < 1e-3


@pytest.mark.op("kmeans")
@pytest.mark.parametrize(("metric", "center"), [("iou", "median"), ("iou", "mean"), ("euclidean", "median")])
def test_the_best_centers_seen_are_returned(backend, metric, center):
    if backend is Backend.DASK and center == "median":
        pytest.skip("a median needs all samples at once")
    for seed in range(6):
        x = np.exp(np.random.default_rng(seed).normal(0, 1.2, (60, 2)))
        lost = []
        got = kmeans(
            backend,
            x,
            6,
            real(backend),
            init=x[:6],
            metric=metric,
            center=center,
            callback=lambda *values, to=lost: to.append(values[1]),
        )
        assert got.inertia <= min(lost) * (1 + 1e-5)
        want = distance_to_centers(np.asarray(x, got.centers.dtype), got.centers, metric).min(axis=1).sum()
        np.testing.assert_allclose(got.inertia, want, rtol=1e-4)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "iou"])
def test_transform_is_each_distance(backend, metric):
    estimators = pytest.importorskip("anyops.estimators")
    x = np.abs(groups(200, d=2, seed=8)) + 0.1
    model = estimators.KMeans(7, init="k-means||", metric=metric, random_state=0).fit(backend.asarray(x, "float32"))
    got = host(backend, model.transform(backend.asarray(x, "float32")))
    centers = host(backend, model.cluster_centers_).astype(np.float64)
    want = distance_to_centers(x.astype(np.float32).astype(np.float64), centers, metric)
    want = np.sqrt(want) if metric == "euclidean" else want
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=3e-7)


@pytest.mark.op("kmeans")
def test_transform_keeps_small_and_large_distances(backend):
    estimators = pytest.importorskip("anyops.estimators")
    for unit, dtype in ((1.0, "float32"), (1e-25, "float32"), (1e25, "float32"), (600.0, "float16")):
        if not backend.has_dtype(dtype):
            continue
        x = backend.asarray(np.asarray([[0.0, 1.0], [1e-3, 1.0], [9.0, 9.0], [9.0, 9.01]]) * unit, dtype)
        model = estimators.KMeans(2, init="k-means||", random_state=0).fit(x)
        got, at = host(backend, model.transform(x)), host(backend, model.cluster_centers_).astype(np.float64)
        there = backend.to_numpy(x).astype(np.float64)
        want = np.sqrt(np.sum((there[:, None] / unit - at[None] / unit) ** 2, axis=2))
        np.testing.assert_allclose(got.astype(np.float64) / unit, want, rtol=1e-3 if dtype == "float16" else 1e-5)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("method", ["predict", "transform", "score"])
def test_nan_is_refused_after_the_fit(backend, method):
    estimators = pytest.importorskip("anyops.estimators")
    x = groups()
    model = estimators.KMeans(3, init="k-means||", random_state=0).fit(backend.asarray(x, real(backend)))
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"finite|NaN"):
        host(backend, getattr(model, method)(backend.asarray(x, real(backend))))


# --- shapes and arguments --------------------------------------------------------------------------------------------


@pytest.mark.op("kmeans")
def test_errors_in_the_words_of_the_caller(backend):
    x = backend.asarray(groups(), real(backend))
    column = backend.asarray(np.ones((120, 1)), real(backend))
    centers = x[:4, :] if backend is not Backend.DASK else groups()[:4]
    calls = (
        lambda: anyops.kmeans(x, 4, init="k-means||", sample_weight=column),
        lambda: anyops.kmeans_partial(x, centers, sample_weight=column),
        lambda: anyops.minibatch_kmeans([(x, column)], 4),
    )
    for call in calls if backend is not Backend.DASK else calls[2:]:
        with pytest.raises(ValueError, match=r"sample_weight must have shape \(120,\) to match .*, got \(120, 1\)"):
            call()
    for call in (
        lambda: anyops.kmeans(x[:, :0], 4, init="k-means||"),
        lambda: anyops.kmeans_assign(x[:, :0], centers[:, :0]),
        lambda: anyops.minibatch_kmeans([x[:, :0]], 4),
    ):
        with pytest.raises(ValueError, match=r"must have shape .*d ≥ 1, got \((120|0), 0\)"):
            call()


def test_a_generator_of_torch_is_named():
    torch = pytest.importorskip("torch")
    x = torch.asarray(groups())
    for call in (anyops.kmeans, anyops.kmeans_plusplus, lambda x, k, seed: anyops.minibatch_kmeans([x], k, seed=seed)):
        with pytest.raises(TypeError, match=r"seed must be an integer, a numpy.random.Generator or None, got torch"):
            call(x, 3, seed=torch.Generator())


def test_batches_of_a_data_loader():
    torch = pytest.importorskip("torch")
    data = pytest.importorskip("torch.utils.data")
    x = torch.asarray(groups(400), dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = data.DataLoader(data.TensorDataset(x), batch_size=100)
        got, want = anyops.minibatch_kmeans(loader, 4, seed=0), anyops.minibatch_kmeans(x.split(100), 4, seed=0)
        torch.testing.assert_close(got.centers, want.centers)
        labelled = data.DataLoader(data.TensorDataset(x, torch.arange(400) % 4), batch_size=100)
        with pytest.raises(TypeError, match=r"batch 0 must be .* weights, got weights of torch.int64"):
            anyops.minibatch_kmeans(labelled, 4, seed=0)
    with pytest.raises(TypeError, match=r"batch 0 must be an array \(n, d\)"):
        anyops.minibatch_kmeans([[x, x[:, 0], x]], 4)

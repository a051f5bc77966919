import json
import weakref
from pathlib import Path

import numpy as np
import pytest

import anyops
from tests.backends import Backend
from tests.reference import distance_to_centers

ENTRIES = json.loads((Path(__file__).parents[1] / "vectors" / "ml.json").read_text(encoding="utf-8"))


def blobs(n=600, d=3, k=4, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(k, d)) * 4)[rng.integers(k, size=n)] + rng.normal(size=(n, d))


def real(backend):
    return "float64" if backend.has_dtype("float64") else "float32"


def close(backend):
    return {"rtol": 1e-9, "atol": 1e-12} if backend.has_dtype("float64") else {"rtol": 3e-5, "atol": 3e-5}


def parts(x, size=100):
    return [x[i : i + size] for i in range(0, len(x), size)]


def fit(backend, batches, k, *, weights=None, **options):
    """minibatch_kmeans of host batches on the backend, its centres on the host."""
    there = [backend.asarray(batch, real(backend)) for batch in batches]
    if weights is not None:
        there = [(x, backend.asarray(w, real(backend))) for x, w in zip(there, weights, strict=True)]
    if isinstance(options.get("init"), np.ndarray):
        init = options["init"]
        options["init"] = init if backend is Backend.DASK else backend.asarray(init, real(backend))
    got = anyops.minibatch_kmeans(iter(there), k, **options)
    assert (type(got.inertia), type(got.n_iter), type(got.converged), got.labels) == (float, int, bool, None)
    if backend is Backend.DASK:
        assert isinstance(got.centers, np.ndarray)
        return got
    assert backend.owns(got.centers)
    return got._replace(centers=backend.to_numpy(got.centers))


def by_definition(batches, init, weights=None, metric="euclidean"):
    """Each centre is the running weighted mean of the samples that were closest to it when their batch was read."""
    centers, total = np.array(init, np.float64), np.zeros(len(init))
    inertia = 0.0
    for number, batch in enumerate(batches):
        w = np.ones(len(batch)) if weights is None else weights[number]
        d = distance_to_centers(batch, centers, metric)
        labels = d.argmin(axis=1)
        inertia += float(np.sum(w * d.min(axis=1)))
        for j in range(len(centers)):
            mine = labels == j
            if np.any(w[mine] > 0):
                grown = total[j] + w[mine].sum()
                centers[j] = (centers[j] * total[j] + w[mine] @ batch[mine]) / grown
                total[j] = grown
    return centers, inertia


@pytest.mark.op("minibatch_kmeans")
@pytest.mark.parametrize("weighted", [False, True])
def test_update_rule(backend, weighted):
    assert any(e["op"] == "minibatch_update_rule" for e in ENTRIES)
    batches = parts(blobs())
    weights = [np.random.default_rng(i).integers(0, 3, len(b)).astype(float) for i, b in enumerate(batches)]
    weights = weights if weighted else None
    init = batches[0][:4]
    got = fit(backend, batches, 4, weights=weights, init=init)
    centers, inertia = by_definition(batches, init, weights)
    np.testing.assert_allclose(got.centers, centers, **close(backend))
    np.testing.assert_allclose(got.inertia, inertia, **close(backend))
    assert (got.n_iter, got.converged) == (6, False)


@pytest.mark.op("minibatch_kmeans")
@pytest.mark.parametrize("power", [-120, 100])
def test_a_unit_of_weights_that_is_a_power_of_two_changes_no_bit(backend, power):
    batches = parts(blobs())
    weights = [np.random.default_rng(i).integers(1, 9, len(b)).astype(float) for i, b in enumerate(batches)]
    want = fit(backend, batches, 4, weights=weights, seed=0)
    got = fit(backend, batches, 4, weights=[w * 2.0**power for w in weights], seed=0)
    np.testing.assert_array_equal(got.centers, want.centers)
    assert got.inertia == want.inertia * 2.0**power


@pytest.mark.op("minibatch_kmeans")
@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_batches_of_unlike_weights(backend, unit):
    batches = parts(blobs())
    weights = [np.full(len(b), unit if i % 2 else 1.0) for i, b in enumerate(batches)]
    got = fit(backend, batches, 4, weights=weights, init=batches[0][:4])
    centers, inertia = by_definition(batches, batches[0][:4], weights)
    np.testing.assert_allclose(got.centers, centers, **close(backend))
    np.testing.assert_allclose(got.inertia, inertia, **close(backend))


@pytest.mark.op("minibatch_kmeans")
@pytest.mark.parametrize("kind", [list, tuple])
def test_batches_of_one_array(backend, kind):
    there = [backend.asarray(batch, real(backend)) for batch in parts(blobs())]
    got, want = (anyops.minibatch_kmeans(b, 4, seed=0) for b in ([kind([x]) for x in there], there))
    got, want = (c if isinstance(c, np.ndarray) else backend.to_numpy(c) for c in (got.centers, want.centers))
    np.testing.assert_array_equal(got, want)


@pytest.mark.op("minibatch_kmeans")
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_labels_are_no_weights(backend, dtype):
    x = backend.asarray(blobs(40), real(backend))
    with pytest.raises(TypeError, match=rf"batch 0 must be .* weights, got .*{dtype}.*remove labels"):
        anyops.minibatch_kmeans([(x, backend.asarray((np.arange(40) % 3).astype(dtype)))], 2)


@pytest.mark.op("minibatch_kmeans")
def test_metric_of_boxes(backend):
    batches = parts(np.abs(blobs(300, 2)) + 0.5)
    got = fit(backend, batches, 3, init=batches[0][[0, 4, 7]], metric="iou")
    centers, inertia = by_definition(batches, batches[0][[0, 4, 7]], metric="iou")
    np.testing.assert_allclose(got.centers, centers, **close(backend))
    np.testing.assert_allclose(got.inertia, inertia, **close(backend))


@pytest.mark.op("minibatch_kmeans")
def test_centers_of_cosine_are_the_directions_of_the_sums(backend):
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(3), 100, axis=0) + rng.normal(size=(300, 3)) * 0.1
    order = rng.permutation(300)
    got = fit(backend, parts(x[order] * rng.uniform(0.1, 9, (300, 1))), 3, init=np.eye(3) + 0.2, metric="cosine")
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    sums = np.stack([units[100 * j : 100 * (j + 1)].sum(axis=0) for j in range(3)])
    np.testing.assert_allclose(got.centers, sums / np.linalg.norm(sums, axis=1, keepdims=True), rtol=1e-5, atol=1e-5)


def test_equals_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    batches = parts(blobs(2_000, 4, 8, seed=1))
    peer = cluster.MiniBatchKMeans(8, init=batches[0][:8], n_init=1, reassignment_ratio=0)
    for batch in batches:
        peer.partial_fit(batch)
    got = anyops.minibatch_kmeans(batches, 8, init=batches[0][:8], max_no_improvement=None)
    np.testing.assert_allclose(got.centers, peer.cluster_centers_, rtol=1e-10)


@pytest.mark.op("minibatch_kmeans")
@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_a_seed_gives_the_same_centers_on_every_backend(backend, init):
    if backend.library == "jax" and init == "k-means||":
        pytest.skip("test_kmeans.py draws so on JAX, which compiles for every number of candidates")
    x = (np.eye(6) * 100)[np.random.default_rng(0).integers(6, size=600)]
    x = np.round((x + np.random.default_rng(1).normal(size=(600, 6))) * 64) / 64
    got = fit(backend, parts(x, 60), 6, init=init, seed=4)
    want = anyops.minibatch_kmeans(parts(x, 60), 6, init=init, seed=4)
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-4, atol=1e-4)
    assert got.n_iter == want.n_iter


def test_it_finds_separate_groups_that_come_one_in_a_batch_at_least():
    x = (np.eye(6) * 100)[np.random.default_rng(0).integers(6, size=6_000)]
    x += np.random.default_rng(1).normal(size=(6_000, 6))
    for seed in range(5):
        got = anyops.minibatch_kmeans(parts(x, 200), 6, seed=seed)
        np.testing.assert_allclose(np.sort(np.argmax(got.centers, axis=1)), range(6))
        np.testing.assert_allclose(got.centers.max(axis=1), 100, atol=0.5)


@pytest.mark.op("minibatch_kmeans")
def test_translation_is_harmless_in_float32(backend):
    x = np.round(blobs(600) * 64) / 64  # exact in float32 after the shift, too
    there = [backend.asarray(b + 1e4, "float32") for b in parts(x)]
    init = (x[:4] + 1e4).astype(np.float32)
    got = anyops.minibatch_kmeans(there, 4, init=init if backend is Backend.DASK else backend.asarray(init))
    centers = got.centers if backend is Backend.DASK else backend.to_numpy(got.centers)
    np.testing.assert_allclose(centers - 1e4, by_definition(parts(x), x[:4])[0], atol=2e-3)


def test_a_center_far_from_all_is_moved_to_a_sample():
    x = (np.arange(2_000) % 4)[:, None] * 10.0
    init = np.asarray([[0.0], [10.0], [20.0], [1e6]])
    got = anyops.minibatch_kmeans(parts(x, 40), 4, init=init, seed=0, max_no_improvement=None)
    assert np.max(got.centers) <= 30
    assert np.max(anyops.kmeans_assign(x, got.centers).distances) < 100


def test_a_center_that_few_samples_hold_is_moved_after_a_while():
    x = np.tile([[0.0], [10.0], [20.0], [30.0]], (1_000, 1))
    x[3, 0] = 1e6  # and this one is never seen again
    init = np.asarray([[0.0], [10.0], [30.0], [1e6]])
    got = anyops.minibatch_kmeans(parts(x, 40), 4, init=init, seed=3, max_no_improvement=None)
    assert np.max(got.centers) <= 30


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weight_zero_removes_a_sample(value):
    x, there = blobs(600), np.random.default_rng(1).random(600) < 0.7
    holed = np.where(there[:, None], x, value)
    pairs = [(holed[i : i + 100], there[i : i + 100].astype(float)) for i in range(0, 600, 100)]
    plain = [x[i : i + 100][there[i : i + 100]] for i in range(0, 600, 100)]
    got, want = (anyops.minibatch_kmeans(b, 4, init=x[there][:4], seed=0) for b in (pairs, plain))
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-10)
    np.testing.assert_allclose(got.inertia, want.inertia, rtol=1e-10)


def test_batches_without_samples_are_passed_over():
    x = blobs(200)
    nothing = [x[:0], (x[:5], np.zeros(5))]
    got = anyops.minibatch_kmeans([*nothing, x[:100], *nothing, x[100:], *nothing], 4, seed=0)
    want = anyops.minibatch_kmeans([x[:100], x[100:]], 4, seed=0)
    np.testing.assert_array_equal(got.centers, want.centers)
    assert got.n_iter == 2


def test_integers_and_narrow_floats():
    x = np.random.default_rng(0).integers(0, 100, (400, 2))
    assert anyops.minibatch_kmeans(parts(x), 3, seed=0).centers.dtype == np.float64
    assert anyops.minibatch_kmeans(parts(x.astype(np.float16)), 3, seed=0).centers.dtype == np.float16


@pytest.mark.parametrize("init", ["k-means++", np.eye(2, 3)])
def test_few_batches_are_alive_at_once_and_each_is_asked_for_once(init):
    rng, alive, most, asked = np.random.default_rng(0), set(), 0, 0

    def batches():
        nonlocal most, asked
        for number in range(30):
            batch = rng.normal(size=(50, 3))
            alive.add(number)
            weakref.finalize(batch, alive.remove, number)
            most, asked = max(most, len(alive)), asked + 1
            yield batch
            del batch

    got = anyops.minibatch_kmeans(batches(), 2, init=init, seed=0, max_no_improvement=None)
    assert (asked, got.n_iter) == (30, 30)
    assert most <= 3


def test_it_stops_reading_when_nothing_improves():
    asked = 0

    def batches():
        nonlocal asked
        while asked < 500:
            asked += 1
            yield np.random.default_rng(asked).normal(size=(100, 2))

    got = anyops.minibatch_kmeans(batches(), 3, seed=0)
    assert got.converged
    assert got.n_iter == asked
    got = anyops.minibatch_kmeans(batches(), 3, seed=0, max_no_improvement=None, tol=1e-3)
    assert got.converged


def test_tol_counts_in_variances_of_the_samples():
    batches = parts(blobs(4_000, seed=2))
    n_iter = [
        anyops.minibatch_kmeans(
            [b * scale for b in batches], 4, init=batches[0][:4] * scale, tol=1e-4, max_no_improvement=None
        ).n_iter
        for scale in (1, 1 / 8)
    ]
    assert 1 < n_iter[0] == n_iter[1] < 40


X = blobs(40)
BAD = {
    "no batch": (([], 2), {}, ValueError, "batches must hold samples"),
    "no sample": (([X[:0]], 2), {}, ValueError, "batches must hold samples"),
    "no weight": (([(X, np.zeros(40))], 2), {}, ValueError, "batches must hold samples"),
    "k of 0": (([X], 0), {}, ValueError, "k must be"),
    "float k": (([X], 2.0), {}, TypeError, "k must be"),
    "k above all samples": (([X, X], 81), {}, ValueError, "80"),
    "k above all samples, from an array": (([X[:3], X[:4]], 8), {"init": X[:8]}, ValueError, "7"),
    "no iterable": ((3, 2), {}, TypeError, "batches must be an iterable"),
    "an array": (
        (X, 2),
        {},
        ValueError,
        r"batches must be an iterable of arrays .*; pass \[x\], or x\.blocks",
    ),
    "lists": (([X.tolist()], 2), {}, TypeError, "batch 0"),
    "another width": (([X, X[:, :2]], 2), {}, ValueError, "batch 1 must have the width of batch 0, 3, got 2"),
    "another dtype": (([X, X.astype(np.float32)], 2), {}, ValueError, "batch 1 must have the dtype of batch 0"),
    "NaN": (([X, np.full_like(X, np.nan)], 2), {}, ValueError, "batch 1 must be finite"),
    "large": (([X, X * 1e170], 2), {}, ValueError, "batch 1 must hold numbers whose squares"),
    "weights": (([(X, np.ones(3))], 2), {}, ValueError, "sample_weight"),
    "negative weights": (([(X, -np.ones(40))], 2), {}, ValueError, "sample_weight"),
    "a column of weights": (([(X, np.ones((40, 1)))], 2), {}, ValueError, r"\(40,\) to match batch 0, got \(40, 1\)"),
    "no column": (([X[:, :0]], 2), {}, ValueError, r"batch 0 must have shape \(n, d\), d ≥ 1, got \(40, 0\)"),
    "three arrays": (([(X, X, X)], 2), {}, TypeError, r"batch 0 must be .*, got a tuple of ndarray, ndarray, ndarray"),
    "nothing": (([()], 2), {}, TypeError, "batch 0 must be an array"),
    "seed": (([X], 2), {"seed": np.random.RandomState(0)}, TypeError, "seed must be an integer, .*, got numpy.Random"),
    "sides": (([X, X], 2), {"metric": "iou"}, ValueError, "widths and heights"),
    "metric": (([X], 2), {"metric": "manhattan"}, ValueError, "metric"),
    "init": (([X], 2), {"init": "best"}, ValueError, "init"),
    "shape of init": (([X], 2), {"init": X[:3]}, ValueError, "init"),
    "tol": (([X], 2), {"tol": -1.0}, ValueError, "tol"),
    "max_no_improvement": (([X], 2), {"max_no_improvement": 0}, ValueError, "max_no_improvement"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    args, options, error, message = BAD[name]
    with pytest.raises(error, match=message):
        anyops.minibatch_kmeans(*args, **options)


def test_batches_of_two_libraries():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="batch 0 and batch 1 must be arrays of one library"):
        anyops.minibatch_kmeans([torch.tensor(X), X], 2)

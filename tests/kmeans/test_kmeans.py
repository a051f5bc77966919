import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import anyops
from anyops._host.cluster import bounds
from tests.backends import Backend, Transform
from tests.reference import distance_to_centers, lloyd

cluster, datasets = (pytest.importorskip(f"sklearn.{name}") for name in ("cluster", "datasets"))
ENTRIES = json.loads((Path(__file__).parents[1] / "vectors" / "ml.json").read_text(encoding="utf-8"))
SETS = {
    "iris": (datasets.load_iris, [0, 50, 100]),
    "digits": (datasets.load_digits, list(range(10))),
    "wine": (datasets.load_wine, [0, 60, 140]),
    "breast_cancer": (datasets.load_breast_cancer, [0, 20]),
}
EAGER = (Transform.EAGER,)


def blobs(n=120, d=3, k=4, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(k, d)) * 4)[rng.integers(k, size=n)] + rng.normal(size=(n, d))


def real(backend):
    return "float64" if backend.has_dtype("float64") else "float32"


def close(backend, *, rtol=1e-9):
    return {"rtol": rtol, "atol": 1e-12} if backend.has_dtype("float64") else {"rtol": 2e-5, "atol": 2e-5}


def host(backend, value):
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else backend.to_numpy(value)


def fit(backend, x, k, *, dtype=None, **options):
    """kmeans of host arrays on the backend, its centres and labels on the host."""
    dtype = dtype or real(backend)
    on = {n: backend.asarray(v, dtype) if isinstance(v, np.ndarray) else v for n, v in options.items()}
    given = backend.asarray(x, dtype)
    before = backend.to_numpy(given).copy()
    got = anyops.kmeans(given, k, **on)
    np.testing.assert_array_equal(backend.to_numpy(given), before, "x was modified")
    for name, value in options.items():
        if isinstance(value, np.ndarray):
            want = backend.to_numpy(backend.asarray(value, dtype))
            np.testing.assert_array_equal(backend.to_numpy(on[name]), want, f"{name} was modified")
    assert (type(got.inertia), type(got.n_iter), type(got.converged)) == (float, int, bool)
    if backend is Backend.DASK:
        assert isinstance(got.centers, np.ndarray)
    else:
        assert backend.owns(got.centers)
    assert backend.owns(got.labels)
    return got._replace(centers=host(backend, got.centers), labels=host(backend, got.labels))


def same(got, want, **tolerance):
    np.testing.assert_array_equal(got.labels, want.labels)
    np.testing.assert_allclose(got.centers, want.centers, **tolerance)
    np.testing.assert_allclose(got.inertia, want.inertia, **tolerance)


def grouping(labels):
    """Labels renamed by first appearance."""
    seen = {}
    return [seen.setdefault(int(label), len(seen)) for label in labels]


# --- against references ----------------------------------------------------------------------------------------------


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("name", SETS)
def test_equals_lloyd_and_scikit_learn(backend, name):
    load, rows = SETS[name]
    x = load().data
    got = fit(backend, x, len(rows), init=x[rows])
    want = lloyd(x, x[rows])
    same(got, want, **close(backend))
    assert got.converged
    if backend.has_dtype("float64"):
        assert got.n_iter == want.n_iter
    peer = cluster.KMeans(len(rows), init=x[rows], n_init=1).fit(x)
    np.testing.assert_array_equal(got.labels, peer.labels_)
    np.testing.assert_allclose(got.centers, peer.cluster_centers_, **close(backend))
    np.testing.assert_allclose(got.inertia, peer.inertia_, **close(backend))


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("seed", range(4))
def test_empty_clusters_take_the_farthest_samples(backend, seed):
    rng = np.random.default_rng(seed)
    x = blobs(60, 2, seed=seed)
    init = np.concatenate([x[:2], 1e3 + rng.normal(size=(3, 2))])
    w = rng.integers(1, 4, 60).astype(float)
    got, want = fit(backend, x, 5, init=init, sample_weight=w, tol=0.0), lloyd(x, init, sample_weight=w, tol=0)
    same(got, want, **close(backend))
    assert len(set(got.labels.tolist())) == 5


@pytest.mark.op("kmeans")
def test_ties_go_to_the_lowest_index(backend):
    x = np.array([[-1.0], [0.0], [1.0]])
    got = fit(backend, x, 2, init=np.array([[-1.0], [1.0]]), max_iter=1, tol=0.0)
    np.testing.assert_array_equal(got.labels, [0, 0, 1])
    np.testing.assert_allclose(got.centers, [[-0.5], [1.0]], atol=1e-6)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize(("metric", "center"), [("cosine", "mean"), ("iou", "mean"), ("iou", "median")])
def test_metrics_and_centers(backend, metric, center):
    if backend.library == "dask" and center == "median":
        pytest.skip("a median needs all samples at once")
    x = np.abs(blobs(91, 2, seed=3)) + 0.5
    got = fit(backend, x, 3, init=x[[1, 4, 9]], metric=metric, center=center, tol=0.0)
    same(got, lloyd(x, x[[1, 4, 9]], metric=metric, center=center, tol=0), **close(backend))
    if metric == "cosine":
        np.testing.assert_allclose(np.linalg.norm(got.centers, axis=1), 1, rtol=1e-6)


@pytest.mark.op("kmeans")
def test_euclidean_median(backend):
    if backend.library == "dask":
        pytest.skip("a median needs all samples at once")
    x = blobs(91, 3, seed=5)
    got = fit(backend, x, 3, init=x[[1, 4, 9]], center="median", tol=0.0)
    same(got, lloyd(x, x[[1, 4, 9]], center="median", tol=0), **close(backend))


@pytest.mark.op("kmeans")
def test_final_labels_are_those_of_a_plain_argmin(backend):
    n = 40_000 if backend.is_fast else 2_000
    x = np.random.default_rng(2).normal(size=(n, 8)).astype(np.float32)
    got = fit(backend, x, 20, init=x[:20], dtype="float32", max_iter=25)
    d = distance_to_centers(x, got.centers)
    order = np.sort(d, axis=1)
    clear = order[:, 1] - order[:, 0] > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(got.labels[clear], np.argmin(d, axis=1)[clear])
    np.testing.assert_allclose(got.inertia, order[:, 0].sum(), rtol=1e-5)


# --- published numbers -----------------------------------------------------------------------------------------------

FITS = [e for e in ENTRIES if e["op"] == "kmeans_fit"]


def vector(op):
    (entry,) = [e for e in ENTRIES if e["op"] == op]
    return entry["params"], entry["expected"], {k: np.array(v, np.float64) for k, v in entry["inputs"].items()}


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("entry", FITS, ids=lambda e: e["source"][:40])
def test_published_fits(backend, entry):
    p, want = entry["params"], entry["expected"]
    if "inputs" in entry:
        x = np.array(entry["inputs"]["X"], np.float64)
    else:
        x = getattr(datasets, entry["dataset"].rpartition(".")[2])().data
    init = np.array(p["init"], np.float64) if "init" in p else x[p["init_rows"]]
    w = np.array(p["sample_weight"], np.float64) if p.get("sample_weight") else None
    got = fit(backend, x, p["n_clusters"], init=init, sample_weight=w, tol=p.get("tol", 1e-4))
    np.testing.assert_allclose(got.inertia, want["inertia"], **close(backend))
    if "labels" in want:
        np.testing.assert_array_equal(got.labels, want["labels"])
    if "sizes" in want:
        np.testing.assert_array_equal(np.bincount(got.labels), want["sizes"])
    if "centers" in want:
        np.testing.assert_allclose(got.centers, want["centers"], **close(backend, rtol=1e-8))
    if backend.has_dtype("float64"):
        assert got.n_iter == want.get("n_iter", want.get("n_iter_tol0"))


@pytest.mark.op("kmeans")
def test_published_relocations(backend):
    p, want, inputs = vector("kmeans_fit_empty_cluster")
    got = fit(backend, inputs["X"], 2, init=np.array(p["init"], float))
    np.testing.assert_allclose(got.inertia, want["inertia"], rtol=1e-6)
    assert any(
        np.array_equal(got.labels, e["labels"]) and np.allclose(got.centers, e["centers"]) for e in want["either_of"]
    )
    p, want, inputs = vector("kmeans_relocate_step")
    got = fit(backend, inputs["X"], 3, init=np.array(p["centers_old"], float), max_iter=1, tol=0.0)
    means = np.array(want["centers_sum_after"]) / np.array(want["weight_in_clusters"])[:, None]
    np.testing.assert_allclose(got.centers, means, rtol=1e-6)
    p, want, inputs = vector("kmeans_fit_empty_cluster_weighted")
    w = np.array(p["sample_weight"])
    got = fit(backend, inputs["X"], 2, init=np.array(p["init"], float), sample_weight=w)
    np.testing.assert_allclose(got.centers, want["centers"], atol=1e-6)
    assert len(set(got.labels.tolist())) == want["n_distinct_labels"]


@pytest.mark.op("kmeans")
def test_more_clusters_than_distinct_samples_ends(backend):
    _, want, inputs = vector("kmeans_more_clusters_than_points")
    got = fit(backend, inputs["X"], 5, init=inputs["X"])
    assert len(set(got.labels.tolist())) == want["distinct"]
    assert got.inertia <= 1e-10
    assert got.converged


@pytest.mark.op("kmeans")
def test_small_differences_survive_in_the_inertia(backend):
    p, want, inputs = vector("kmeans_inertia_float32_cancellation")
    got = fit(backend, inputs["X"], 2, init=np.array(p["init"]), dtype="float32")
    np.testing.assert_allclose(got.inertia, want["inertia"], rtol=1e-2)
    np.testing.assert_allclose(got.centers, want["centers"], rtol=1e-6)


@pytest.mark.op("kmeans")
def test_published_anchors(backend):
    p, want, inputs = vector("kmeans_anchors_iou")
    got = fit(backend, inputs["wh"], 3, init=inputs["wh"][p["init_rows"]], metric="iou", tol=0.0)
    np.testing.assert_array_equal(got.labels, want["labels"])
    np.testing.assert_allclose(got.centers, want["anchors"], rtol=1e-6)
    np.testing.assert_allclose(1 - got.inertia / 10, want["avg_iou"], rtol=1e-5)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize(("k", "best"), [(2, 152.34795176035797), (3, 78.85145), (5, 46.44618205128204)])
def test_restarts_come_near_the_best_known(backend, k, best):
    got = fit(backend, datasets.load_iris().data, k, seed=0, n_init=8)
    assert best * (1 - 1e-5) <= got.inertia <= best * 1.05


# --- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.op("kmeans")
def test_weights_are_repetition(backend):
    x, w = blobs(80), np.random.default_rng(1).integers(1, 4, 80)
    got = fit(backend, x, 4, init=x[:4], sample_weight=w.astype(float), tol=0.0)
    want = fit(backend, np.repeat(x, w, axis=0), 4, init=x[:4], tol=0.0)
    same(got._replace(labels=np.repeat(got.labels, w)), want, **close(backend))


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("unit", [1e-290, 1e-60, 1e39, 1e290])
def test_the_unit_of_weights_does_not_matter(backend, unit):
    if not backend.has_dtype("float64"):
        pytest.skip("it has no float64, which such weights need")
    x, w = blobs(60).astype(np.float32), np.random.default_rng(1).random(60)
    there, start = (
        backend.asarray(x, "float32"),
        x[:4] if backend is Backend.DASK else backend.asarray(x[:4], "float32"),
    )
    weights = (backend.asarray(v, "float64") for v in (w, w * unit))
    want, got = (anyops.kmeans(there, 4, init=start, sample_weight=v) for v in weights)
    np.testing.assert_array_equal(backend.to_numpy(got.labels), backend.to_numpy(want.labels))
    np.testing.assert_allclose(host(backend, got.centers), host(backend, want.centers), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.inertia / unit, want.inertia, rtol=1e-5)


@pytest.mark.op("kmeans")
def test_a_center_that_loses_all_samples_to_empty_ones_stays(backend):
    x = np.float32([[1, 3], [3, 1], [2, 1.5], [900, 900], [901, 901]])
    centers = np.float32([[2, 2], [900.5, 900.5], [1e6, 1e-3], [1e-3, 1e6], [1e7, 1e-3]])
    w = np.float32([0.61, 1.05, 0.24, 1.05, 0.41])
    got = fit(backend, x, 5, init=centers, sample_weight=w, metric="iou", max_iter=1)
    np.testing.assert_allclose(got.centers[0], [2, 2], rtol=1e-6)


@pytest.mark.op("kmeans")
def test_bfloat16_in_bfloat16_out(backend):
    if not backend.has_dtype("bfloat16"):
        pytest.skip("it has no bfloat16")
    x = backend.asarray(blobs(60).astype(np.float32), "bfloat16")
    w = backend.asarray(np.ones(60, np.float32), "bfloat16")
    got = anyops.kmeans(x, 4, sample_weight=w, seed=0)
    assert got.centers.dtype == x.dtype
    assert np.isfinite(backend.to_numpy(got.centers)).all()


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_weight_zero_removes_a_sample(backend, value):
    x, there = blobs(80), np.random.default_rng(1).random(80) < 0.7
    init = np.concatenate([x[there][:3], [[50.0, 50.0, 50.0]]])  # one cluster is relocated
    want = fit(backend, x[there], 4, init=init)
    got = fit(backend, np.where(there[:, None], x, value), 4, init=init, sample_weight=there.astype(float))
    same(got._replace(labels=got.labels[there]), want, **close(backend))
    assert got.n_iter == want.n_iter


@pytest.mark.op("kmeans")
def test_translation_is_harmless_in_float32(backend):
    x = np.round(blobs(200) * 64) / 64  # exact in float32 after the shift, too
    want = lloyd(x, x[:4])
    got = fit(backend, x + 1e4, 4, init=x[:4] + 1e4, dtype="float32")
    np.testing.assert_array_equal(got.labels, want.labels)
    np.testing.assert_allclose(got.centers - 1e4, want.centers, atol=2e-3)
    np.testing.assert_allclose(got.inertia, want.inertia, rtol=1e-3)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_a_seed_gives_the_same_labels_on_every_backend(backend, init):
    x = blobs(200, k=5, seed=9).astype(np.float32)
    got = fit(backend, x, 5, init=init, seed=3, dtype="float32")
    want = anyops.kmeans(x, 5, init=init, seed=3)
    np.testing.assert_array_equal(got.labels, want.labels)
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-4, atol=1e-4)
    assert grouping(got.labels) == grouping(lloyd(x, got.centers).labels)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "iou"])
@pytest.mark.parametrize("max_iter", [1, 300])
def test_labels_are_those_of_the_centers(backend, metric, max_iter):
    x = backend.asarray(np.abs(blobs(100, 2)) + 0.5, real(backend))
    got = anyops.kmeans(x, 6, seed=1, metric=metric, max_iter=max_iter)
    labels, distances = anyops.kmeans_assign(x, got.centers, metric=metric)
    np.testing.assert_array_equal(host(backend, got.labels), host(backend, labels))
    np.testing.assert_allclose(got.inertia, host(backend, distances).sum(), **close(backend, rtol=1e-6))


@pytest.mark.op("kmeans")
def test_labels_after_a_relocation_are_those_of_the_centers(backend):
    p, _, inputs = vector("kmeans_labels_consistent")
    got = fit(backend, inputs["X"], 3, init=np.array(p["init"]), max_iter=10, tol=0.0)
    np.testing.assert_array_equal(got.labels, np.argmin(distance_to_centers(inputs["X"], got.centers), axis=1))


@pytest.mark.op("kmeans")
def test_max_iter_reached_has_not_converged(backend):
    x = blobs(300, k=8, seed=4)
    got, want = (
        f(x)
        for f in (
            lambda x: fit(backend, x, 8, init=x[:8], max_iter=2, tol=0.0),
            lambda x: lloyd(x, x[:8], max_iter=2, tol=0),
        )
    )
    assert (got.converged, got.n_iter) == (want.converged, want.n_iter) == (False, 2)
    same(got, want, **close(backend))


@pytest.mark.op("kmeans")
def test_tol_ends_it_early(backend):
    x = blobs(400, 2, k=1, seed=6)
    got, want = fit(backend, x, 6, init=x[:6], tol=0.01), lloyd(x, x[:6], tol=0.01)
    assert got.converged
    assert got.n_iter == want.n_iter < lloyd(x, x[:6], tol=0).n_iter
    same(got, want, **close(backend))


@pytest.mark.op("kmeans")
def test_no_sample_leaves_its_center_for_an_empty_one(backend):
    x = np.array([[0.0], [0.0], [4.0], [4.0]])
    got = fit(backend, x, 3, init=np.array([[0.0], [4.0], [9.0]]), tol=0.0)
    np.testing.assert_allclose(got.centers, [[0.0], [4.0], [9.0]], atol=1e-6)


@pytest.mark.op("kmeans")
@pytest.mark.parametrize("seed", [0, 2, 3, 4])
def test_whole_numbers_keep_their_ties(backend, seed):
    x = np.random.default_rng(seed).integers(0, 9, (80, 2)) * 2.0
    x = np.concatenate([x, 16 - x])  # symmetric, so that centres halfway between samples are common
    got, want = fit(backend, x, 2, init=x[[0, 80]], tol=0.0, max_iter=1), lloyd(x, x[[0, 80]], tol=0, max_iter=1)
    first = np.argmin(((x[:, None] - x[[0, 80]]) ** 2).sum(-1), axis=1)  # exact: whole numbers
    assert np.any(((x - x[0]) ** 2).sum(1) == ((x - x[80]) ** 2).sum(1))
    np.testing.assert_allclose(got.centers, [x[first == j].mean(axis=0) for j in (0, 1)], rtol=1e-6)
    same(got, want, **close(backend))


@pytest.mark.op("kmeans")
def test_it_goes_on_while_a_label_changes(backend):
    x = np.random.default_rng(0).random((20_000 if backend.is_fast else 500, 2)).astype(np.float32)
    got = fit(backend, x, 8, init=x[:8], tol=0.0, max_iter=2_000, dtype="float32")
    assert got.converged
    again = lloyd(x, got.centers, tol=0, max_iter=1)
    d = np.sort(distance_to_centers(x, got.centers), axis=1)
    clear = d[:, 1] - d[:, 0] > 1e-6
    np.testing.assert_array_equal(got.labels[clear], again.labels[clear])


@pytest.mark.op("kmeans")
def test_cosine_of_what_has_no_direction(backend):
    x = np.array([[0.0, 0.0], [3.0, 0.1], [2.0, -0.1], [0.1, 5.0], [0.0, 4.0]])
    got = fit(backend, x, 2, init=np.array([[1.0, 0.2], [0.2, 1.0]]), metric="cosine")
    np.testing.assert_array_equal(got.labels, [0, 0, 0, 1, 1])
    there = distance_to_centers(x[1:], got.centers, "cosine").min(axis=1)
    np.testing.assert_allclose(got.inertia, 1 + there.sum(), rtol=1e-5)


# --- initialisation --------------------------------------------------------------------------------------------------


@pytest.mark.op("kmeans_plusplus")
@pytest.mark.parametrize("trials", [None, 1])
def test_seeds_are_distinct_samples(backend, trials):
    x = blobs(60)
    w = (np.arange(60) % 3 > 0).astype(float)
    given = backend.asarray(x, real(backend))
    centers, indices = anyops.kmeans_plusplus(
        given, 7, seed=5, sample_weight=backend.asarray(w, real(backend)), n_local_trials=trials
    )
    assert backend.owns(centers)
    indices = host(backend, indices)
    assert len(set(indices.tolist())) == 7
    assert np.all(w[indices] > 0)
    np.testing.assert_array_equal(host(backend, centers), backend.to_numpy(given)[indices])


@pytest.mark.op("kmeans_plusplus")
def test_seeding_finds_separate_groups(backend):
    x = np.repeat(np.eye(6) * 100, 10, axis=0) + np.random.default_rng(0).normal(size=(60, 6))
    for seed in range(3):
        _, indices = anyops.kmeans_plusplus(backend.asarray(x, real(backend)), 6, seed=seed)
        assert sorted(host(backend, indices) // 10) == list(range(6))


@pytest.mark.op("kmeans")
def test_parallel_seeding_finds_separate_groups(backend):
    x = np.repeat(np.eye(6) * 100, 20, axis=0) + np.random.default_rng(0).normal(size=(120, 6))
    got = fit(backend, x, 6, init="k-means||", seed=0)
    assert grouping(got.labels) == np.repeat(range(6), 20).tolist()


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.op("kmeans_assign")
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "iou"])
def test_assign(run, metric):
    x = (np.abs(blobs(50, 2)) + 0.5).astype(np.float32)
    labels, distances = run(anyops.kmeans_assign, x, x[[3, 7, 11]], metric=metric)
    want = distance_to_centers(x, x[[3, 7, 11]], metric)
    np.testing.assert_array_equal(labels, np.argmin(want, axis=1))
    np.testing.assert_allclose(distances, np.min(want, axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.op("kmeans_step")
def test_step_over_many_tiles(run):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 400, (2, 1_501, 2)).astype(np.float32)
    w = rng.integers(0, 3, (2, 1_501)).astype(np.float32)
    centers = np.ascontiguousarray(x[:, :1_400, :])
    new, labels, inertia, _ = run(anyops.kmeans_step, x, centers, sample_weight=w)
    for i in range(2):
        d = distance_to_centers(x[i], centers[i])
        want = np.argmin(d, axis=1)
        np.testing.assert_array_equal(labels[i], want)
        np.testing.assert_allclose(inertia[i], np.sum(w[i] * d.min(axis=1)), rtol=1e-5)
        counts = np.bincount(want, w[i], 1_400)
        sums = np.stack([np.bincount(want, w[i] * x[i][:, axis], 1_400) for axis in range(2)], axis=1)
        mean = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centers[i])
        np.testing.assert_allclose(new[i], mean, rtol=1e-5, atol=1e-3)


@pytest.mark.op("kmeans_partial", transforms=(Transform.GRAD,))
def test_gradient_over_many_tiles(backend, transform):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3_000, 2)).astype(np.float32)
    centers = x[:700].copy()
    by_samples, by_centers = backend.gradient(lambda x, c: anyops.kmeans_partial(x, c).inertia, x, centers)
    away = x - centers[np.argmin(distance_to_centers(x, centers), axis=1)]
    np.testing.assert_allclose(by_samples, 2 * away, atol=1e-5)
    np.testing.assert_allclose(np.sum(by_centers, axis=0), -2 * np.sum(away, axis=0), rtol=1e-4, atol=1e-3)


def test_what_is_undefined_in_a_tile_of_another_core_is_no_news():
    x = np.zeros((100_000, 16), np.float32)
    x[-1] = np.inf  # inf − inf, for which NumPy warns
    labels, _ = anyops.kmeans_assign(x, np.repeat(np.arange(64, dtype=np.float32)[:, None], 16, axis=1))
    assert not np.any(labels[:-1])


def test_samples_settled_by_the_centers_that_moved_farthest():
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(150, 2)) * 8
    x = groups[rng.integers(0, 150, 33_000)] + rng.normal(size=(33_000, 2))
    start = x[:150].copy()
    with mock.patch.object(bounds._Pass, "_unsettled", autospec=True, side_effect=bounds._Pass._unsettled) as looked:
        got = anyops.kmeans(x, 150, init=start, tol=0.0, max_iter=12)
    assert looked.call_count > 20
    want = lloyd(x, start, tol=0.0, max_iter=12)
    np.testing.assert_array_equal(got.labels, want.labels)
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("k", [5, 64, 150])
def test_the_first_iterations_over_many_tiles(k, weighted):
    """All samples are compared; sums are recomputed at first, and updated later."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40_000, 2))
    w = rng.integers(0, 3, 40_000).astype(float) if weighted else None
    differences = bounds.Bounded.differences
    with mock.patch.object(bounds.Bounded, "differences", autospec=True, side_effect=differences) as moved:
        got = anyops.kmeans(x, k, init=x[:k], tol=0.0, max_iter=4, sample_weight=w)
    assert moved.called
    want = lloyd(x, x[:k], tol=0.0, max_iter=4, sample_weight=w)
    kept = slice(None) if w is None else w > 0
    np.testing.assert_array_equal(got.labels[kept], want.labels[kept])
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-9, atol=1e-9)


@pytest.mark.op("kmeans_assign")
def test_assign_keeps_the_ties_of_whole_numbers(run):
    rng = np.random.default_rng(0)
    x, centers = rng.integers(-3, 4, (400, 2)).astype(np.float32), rng.integers(-3, 4, (7, 2)).astype(np.float32)
    d = distance_to_centers(x, centers, "euclidean")
    assert np.sum(np.sum(d == d.min(axis=1, keepdims=True), axis=1) > 1) > 15
    labels, _ = run(anyops.kmeans_assign, x, centers)
    np.testing.assert_array_equal(labels, np.argmin(d, axis=1))


@pytest.mark.op("kmeans_assign")
def test_assign_to_a_center_without_direction(run):
    x = np.array([[1, 0], [0.3, 0.954], [0, 1], [0, 0]], np.float32)
    labels, distances = run(anyops.kmeans_assign, x, np.array([[0, 0], [1, 0]], np.float32), metric="cosine")
    np.testing.assert_array_equal(labels[:2], [1, 1])
    np.testing.assert_allclose(distances, [0, 1 - 0.3 / np.hypot(0.3, 0.954), 1, 1], atol=1e-6)


@pytest.mark.op("kmeans_assign")
def test_assign_reads_negative_sides_as_zero(run):
    x, c = np.array([[1, -1], [2, 2]], np.float32), np.array([[1, -1], [2, 1]], np.float32)
    labels, distances = run(anyops.kmeans_assign, x, c, metric="iou")
    np.testing.assert_array_equal(labels, [0, 1])
    np.testing.assert_allclose(distances, [1, 0.5])


def sums_by_loop(x, centers, w):
    d = distance_to_centers(x, centers)
    labels = np.argmin(d, axis=1)
    sums, counts = np.zeros(centers.shape), np.zeros(len(centers))
    for row, label, weight in zip(x.astype(np.float64), labels, w.astype(np.float64), strict=True):
        sums[label] += weight * row
        counts[label] += weight
    return sums, counts, np.sum(w * d.min(axis=1))


def here(backend, partial):
    """Sums as arrays of the backend; for dask arrays they are NumPy arrays."""
    return tuple(partial) if backend is not Backend.DASK else tuple(backend.asarray(np.asarray(p)) for p in partial)


@pytest.mark.op("kmeans_partial")
def test_partial(run):
    x = blobs(50).astype(np.float32)
    w = np.random.default_rng(0).integers(0, 3, 50).astype(np.float32)
    partial = lambda x, c, w: here(run.backend, anyops.kmeans_partial(x, c, sample_weight=w))  # noqa: E731
    for got, want in zip(run(partial, x, x[:4].copy(), w), sums_by_loop(x, x[:4], w), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


@pytest.mark.op("kmeans_partial")
def test_partial_without_the_samples_of_weight_zero(run):
    x, w = blobs(50).astype(np.float32), (np.arange(50) % 3 > 0).astype(np.float32)
    holed = np.where(w[:, None] > 0, x, np.float32(np.nan))
    partial = lambda x, c, w: here(run.backend, anyops.kmeans_partial(x, c, sample_weight=w))  # noqa: E731
    for got, want in zip(run(partial, holed, x[:4].copy(), w), sums_by_loop(x, x[:4], w), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


@pytest.mark.op("kmeans_merge")
def test_merged_partials_of_chunks_are_those_of_the_whole(run):
    x = blobs(60).astype(np.float32)

    def merged(a, b, c):
        return here(run.backend, anyops.kmeans_merge(anyops.kmeans_partial(a, c), anyops.kmeans_partial(b, c)))

    got = run(merged, x[:30].copy(), x[30:].copy(), x[:4].copy())
    for value, want in zip(got, sums_by_loop(x, x[:4], np.ones(60)), strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-4)


@pytest.mark.op("kmeans_step")
def test_batched_step_is_the_loop(run):
    x = np.stack([blobs(40, seed=s) for s in (1, 2, 3)]).astype(np.float32)
    init = x[:, :4].copy()
    centers, labels, inertia, shift = run(anyops.kmeans_step, x, init)
    for i in range(3):
        want = lloyd(x[i], init[i], max_iter=1, tol=0)
        d = distance_to_centers(x[i], init[i])
        np.testing.assert_allclose(centers[i], want.centers, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(labels[i], np.argmin(d, axis=1))
        np.testing.assert_allclose(inertia[i], d.min(axis=1).sum(), rtol=1e-5)
        np.testing.assert_allclose(shift[i], np.sum((want.centers - init[i]) ** 2), rtol=1e-4)


# --- dask ------------------------------------------------------------------------------------------------------------


def test_dask_equals_in_memory():
    da = pytest.importorskip("dask.array")
    x, w = blobs(200), np.random.default_rng(0).random(200)
    lazy, weights = da.from_array(x, chunks=(70, -1)), da.from_array(w, chunks=70)
    got = anyops.kmeans(lazy, 4, init=x[:4], sample_weight=weights)
    want = anyops.kmeans(x, 4, init=x[:4], sample_weight=w)
    assert isinstance(got.labels, da.Array)
    assert isinstance(got.centers, np.ndarray)
    np.testing.assert_array_equal(got.labels.compute(), want.labels)
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-12)
    np.testing.assert_allclose(got.inertia, want.inertia, rtol=1e-12)
    labels, distances = anyops.kmeans_assign(lazy, want.centers)
    assert isinstance(labels, da.Array)
    np.testing.assert_array_equal(labels.compute(), want.labels)
    np.testing.assert_allclose((w * distances.compute()).sum(), want.inertia, rtol=1e-12)
    for a, b in zip(anyops.kmeans_partial(lazy, x[:4]), anyops.kmeans_partial(x, x[:4]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for init in ("k-means++", "k-means||", "random"):
        a, b = (anyops.kmeans(v, 4, init=init, seed=2) for v in (lazy, x))
        np.testing.assert_array_equal(a.labels.compute(), b.labels)


# --- bad input -------------------------------------------------------------------------------------------------------

X = np.arange(12.0).reshape(6, 2)
BAD = {
    "k of 0": ((X, 0), {}, ValueError),
    "k above n": ((X, 7), {}, ValueError),
    "k above the samples of a weight": ((X, 3), {"sample_weight": np.array([1.0, 1, 0, 0, 0, 0])}, ValueError),
    "bool k": ((X, True), {}, TypeError),
    "float k": ((X, 2.0), {}, TypeError),
    "list x": ((X.tolist(), 2), {}, TypeError),
    "one axis": ((X[:, 0], 2), {}, ValueError),
    "NaN": ((np.where(X == 3, np.nan, X), 2), {}, ValueError),
    "NaN in all": ((np.full_like(X, np.nan), 2), {}, ValueError),
    "too few centres": ((X, 3), {"init": X[:2]}, ValueError),
    "centres of another width": ((X, 2), {"init": X[:2, :1]}, ValueError),
    "negative weight": ((X, 2), {"sample_weight": np.array([1.0, 1, 1, 1, 1, -1])}, ValueError),
    "no weight": ((X, 2), {"sample_weight": np.zeros(6)}, ValueError),
    "weights of another length": ((X, 2), {"sample_weight": np.ones(5)}, ValueError),
    "metric": ((X, 2), {"metric": "manhattan"}, ValueError),
    "init": ((X, 2), {"init": "k-means"}, ValueError),
    "center": ((X, 2), {"center": "mode"}, ValueError),
    "max_iter": ((X, 2), {"max_iter": 0}, ValueError),
    "tol": ((X, 2), {"tol": -1.0}, ValueError),
    "n_init": ((X, 2), {"n_init": 0}, ValueError),
    "negative side": ((np.array([[1.0, -1], [1, 2], [3, 1]]), 2), {"metric": "iou"}, ValueError),
    "squares overflow": ((X * 1e160, 2), {"seed": 0}, ValueError),
    "iou of three sides": ((np.ones((4, 3)), 2), {"metric": "iou"}, ValueError),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    args, options, error = BAD[name]
    with pytest.raises(error):
        anyops.kmeans(*args, **options)


@pytest.mark.parametrize("f", [anyops.kmeans_assign, anyops.kmeans_partial, anyops.kmeans_step])
def test_bad_centers(f):
    with pytest.raises(ValueError, match="centers"):
        f(X, X[:2, :1])
    with pytest.raises(TypeError):
        f(X.tolist(), X[:2])
    with pytest.raises(ValueError, match="metric"):
        f(X, X[:2], metric="manhattan")

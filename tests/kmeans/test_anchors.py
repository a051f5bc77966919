import json
from pathlib import Path

import numpy as np
import pytest

import anyops
from tests.backends import Backend
from tests.reference import distance_to_centers, lloyd

ENTRIES = json.loads((Path(__file__).parents[1] / "vectors" / "ml.json").read_text(encoding="utf-8"))


def boxes(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(4, 0.9, (n, 1)) + rng.choice([-0.5, 0.5], (n, 1)) * [1, -1] + rng.normal(0, 0.2, (n, 2)))


def real(backend):
    return "float64" if backend.has_dtype("float64") else "float32"


def fit(backend, wh, k, **options):
    got = anyops.anchor_boxes(backend.asarray(wh, real(backend)), k, **options)
    assert (type(got.mean_iou), type(got.best_possible_recall)) == (float, float)
    if backend is Backend.DASK:
        assert isinstance(got.anchors, np.ndarray)
        return got
    assert backend.owns(got.anchors)
    return got._replace(anchors=backend.to_numpy(got.anchors))


def recall(wh, anchors, ratio):
    r = wh[:, None] / anchors[None]
    return np.mean(np.min(np.max(np.maximum(r, 1 / r), axis=2), axis=1) < ratio)


@pytest.mark.op("anchor_boxes")
@pytest.mark.parametrize("center", ["median", "mean"])
def test_a_fixed_point_and_its_figures(backend, center):
    if backend is Backend.JAX_X64:
        pytest.skip("another compilation of what jax:cpu shows")
    if backend is Backend.DASK and center == "median":
        pytest.skip("a median needs all samples at once")
    wh = boxes().astype(np.float32).astype(np.float64)
    anchors, mean_iou, reached = fit(backend, wh, 5, center=center, seed=0, ratio=1.5)
    area = np.prod(anchors.astype(np.float64), axis=1)
    assert np.all(np.diff(area) > 0)
    # One more step of the reference changes nothing.
    step = lloyd(wh, anchors, metric="iou", center=center, tol=0, max_iter=1)
    np.testing.assert_allclose(step.centers, anchors, rtol=1e-5)
    np.testing.assert_allclose(mean_iou, 1 - distance_to_centers(wh, anchors, "iou").min(axis=1).mean(), rtol=1e-5)
    assert 0.3 < reached < 0.9
    np.testing.assert_allclose(reached, recall(wh, anchors.astype(np.float64), 1.5), atol=1.01 / len(wh))


@pytest.mark.op("anchor_boxes")
def test_a_seed_gives_the_same_anchors_on_every_backend(backend):
    if backend is Backend.JAX_X64:
        pytest.skip("another compilation of what jax:cpu shows")
    wh, center = boxes(), "mean" if backend is Backend.DASK else "median"
    got, want = fit(backend, wh, 5, center=center, seed=2), anyops.anchor_boxes(wh, 5, center=center, seed=2)
    np.testing.assert_allclose(got.anchors, want.anchors, rtol=1e-5)


def test_published_anchors_are_found():
    (entry,) = [e for e in ENTRIES if e["op"] == "kmeans_anchors_iou"]
    wh, want = np.asarray(entry["inputs"]["wh"]), entry["expected"]
    found = [anyops.anchor_boxes(wh, 3, center="mean", seed=seed) for seed in range(10)]
    assert any(np.allclose(f.anchors, want["anchors"], rtol=1e-6) for f in found)
    assert max(f.mean_iou for f in found) >= want["avg_iou"] - 1e-12


def test_medians_fit_better_than_means_as_published():
    # Sizes as skewed as the sizes of real boxes; the published figures need the boxes of VOC 2007.
    wh = boxes(4_000, seed=3)
    median, mean = (
        max(anyops.anchor_boxes(wh, 9, center=center, seed=seed).mean_iou for seed in range(3))
        for center in ("median", "mean")
    )
    assert median > mean + 0.002


def test_more_anchors_fit_better():
    wh = boxes(1_000)
    figures = [max(anyops.anchor_boxes(wh, k, seed=s).mean_iou for s in range(3)) for k in (1, 2, 4, 8, 16)]
    assert np.all(np.diff(figures) > 0.01)


def test_reach_ends_before_the_ratio():
    wh = np.asarray([[10.0, 10.0], [39.9, 10.0], [40.0, 10.0], [10.0, 2.6], [10.0, 2.5], [3.0, 30.0]])
    got = anyops.anchor_boxes(np.concatenate([np.tile(wh[:1], (94, 1)), wh]), 1, seed=0)
    np.testing.assert_array_equal(got.anchors, [[10.0, 10.0]])
    assert got.best_possible_recall == pytest.approx(0.98, abs=1e-12)


def test_integers_and_the_callback():
    seen = []
    wh = np.round(boxes()).astype(np.int32)
    got = anyops.anchor_boxes(wh, 4, seed=0, callback=lambda *values: seen.append(values))
    assert got.anchors.dtype == np.float64
    assert [iteration for iteration, _, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][1] < seen[0][1]
    assert 1 - seen[-1][1] / len(wh) == pytest.approx(got.mean_iou)


@pytest.mark.parametrize("metric", ["iou", "euclidean"])
def test_the_median_of_weights_is_that_of_repetition(metric):
    wh, w = boxes(300, seed=4), np.random.default_rng(0).integers(0, 4, 300)
    options = {"init": wh[w > 0][:5], "metric": metric, "center": "median", "tol": 0.0}
    got = anyops.kmeans(wh, 5, sample_weight=w, **options)
    want = lloyd(np.repeat(wh, w, axis=0), wh[w > 0][:5], metric=metric, center="median", tol=0)
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-12)
    np.testing.assert_allclose(got.inertia, want.inertia, rtol=1e-10)


def test_a_median_without_samples_moves_to_the_farthest():
    wh = boxes(100, seed=5)
    init = np.concatenate([wh[:2], [[1e9, 1e-3]]])
    got = anyops.kmeans(wh, 3, init=init, metric="iou", center="median", tol=0.0)
    want = lloyd(wh, init, metric="iou", center="median", tol=0)
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-12)


WH = boxes(20)
BAD = {
    "list": ((WH.tolist(), 2), {}, TypeError, "wh"),
    "three columns": ((np.ones((4, 3)), 2), {}, ValueError, "wh must hold widths and heights"),
    "no boxes": ((WH[:0], 1), {}, ValueError, "wh must hold at least one box"),
    "k of 0": ((WH, 0), {}, ValueError, "k must be"),
    "k above n": ((WH, 21), {}, ValueError, "k must be in"),
    "NaN": ((WH * np.nan, 2), {}, ValueError, "wh must be finite"),
    "no area": ((WH * [1.0, 0.0], 2), {}, ValueError, "wh must be positive"),
    "ratio": ((WH, 2), {"ratio": 0.5}, ValueError, "ratio"),
    "center": ((WH, 2), {"center": "mode"}, ValueError, "center"),
    "max_iter": ((WH, 2), {"max_iter": 0}, ValueError, "max_iter"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    args, options, error, message = BAD[name]
    with pytest.raises(error, match=message):
        anyops.anchor_boxes(*args, **options)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_unsigned_sides_of_torch(dtype):
    torch = pytest.importorskip("torch")
    wh = torch.asarray([[10, 10], [12, 12], [11, 11], [60, 30], [70, 30], [80, 30]]).to(getattr(torch, dtype))
    found = anyops.anchor_boxes(wh, 2, seed=0)
    assert found.anchors.tolist() == [[11, 11], [70, 30]]  # the medians

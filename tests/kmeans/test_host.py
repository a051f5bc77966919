"""The NumPy twins against definitions, and against the kernels that they replace."""

import numpy as np
import pytest

from anyops._array.mode import mode_of
from anyops._host.cluster import distances, nearest, sums
from anyops._host.cluster.bounds import Bounded
from anyops._host.cluster.passes import Compared
from anyops.cluster import assign


@pytest.fixture(params=[1, 2, 9, 254])
def scores(request):
    return np.random.default_rng(0).integers(-3, 40, (request.param, 300)).astype(np.float32)


def test_lowest_of_columns(scores):
    """Ties go to the first score."""
    labels, least = nearest.lowest_down(scores)
    np.testing.assert_array_equal(labels, np.argmin(scores, axis=0))
    np.testing.assert_array_equal(least, np.min(scores, axis=0))


@pytest.mark.parametrize("down", [True, False], ids=["columns", "rows"])
def test_two_lowest(scores, down):
    """With a single score, the second lowest is infinite."""
    ordered = np.sort(np.concatenate([scores, np.full((1, 300), np.inf, np.float32)]), axis=0)
    want = np.argmin(scores, axis=0), ordered[0], ordered[1]
    found = nearest.two_lowest_down(scores.copy()) if down else nearest.two_lowest(np.ascontiguousarray(scores.T))
    for got, expected in zip(found, want, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "d", "k"), [(0, 12, 3), (40, 12, 9), (3_000, 12, 9), (3_000, 3, 9), (700, 12, 1)])
def test_sums_by_label(dtype, m, d, k):
    """Narrow rows, short and long runs; one label has no rows, another one many."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(m, d)).astype(dtype)
    labels = np.minimum(rng.integers(0, 2 * k, m), k - 1)
    labels[labels == 1] = 0
    want = np.stack([np.bincount(labels, rows[:, axis].astype(float), k) for axis in range(d)], axis=1)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(sums.sum_by_label(rows, labels, k), want, atol=8 * eps * max(m, 1) ** 0.5)


def test_sums_of_large_rows_lose_no_digits_along_long_runs():
    rows = np.full((1 << 17, 9), 1 / 3, np.float32)
    got = sums.sum_by_label(rows, np.zeros(1 << 17, np.int64), 1)
    np.testing.assert_allclose(got, (1 << 17) * float(np.float32(1 / 3)), rtol=6e-7)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "iou"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_distances_of_the_twin_are_those_of_the_kernel(metric, dtype, offset):
    rng = np.random.default_rng(0)
    x = (np.abs(rng.normal(size=(500, 2))) * 50 + offset).astype(dtype)
    x[0, :] = 0
    centers = np.concatenate([x[:7], x[:3] * 100]).astype("float64" if dtype == "int64" else dtype)
    twin, kernel = (f(mode_of(x=x), x, centers, metric=metric) for f in (distances.each_distance, assign.each_distance))
    eps = np.finfo(centers.dtype).eps
    np.testing.assert_allclose(twin, kernel, rtol=64 * eps, atol=8 * eps if metric != "euclidean" else 1e-30)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize(("n", "d", "k"), [(3_000, 2, 5), (40_000, 3, 150)])
def test_passes_by_bounds_are_those_that_compare_all(n, d, k, weighted):
    """Whole numbers, so sums and ties are exact. The centres move less and less, until bounds are kept."""
    rng = np.random.default_rng(0)
    z = rng.integers(-40, 41, (n, d)).astype(np.float64)
    weight = rng.integers(0, 3, n).astype(float) if weighted else np.ones(n)
    given = weight if weighted else None
    rows = np.concatenate([z, np.ones((n, 1))], axis=1)
    bounded, compared = Bounded(rows, given, k), Compared(mode_of(z=z), z, weight, given, "euclidean", "mean")
    centers = z[:k].copy()
    for step in (4.0, 1.0, 0.25, 0.0625, 0.0625, 0.0, 0.0):
        got, want = bounded.assign_and_sum(centers), compared.assign_and_sum(centers)
        np.testing.assert_array_equal(got.sums, want.sums)
        np.testing.assert_array_equal(got.weights, want.weights)
        centers = centers + step * rng.integers(-1, 2, centers.shape)
    assert not bounded.moving
    assert got.repeats
    np.testing.assert_array_equal(bounded.assign(centers), compared.assign(centers))
    np.testing.assert_allclose(bounded.inertia(), compared.inertia(), rtol=1e-12)

import numpy as np
import pytest

from anyops._array import nearest


@pytest.fixture(params=[1, 2, 9, 254])
def scores(request):
    return np.random.default_rng(0).integers(-3, 40, (request.param, 300)).astype(np.float32)


def writable(backend, xp, x):
    """The arrays of `x` on a backend; the functions here overwrite them."""
    return xp.asarray(backend.asarray(x), copy=True)


def test_lowest_of_columns(backend, xp, scores):
    """Of equal scores the first."""
    labels, least = nearest.lowest_down(xp, writable(backend, xp, scores))
    np.testing.assert_array_equal(backend.to_numpy(labels), np.argmin(scores, axis=0))
    np.testing.assert_array_equal(backend.to_numpy(least), np.min(scores, axis=0))


def test_two_lowest_of_columns(backend, xp, scores):
    """Of one score the second is infinite."""
    ordered = np.sort(np.concatenate([scores, np.full((1, 300), np.inf, np.float32)]), axis=0)
    found = nearest.two_lowest_down(xp, writable(backend, xp, scores))
    for got, want in zip(found, (np.argmin(scores, axis=0), ordered[0], ordered[1]), strict=True):
        np.testing.assert_array_equal(backend.to_numpy(got), want)

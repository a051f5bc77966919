import numpy as np
import pytest

from anyops._array import nearest


@pytest.mark.parametrize("k", [1, 2, 9, 254])
def test_lowest_of_columns(backend, xp, k):
    """Of equal scores the first."""
    scores = np.random.default_rng(0).integers(-3, 40, (k, 300)).astype(np.float32)
    ordered = np.sort(np.concatenate([scores, np.full((1, 300), np.inf, np.float32)]), axis=0)
    labels, least = nearest.lowest_down(xp, backend.asarray(scores))
    np.testing.assert_array_equal(backend.to_numpy(labels), np.argmin(scores, axis=0))
    np.testing.assert_array_equal(backend.to_numpy(least), ordered[0])
    found = nearest.two_lowest_down(xp, backend.asarray(scores.copy()))
    for got, want in zip(found, (np.argmin(scores, axis=0), ordered[0], ordered[1]), strict=True):
        np.testing.assert_array_equal(backend.to_numpy(got), want)

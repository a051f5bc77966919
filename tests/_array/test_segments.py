import numpy as np
import pytest

from anyops._array import segments
from tests import scenes
from tests.backends import dtype_name

SEGMENTS = {
    "mixed": [3, 0, 3, 5, 0, 3, 3, 0],
    "sorted": [0, 0, 1, 2, 2, 2, 6, 6],
    "one": [4] * 8,
    "each": [7, 6, 5, 4, 3, 2, 1, 0],
    "none": [],
}
SIZE = 9
VALUES = np.float32([1, -2, 4, 0.5, -8, 16, 0.25, 3])


INITIAL = np.float32([9, -9, 2, 0, 1, -1, 4, 0.25, 3])


def by_segment(numbers):
    values = VALUES[: len(numbers)]
    return [[float(v) for v, s in zip(values, numbers, strict=True) if s == i] for i in range(SIZE)]


@pytest.mark.parametrize("numbers", SEGMENTS.values(), ids=SEGMENTS)
def test_sum(backend, xp, numbers):
    values, index = (
        backend.asarray(x) for x in (VALUES[: len(numbers)], np.array(numbers, backend.default("indexing")))
    )
    got = segments.segment_sum(xp, values, index, SIZE)
    assert backend.owns(got)
    assert dtype_name(got) == "float32"
    np.testing.assert_array_equal(backend.to_numpy(got), [sum(group) for group in by_segment(numbers)])


@pytest.mark.parametrize("numbers", SEGMENTS.values(), ids=SEGMENTS)
@pytest.mark.parametrize(("reduce", "want"), [(segments.segment_max, max), (segments.segment_min, min)])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_extremes(backend, xp, numbers, reduce, want, dtype):
    values, initial, index = VALUES[: len(numbers)] * 4, INITIAL * 4, np.array(numbers, backend.default("indexing"))
    given = [backend.asarray(x) for x in (values.astype(dtype), index, initial.astype(dtype))]
    got = reduce(xp, *given)
    assert backend.owns(got)
    assert dtype_name(got) == dtype
    expected = [
        want([start, *(4 * v for v in group)]) for start, group in zip(initial, by_segment(numbers), strict=True)
    ]
    np.testing.assert_array_equal(backend.to_numpy(got), expected)
    np.testing.assert_array_equal(backend.to_numpy(given[2]), initial)  # not changed in place


def test_sums_of_many_runs(backend, xp):
    """Small sums are exact beside large ones, which differences of a cumulative sum are not."""
    n = 4000
    values = scenes.scores(n)
    values[: n // 2] *= 1e7
    numbers = np.repeat(np.arange(n // 4), 4)
    got = segments.segment_sum(
        xp, backend.asarray(values), backend.asarray(numbers.astype(backend.default("indexing"))), n // 4
    )
    np.testing.assert_allclose(backend.to_numpy(got), values.astype(float).reshape(-1, 4).sum(axis=1), rtol=3e-7)


def test_mark(backend, xp):
    for index, want in (([3, 1, 3], [0, 1, 0, 1, 0]), ([], [0] * 5)):
        got = segments.mark(xp, backend.asarray(np.array(index, backend.default("indexing"))), 5)
        assert backend.owns(got)
        assert backend.to_numpy(got).tolist() == [bool(w) for w in want]

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


@pytest.mark.parametrize("numbers", SEGMENTS.values(), ids=SEGMENTS)
@pytest.mark.parametrize(
    "reduction",
    [
        (segments.segment_sum, {}, sum),
        (segments.segment_max, {"initial": -9}, lambda v: max([-9, *v])),
        (segments.segment_max, {"initial": 2}, lambda v: max([2, *v])),
        (segments.segment_min, {"initial": 99}, lambda v: min([99, *v])),
        (segments.segment_min, {"initial": 0}, lambda v: min([0, *v])),
    ],
)
def test_reductions(backend, xp, numbers, reduction):
    reduce, options, want = reduction
    values = VALUES[: len(numbers)]
    index = backend.asarray(np.array(numbers, backend.default("indexing")))
    got = reduce(xp, backend.asarray(values), index, SIZE, **options)
    assert backend.owns(got)
    assert dtype_name(got) == "float32"
    groups = [[float(v) for v, s in zip(values, numbers, strict=True) if s == i] for i in range(SIZE)]
    np.testing.assert_array_equal(backend.to_numpy(got), [want(g) for g in groups])


def test_sums_of_many_runs(backend, xp):
    """Small sums beside large ones keep their bits: no differences of one cumulative sum."""
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
